"""Synthetic descriptors in any number for bench.index, distributed like real ones.

Real rows are descriptors of views of real photos (bench.photo_views). A synthetic *scene* is centred at a real photo,
displaced within the covariance of that photo's real neighbours. The rows of the scene are distributed around it within
the covariance of real views, that is the changes of VGG16-GeM's descriptor with crop, distance and light as observed on
the photo and its neighbours, plus a little isotropic noise, since no two photos agree in everything. Half of the scenes
have one or two rows, a few have dozens. A query is another row of a scene that is not in the database. `statistics` of
real and synthetic rows are printed side by side: the distances of neighbours and the intrinsic dimension.
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
QUERIES = 1_000  # queries of every collection, spread over its shards
NEIGHBOURS = 10  # real neighbours of a photo that give the covariance of scenes there
SCENE, VIEW, NOISE = 0.5, 0.6, 0.15  # scale of the displacement of scenes and of rows, and norm of the noise
FACTS = {"model": {"name": "made"}, "photos": "", "size": 128, "scales": [1.0], "antialias": True}
FACTS |= {"bfloat16": True, "exif": True, "max_pixels": 2**30}


class Place(NamedTuple):
    """A real photo's descriptor (D,), offsets of its neighbours (NEIGHBOURS, D), and offsets of views (V', D)."""

    row: np.ndarray
    scenes: np.ndarray
    views: np.ndarray


def made_descriptors(work: Path, count: int) -> tuple[Path, np.ndarray]:
    """Returns a folder of `count` descriptors in the format of `extract`, and queries (QUERIES, D).

    They are made once and stored in `work`. The rows of a smaller collection are the first rows of a larger one.
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
    """Returns the row number in a synthetic name."""
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
    """The rows (SHARD, D) of a shard, and QUERIES more rows of its scenes."""
    rng = np.random.default_rng(number)
    sizes = 1 + rng.lognormal(0.5, 1, SHARD).astype(int)
    owners = rng.integers(len(real), size=len(sizes))
    scene = np.repeat(np.arange(len(sizes)), sizes)[:SHARD]
    asked = rng.choice(scene, QUERIES)
    rows = made_rows(real, owners, np.concatenate([scene, asked]), rng)
    return rows[:SHARD], rows[SHARD:]


def made_rows(real: list[Place], owners: np.ndarray, scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Synthesises the rows of scenes.

    Args:
        real: the places, one per real photo.
        owners: (S,) index of each scene's place.
        scene: (N,) index of each row's scene.
        rng: random generator.

    Returns:
        (N, D) float32 descriptors of unit length.
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
    """Returns the places around which rows are synthesised, from descriptors of real views (P, V, D)."""
    photos = views[:, 0]
    near = np.argsort(-(photos @ photos.T), axis=1)[:, : NEIGHBOURS + 1]
    found = []
    for row, others in zip(photos, near, strict=True):
        # Divided so that their sum with standard normal weights has their covariance.
        offsets = (views[others, 1:] - views[others, :1]).reshape(-1, views.shape[2])
        scenes = photos[others[1:]] - row
        found.append(Place(row, scenes / np.sqrt(len(scenes)), offsets / np.sqrt(len(offsets))))
    return found


def statistics(rows: np.ndarray, chosen: int = 1000) -> list[float]:
    """Returns the median cosines to the 1st, 10th and 100th nearest other row, and the intrinsic dimension.

    The dimension is the maximum likelihood estimate of Levina and Bickel (NIPS 2004) from 20 neighbours. All values are
    medians over `chosen` rows.
    """
    some = np.random.default_rng(0).choice(len(rows), min(chosen, len(rows)), replace=False)
    cosines = -np.sort(-(rows[some] @ rows.T), axis=1)[:, 1:101]
    distances = np.sqrt(np.maximum(2 - 2 * cosines[:, :20], 1e-12))
    dimension = 1 / np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
    return [float(np.median(column)) for column in (*cosines[:, [0, 9, 99]].T, dimension)]


def real_and_made(work: Path) -> dict[str, list[float]]:
    """Returns the `statistics` of the real views, and of as many synthetic rows in scenes of the same sizes."""
    views = photo_views(work)
    count, each, dimensions = views.shape
    rng = np.random.default_rng(0)
    made = made_rows(places(views), np.arange(count), np.repeat(np.arange(count), each), rng)
    return {"real": statistics(views.reshape(-1, dimensions)), "made": statistics(made)}
