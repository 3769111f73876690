"""Extracts local features and matches pairs of photos, in this process or in blocks on the workers of a cluster.

A worker writes the features, or the matches, of a block to a COLMAP database of its own, on a disk of its own, and
commits it as one file to the folder features.partial or matches.partial in the folder of the reconstruction. The
process of the command alone writes the database of the reconstruction: it adds the blocks in their order, each in one
transaction. Features, matches and inliers are those that one process computes. Blocks that are finished when a run is
killed are added by the next run, on any engine.
"""

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, TypeVar

from ..engines.engine import run_units
from ..engines.work import Engine, Job, Worker
from ..files.durable import FolderError, atomic_path, fingerprint, read_json
from ..files.progress import silent
from ..files.shards import PLAN, ShardedFolder
from ..local_features.extractors import Extractor
from .colmap import Database, Pair, batches, load_colmap
from .database_parts import add_features, add_matches, as_single_file, keep_matches, pack, write_part
from .errors import ReconstructionError
from .feature_kinds import extraction_settings, load_extractor, open_database

FEATURES, MATCHES = "features", "matches"
VERSION = 1
PHOTOS_OF_BLOCK = 64
PAIRS_OF_BLOCK = 250  # a worker copies the features of at most twice as many photos, about 1 MB each

Extraction: TypeAlias = Mapping[str, Any]
Item = TypeVar("Item")

log = logging.getLogger("keras_retrieval")


def extract_features(
    database: Database, images: Path, names: Sequence[str], extraction: Extraction, engine: Engine
) -> dict[str, str]:
    """Extracts the local features of the photos that have not been processed yet.

    Args:
        database: the database of the reconstruction.
        images: the folder of images that `prepare` in the module `sfm.photos` wrote.
        names: the names of the photos.
        extraction: the options of extraction that the folder of the reconstruction stores.
        engine: where the work is done.

    Returns:
        A dict from the name of each photo without features to the reason.

    Raises:
        UnitsFailedError: blocks failed in every attempt.
        EngineError: the cluster cannot be reached.
        ReconstructionError: the database cannot be written.
        LocalFeaturesError: the extractor cannot be loaded, or its descriptors have more than 128 dimensions.
    """
    blocks = _Blocks(database, FEATURES, fingerprint(FEATURES, extraction))
    blocks.add_earlier(add_features)
    if engine.local:
        return database.extract_features(images, names, extraction_settings(extraction))
    done = database.features()
    todo = [name for name in names if name not in done]
    reasons: dict[str, str] = {}
    parts = list(batches(todo, PHOTOS_OF_BLOCK))
    for note in blocks.run(
        lambda sharded: FeaturesJob(sharded, images.absolute(), extraction), parts, engine, add_features
    ):
        reasons |= note["left_out"]
    if todo:
        done = database.features()
    return {name: reasons.get(name, database.no_features) for name in names if not done.get(name)}


def match(database: Database, pairs: Sequence[Pair], extraction: Extraction, seed: int, engine: Engine) -> None:
    """Matches the features of pairs of photos and verifies the matches, for pairs not tried yet.

    Args:
        database: the database of the reconstruction, with the features of the photos.
        pairs: pairs of names of photos, each sorted.
        extraction: the options of extraction that the folder of the reconstruction stores.
        seed: the random seed of RANSAC.
        engine: where the work is done.

    Raises:
        UnitsFailedError: blocks failed in every attempt.
        EngineError: the cluster cannot be reached.
        ReconstructionError: another process uses the database, or it cannot be written.
    """
    blocks = _Blocks(database, MATCHES, fingerprint(MATCHES, extraction, seed))
    blocks.add_earlier(add_matches)
    if engine.local:
        database.match(pairs, seed)
        return
    tried = database.inliers()
    parts = list(batches([pair for pair in pairs if pair not in tried], PAIRS_OF_BLOCK))
    if parts:
        as_single_file(database.path)
    blocks.run(
        lambda sharded: MatchesJob(sharded, database.path.absolute(), extraction, seed), parts, engine, add_matches
    )


@dataclass(frozen=True)
class FeaturesJob:
    """What a worker needs to extract the features of blocks of photos.

    Attributes:
        sharded: the folder of the blocks.
        images: the folder of images.
        extraction: the options of extraction.
    """

    sharded: ShardedFolder
    images: Path
    extraction: Extraction

    def open(self) -> Worker:
        """Loads the network, if the features are those of one."""
        extractor = load_extractor(self.extraction)
        return lambda number, names, advance: self._extract(extractor, number, names, advance)

    def _extract(
        self, extractor: Extractor | None, number: int, names: Sequence[str], advance: Callable[[int], None]
    ) -> None:
        with TemporaryDirectory(prefix="keras-retrieval-") as folder, silent():
            part = Path(folder) / "part.db"
            load_colmap().Database.open(part).close()
            database = open_database(part, self.extraction, extractor)
            left_out = database.extract_features(self.images, names, extraction_settings(self.extraction))
            pack(part)
            _commit(self.sharded, number, part, left_out)
        advance(len(names))


@dataclass(frozen=True)
class MatchesJob:
    """What a worker needs to match blocks of pairs.

    Attributes:
        sharded: the folder of the blocks.
        database: the database with the features.
        extraction: the options of extraction.
        seed: the random seed of RANSAC.
    """

    sharded: ShardedFolder
    database: Path
    extraction: Extraction
    seed: int

    def open(self) -> Worker:
        """Returns the worker, which needs no preparation."""
        return self._match

    def _match(self, number: int, pairs: Sequence[Pair], advance: Callable[[int], None]) -> None:
        with TemporaryDirectory(prefix="keras-retrieval-") as folder, silent():
            part = Path(folder) / "part.db"
            write_part(self.database, part, (name for pair in pairs for name in pair))
            open_database(part, self.extraction).match(pairs, self.seed)
            keep_matches(part)
            _commit(self.sharded, number, part, {})
        advance(len(pairs))


def _commit(sharded: ShardedFolder, number: int, part: Path, left_out: Mapping[str, str]) -> None:
    with sharded.commit(number) as unwritten:
        if unwritten:
            with atomic_path(_part(sharded, number), size=part.stat().st_size) as temporary:
                copyfile(part, temporary)
            sharded.finish(number, [], left_out)


def _part(sharded: ShardedFolder, number: int) -> Path:
    return sharded.partial / f"{number:05}.db"


@dataclass(frozen=True)
class _Blocks:
    """The blocks of one kind of work on a database.

    Attributes:
        database: the database of the reconstruction.
        kind: the kind of work, which names the folder.
        settings: hash of everything that determines the content of a block, but for the photos.
    """

    database: Database
    kind: str
    settings: str

    def add_earlier(self, add: Callable[[Path, Path], Any]) -> None:
        """Adds the blocks that an interrupted run finished with the same settings, and removes its folder."""
        sharded = self._folder([])
        plan = sharded.partial / PLAN
        if not plan.exists():
            return
        try:
            settings = read_json(plan)["plan"]
        except (FolderError, LookupError, TypeError):
            settings = None
        if settings == self.settings and (notes := sorted(sharded.partial.glob(".shard-*.json"))):
            log.info(f"{self.kind}: adding {len(notes):,} blocks that an interrupted run finished")
            for note in notes:
                part = _part(sharded, int(note.stem.rpartition("-")[2]))
                try:
                    add(self.database.path, part)
                except sqlite3.DatabaseError as error:
                    if isinstance(error, sqlite3.OperationalError) and part.exists():
                        raise self._unwritten(error) from error
                    log.warning(f"{part} is damaged ({error}): its {self.kind} are computed again")
        sharded.discard()

    def run(
        self,
        job: Callable[[ShardedFolder], Job],
        parts: Sequence[Sequence[Item]],
        engine: Engine,
        add: Callable[[Path, Path], Any],
    ) -> list[dict[str, Any]]:
        """Does the blocks on workers and adds them to the database; returns their notes."""
        if not parts:
            return []
        sharded = self._folder(parts)
        sharded.start(lambda: self.settings)
        units, name = sharded.unfinished(parts), "pairs" if self.kind == MATCHES else "photos"
        run_units(job(sharded), units, engine=engine, label=self.kind, name=name)
        try:
            for number in range(len(parts)):
                add(self.database.path, _part(sharded, number))
        except sqlite3.DatabaseError as error:
            raise self._unwritten(error) from error
        notes = sharded.notes()
        sharded.discard()
        return notes

    def _unwritten(self, error: Exception) -> ReconstructionError:
        return ReconstructionError(
            f"{self.database.path} cannot be written ({error}). The finished {self.kind} are kept in "
            f"{self._folder([]).partial}: run the same command again"
        )

    def _folder(self, parts: Sequence[Sequence[Item]]) -> ShardedFolder:
        folder = self.database.path.absolute().with_name(self.kind)
        return ShardedFolder(folder, f"COLMAP {self.kind}", VERSION, fingerprint(self.settings, list(parts)))
