"""The settings of an index: options of `keras-retrieval index` that decide how photos are stored and searched."""

import math
from dataclasses import dataclass
from typing import Annotated

from keras_retrieval.pipelines.command.options import Option, Options, declarations

from keras_retrieval.errors import ArgumentError

EXACT_BELOW = 20_000  # photos; with fewer, exact search is as fast as approximate search
TREE_FROM = 100_000  # photos; from here on, comparing every hash is slower than a tree
MIN_HASHED = 16  # photos; the minimum from which ScaNN learns hashes
ROWS_PER_LEAF = 4  # the minimum, on average
ROW_TYPES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True, kw_only=True)
class IndexSettings(Options):
    """The settings with which an index is built and searched.

    Options that are None are derived from the number of photos, or measured so that `recall` is reached.

    Raises:
        ArgumentError: an option is out of range.
    """

    recall: Annotated[
        float,
        Option(
            "Recall to reach: the share of the k true nearest neighbours that a search finds. It is measured with"
            " photos of the collection as queries.",
            at_least=0,
            at_most=1,
        ),
    ] = 0.95
    k: Annotated[
        int,
        Option(
            "Number of neighbours that searches usually request; the recall is measured at this k.",
            at_least=1,
            flags="--k -k",
        ),
    ] = 10
    exact: Annotated[bool, Option("Compare every photo, whatever the size of the collection.")] = False
    rows: Annotated[
        str,
        Option("Number type in which descriptors are stored: 4, 2 or 1 byte per dimension.", choices=ROW_TYPES),
    ] = "float32"
    leaves: Annotated[
        int | None,
        Option(
            "Number of leaves of ScaNN's tree; 0 for hashes without a tree. By default chosen by the size: exact search"
            " below 20,000 photos, no tree below 100,000, above that the square root of the number of photos.",
            at_least=0,
        ),
    ] = None
    leaves_to_search: Annotated[
        int | None,
        Option("Number of leaves that a search visits. By default the fewest that reach --recall.", at_least=1),
    ] = None
    reorder: Annotated[
        int | None,
        Option(
            "Number of candidates of the approximate search that are rescored with their stored descriptors. By"
            " default the fewest that reach --recall.",
            at_least=1,
        ),
    ] = None
    threshold: Annotated[
        float,
        Option(
            "Threshold T of ScaNN's anisotropic vector quantization (Guo et al., ICML 2020); 0 for plain quantization.",
            at_least=0,
            at_most=1,
        ),
    ] = 0.2
    block: Annotated[int, Option("Number of dimensions that share one code of ScaNN's hashes.", at_least=1)] = 2
    lookup: Annotated[
        str, Option("Size of a code: lut16 has 4 bits, lut256 has 8 bits.", choices=("lut16", "lut256"))
    ] = "lut16"
    sample: Annotated[
        int, Option("Maximum number of descriptors that ScaNN's tree and codes are trained on.", at_least=MIN_HASHED)
    ] = 100_000
    iterations: Annotated[int, Option("Iterations of k-means when ScaNN's tree and codes are trained.", at_least=1)] = (
        12
    )
    soar: Annotated[
        float,
        Option(
            "Weight (lambda) of SOAR, which puts each photo into a second leaf of the tree (Sun et al., NeurIPS 2023);"
            " 0 for one leaf per photo.",
            at_least=0,
        ),
    ] = 1.5

    def settings(self) -> "IndexSettings":
        """Returns the settings alone, without the other options of a subclass."""
        return IndexSettings(**{name: getattr(self, name) for name in declarations(IndexSettings)})

    def check_collection(self, count: int, dimensions: int) -> None:
        """Checks the settings against the size of a collection.

        Args:
            count: number of photos.
            dimensions: number of dimensions of a stored descriptor.

        Raises:
            ArgumentError: an option exceeds its limit; the message names both.
        """
        if self.leaves is not None and self.leaves > count // ROWS_PER_LEAF:
            raise ArgumentError(
                f"--leaves must be at most {count // ROWS_PER_LEAF} (a quarter of the photos), got {self.leaves}"
            )
        if self.block > dimensions:
            raise ArgumentError(f"--block must be at most {dimensions}, the descriptors' dimensions, got {self.block}")

    def tree_leaves(self, count: int) -> int | None:
        """Returns the number of leaves for `count` photos: 0 for hashes without a tree, None for exact search."""
        if self.exact or count < MIN_HASHED or (count < EXACT_BELOW and self.leaves is None):
            return None
        leaves = self.leaves
        if leaves is None:
            leaves = round(math.sqrt(count)) if count >= TREE_FROM else 0
        return min(leaves, count // ROWS_PER_LEAF)
