"""Ranks images by common visual words with COLMAP: learns a vocabulary, builds an inverted index, and queries it.

A visual word is a cluster of SIFT descriptors. The index is that of Schonberger et al. (CVPR 2015): words are weighted
by tf-idf, features of the same word are compared by binary signatures of 64 bits (Hamming embedding, Jegou et al. ECCV
2008), and words that occur repeatedly in an image are down-weighted.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.durable import atomic_path
from ..files.progress import progress
from .colmap import load_colmap
from .errors import ReconstructionError

_VOCABULARY_ROWS = 200_000  # SIFT descriptors that a vocabulary is learned from
_ROWS_PER_WORD = 40
_EMBEDDED = 64  # bits of the binary signatures
_SHAPE = ("x", "y", "a11", "a12", "a21", "a22")  # fields of a keypoint: its position and its affine frame


def make_vocabulary(features: Any, images: Sequence[int], path: Path) -> bool:
    """Learns a vocabulary by clustering a random sample of SIFT features into visual words, and writes it to a file.

    Args:
        features: an open COLMAP database, a `pycolmap.Database`.
        images: the ids in the database of the images whose features are clustered.
        path: the file to write the vocabulary to.

    Returns:
        Whether the vocabulary was written; False if there are fewer than 40 features, too few for a single word.
    """
    colmap = load_colmap()
    each = max(_ROWS_PER_WORD, _VOCABULARY_ROWS // max(1, len(images)))
    rng = np.random.default_rng(0)
    sample = [rng.permutation(features.read_descriptors(image).data)[:each] for image in images]
    rows = np.concatenate(sample) if sample else np.zeros((0, 128), np.uint8)
    if len(rows) < _ROWS_PER_WORD:
        return False
    words = len(rows) // _ROWS_PER_WORD
    build = colmap.VisualIndex.BuildOptions(num_visual_words=words, num_iterations=10, num_rounds=1)
    index = colmap.VisualIndex.create(rows.shape[1], _EMBEDDED)
    colmap.set_random_seed(0)
    index.build(build, _floats(rows))
    with atomic_path(path) as temporary:
        index.write(temporary)
    return True


def build_index(features: Any, images: Sequence[int], vocabulary: Path, path: Path) -> Path:
    """Writes an inverted index from visual words to images.

    Args:
        features: an open COLMAP database, a `pycolmap.Database`.
        images: the ids in the database of the images to index.
        vocabulary: a file that `make_vocabulary` wrote, or a COLMAP vocabulary tree.
        path: the file to write the index to.

    Returns:
        The argument `path`.
    """
    colmap = load_colmap()
    index, options = colmap.VisualIndex.read(vocabulary), colmap.VisualIndex.IndexOptions()
    with progress("index of words", len(images)) as advance:
        for image in images:
            index.add(options, image, _keypoints(features.read_keypoints(image)), _descriptors(features, image))
            advance(1)
    index.prepare()
    with atomic_path(path) as temporary:
        index.write(temporary)
    return path


def rank_by_words(features: Any, index: Path, queries: Sequence[int], count: int) -> Iterator[tuple[int, list[int]]]:
    """Ranks the images of a database for each query image by common visual words.

    Args:
        features: the open COLMAP database, a `pycolmap.Database`, with the indexed images and the queries.
        index: a file that `build_index` wrote.
        queries: the ids in the database of the query images, which need not be in the index.
        count: the maximum length of a ranking.

    Yields:
        The id of a query, and the ids of the images that share words with the query, best first. Queries are yielded in
        any order, and a query without features is skipped. A ranking may contain any image of the database, even an
        image that is not in `index`.

    Raises:
        ReconstructionError: the index is damaged.
    """
    colmap = load_colmap()
    options = colmap.VocabTreePairingOptions(vocab_tree_path=index, num_images=count)
    # pycolmap's VisualIndex.query returns nothing; this generator queries the same index, after adding the images of
    # the database that are not in it.
    try:
        search = colmap.VocabTreePairGenerator(options, features, list(queries))
    except (ValueError, RuntimeError, MemoryError) as error:  # a wrong size in the file causes MemoryError
        raise ReconstructionError(f"{index} is damaged ({error}): remove it, and it will be created again") from error
    while not search.has_finished():
        if found := search.next():
            yield found[0][0], [photo for _, photo in found]


def _floats(rows: np.ndarray) -> Any:
    colmap = load_colmap()
    return colmap.FeatureDescriptorsFloat(colmap.FeatureExtractorType.SIFT, rows.astype("float32"))


def _descriptors(features: Any, image: int) -> Any:
    return _floats(features.read_descriptors(image).data)


def _keypoints(rows: np.ndarray) -> Any:
    colmap = load_colmap()
    found = colmap.FeatureKeypoints()
    for row in rows.tolist():
        found.append(colmap.FeatureKeypoint(dict(zip(_SHAPE, row, strict=True))))
    return found
