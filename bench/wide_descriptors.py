"""Time and memory of choosing hard negatives by NetVLAD's descriptors, which have 32,768 dimensions.

    python -m bench.wide_descriptors [--photos 20000] [--queries 1000] [--dim 32768]

Random descriptors are written batch by batch to `PhotoDescriptors`, the temporary file in which `train` stores wide
descriptors. Then ten negatives from ten clusters are chosen for each of the first --queries photos, once from all
photos and once from a sample of 1,000 photos per query. The table lists the seconds and the peak memory that Python and
numpy allocated. The size of the file is printed.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench.record import recorded
from keras_retrieval.ranking.rows import l2_normalize
from pipelines.photos.reading import Reading
from pipelines.training.hard_negatives import HardNegatives
from pipelines.training.mining_options import MiningOptions
from pipelines.training.photo_descriptors import PhotoDescriptors
from pipelines.training_tuples.data import Tuples

BATCH, VIEWS = 32, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20_000, help="number of photos in the database")
    parser.add_argument("--queries", type=int, default=1000, help="number of queries, which are the first photos")
    parser.add_argument("--dim", type=int, default=32_768, help="dimensions of the descriptors")
    arguments = parser.parse_args()
    names = [f"{number}.jpg" for number in range(arguments.photos)]
    cluster = np.arange(arguments.photos) // VIEWS
    queries = np.arange(arguments.queries)
    tuples = Tuples(names, cluster, queries, queries + 1)
    descriptors = PhotoDescriptors(Reading(Path(), 1), names)
    whole = 4e-9 * arguments.photos * arguments.dim
    print(f"{arguments.photos:,} x {arguments.dim:,}: {whole:.2f} GB in float32, {whole / 2:.2f} in the file")
    with recorded("wide-descriptors") as add:
        add(taken("writing the descriptors", partial(fill, descriptors, arguments.photos, arguments.dim)))
        for name, sample in (("negatives from all photos", 0), ("negatives from a sample", 1000)):
            options = MiningOptions(negatives=10, sample=sample, remember=True)
            hard = HardNegatives(tuples, np.arange(len(names)), descriptors, options)
            add(taken(name, partial(hard.choose, queries, np.random.default_rng(0), pool=np.arange(len(names)))))


def fill(descriptors: PhotoDescriptors, photos: int, dim: int) -> None:
    """Writes random descriptors (photos, dim) of unit length to `descriptors`, in batches."""
    rng = np.random.default_rng(0)
    for first in range(0, photos, BATCH):
        rows = np.arange(first, min(first + BATCH, photos))
        descriptors.put(rows, l2_normalize(rng.standard_normal((len(rows), dim), "float32")))


def taken(work: str, way: Callable[[], object]) -> dict[str, str]:
    """Calls the function `way` and returns the table row "work", with its seconds and the memory that it allocated."""
    tracemalloc.start()
    started = time.perf_counter()
    way()
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1] / 1e9
    tracemalloc.stop()
    return {"work": work, "seconds": f"{seconds:.1f}", "GB allocated": f"{peak:.2f}"}


if __name__ == "__main__":
    main()
