"""The options of the step `index`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.options import Argument, Option
from keras_retrieval.pipelines.descriptors.folder import described_folder

from ..index_contract.column_table import check_types
from ..index_contract.index_settings import IndexSettings
from .kinds import COLUMNS, index_to_write


@dataclass(frozen=True, kw_only=True)
class IndexOptions(IndexSettings):
    """The options of the step `index`: its input, its output and the build settings of the index."""

    descriptors: Annotated[
        Path,
        Argument("Folder of descriptors, written by `keras-retrieval extract`, or its address.", kind=described_folder),
    ] = field(kw_only=False)
    output: Annotated[
        str,
        Argument(
            "Index folder to write, also at an address such as s3://BUCKET/INDEX (extra cloud), or a collection "
            "milvus://HOST:19530/COLLECTION (extra milvus).",
            kind=index_to_write,
        ),
    ] = field(kw_only=False)
    columns: Annotated[
        Path | None,
        Option(
            "Table of columns by which searches can be filtered: CSV or JSON lines with a column `photo` and others.",
            kind=COLUMNS,
        ),
    ] = None
    types: Annotated[
        list[str] | None,
        Option(
            "Type of a column, COLUMN=TYPE with text, number, time or texts (a list); may be given several times. By"
            " default the narrowest that all values of the column have."
        ),
    ] = None
    dim: Annotated[
        int | None,
        Option(
            "Number of dimensions to which the stored descriptors, and queries, are reduced by PCA without centring. By"
            " default they are not reduced.",
            at_least=1,
        ),
    ] = None
    replace: Annotated[bool, Option("Replace an existing index, which may be in use meanwhile.")] = False

    def check(self) -> None:
        """Checks ranges and the types of columns.

        Raises:
            ArgumentError: an option is out of range, or --types has another form or is given without --columns.
        """
        super().check()
        check_types(self.types, self.columns)
