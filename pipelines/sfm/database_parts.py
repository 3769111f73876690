"""Parts of COLMAP databases: what a worker reads of one, and what it adds to one.

They are copied by SQL, because pycolmap numbers images anew. A part that is read keeps the numbers of the images, so
that COLMAP finds the same matches and models in it. The images of a part that is added get the next free numbers.

Part and whole may be on a network file system, on which SQLite cannot share a database that it writes. Therefore a
database that others read is a single file (`as_single_file`) which is opened without locks ("immutable"). Rows may be
appended to it meanwhile, because they change no page with a row of another table.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from .colmap import Pair, colmap_name, load_colmap, photo_name
from .errors import ReconstructionError

_PAIRS = ("matches", "two_view_geometries")
_CAMERA = 0  # COLMAP's number of the type of a sensor that is a camera


def as_single_file(database: Path) -> None:
    """Moves what is in the write-ahead log of a database into its file.

    Raises:
        ReconstructionError: another process uses the database.
    """
    with _opened(database) as whole:
        ((busy, *_),) = whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if busy:
        raise ReconstructionError(f"{database} is used by another process: end it, and run the same command again")


def write_part(
    database: Path, part: Path, names: Iterable[str], pairs: Sequence[Pair] = (), *, descriptors: bool = True
) -> None:
    """Writes a database with some of the photos of another one, with the same numbers.

    Args:
        database: the database to read, of which `as_single_file` made a single file.
        part: the file to write.
        names: names of the photos whose cameras and features are copied.
        pairs: pairs of these photos whose two-view geometries are copied.
        descriptors: whether the descriptors of the features are copied.

    Raises:
        sqlite3.Error: the database cannot be read, or the part cannot be written.
    """
    load_colmap().Database.open(part).close()
    with _opened(part) as opened:
        opened.execute("ATTACH ? AS whole", (f"{database.absolute().as_uri()}?mode=ro&immutable=1",))
        with opened:
            opened.execute("CREATE TEMP TABLE wanted (name TEXT PRIMARY KEY)")
            opened.executemany("INSERT INTO wanted VALUES (?)", ((colmap_name(name),) for name in set(names)))
            _copy(opened, "images", "name IN (SELECT name FROM wanted)")
            photos = "IN (SELECT image_id FROM main.images)"
            for table in ("keypoints", "descriptors") if descriptors else ("keypoints",):
                _copy(opened, table, f"image_id {photos}")
            _copy(opened, "cameras", "camera_id IN (SELECT camera_id FROM main.images)")
            _copy(opened, "frame_data", f"sensor_type = {_CAMERA} AND data_id {photos}")
            _copy(opened, "frames", "frame_id IN (SELECT frame_id FROM main.frame_data)")
            _copy(opened, "rigs", "rig_id IN (SELECT rig_id FROM main.frames)")
            _copy(opened, "rig_sensors", "rig_id IN (SELECT rig_id FROM main.frames)")
            _copy(opened, "pose_priors", f"corr_sensor_type = {_CAMERA} AND corr_data_id {photos}")
            opened.execute("CREATE TEMP TABLE wanted_pairs (number INTEGER PRIMARY KEY)")
            opened.executemany("INSERT INTO wanted_pairs VALUES (?)", _pair_numbers(opened, pairs))
            _copy(opened, "two_view_geometries", "pair_id IN (SELECT number FROM wanted_pairs)")
        opened.execute("DETACH whole")


def _pair_numbers(opened: sqlite3.Connection, pairs: Sequence[Pair]) -> Iterator[tuple[int]]:
    """COLMAP's numbers of pairs of photos of a database."""
    number_of = {photo_name(name): number for number, name in opened.execute("SELECT image_id, name FROM main.images")}
    number = load_colmap().image_pair_to_pair_id
    return ((number(number_of[one], number_of[other]),) for one, other in pairs)


def _copy(opened: sqlite3.Connection, table: str, condition: str) -> None:
    """Copies rows, by the names of columns: a database of an older COLMAP has them in another order."""
    names = ", ".join(column for _, column, *_ in opened.execute(f"PRAGMA main.table_info({table})"))
    opened.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM whole.{table} WHERE {condition}")


def keep_matches(part: Path) -> None:
    """Removes the features from a part, and makes it a single file of matches."""
    with _opened(part) as opened, opened:
        for table in ("keypoints", "descriptors"):
            opened.execute(f"DROP TABLE {table}")
    pack(part)


def pack(part: Path) -> None:
    """Makes a part the smallest single file, without a write-ahead log."""
    with _opened(part) as opened:
        opened.execute("PRAGMA journal_mode = DELETE")
        opened.execute("VACUUM")


def add_features(database: Path, part: Path) -> None:
    """Adds the images and features of a part to a database, all or nothing. Those that it has already are passed over.

    Args:
        database: the database, which is created if it does not exist.
        part: a part that `pack` wrote, with images of other names than those with features in `database`.
    """
    load_colmap().Database.open(database).close()
    with _with_part(database, part) as opened:
        opened.execute(
            "CREATE TEMP TABLE known AS SELECT added.image_id AS old, kept.image_id AS new, 0 AS added "
            "FROM part.images AS added JOIN main.images AS kept USING (name)"
        )
        steps = {table: _last(opened, table) for table in ("images", "cameras", "rigs", "frames", "pose_priors")}
        opened.execute(
            "INSERT INTO known SELECT image_id, image_id + ?, 1 FROM part.images "
            "WHERE image_id NOT IN (SELECT old FROM known)",
            (steps["images"],),
        )
        added = "IN (SELECT old FROM known WHERE added)"
        of_frames = f"IN (SELECT frame_id FROM part.frame_data WHERE sensor_type = {_CAMERA} AND data_id {added})"
        of_rigs = f"IN (SELECT rig_id FROM part.frames WHERE frame_id {of_frames})"
        cameras = f"IN (SELECT camera_id FROM part.images WHERE image_id {added})"
        image, camera, rig, frame, prior = steps.values()
        moved = [
            ("cameras", {"camera_id": camera}, f"camera_id {cameras}"),
            ("rigs", {"rig_id": rig, "ref_sensor_id": camera}, f"rig_id {of_rigs}"),
            ("rig_sensors", {"rig_id": rig, "sensor_id": camera}, f"rig_id {of_rigs}"),
            ("images", {"image_id": image, "camera_id": camera}, f"image_id {added}"),
            ("frames", {"frame_id": frame, "rig_id": rig}, f"frame_id {of_frames}"),
            ("frame_data", {"frame_id": frame, "data_id": image, "sensor_id": camera}, f"frame_id {of_frames}"),
            (
                "pose_priors",
                {"pose_prior_id": prior, "corr_data_id": image, "corr_sensor_id": camera},
                f"corr_sensor_type = {_CAMERA} AND corr_data_id {added}",
            ),
        ]
        for table, steps_of, condition in moved:
            names = [column for _, column, *_ in opened.execute(f"PRAGMA part.table_info({table})")]
            values = [f"{name} + {steps_of[name]}" if name in steps_of else name for name in names]
            opened.execute(
                f"INSERT INTO main.{table} ({', '.join(names)}) SELECT {', '.join(values)} FROM part.{table} "
                f"WHERE {condition}"
            )
        for table in ("keypoints", "descriptors"):
            names = [column for _, column, *_ in opened.execute(f"PRAGMA part.table_info({table})")]
            others = [name for name in names if name != "image_id"]
            opened.execute(
                f"INSERT OR IGNORE INTO main.{table} (image_id, {', '.join(others)}) "
                f"SELECT new, {', '.join(others)} FROM part.{table} JOIN known ON image_id = old ORDER BY new"
            )


def _last(opened: sqlite3.Connection, table: str) -> int:
    """The largest number that a row of a table had."""
    if table == "pose_priors":
        return int(opened.execute("SELECT coalesce(max(pose_prior_id), 0) FROM main.pose_priors").fetchone()[0])
    found = opened.execute("SELECT seq FROM main.sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return found[0] if found else 0


def add_matches(database: Path, part: Path) -> bool:
    """Adds the matches of a part to a database, all or nothing. Pairs that it has already are passed over.

    Args:
        database: the database from which the part's images were copied.
        part: a part that `keep_matches` wrote.

    Returns:
        Whether the numbers of the part's images are those of the database; if not, nothing is added.
    """
    with _with_part(database, part) as opened:
        differs = "SELECT 1 FROM part.images AS own LEFT JOIN main.images USING (image_id, name) WHERE main.images.name"
        if opened.execute(f"{differs} IS NULL LIMIT 1").fetchone():
            return False
        for table in _PAIRS:
            names = ", ".join(column for _, column, *_ in opened.execute(f"PRAGMA part.table_info({table})"))
            opened.execute(f"INSERT OR IGNORE INTO main.{table} ({names}) SELECT {names} FROM part.{table}")
    return True


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as opened:
        yield opened


@contextmanager
def _with_part(database: Path, part: Path) -> Iterator[sqlite3.Connection]:
    """Opens a database with a part of it, as one transaction."""
    with _opened(database) as opened:
        opened.execute("ATTACH ? AS part", (f"{part.absolute().as_uri()}?mode=ro&immutable=1",))
        if not opened.execute("SELECT 1 FROM part.sqlite_master WHERE name = 'images'").fetchone():
            raise sqlite3.DatabaseError("it has no images")  # an empty file is a database for SQLite
        with opened:
            opened.execute("BEGIN")
            yield opened
