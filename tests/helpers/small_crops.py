"""Descriptors of crops of a few photos, and their best rows by naive numpy."""

import numpy as np
from keras_retrieval.pipelines.descriptors import folder as described
from keras_retrieval.pipelines.files.durable import partial_of, seal, write_array, write_file, write_names

from export.index_contract.photo_crops import PhotoCrops
from tests.helpers.small_index import FACTS, random_rows

LEVELS = [1, 2]


def photos_with_crops(names, seed=0):
    """For each name its rows, one to five, and their boxes; the first box is the whole photo."""
    chance = np.random.default_rng(seed)
    found = {}
    for name in names:
        rows = random_rows(int(chance.integers(1, 6)), seed=[seed, *name.encode()])
        width, height = chance.integers(50, 500, 2).tolist()
        boxes = [[0, 0, width, height], *([place, place, width - 9, height - 9] for place in range(1, len(rows)))]
        found[name] = rows, np.array(boxes, np.float32)
    return found


def joined(photos):
    """The rows of all photos, and their crops."""
    rows, boxes = (np.concatenate(parts) for parts in zip(*photos.values(), strict=True))
    return rows, PhotoCrops(np.array([len(rows) for rows, _ in photos.values()]), boxes)


def best(photos, query, k):
    """The k photos with the best rows: name, score, box and size."""
    found = []
    for name, (rows, boxes) in photos.items():
        scores = rows @ query
        found.append((name, scores.max(), boxes[scores.argmax()], boxes[0, 2:]))
    return sorted(found, key=lambda photo: -photo[1])[:k]


def assert_best(hits, photos, query, k):
    expected = best(photos, query, k)
    assert hits.names == [name for name, *_ in expected]
    for part, found in enumerate((hits.scores, hits.boxes, hits.sizes), 1):
        np.testing.assert_allclose(found, np.array([photo[part] for photo in expected]).reshape(found.shape), atol=1e-5)


def crop_descriptors(folder, photos, levels=LEVELS):
    """A folder as `extract --crops` writes it, with two shards."""
    partial = partial_of(folder)
    partial.mkdir(parents=True)
    names = list(photos)
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        rows, crops = joined({name: photos[name] for name in part})
        write_array(partial / f"descriptors-{number:05}.npy", rows)
        write_array(partial / f"boxes-{number:05}.npy", crops.boxes)
    write_names(partial / "names.txt", [name for name in names for _ in photos[name][0]])
    write_file(partial / "left_out.json", "{}")
    facts = FACTS | {"crops": levels, "count": len(names), "row_count": len(joined(photos)[0])}
    return seal(partial, folder, kind=described.KIND, version=described.CROPS_VERSION, **facts)
