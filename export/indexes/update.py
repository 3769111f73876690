"""Changes an index, even while it is in use: `keras-retrieval update INDEX --add described_folder`."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from keras_retrieval.pipelines.command.kinds import Reads
from keras_retrieval.pipelines.command.options import Argument, Option, takes
from keras_retrieval.pipelines.descriptors.folder import described_folder
from keras_retrieval.pipelines.engines.options import EngineOptions
from keras_retrieval.pipelines.engines.work import LOCAL
from keras_retrieval.pipelines.files.name_join import some_of
from keras_retrieval.pipelines.files.progress import progress
from keras_retrieval.pipelines.files.remote import named
from keras_retrieval.pipelines.files.shards import LEFT_OUT, read_left_out
from keras_retrieval.pipelines.files.space import DiskSpaceError
from keras_retrieval.pipelines.files.stored_path import normal
from keras_retrieval.pipelines.files.tables import read_lines
from keras_retrieval.pipelines.local_features.folder import local_features_of
from keras_retrieval.pipelines.networks.custom_layers import CustomLayers
from keras_retrieval.pipelines.networks.kinds import NETWORK
from keras_retrieval.pipelines.photos.intake_options import PHOTO_PLACE
from keras_retrieval.pipelines.runtimes.options import RuntimeOption

from keras_retrieval.errors import ArgumentError, printable
from keras_retrieval.ranking.rows import blocks
from keras_retrieval.stopping import reporting_stop

from ..folder_index.folder_index import FolderIndex
from ..index_contract.checks import new_columns
from ..index_contract.column_table import ColumnTable, check_types, parse_types, read_column_table
from ..index_contract.column_types import type_of
from ..index_contract.contract import DESCRIPTOR_FACTS, NeighbourIndex
from ..index_contract.errors import IndexFileNotFoundError
from ..index_contract.photo_crops import PhotoCrops, photo_blocks
from ..milvus_index.address import is_milvus
from .descriptor_input import described_photos
from .kinds import COLUMNS, index_to_change
from .local_store import (
    add_local_features,
    check_local_features,
    compact_local_features,
    remove_local_features,
)
from .open_index import open_index
from .verified_search import local_features_if_any

ROWS_PER_WRITE, COLUMNS_PER_WRITE = 1_000, 10_000


@dataclass(frozen=True, kw_only=True)
class UpdateOptions(CustomLayers, RuntimeOption, EngineOptions):
    """The options of the step `update`."""

    index: Annotated[
        str,
        Argument("Index, a folder or milvus://.. collection written by `keras-retrieval index`.", kind=index_to_change),
    ] = field(kw_only=False)
    add: Annotated[
        Path | None,
        Option(
            "Folder of descriptors to add, or its address; photos whose names are in the index already are replaced.",
            kind=described_folder,
        ),
    ] = None
    photos: Annotated[
        Path | None,
        Option(
            "Folder of photos, or its address (extra cloud), to describe as those of the index were, and to add; "
            "--engine says where. Those whose names are in the index already are replaced. For index folders.",
            kind=PHOTO_PLACE,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(
            "With --photos: network that the index was made with. By default at the path that the index states.",
            kind=NETWORK,
        ),
    ] = None
    columns: Annotated[
        Path | None,
        Option(
            "Table with column values, as for `index`: of the added photos, or without --add of any photos of the"
            " index, which keep their descriptors. What the table does not state stays. A column that the index lacks"
            " is added, and is empty for all other photos.",
            kind=COLUMNS,
        ),
    ] = None
    types: Annotated[
        list[str] | None,
        Option(
            "Type of a new column of the table, such as year=number: text, number, time, or texts for lists of texts."
            " If not given, the narrowest that all its values have."
        ),
    ] = None
    delete: Annotated[list[str] | None, Option("Name of a photo to delete; may be given several times.")] = None
    delete_list: Annotated[
        Path | None,
        Option(
            "Text file with the names of photos to delete, one per line.", kind=Reads("file", IndexFileNotFoundError)
        ),
    ] = None
    compact: Annotated[bool, Option("Rebuild the index from the photos that it contains, and tune it again.")] = False
    grace: Annotated[
        float | None,
        Option(
            "With --compact: minutes for which the files of the old index stay. By default as the index was built.",
            at_least=0,
        ),
    ] = None

    def check(self) -> None:
        """Checks ranges and the types of columns.

        Raises:
            ArgumentError: an option is out of range, --types has another form or is given without --columns, or
                options are combined that exclude each other.
        """
        super().check()
        if self.photos is None:
            self.refuse_engine(True, "--photos, which are described on workers")
            if self.model is not None:
                raise ArgumentError("--model describes photos: give --photos, or leave it out")
        elif self.add is not None:
            raise ArgumentError("--photos and --add both name what to add: give one of them")
        elif is_milvus(self.index):
            raise ArgumentError(
                f"--photos is for index folders, got {self.index}: describe the photos by extract, and give --add"
            )
        check_types(self.types, self.columns)


@takes(UpdateOptions)
def update(options: UpdateOptions) -> int:
    """Changes an index: deletes photos, adds or replaces photos, changes columns, and rebuilds it, in this order.

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
        PhotoFolderError: --photos has no photo that can be read.
        RemoteError: the storage of an address does not answer, or refuses.
        EngineError: with --engine, the cluster cannot be reached, or units of work failed in every attempt.
        DiskSpaceError: the disk is full. This is found before the first change, unless other processes use the disk.
        OSError: a change could not be written.
    """
    done = _Done(options.index)
    with reporting_stop(done.report):
        opened = open_index(options.index)
        described = None if options.photos is None else _describe(opened, options, options.photos)
        try:
            _change(opened, options if described is None else _adding(options, described), done)
        except DiskSpaceError as error:
            raise DiskSpaceError(f"{error}; {done.kept}") from error
        done.complete = True
        if described is not None:
            _keep_reasons(described)
            shutil.rmtree(described)
        count = len(opened)
        rows = f", {opened.row_count:,} crops" if opened.facts.get("crops") else ""
        opened.close()
        print(f"{options.index}: {count:,} photos{rows}")
    return count


def _adding(options: UpdateOptions, described: Path) -> UpdateOptions:
    """The options for photos that have been described: without those that say how they are described."""
    here: dict[str, Any] = {"engine": LOCAL, "workers": 0}
    return replace(options, add=described, photos=None, model=None, **here)


@dataclass
class _Done:
    """The changes that are made, for the message if the command is stopped or the disk becomes full."""

    index: str
    deleted: int = 0
    added: int = 0
    to_add: int = 0
    changed: int = 0
    new_columns: list[str] = field(default_factory=list)
    rebuilding: bool = False
    complete: bool = False

    @property
    def kept(self) -> str:
        """Which changes are kept, in words."""
        parts = [f"{self.deleted:,} photos were deleted"] if self.deleted else []
        parts += [f"the columns {', '.join(map(printable, self.new_columns))} were added"] if self.new_columns else []
        parts += [f"{self.added:,} of {self.to_add:,} photos were added or replaced"] if self.added else []
        parts += [f"columns of {self.changed:,} photos were changed"] if self.changed else []
        kept = f"{', '.join(parts)}: these changes are kept" if parts else "no photo was changed"
        return f"{kept}, and the index goes on with its old files" if self.rebuilding else kept

    def report(self) -> str:
        """Returns the line for a command that is stopped."""
        rest = "" if self.complete else "; run the same command again for the rest"
        return f"keras-retrieval update: stopped: {self.index}: {self.kept}{rest}"


def _describe(opened: NeighbourIndex, options: UpdateOptions, photos: Path) -> Path:
    """Describes photos beside the index, from where this process alone adds them; a killed run is continued."""
    from .described_alike import describe_alike

    folder = Path(options.index).resolve()  # "." has no name
    local = local_features_if_any(folder, None)
    return describe_alike(
        opened.facts,
        None if local is None else local.facts,
        photos,
        folder.with_name(f"{folder.name}.added"),
        options.model,
        runtime=options.runtime,
        **options.engine_passed_on,
    )


def _keep_reasons(described: Path) -> None:
    """Moves the reasons why files were not described out of the folder, which is removed."""
    if read_left_out(described):
        kept = (described / LEFT_OUT).replace(described.with_name(f"{described.name}-{LEFT_OUT}"))
        print(f"{kept}: why files were not described")


def _change(opened: NeighbourIndex, options: UpdateOptions, done: _Done) -> None:
    index = options.index
    if options.compact and not isinstance(opened, FolderIndex):
        raise ArgumentError(f"--compact is for index folders: the server of {index} compacts its collections itself")
    names = [*(options.delete or []), *(_read_lines(options.delete_list) if options.delete_list else [])]
    if names:
        known = opened.names
        stored = {normal(name): name for name in known} | {name: name for name in known}
        names = [stored.get(name, stored.get(normal(name), name)) for name in names]
    types = parse_types(options.types)
    addition = _read_addition(opened, options.add, options.columns, types) if options.add else None
    table = None if options.add or not options.columns else _read_table(opened, options.columns, opened.names, types)
    if isinstance(opened, FolderIndex):
        if options.add and (local := local_features_of(options.add)) is not None:
            check_local_features(Path(index), local)
        added = (0, 0) if addition is None else addition.size
        texts = 0 if table is None else 2 * len(json.dumps([table.columns, opened.names]))
        opened.require_space(added[0], added[1] + texts + len(json.dumps(names)))
    if names:
        absent = list(dict.fromkeys(name for name in names if name not in stored))
        listed = f"; not in the index: {len(absent):,}, such as {some_of(absent)}" if absent else ""
        done.deleted = opened.delete(names)
        print(f"{index}: {done.deleted:,} of {len(names):,} photos deleted{listed}")
        if isinstance(opened, FolderIndex):
            remove_local_features(Path(index), names)
    if addition is not None and options.add:
        if isinstance(opened, FolderIndex):
            _take_over_local_features(Path(index), options.add, addition.names)
        _add_columns(opened, addition.types, done)
        _add(opened, addition, done)
        print(f"{index}: {done.added:,} photos added or replaced")
    if table is not None:
        _add_columns(opened, table.types, done)
        _change_columns(opened, table, done)
        print(f"{index}: columns of {done.changed:,} photos changed")
    if options.compact and isinstance(opened, FolderIndex):
        done.rebuilding = True
        opened.compact(grace=options.grace)
        compact_local_features(Path(index), opened.names)
        done.rebuilding = False


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise IndexFileNotFoundError(f"there is no list of names at {path}")
    return read_lines(path)


@dataclass(frozen=True)
class _Addition:
    """The photos to add, which have been checked against the index."""

    shards: list[np.ndarray]
    names: list[str]
    crops: PhotoCrops | None
    columns: dict[str, list[str]]
    types: dict[str, str]

    @property
    def size(self) -> tuple[int, int]:
        """The number of descriptors, and the number of bytes of the other content."""
        boxes = 0 if self.crops is None else self.crops.boxes.nbytes + 8 * len(self.crops.counts)
        records = 256 * (1 + sum(map(len, self.shards)) // ROWS_PER_WRITE)
        return sum(map(len, self.shards)), len(json.dumps([self.names, self.columns])) + boxes + records


def _read_addition(index: NeighbourIndex, folder: Path, path: Path | None, types: Mapping[str, str]) -> _Addition:
    """Reads the photos of a folder of descriptors, and checks that they fit an index."""
    shards, names, manifest, crops = described_photos(folder)
    for key in DESCRIPTOR_FACTS:
        ours, theirs = index.facts.get(key, []), manifest[key]
        if key == "model":  # the file of the network may have moved
            ours, theirs = ({part: facts.get(part) for part in ("sha256", "name")} for facts in (ours, theirs))
        if ours != theirs:
            raise ArgumentError(
                f"{named(folder)} was made with {key} {theirs}, the index with {ours}: extract with the "
                "settings of the index"
            )
    if manifest["photos"] != index.facts["photos"]:
        print(f"Pages will look for these photos in {index.facts['photos']}, the folder of the index's photos.")
    table = _read_table(index, path, names, types) if path else None
    columns = {} if table is None else _columns_of(index, table, names)
    return _Addition(shards, names, crops, columns, {} if table is None else table.types)


def _read_table(index: NeighbourIndex, path: Path, names: Sequence[str], types: Mapping[str, str]) -> ColumnTable:
    """Reads a table with values of columns of an index, and of new ones."""
    known = {column: type_of(index.facts, column) for column in index.facts["columns"]}
    table = read_column_table(path, names, types, known)
    new_columns(table.types, index.facts)
    return table


def _add_columns(index: NeighbourIndex, types: Mapping[str, str], done: _Done) -> None:
    """Adds the columns that an index lacks."""
    new = new_columns(types, index.facts)
    if not new:
        return
    index.add_columns(new)
    done.new_columns = list(new)
    print(f"{done.index}: new columns: {', '.join(f'{printable(column)} ({kind})' for column, kind in new.items())}")


def _columns_of(index: NeighbourIndex, table: ColumnTable, names: Sequence[str]) -> dict[str, list[str]]:
    """The values of photos to add: those that the table does not state stay as they are in the index."""
    known = set(index.names)
    kept = [name for name in names if name in known]
    values = index.columns(kept)
    columns = {}
    for column, stated in table.columns.items():
        before = dict(zip(kept, values.get(column, [""] * len(kept)), strict=True))
        columns[column] = [
            before.get(name, "") if text is None else text for name, text in zip(names, stated, strict=True)
        ]
    return columns


def _change_columns(index: NeighbourIndex, table: ColumnTable, done: _Done) -> None:
    """Changes the columns of the photos of an index that a table states."""
    names = index.names
    columns = _columns_of(index, table, names)
    rows = [row for row, stated in enumerate(table.stated) if stated]
    for start in range(0, len(rows), COLUMNS_PER_WRITE):
        part = rows[start : start + COLUMNS_PER_WRITE]
        values = {column: [texts[row] for row in part] for column, texts in columns.items()}
        done.changed += index.change_columns([names[row] for row in part], values)


def _add(index: NeighbourIndex, addition: _Addition, done: _Done) -> None:
    """Adds photos to an index."""
    done.to_add = len(addition.names)
    every = (block for _, block in blocks(addition.shards, ROWS_PER_WRITE))
    with progress("update", done.to_add) as advance:
        for part, rows, some in photo_blocks(every, addition.crops):
            texts = {column: values[part] for column, values in addition.columns.items()}
            index.add(addition.names[part], rows, texts, crops=some)
            done.added += len(addition.names[part])
            advance(len(addition.names[part]))


def _take_over_local_features(index: Path, folder: Path, names: list[str]) -> None:
    """Before photos are added, so that a photo is never verified with the features of one that it has replaced."""
    local = local_features_of(folder)
    if local is None:
        remove_local_features(index, names)
    else:
        added = add_local_features(index, local, names).count
        print(f"{index}: local features of {added:,} photos added or replaced")
