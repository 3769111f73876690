"""Changes an index, even while it is in use: `keras-retrieval update INDEX --add described_folder`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.kinds import Reads
from keras_retrieval.pipelines.command.options import Argument, Option, Options, takes
from keras_retrieval.pipelines.descriptors.folder import described_folder
from keras_retrieval.pipelines.files.name_join import some_of
from keras_retrieval.pipelines.files.stored_path import normal
from keras_retrieval.pipelines.files.tables import read_lines
from keras_retrieval.pipelines.local_features.folder import local_features_of

from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.rows import blocks

from ..folder_index.folder_index import FolderIndex
from ..index_contract.column_table import read_column_table
from ..index_contract.contract import DESCRIPTOR_FACTS, NeighbourIndex
from ..index_contract.errors import IndexFileNotFoundError
from ..index_contract.photo_crops import photo_blocks
from .descriptor_input import described_photos
from .kinds import COLUMNS, index_to_read
from .local_store import add_local_features, compact_local_features, remove_local_features
from .open_index import open_index

ROWS_PER_WRITE = 1_000


@dataclass(frozen=True, kw_only=True)
class UpdateOptions(Options):
    """The options of the step `update`."""

    index: Annotated[
        str,
        Argument("Index, a folder or milvus://.. collection written by `keras-retrieval index`.", kind=index_to_read),
    ] = field(kw_only=False)
    add: Annotated[
        Path | None,
        Option(
            "Folder of descriptors to add; photos whose names are in the index already are replaced.",
            kind=described_folder,
        ),
    ] = None
    columns: Annotated[
        Path | None, Option("Table with the column values of the added photos, as for `index`.", kind=COLUMNS)
    ] = None
    delete: Annotated[list[str] | None, Option("Name of a photo to delete; may be given several times.")] = None
    delete_list: Annotated[
        Path | None,
        Option(
            "Text file with the names of photos to delete, one per line.", kind=Reads("file", IndexFileNotFoundError)
        ),
    ] = None
    compact: Annotated[bool, Option("Rebuild the index from the photos that it contains, and tune it again.")] = False

    def check(self) -> None:
        """Checks ranges, and that --columns is given only together with --add.

        Raises:
            ArgumentError: an option is out of range, or --columns is given without --add.
        """
        super().check()
        if self.columns is not None and self.add is None:
            raise ArgumentError("--columns needs --add, the photos that have these values")


@takes(UpdateOptions)
def update(options: UpdateOptions) -> int:
    """Changes an index: deletes photos, adds or replaces photos, and rebuilds the index with --compact, in this order.

    Every search that starts after a change uses the changed index, in running servers as well. All changes are on disk
    when this command ends. An index folder is rebuilt automatically after some thousand changes.

    Returns:
        The number of photos in the index after the changes.

    Raises:
        FolderError, CollectionError: the index cannot be opened (see `open_index`), or --add does not contain
            descriptors.
        ArgumentError: the descriptors to add were extracted with other settings than those of the index, or `compact`
            is set for a Milvus collection.
        IndexFileNotFoundError: a list of names or a table of columns does not exist.
        ColumnTableError: the table of columns cannot be parsed.
        TableError: the encoding of the list of names is unknown.
        OSError: a change could not be written.
    """
    index = options.index
    opened = open_index(index)
    names = [*(options.delete or []), *(_read_lines(options.delete_list) if options.delete_list else [])]
    if names:
        known = opened.names
        stored = {normal(name): name for name in known} | {name: name for name in known}
        names = [stored.get(name, stored.get(normal(name), name)) for name in names]
        absent = list(dict.fromkeys(name for name in names if name not in stored))
        listed = f"; not in the index: {len(absent):,}, such as {some_of(absent)}" if absent else ""
        print(f"{index}: {opened.delete(names):,} of {len(names):,} photos deleted{listed}")
        if isinstance(opened, FolderIndex):
            remove_local_features(Path(index), names)
    if options.add:
        print(f"{index}: {_add(opened, Path(index), options.add, options.columns):,} photos added or replaced")
    if options.compact:
        if not isinstance(opened, FolderIndex):
            raise ArgumentError(
                f"--compact is for index folders: the server of {index} compacts its collections itself"
            )
        opened.compact()
        compact_local_features(Path(index), opened.names)
    count = len(opened)
    rows = f", {opened.row_count:,} crops" if opened.facts.get("crops") else ""
    opened.close()
    print(f"{index}: {count:,} photos{rows}")
    return count


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise IndexFileNotFoundError(f"there is no list of names at {path}")
    return read_lines(path)


def _add(index: NeighbourIndex, place: Path, folder: Path, table: Path | None) -> int:
    """Adds the photos of a folder of descriptors to an index; returns the number of photos added."""
    shards, names, manifest, crops = described_photos(folder)
    for key in DESCRIPTOR_FACTS:
        ours, theirs = index.facts.get(key, []), manifest[key]
        if key == "model":  # the file of the network may have moved
            ours, theirs = ({part: facts.get(part) for part in ("sha256", "name")} for facts in (ours, theirs))
        if ours != theirs:
            raise ArgumentError(
                f"{folder} was made with {key} {theirs}, the index with {ours}: extract with the settings of the index"
            )
    if manifest["photos"] != index.facts["photos"]:
        print(f"Pages will look for these photos in {index.facts['photos']}, the folder of the index's photos.")
    columns = read_column_table(table, names) if table else {}
    if isinstance(index, FolderIndex):
        _take_over_local_features(place, folder, names)
    every = (block for _, block in blocks(shards, ROWS_PER_WRITE))
    for part, rows, some in photo_blocks(every, crops):
        texts = {column: values[part] for column, values in columns.items()}
        index.add(names[part], rows, texts, crops=some)
    return len(names)


def _take_over_local_features(index: Path, folder: Path, names: list[str]) -> None:
    """Before photos are added, so that a photo is never verified with the features of one that it has replaced."""
    local = local_features_of(folder)
    if local is None:
        remove_local_features(index, names)
    else:
        added = add_local_features(index, local, names).count
        print(f"{index}: local features of {added:,} photos added or replaced")
