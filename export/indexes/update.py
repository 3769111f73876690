"""Changes of an index that is in use: `keras-retrieval update INDEX --add DESCRIPTORS --delete NAME --compact`."""

from pathlib import Path
from typing import Annotated

import typer
from keras_retrieval.pipelines.descriptors.folder import read_descriptors

from ..folder_index.folder_index import FolderIndex
from ..index_contract.contract import NeighbourIndex
from ..index_contract.photos import MADE_WITH, read_table
from .open_index import open_index

STEP = 1_000  # photos in one write


def update(
    index: Annotated[str, typer.Argument(help="Index, from `keras-retrieval index`: a folder or milvus://..")],
    *,
    add: Annotated[
        Path | None, typer.Option(help="Folder of descriptors to add; photos of a known name are replaced.")
    ] = None,
    columns: Annotated[Path | None, typer.Option(help="Their table, as for `index`.")] = None,
    delete: Annotated[list[str] | None, typer.Option(help="Name of a photo to take away; may be given again.")] = None,
    delete_list: Annotated[Path | None, typer.Option(help="File with a name a line.")] = None,
    compact: Annotated[bool, typer.Option(help="Build and tune the index anew of what it holds.")] = False,
) -> int:
    """Deletes from an index, adds to it, compacts it, in this order. Searches and servers see it at once.

    Changes are on the disk when this returns. After some thousand of them an index is compacted by itself.
    """
    place = open_index(index)
    names = [*(delete or []), *(delete_list.read_text(encoding="utf-8").splitlines() if delete_list else [])]
    if names:
        print(f"{index}: {place.delete(names):,} of {len(names):,} photos deleted")
    if add:
        print(f"{index}: {_add(place, add, columns):,} photos added or replaced")
    if compact:
        if not isinstance(place, FolderIndex):
            raise ValueError(f"{index} is compacted by its server: leave --compact out")
        place.compact()
    place.close()
    print(f"{index}: {len(place):,} photos")
    return len(place)


def _add(index: NeighbourIndex, folder: Path, table: Path | None) -> int:
    shards, names, manifest = read_descriptors(folder)
    for key in MADE_WITH:
        mine, theirs = index.facts[key], manifest[key]
        if key == "model":  # a network may have moved
            mine, theirs = ({part: facts.get(part) for part in ("sha256", "name")} for facts in (mine, theirs))
        if mine != theirs:
            raise ValueError(
                f"{folder} was made with {key} {theirs}, the index with {mine}: extract it as the index was"
            )
    if manifest["photos"] != index.facts["photos"]:
        print(f"pictures of these photos will be looked for in {index.facts['photos']}, as those of all others")
    texts = read_table(table, names) if table else {}
    start = 0
    for shard in shards:
        for first in range(0, len(shard), STEP):
            rows = shard[first : first + STEP]
            part = slice(start, start + len(rows))
            index.add(names[part], rows, {column: values[part] for column, values in texts.items()})
            start += len(rows)
    return start
