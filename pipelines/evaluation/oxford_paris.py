"""Reads the ground truth of Oxford and Paris, original and revisited, from the published pickles or text files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.inert_files.plain_pickle import load_pickle

from .errors import GroundTruthError
from .ground_truth import Box, GroundTruth, PhotoList, find_ground_truth, restrict

# The published boxes are in pixels of photos with this longer side.
BOX_SIDE = 1024

_PUBLISHED = "http://cmp.felk.cvut.cz/cnnimageretrieval/data/test"
_TEXTS = {
    "oxford5k": "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings",
    "paris6k": "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings",
}
_PHOTOS = {"oxford5k": 5063, "paris6k": 6392}
# Paris is published with 20 unreadable photos, which its protocol excludes.
_UNREADABLE = {
    "louvre": (136, 146),
    "moulinrouge": (422,),
    "museedorsay": (1059,),
    "notredame": (188,),
    "pantheon": (284, 960, 974),
    "pompidou": (195, 196, 201, 467, 640),
    "sacrecoeur": (299, 330, 353),
    "triomphe": (662, 833, 863, 867),
}
UNREADABLE_PARIS = frozenset(
    f"paris_{place}_{number:06d}" for place, numbers in _UNREADABLE.items() for number in numbers
)


def roxford5k(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Reads the ground truth of revisited Oxford (Radenovic et al., CVPR 2018): 4,993 photos and 70 queries.

    The queries are not in the database. The protocol is mAP in the settings easy, medium and hard.

    Args:
        photos: the photos that exist.
        gnd: path of gnd_roxford5k.pkl; None looks for this file in and beside the photos' folder.

    Raises:
        GroundTruthError: the file is missing or is not this ground truth, or no photo of the dataset exists.
        UnpickleError: the file is damaged, or contains something other than data.
    """
    return _revisited("roxford5k", photos, gnd)


def rparis6k(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Reads the ground truth of revisited Paris (Radenovic et al., CVPR 2018): 6,322 photos and 70 queries.

    Args:
        photos: the photos that exist.
        gnd: path of gnd_rparis6k.pkl; None looks for this file in and beside the photos' folder.

    Raises:
        GroundTruthError: the file is missing or is not this ground truth, or no photo of the dataset exists.
        UnpickleError: the file is damaged, or contains something other than data.
    """
    return _revisited("rparis6k", photos, gnd)


def oxford5k(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Reads the ground truth of Oxford Buildings (Philbin et al., CVPR 2007): 5,063 photos, of which 55 are queries.

    The protocol is mAP. The queries are in the database, and a query's own photo counts as its first hit.

    Args:
        photos: the photos that exist.
        gnd: path of gnd_oxford5k.pkl, or of the folder with the published text files NAME_{query,good,ok,junk}.txt;
            None looks for gnd_oxford5k.pkl in and beside the photos' folder.

    Raises:
        GroundTruthError: a file is missing or is not this ground truth, or no photo of the dataset exists.
        UnpickleError: the .pkl file is damaged, or contains something other than data.
    """
    return _original("oxford5k", photos, gnd)


def paris6k(photos: PhotoList, gnd: Path | None = None) -> GroundTruth:
    """Reads the ground truth of Paris (Philbin et al., CVPR 2008): 6,392 readable photos, of which 55 are queries.

    The protocol is that of `oxford5k`. The 20 unreadable photos of the published dataset are not in the database.

    Args:
        photos: the photos that exist.
        gnd: path of gnd_paris6k.pkl, or of the folder with the published text files NAME_{query,good,ok,junk}.txt;
            None looks for gnd_paris6k.pkl in and beside the photos' folder.

    Raises:
        GroundTruthError: a file is missing or is not this ground truth, or no photo of the dataset exists.
        UnpickleError: the .pkl file is damaged, or contains something other than data.
    """
    return _original("paris6k", photos, gnd)


def _revisited(name: str, photos: PhotoList, gnd: Path | None) -> GroundTruth:
    path = _pickle_of(name, photos, gnd)
    content, queries = _content(path, name, ("easy", "hard", "junk"))
    return restrict(
        GroundTruth(
            name,
            "revisited",
            content["imlist"],
            content["qimlist"],
            positives=_rows(queries, "easy"),
            hard=_rows(queries, "hard"),
            junk=_rows(queries, "junk"),
            boxes=_boxes(queries),
            box_side=BOX_SIDE,
        ),
        photos,
    )


def _original(name: str, photos: PhotoList, gnd: Path | None) -> GroundTruth:
    path = _pickle_of(name, photos, gnd)
    if path.is_dir():
        return restrict(_from_texts(name, photos, path), photos)
    content, queries = _content(path, name, ("ok", "junk"))
    return restrict(
        GroundTruth(
            name,
            "map",
            content["imlist"],
            content["qimlist"],
            positives=_rows(queries, "ok"),
            junk=_rows(queries, "junk"),
            boxes=_boxes(queries),
            box_side=BOX_SIDE,
        ),
        photos,
    )


def _pickle_of(name: str, photos: PhotoList, gnd: Path | None) -> Path:
    source = f"{_PUBLISHED}/{name}/gnd_{name}.pkl"
    if name in _TEXTS:
        source += f", and as text files at {_TEXTS[name]}"
    return find_ground_truth(f"gnd_{name}.pkl", photos, gnd, source)


def _content(path: Path, name: str, answers: tuple[str, ...]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the dict in the pickle and its queries, and checks everything in them that is used later."""
    content = load_pickle(path)
    try:
        queries = [dict(query) for query in content["gnd"]]
        content = {key: [str(one) for one in content[key]] for key in ("imlist", "qimlist")}
        for query in queries:
            query.update({key: np.array(query[key], "int64").reshape(-1) for key in answers})
            query["bbx"] = tuple(float(side) for side in query["bbx"])
    except KeyError as error:
        raise GroundTruthError(f"{path} is not the ground truth of {name}: it has no {error}") from None
    except (TypeError, ValueError, IndexError) as error:
        raise GroundTruthError(f"{path} is not the ground truth of {name}: {error}") from error
    if len(queries) != len(content["qimlist"]) or any(len(query["bbx"]) != 4 for query in queries):
        raise GroundTruthError(f"{path} is damaged: its queries, names and boxes do not fit together")
    return content, queries


def _rows(queries: list[dict[str, Any]], key: str) -> list[np.ndarray]:
    return [query[key] for query in queries]


def _boxes(queries: list[dict[str, Any]]) -> list[Box | None]:
    return [query["bbx"] for query in queries]


def _from_texts(name: str, photos: PhotoList, folder: Path) -> GroundTruth:
    """Reads the published text files; the database, which they do not list, is every photo in the folder."""
    files = sorted(folder.rglob("*_query.txt"))
    if not files:
        raise GroundTruthError(f"{folder} contains no *_query.txt: {name} is published at {_TEXTS[name]}")
    database = [path for path in photos.paths if Path(path).stem not in UNREADABLE_PARIS]
    rows = {Path(path).stem: row for row, path in enumerate(database)}
    queries, boxes = zip(*(_query_of(file) for file in files), strict=True)
    return GroundTruth(
        name,
        "map",
        database,
        list(queries),
        positives=[_rows_of(rows, _listed(file, "good"), _listed(file, "ok")) for file in files],
        junk=[_rows_of(rows, _listed(file, "junk")) for file in files],
        boxes=list(boxes),
        box_side=BOX_SIDE,
        published=(_PHOTOS[name], len(files)),
    )


def _query_of(file: Path) -> tuple[str, Box]:
    """Reads photo and box from a line such as `oxc1_all_souls_000013 136.5 34.1 648.5 955.7`; Paris has no prefix."""
    words = file.read_text(encoding="utf-8").split()
    try:
        photo, (left, top, right, bottom) = words[0], map(float, words[1:])
    except (ValueError, IndexError):
        raise GroundTruthError(f"{file} must contain a photo's name and the four sides of a box") from None
    return photo.removeprefix("oxc1_"), (left, top, right, bottom)


def _listed(query_file: Path, answer: str) -> list[str]:
    file = query_file.with_name(query_file.name.removesuffix("query.txt") + f"{answer}.txt")
    if not file.is_file():
        raise GroundTruthError(f"{file} is missing beside {query_file.name}")
    return file.read_text(encoding="utf-8").split()


def _rows_of(rows: dict[str, int], *names: Iterable[str]) -> np.ndarray:
    found = [rows[name] for some in names for name in some if name in rows]
    return np.unique(np.array(found, "int64"))
