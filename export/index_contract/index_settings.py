"""The build settings of an index: the options of `keras-retrieval index` for the storage and the search of photos."""

import math
from dataclasses import dataclass
from typing import Annotated

from keras_retrieval.pipelines.command.options import Option, Options, declarations

from keras_retrieval.errors import ArgumentError

EXACT_BELOW = 20_000  # photos; below this number, exact search takes at most some milliseconds, and finds all
CROPS_EXACT_BELOW = 2_000  # rows of an index with crops, which has several times the rows for the same photos
MIN_HASHED = 16  # minimum number of photos from which ScaNN can learn hashes
CODE_ROWS = {"lut16": 5_000, "lut256": 20_000}  # on which the codes are trained: 16 or 256 centres of a few dimensions
TREE_ROWS, ROWS_PER_TRAINED_LEAF = 20_000, 256  # on which the tree is trained: at least, and for each leaf
MOST_TRAINED = 250_000
ROWS_PER_LEAF = 4  # minimum of the average number of photos per leaf
ROW_TYPES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True, kw_only=True)
class IndexSettings(Options):
    """The settings with which an index is built and searched.

    Settings that are None are chosen from the number of photos, or measured so that searches reach `recall`.

    Raises:
        ArgumentError: a setting is out of range.
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
            "Number of leaves of ScaNN's tree; 0 for hashes without a tree. By default exact search below 20,000"
            " photos, above that the square root of their number; with crops from 2,000 rows on the square root of the"
            " number of rows.",
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
        int | None,
        Option(
            "Maximum number of descriptors that ScaNN's tree and codes are trained on. By default 5,000 for codes of 4"
            " bits and 20,000 for those of 8; for the tree 20,000, or 256 for each leaf, at most 250,000.",
            at_least=MIN_HASHED,
        ),
    ] = None
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

    grace: Annotated[
        float,
        Option(
            "Minutes for which the files of a replaced index stay after a rebuild, for readers on other machines that"
            " have them mapped. The next change after that removes them.",
            at_least=0,
        ),
    ] = 60.0

    def settings(self) -> "IndexSettings":
        """Copies these settings into a plain `IndexSettings`, without the further options of a subclass."""
        return IndexSettings(**{name: getattr(self, name) for name in declarations(IndexSettings)})

    def check_collection(self, count: int, dimensions: int) -> None:
        """Checks the settings against the size of the collection to index.

        Args:
            count: number of rows: of photos, or with crops of their crops.
            dimensions: number of dimensions of a stored descriptor.

        Raises:
            ArgumentError: `leaves` exceeds a quarter of the number of photos, or `block` the number of dimensions; the
                message gives the setting and its limit.
        """
        if self.leaves is not None and self.leaves > count // ROWS_PER_LEAF:
            raise ArgumentError(
                f"--leaves must be at most {count // ROWS_PER_LEAF} (a quarter of the rows), got {self.leaves}"
            )
        if self.block > dimensions:
            raise ArgumentError(f"--block must be at most {dimensions}, the descriptors' dimensions, got {self.block}")

    def training_rows(self, leaves: int) -> int:
        """Returns the maximum number of rows that a tree with `leaves` leaves is trained on; for 0, the codes."""
        if self.sample is not None:
            return self.sample
        return min(max(TREE_ROWS, ROWS_PER_TRAINED_LEAF * leaves), MOST_TRAINED) if leaves else CODE_ROWS[self.lookup]

    def tree_leaves(self, count: int, *, crops: bool = False) -> int | None:
        """Chooses the kind of search and the size of the tree for a collection.

        Args:
            count: number of rows: of photos, or with crops of their crops.
            crops: whether the rows are crops.

        Returns:
            The number of leaves of ScaNN's tree; 0 for a search over all hashes without a tree, None for exact search.
        """
        least = CROPS_EXACT_BELOW if crops else EXACT_BELOW
        if self.exact or count < MIN_HASHED or (count < least and self.leaves is None):
            return None
        leaves = self.leaves
        if leaves is None:
            leaves = round(math.sqrt(count))
        return min(leaves, count // ROWS_PER_LEAF)
