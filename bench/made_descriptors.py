"""Any number of synthetic descriptors for bench.index, which are distributed like real descriptors.

The real descriptors are VGG16-GeM's descriptors of real photos and of views of them, which differ from the photo in
crop, distance and light (bench.photo_views). A synthetic *scene* is a group of descriptors around a centre. The centre
is the descriptor of a real photo plus a random displacement with the covariance of the photo's nearest neighbours. The
descriptors of the scene are the centre plus random displacements with the covariance of the real views of the photo and
its neighbours, plus a little isotropic noise. Half of the scenes have one or two descriptors, and a few have dozens. A
query is another descriptor of a scene, which is not in the database. `statistics` compares the real and the synthetic
descriptors by the similarities of neighbours and by the intrinsic dimension.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.photo_views import photo_views
from keras_retrieval.ranking.rows import l2_normalize
from pipelines.descriptors import folder as described
from pipelines.files.durable import partial_of, seal, write_array, write_file, write_names
from pipelines.files.progress import progress

SHARD = 20_000
QUERIES = 1_000  # number of queries of every database, taken equally from its shards
NEIGHBOURS = 10  # number of real neighbours of a photo from which the covariance of scene centres is estimated
SCENE, VIEW, NOISE = 0.5, 0.6, 0.15  # scale of the displacement of scenes and of rows, and norm of the noise
FACTS = {"model": {"name": "made"}, "photos": "", "size": 128, "scales": [1.0], "antialias": True}
FACTS |= {"bfloat16": True, "exif": True, "max_pixels": 2**30}


class Place(NamedTuple):
    """A real photo, around which scenes are synthesised.

    Attributes:
        row: the descriptor of the photo, (D,).
        scenes: differences from the descriptor of the photo to those of its neighbours, (NEIGHBOURS, D), divided by
            sqrt(NEIGHBOURS).
        views: differences from photos to their views, for this photo and its neighbours, (V', D), divided by sqrt(V').
    """

    row: np.ndarray
    scenes: np.ndarray
    views: np.ndarray


def made_descriptors(work: Path, count: int) -> tuple[Path, np.ndarray]:
    """Makes synthetic descriptors and queries, or returns those that are stored in `work` already.

    Args:
        work: folder in which they are stored.
        count: number of descriptors. The descriptors for a smaller number are the first ones for a larger number.

    Returns:
        The folder of the descriptors, in the format of `extract`, and the queries, (QUERIES, D) float32.
    """
    folder, queries = work / f"descriptors-{count}", work / f"queries-{count}.npy"
    if not (folder.exists() and queries.exists()):
        partial = partial_of(folder)
        partial.mkdir(parents=True, exist_ok=True)
        asked = _write_shards(partial, places(photo_views(work)), count)
        write_array(queries, asked)
        write_names(partial / "names.txt", [f"{row}.jpg" for row in range(count)])
        write_file(partial / "left_out.json", "{}")
        facts = FACTS | {"count": count, "dimensions": asked.shape[1], "fingerprint": f"made {count}"}
        seal(partial, folder, kind=described.KIND, version=described.VERSION, replace=True, **facts)
    return folder, np.load(queries)


def row_of(name: str) -> int:
    """Returns the row number that a synthetic name such as "17.jpg" contains."""
    return int(name.removesuffix(".jpg"))


def _write_shards(folder: Path, real: list[Place], count: int) -> np.ndarray:
    shards = -(-count // SHARD)
    asked = []
    with progress("made", count, "rows") as advance:
        for number in range(shards):
            rows, queries = _shard(real, number)
            kept = rows[: count - number * SHARD]
            write_array(folder / f"descriptors-{number:05}.npy", kept)
            asked.append(queries[number * QUERIES // shards : (number + 1) * QUERIES // shards])
            advance(len(kept))
    return np.concatenate(asked)


def _shard(real: list[Place], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows (SHARD, D) of a shard, and QUERIES more rows (QUERIES, D) from its scenes."""
    rng = np.random.default_rng(number)
    sizes = 1 + rng.lognormal(0.5, 1, SHARD).astype(int)
    owners = rng.integers(len(real), size=len(sizes))
    scene = np.repeat(np.arange(len(sizes)), sizes)[:SHARD]
    asked = rng.choice(scene, QUERIES)
    rows = made_rows(real, owners, np.concatenate([scene, asked]), rng)
    return rows[:SHARD], rows[SHARD:]


def made_rows(real: list[Place], owners: np.ndarray, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Synthesises descriptors of scenes.

    Args:
        real: the real photos, from `places`.
        owners: for each of the S scenes, the index in `real` of the photo around which it is synthesised, (S,).
        scene: for each of the N descriptors, the index of its scene, (N,).
        rng: the random generator.

    Returns:
        The descriptors, (N, D) float32 of unit length.
    """
    rows = np.empty((len(scene), len(real[0].row)), "float32")
    moves = SCENE * rng.standard_normal((len(owners), NEIGHBOURS), "float32")
    by_owner = np.argsort(owners[scene], kind="stable")
    bounds = np.searchsorted(owners[scene][by_owner], np.arange(len(real) + 1))
    for place, start, end in zip(real, bounds, bounds[1:], strict=False):
        some = by_owner[start:end]
        turns = VIEW * rng.standard_normal((len(some), len(place.views)), "float32")
        noise = NOISE / np.sqrt(rows.shape[1]) * rng.standard_normal((len(some), rows.shape[1]), "float32")
        rows[some] = l2_normalize(place.row + moves[scene[some]] @ place.scenes + turns @ place.views + noise)
    return rows


def places(views: np.ndarray) -> list[Place]:
    """Computes, for each real photo, what is needed to synthesise scenes around it.

    Args:
        views: descriptors of V views of each of P photos, (P, V, D); view 0 is the photo itself.
    """
    photos = views[:, 0]
    near = np.argsort(-(photos @ photos.T), axis=1)[:, : NEIGHBOURS + 1]
    found = []
    for row, others in zip(photos, near, strict=True):
        # Divided by a square root so that a sum of the offsets with standard normal weights has their covariance.
        offsets = (views[others, 1:] - views[others, :1]).reshape(-1, views.shape[2])
        scenes = photos[others[1:]] - row
        found.append(Place(row, scenes / np.sqrt(len(scenes)), offsets / np.sqrt(len(offsets))))
    return found


def statistics(rows: np.ndarray, chosen: int = 1000) -> list[float]:
    """Measures how descriptors are distributed, on a random sample of them.

    Args:
        rows: the descriptors, (N, D), of unit length.
        chosen: number of descriptors in the sample.

    Returns:
        Four medians over the sample: the cosine similarities to the 1st, 10th and 100th nearest other descriptor, and
        the intrinsic dimension, which is the maximum likelihood estimate of Levina and Bickel (NIPS 2004) from 20
        neighbours.
    """
    some = np.random.default_rng(0).choice(len(rows), min(chosen, len(rows)), replace=False)
    cosines = -np.sort(-(rows[some] @ rows.T), axis=1)[:, 1:101]
    distances = np.sqrt(np.maximum(2 - 2 * cosines[:, :20], 1e-12))
    dimension = 1 / np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
    return [float(np.median(column)) for column in (*cosines[:, [0, 9, 99]].T, dimension)]


def real_and_made(work: Path) -> dict[str, list[float]]:
    """Returns the `statistics` of all real descriptors, and of as many synthetic ones in scenes of the same size."""
    views = photo_views(work)
    count, each, dimensions = views.shape
    rng = np.random.default_rng(0)
    made = made_rows(places(views), np.arange(count), np.repeat(np.arange(count), each), rng)
    return {"real": statistics(views.reshape(-1, dimensions)), "made": statistics(made)}
