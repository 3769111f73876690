"""A folder of photos that can be searched, in a few lines of Python; `keras-retrieval app` shows the same as a page.

    collection = keras_retrieval.Collection("photos")
    collection.update()
    collection.search("query.jpg")

`update` makes the index follow the folder: new and changed photos are described, those whose files are gone are
deleted. The index and everything else is in a state folder (`state`); nothing is written into the photo folder.
"""

import contextlib
import logging
import numbers
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import NO_DESCRIPTOR, NoDescriptorsError
from keras_retrieval.pipelines.files.durable import FolderError, atomic_path, sha256_of
from keras_retrieval.pipelines.files.progress import silent
from keras_retrieval.pipelines.networks.files import load_model, model_identity, save_model
from keras_retrieval.pipelines.networks.precision import check_precision, resolve_precision
from keras_retrieval.pipelines.photos.formats import PhotoError, PhotoFolderError
from keras_retrieval.pipelines.photos.grid_crops import parse_levels
from keras_retrieval.pipelines.photos.intake import Intake
from keras_retrieval.pipelines.photos.intake_options import IntakeOptions
from keras_retrieval.pipelines.photos.query_box import Box
from keras_retrieval.pipelines.runtimes.options import RUNTIME, check_runtime_precision, require_runtime

from keras_retrieval import library_logs
from keras_retrieval.errors import ArgumentError

from ..folder_index.folder_index import FolderIndex
from ..index_contract.answers import Answers, best_probabilities
from ..index_contract.calibration import Calibration
from ..index_contract.contract import Filter, Hits
from ..index_contract.errors import CalibrationError, IndexFileNotFoundError
from ..index_contract.index_settings import EXACT_BELOW
from ..search_page.feedback import combined
from .changes import Changes, State, compare, mount_points, photo_states
from .describing import Unit, describe_in_units, reading_of
from .errors import StateError, StoppedError
from .generation import Generation, record_of, same_descriptors, scann_is_installed
from .network_choice import AUTO, GIVEN, RANDOM, SIZE, TRAINED, ChosenNetwork, check_model, choose, prepare
from .progress_line import ProgressLine
from .search_result import Hit, SearchResult, gallery
from .state import StateFolder, default_state
from .work import DESCRIBING, LOADING, LOOKING, Meter, Work

log = logging.getLogger("keras_retrieval")

Query = str | os.PathLike[str] | bytes | np.ndarray
"""A query: the name of a photo of the collection, the path or the content of a photo file, or pixels (H, W, 3)."""


AGAIN_SECONDS = 3.0  # until the folder is looked at again while photos are being described
SHARE = 20  # looks take at most this fraction of the time: one in 20 s if it takes 1 s

_OPEN: "WeakValueDictionary[Path, Collection]" = WeakValueDictionary()


@dataclass(frozen=True)
class UpdateReport:
    """The result of `Collection.update`.

    Attributes:
        photos: the number of photos in the folder.
        searchable: the number of photos in the index.
        described: the number of photos that were described.
        renamed: the number of photos that were found under another name.
        deleted: the number of photos that were deleted from the index, because their files are gone.
        left_out: the number of files that are no photos or have no descriptor; `Collection.left_out` has the reasons.
        unreachable: the number of photos that stay in the index although their folder cannot be read at present.
        seconds: the time that the update took.
    """

    photos: int
    searchable: int
    described: int
    renamed: int
    deleted: int
    left_out: int
    unreachable: int
    seconds: float


@dataclass(frozen=True)
class _Look:
    """The result of a look at the photo folder.

    Attributes:
        intake: the account of its files.
        states: the state of each photo's file.
        next_time: when the folder may be looked at again at the earliest, as `time.monotonic` counts.
    """

    intake: Intake
    states: Mapping[str, State]
    next_time: float


class Collection:
    """The photos of a folder, described by a network and indexed.

    Args:
        photos: the photo folder; its sub-folders are read, too.
        state: the state folder; None for one in the user's cache folder. One process at a time uses it, and in this
            process a collection that was opened on it earlier is closed.
        model: a .keras or .onnx file, a published network, weights of a trunk, or a name such as "vgg16_gem". "auto" is
            the best published network in the weights folder, else ImageNet weights, else a random network. None keeps
            the network that the collection has, and is "auto" for a new one.
        size: the longest side of a photo in pixels; None for that of the collection, or 362.
        crops: levels of crops that are described in addition to the whole photo, such as "1,2,3" or (1, 2, 3), to find
            small objects; "1" for whole photos only. None for those of the collection, or whole photos.
        precision: "float32", "bfloat16" or "auto", see `extract`.
        runtime: "tensorflow", "onnxruntime", "openvino", "ncnn" or "auto", see `extract`.
        include: patterns of photos to take; None for all.
        exclude: patterns of files and folders to ignore.
        hidden: whether hidden files are taken.
        system_files: whether files of operating systems, storage servers and photo libraries are taken.
        accept_truncated: whether JPEG photos that lack their last bytes are taken.

    Raises:
        PhotoFolderError: the photo folder does not exist.
        ArgumentError: an argument is out of range, or the network's name is unknown.
        NetworkError: the network's file does not exist.
        StateBusyError: another process uses the state folder.
        StateError: the state folder cannot be written, or contains something else.
        FolderError: the state folder is inside the photo folder.
    """

    def __init__(
        self,
        photos: str | os.PathLike[str],
        *,
        state: str | os.PathLike[str] | None = None,
        model: str | os.PathLike[str] | None = None,
        size: int | None = None,
        crops: str | Sequence[int] | None = None,
        precision: str = "auto",
        runtime: str = RUNTIME,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        hidden: bool = False,
        system_files: bool = False,
        accept_truncated: bool = False,
    ) -> None:
        self.folder = Path(photos)
        if not self.folder.is_dir():
            raise PhotoFolderError(
                f"{photos} {'is a file, not a folder' if self.folder.exists() else 'does not exist'}"
            )
        if size is not None and size < 1:
            raise ArgumentError(f"size must be at least 1 pixel, got {size}")
        check_precision(precision)
        self._levels = None if crops is None else parse_levels(_levels_text(crops))
        require_runtime(runtime, model)
        check_runtime_precision(runtime, precision)
        self._model = None if model is None else os.fspath(model)
        check_model(self._model)
        self._size, self._precision, self._runtime, self._choice = size, precision, runtime, GIVEN
        self._options = IntakeOptions(
            include=None if include is None else list(include),
            exclude=None if exclude is None else list(exclude),
            hidden=hidden,
            system_files=system_files,
            accept_truncated=accept_truncated,
        )
        place = default_state(self.folder) if state is None else Path(state)
        previous = _OPEN.get(place.resolve())
        if previous is not None:  # a cell of a notebook that is run again makes the new one before the old one is gone
            previous.close()
        library_logs.hide()
        self._state = StateFolder(place, self.folder)
        _OPEN[place.resolve()] = self
        self._closing, self._updating, self._opening = threading.Event(), threading.Lock(), threading.Lock()
        self._changing = threading.RLock()  # guards what the methods of other threads read
        self._manifest = self._state.manifest()
        self._check_owner(place)
        self._current: Generation | None = self._generation("current")
        self._next: Generation | None = self._generation("next")
        self._opened, self._told = False, ""
        self._intake: Intake | None = None
        self._without: dict[str, list[Any]] = {}
        self._messages: list[str] = []
        self._scans, self._loaded = 0, threading.Event()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        index = self.index()
        return 0 if index is None else len(index)

    def __repr__(self) -> str:
        return f"Collection({str(self.folder)!r}): {len(self):,} photos can be searched"

    def _repr_html_(self) -> str:
        """Returns the first photos as small pictures."""
        names = self.names
        return f"<p>{len(names):,} photos can be searched</p>" + gallery(
            [(self.folder / name, "", name, None) for name in names], len(names)
        )

    @property
    def state(self) -> Path:
        """The state folder."""
        return self._state.path

    @property
    def names(self) -> list[str]:
        """The sorted names of the photos that can be searched."""
        index = self.index()
        return [] if index is None else sorted(index.names)

    @property
    def left_out(self) -> dict[str, str]:
        """Maps the name of each file that is no photo, or has no descriptor, to the reason; known after `update`."""
        files = {} if self._intake is None else dict(self._intake.left_out)
        with self._changing:
            return dict(sorted((files | {name: row[0] for name, row in self._without.items()}).items()))

    @property
    def left_out_count(self) -> int:
        """The number of files in `left_out`, which is known without sorting them."""
        files = {} if self._intake is None else self._intake.left_out
        with self._changing:
            return len(files) + sum(name not in files for name in self._without)

    @property
    def messages(self) -> list[str]:
        """Sentences for the user, such as why a random network is used."""
        with self._changing:
            return list(dict.fromkeys([*self._state.recovered, *self._messages]))

    @property
    def count(self) -> int:
        """The number of photos that the last look at the folder found; 0 before the first."""
        return len(self.photos or ())

    @property
    def network(self) -> ChosenNetwork | None:
        """The network of the index that is searched; None until it has been chosen."""
        return None if self._current is None else self._current.chosen

    @property
    def size(self) -> int | None:
        """The longest side with which photos enter the network, in pixels; None until it has been chosen."""
        return None if self._current is None else self._current.record["size"]

    @property
    def opened_index(self) -> FolderIndex | None:
        """The open index; None while it has not been opened, or has no photo yet. Reading it takes no time."""
        current = self._current
        return None if current is None else current.index

    @property
    def photos(self) -> list[str] | None:
        """The names of all photos that the last look at the folder found; None before the first."""
        intake = self._intake
        return None if intake is None else intake.photos

    @property
    def scans(self) -> int:
        """How often another list of photos was found."""
        return self._scans

    def index(self) -> FolderIndex | None:
        """Returns the open index; None until the first photos can be searched."""
        self._open()
        with self._changing:
            return None if self._current is None else self._current.index

    def update(
        self, progress: Callable[[Work], None] | None = None, changed: Callable[[], bool] = lambda: False
    ) -> UpdateReport:
        """Makes the index follow the folder.

        Photos that cannot be read are left out, see `left_out`, and are tried again when they have changed. What is
        described can be searched at once, and stays if the update is stopped or killed.

        If the network or the size are others than those of the index, a new index is built beside it, which replaces it
        at the end; until then searches use the old one.

        Args:
            progress: function that is called with the progress, a `Work`; None to show it on stderr.
            changed: function that returns whether the folder has changed since its last call. If it has, while photos
                are being described, the folder is looked at again, and the photos that are new are described first.

        Raises:
            PhotoFolderError: the folder does not exist, or has no photo although there are some in the index, as when
                a drive is not mounted. The index stays as it is.
            RetrievalError: the network cannot be loaded.
            NoDescriptorsError: the network's descriptors of all photos are zero or not finite.
            StoppedError: `close` was called.
            OSError: the state folder cannot be written.
        """
        with self._updating, silent():
            started, meter = time.monotonic(), Meter(progress or _shown(ProgressLine(sys.stderr)))
            self._check_open()
            with ThreadPoolExecutor(1) as pool:
                meter.begin(LOOKING)
                loading = pool.submit(self._prepare)
                self._open()
                look = self._look()
                meter.begin(LOADING)
                generation = loading.result()
            self._without = self._state.left_out(generation.name)
            counts: Counter[str] = Counter()
            earlier: set[str] = set()
            while True:
                changes = self._follow(generation, look)
                counts += Counter(renamed=len(changes.renamed), gone=len(changes.gone))
                fresh = sorted(changes.fresh, key=earlier.__contains__)  # new ones before those that were waiting
                earlier |= set(fresh)
                meter.begin(DESCRIBING, counts["done"] + len(fresh), counts["done"])
                if self._describe(generation, fresh, look, meter, counts, changed):
                    break
                look = self._look()
            self._finish(generation, look.intake)
            return UpdateReport(
                photos=len(look.intake.photos),
                searchable=len(self),
                described=counts["described"],
                renamed=counts["renamed"],
                deleted=counts["gone"] - counts["renamed"],
                left_out=self.left_out_count,
                unreachable=changes.unreachable,
                seconds=time.monotonic() - started,
            )

    def use_trained(self, network: Path) -> None:
        """Sets the network for the next `update`, which builds a new index with it and then switches over.

        Args:
            network: a .keras file, which is copied into the state folder.

        Raises:
            OSError: the file cannot be copied.
        """
        copied = self._state.models / f"trained-{sha256_of(network)[:12]}.keras"
        if not copied.is_file():
            with atomic_path(copied) as temporary:
                shutil.copyfile(network, temporary)
        with self._changing:
            self._model, self._size, self._choice = str(copied), self.size, TRAINED

    def note(self, key: str) -> dict[str, Any]:
        """Returns what `write_note` stored in the state under a key; empty if there is nothing."""
        found = self._manifest.get("notes", {})
        return dict(found.get(key, {})) if isinstance(found, dict) else {}

    def write_note(self, key: str, facts: Mapping[str, Any]) -> None:
        """Stores facts in the state under a key.

        Raises:
            OSError: the state cannot be written.
        """
        with self._changing:
            self._write_manifest(notes={**self._manifest.get("notes", {}), key: dict(facts)})

    def search(
        self,
        query: Query | Sequence[Query] = (),
        k: int = 10,
        *,
        box: Box | Sequence[Box | None] | None = None,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        where: Filter | Mapping[str, str | Sequence[str]] | None = None,
        min_probability: float = 0.0,
    ) -> SearchResult:
        """Finds the photos that are most similar to one or several queries.

        Several queries, and photos that are `like` it, are combined by the L2-normalised mean of their descriptors
        (average query expansion, Chum et al. 2007). The mean descriptor of photos that are not like it is subtracted
        (Rocchio 1971, see `search_page.feedback`), and they are not found.

        Args:
            query: the name of a photo of the collection, the path or the content of a photo file, or pixels
                (H, W, 3) uint8; or several of them.
            k: number of photos to find.
            box: the part of the query to use, (left, top, right, bottom) in pixels of the upright photo; for several
                queries one for each, or None.
            like: names of photos of the collection that are wanted.
            unlike: names of photos of the collection that are not wanted.
            where: a `Filter`, or a dict from the name of a column to accepted values.
            min_probability: the least probability that a photo shows the object of one of the queries, by the
                calibration of the collection; see `calibrate`. With fewer photos than `k`, or none, no others are
                probable enough.

        Returns:
            The photos, sorted by descending score; of a calibrated collection with probabilities.

        Raises:
            PhotoError: a query cannot be read.
            IndexFileNotFoundError: a query is neither a photo of the collection nor a file.
            ArgumentError: no photo can be searched yet, there is no query, or an argument is out of range.
            CalibrationError: `min_probability` is given, and the collection is not calibrated, or by too few photos.
        """
        index = self.index()
        if index is None:
            raise ArgumentError(f"no photo of {self.folder} can be searched yet: call update() first")
        answers = self._checked_answers(min_probability)
        queries = _listed(query)
        boxes = _boxes(box, len(queries))
        names, absent = set(index.names), [*like, *unlike]
        for name in absent:
            if name not in names:
                raise ArgumentError(f"{name} is not a photo that can be searched")
        rows = [self._query_row(one, part, index, names) for one, part in zip(queries, boxes, strict=True)]
        rows += list(index.vectors(list(like))) if like else []
        if not rows:
            raise ArgumentError("give a query, or photos in like=[..]")
        row = combined(index.to_stored(np.stack(rows)), index.vectors(list(unlike)))
        restriction = where if isinstance(where, Filter) or where is None else Filter(columns=_columns(where))
        (hits,) = index.search(row[None], k + len(unlike), where=restriction)
        hits = hits.pick([place for place, name in enumerate(hits.names) if name not in set(unlike)][:k])
        own = [*(_own_name(one, part, names) for one, part in zip(queries, boxes, strict=True)), *like]
        likely = None if answers is None else best_probabilities(answers, hits, rows, own)
        found = [
            Hit(name, float(score), self.folder / name, _box_of(hits, place), None if likely is None else likely[place])
            for place, (name, score) in enumerate(zip(hits.names, hits.scores, strict=True))
            if likely is None or likely[place] >= min_probability
        ]
        return SearchResult(found, len(index))

    def answers(self) -> Answers | None:
        """Returns the probabilities of neighbours by the calibration of the index; None without one."""
        current = self._current
        return None if current is None else current.answers()

    def calibrate(self, tuples: str | os.PathLike[str], *, validation_only: bool = False, seed: int = 0) -> Calibration:
        """Learns from photos of known objects the probability that two photos show the same one; see `calibrate`.

        Searches then give probabilities. A network that is chosen later needs another calibration.

        Args:
            tuples: a file that `keras_retrieval.pipelines.tuples` made of photos of this folder.
            validation_only: whether only photos that are set aside for validation are queries, for a network that was
                trained on the others.
            seed: random seed of the queries.

        Raises:
            ArgumentError: no photo can be searched yet.
            CalibrationError: the tuples have too few photos of the collection, or of too few objects.
            TuplesError: `tuples` is not a file of tuples.
            MissingExtraError: scikit-learn is not installed.
        """
        from ..calibration.learning import learn
        from ..calibration.options import CalibrateOptions

        with self._changing:
            current = self._current
        if current is None or self.index() is None:
            raise ArgumentError(f"no photo of {self.folder} can be searched yet: call update() first")
        options = CalibrateOptions(
            index=str(current.folder), tuples=Path(tuples), verify=False, validation_only=validation_only, seed=seed
        )
        options.check_packages()
        options.check_kinds()
        return learn(options).calibration

    def _checked_answers(self, min_probability: float) -> Answers | None:
        is_number = isinstance(min_probability, numbers.Real) and not isinstance(min_probability, bool)
        if not is_number or not 0 <= min_probability < 1:
            raise ArgumentError(f"min_probability must be a number from 0 to below 1, got {min_probability!r}")
        answers = self.answers()
        if min_probability and answers is None:
            raise CalibrationError(f"min_probability: {self.folder} is not calibrated: call calibrate(TUPLES) first")
        if answers is not None:
            answers.calibration.check_promise(min_probability, str(self.folder), "min_probability")
        return answers

    def describe(self, file: bytes, box: Box | None = None) -> np.ndarray:
        """Describes a photo file with the network of the index.

        Args:
            file: the content of the file.
            box: the part to describe, (left, top, right, bottom) in pixels of the upright photo; None for all of it.

        Returns:
            The descriptor, (D,) float32.

        Raises:
            PhotoError: the photo cannot be read, or the box is outside of it.
            RetrievalError: the network cannot be loaded.
        """
        self._open()
        with self._changing:
            generation = self._current
        if generation is None:
            raise ArgumentError(f"no photo of {self.folder} can be searched yet: call update() first")
        network = generation.load()
        return network.query_file(file, box, accept_truncated=self._options.accept_truncated)

    def wait_for_network(self, seconds: float) -> bool:
        """Waits for the network of the index to be loaded by an update in another thread.

        Args:
            seconds: how long to wait.

        Returns:
            Whether `describe` can be called without a wait for the network.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._closing.is_set():
            current = self._current
            if current is not None and (current.network is not None or self._loaded.is_set()):
                return True
            self._loaded.wait(0.1)
        return False

    def network_file(self) -> Path:
        """Returns the network of the index as a .keras file, which is written if it was built by name.

        Raises:
            ArgumentError: there is no network yet, or it is an .onnx file, which cannot be trained.
        """
        chosen = self.network
        if chosen is None:
            raise ArgumentError(f"{self.folder} has no network yet: call update() first")
        path = Path(chosen.model)
        if path.suffix == ".onnx":
            raise ArgumentError(f"{path} cannot be trained: give --model a .keras file or a name")
        if path.suffix == ".keras":
            return path
        made = self._state.models / f"{chosen.model}.keras"
        if not made.is_file():
            save_model(load_model(chosen.model), made)
        return made

    def stop(self) -> None:
        """Asks an update in another thread to end after the photos that are in the network."""
        self._closing.set()

    def close(self) -> None:
        """Stops an update that is running, and releases the state folder."""
        self._closing.set()
        with self._updating, self._changing:
            for generation in (self._current, self._next):
                if generation is not None:
                    generation.close()
            self._state.close()

    def announce(self, address: str) -> None:
        """Writes the address of the page that shows the collection, for others who start one."""
        self._state.announce(address)

    def _check_owner(self, place: Path) -> None:
        """Refuses the state of another folder, whose index would be lost; a folder that was moved has the old one."""
        owner = self._manifest.get("photos")
        if isinstance(owner, str) and Path(owner) != self.folder.resolve() and Path(owner).is_dir():
            self._state.close()
            raise StateError(f"{place} is the state of {owner}: name another folder with --state")

    # -- what `update` does

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise StoppedError("the collection was closed")

    def _look(self) -> "_Look":
        """Looks at the folder.

        Raises:
            PhotoFolderError: as for `update`.
        """
        started = time.monotonic()
        intake = self._options.take(self.folder, required=False)
        states = photo_states(intake)
        with self._changing:
            self._scans += self._intake is None or self._intake.photos != intake.photos
            self._intake = intake
        self._check_reachable(intake)
        ended = time.monotonic()
        return _Look(intake, states, ended + max(AGAIN_SECONDS, SHARE * (ended - started)))

    def _check_reachable(self, intake: Intake) -> None:
        """Protects the index of a drive that is not mounted: its folder is there and empty."""
        count = len(self)
        if count and not intake.photos:
            raise PhotoFolderError(
                f"{self.folder} contains no photo, and {count:,} photos of it are in the index: they stay there until "
                "the folder has photos again (is its drive mounted?)"
            )

    def _open(self) -> None:
        """Opens the indexes once; damaged ones are removed, to be made again."""
        if self._opened:
            return
        with self._opening:  # not _changing, for which the page would wait while ScaNN is imported
            for generation in () if self._opened else filter(None, (self._current, self._next)):
                try:
                    generation.open()
                except FolderError as error:
                    self._say(f"{_without_advice(str(error))}. The photos are described again.")
                    shutil.rmtree(generation.folder, ignore_errors=True)
            self._opened = True

    def _say(self, sentence: str) -> None:
        with self._changing:
            if sentence in self._messages:
                return
            self._messages.append(sentence)
        log.warning(sentence)

    def _generation(self, key: str) -> Generation | None:
        record = self._manifest.get(key)
        if not isinstance(record, dict) or not isinstance(record.get("index"), str):
            return None
        return Generation(self._state.path / record["index"], self.folder, record, self._runtime)

    def _prepare(self) -> Generation:
        """Chooses and loads the network, and returns the index that is to follow the folder."""
        with self._changing:
            model, size, current = self._model, self._size, self._current
        if current is not None and current.network is None:
            again = self._source_of_a_damaged_network(current.record)
            model = model or again
        chosen = choose(model, None if current is None else current.record)
        given = model is not None and model != "auto"
        kept = None if current is None or model is not None else current.chosen
        network = prepare(chosen, self._state.models, self._choice if given else AUTO, kept)
        if network.kind == RANDOM:
            self._say(network.message)
        identity = model_identity(network.model)
        size = size or self._usual_size(network.model, identity)
        levels = self._levels
        if levels is None:
            levels = () if current is None else current.levels
        record = record_of(network, identity, size, self._bfloat16(network.model, identity), levels)
        generation = self._matching(record)
        self._check_open()
        try:
            generation.load()
        except ArgumentError:
            if not record["bfloat16"] or self._precision != "auto":
                raise
            generation = self._matching(record | {"bfloat16": False})  # a network of the user's own without a trunk
            generation.load()
        self._loaded.set()
        if self._told != generation.name:
            self._told = generation.name
            crops = f", crops {','.join(map(str, generation.levels))}" if generation.levels else ""
            log.info(f"network: {network.label}, photos at {generation.record['size']} px{crops}")
            if network.kind != RANDOM and network.message:
                log.info(network.message)
        return generation

    def _source_of_a_damaged_network(self, record: Mapping[str, Any]) -> str | None:
        """Removes the network that the state has if its file is damaged; returns from what it can be made again."""
        path = Path(record["model"])
        if path.parent.resolve() != self._state.models or not path.suffix:
            return None
        if path.is_file() and sha256_of(path) == record["identity"].get("sha256"):
            return None
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        source = str(record.get("source", ""))
        if record.get("kind") != RANDOM and not Path(source).is_file():
            return None
        self._say(f"{path} was damaged or gone: the network is made and the photos are described again.")
        return AUTO if record.get("choice") == AUTO else source

    def _usual_size(self, model: str, identity: Mapping[str, str]) -> int:
        """The size of photos if none is given: that of an index of the same network, or that of an .onnx file."""
        for generation in self._generations_of(identity):
            return int(generation.record["size"])
        exported = load_model(model).size if Path(model).suffix == ".onnx" else None
        return exported or self.size or SIZE

    def _bfloat16(self, model: str, identity: Mapping[str, str]) -> bool:
        """Whether the trunk runs in bfloat16; "auto" keeps the precision of an index of the same network."""
        if self._precision == "auto":
            for generation in self._generations_of(identity):
                return bool(generation.record["bfloat16"])
        return resolve_precision(self._precision, model, runtime=self._runtime) == "bfloat16"

    def _generations_of(self, identity: Mapping[str, str]) -> list[Generation]:
        """The indexes that were made with a network, the present one first."""
        found = filter(None, (self._current, self._next))
        return [one for one in found if same_descriptors(one.record, one.record | {"identity": dict(identity)})]

    def _matching(self, record: dict[str, Any]) -> Generation:
        """The index of a network and a size: the present one, the one that is being built, or a new one."""
        self._open()
        with self._changing:
            current, unfinished = self._current, self._next
            if current is not None and same_descriptors(current.record, record):
                current.record |= {**record, "index": current.name}
                self._next = None
                chosen = current
            elif unfinished is not None and same_descriptors(unfinished.record, record):
                chosen = unfinished
            else:
                name = self._state.new_index()
                chosen = Generation(self._state.path / name, self.folder, record | {"index": name}, self._runtime)
                if current is None or current.index is None:
                    self._current, self._next = chosen, None
                else:
                    self._next = chosen
            self._write_manifest()
            return chosen

    def _write_manifest(self, **facts: Any) -> None:
        self._manifest |= {
            "photos": str(self.folder.resolve()),
            "current": None if self._current is None else self._current.record,
            "next": None if self._next is None else self._next.record,
            **facts,
        }
        self._state.write_manifest(self._manifest)
        self._state.remove_indexes(*(one.name for one in (self._current, self._next) if one is not None))

    def _follow(self, generation: Generation, look: "_Look") -> Changes:
        """Finds out what has changed, and deletes and renames photos in the index."""
        states, truncated = look.states, self._options.accept_truncated
        tried = {
            name: (row[1], row[2])
            for name, row in self._without.items()
            if not (truncated and "truncated" in str(row[0]))
        }
        with self._changing:
            self._without = {
                name: row for name, row in self._without.items() if tried.get(name) == states.get(name, ())
            }
        changes = compare(generation.states(), tried, look.intake, states, self._manifest.get("mounts", ()))
        self._rename(generation, changes)
        self._delete(generation, changes.gone)
        return changes

    def _rename(self, generation: Generation, changes: Changes) -> None:
        if not changes.renamed or generation.index is None:
            return
        new, old = list(changes.renamed), list(changes.renamed.values())
        columns, crops = generation.index.columns(old), None
        if generation.levels:
            rows, crops = generation.index.crops(old)
        else:
            rows = np.array(generation.index.vectors(old))
        generation.add(new, rows, columns, crops)

    def _delete(self, generation: Generation, names: Sequence[str]) -> None:
        generation.delete(names)
        with self._changing:
            current = self._current
        if current is not None and current is not generation and names:
            current.delete([name for name in names if not (self.folder / name).exists()])

    def _describe(
        self,
        generation: Generation,
        names: Sequence[str],
        look: "_Look",
        meter: Meter,
        counts: "Counter[str]",
        changed: Callable[[], bool],
    ) -> bool:
        """Describes photos; returns False if the folder has changed before all of them were described."""
        network = generation.load()
        reading = reading_of(self.folder, generation.record["size"], network.smallest, self._options.accept_truncated)
        units = describe_in_units(network, reading, names, look.states, generation.levels)
        with contextlib.closing(units):
            for unit in units:
                self._store(generation, unit, look.states)
                done = len(unit.names) + len(unit.left_out)
                counts += Counter(described=len(unit.names), done=done)
                meter.advance(done)
                self._check_open()
                if time.monotonic() > look.next_time and changed():
                    return False
        return True

    def _store(self, generation: Generation, unit: Unit, states: Mapping[str, State]) -> None:
        if unit.names:
            generation.add(unit.names, unit.rows, unit.columns, unit.crops)
        if unit.left_out:
            generation.delete(list(unit.left_out))  # those that have changed and cannot be read any more
            with self._changing:
                self._without |= {name: [reason, *states[name]] for name, reason in unit.left_out.items()}
            self._state.write_left_out(generation.name, self._without)

    def _finish(self, generation: Generation, intake: Intake) -> None:
        useless = [row[0] for row in self._without.values()].count(NO_DESCRIPTOR)
        if useless and generation.index is None:
            raise NoDescriptorsError(useless)
        self._state.write_left_out(generation.name, self._without)
        known = [name for name in self._manifest.get("mounts", ()) if (self.folder / name).is_dir()]
        mounts = sorted({*mount_points(self.folder, intake.photos), *known})
        old = None
        with self._changing:
            if generation is self._next and generation.index is not None:
                old, self._current, self._next = self._current, generation, None
            self._write_manifest(mounts=mounts)
        if old is not None:
            old.close()
        count = len(self)
        if count >= EXACT_BELOW and not scann_is_installed():
            self._say(
                f"Each search compares all {count:,} photos, because ScaNN is not installed: "
                'pip install "keras-retrieval[index]" makes searches faster.'
            )

    # -- what `search` does

    def _query_row(self, query: Query, box: Box | None, index: FolderIndex, names: set[str]) -> np.ndarray:
        if isinstance(query, np.ndarray):
            return self._pixels_row(query, box)
        if isinstance(query, bytes):
            return self.describe(query, box)
        name = os.fspath(query)
        if name in names and box is None:
            return np.array(index.vectors([name])[0])
        path = self.folder / name if name in names else Path(name)
        if not path.is_file():
            raise IndexFileNotFoundError(f"{name} is neither a photo that can be searched nor a file")
        try:
            return self.describe(path.read_bytes(), box)
        except PhotoError as error:
            raise PhotoError(name, error.reason) from None

    def _pixels_row(self, pixels: np.ndarray, box: Box | None) -> np.ndarray:
        import io

        from PIL import Image

        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ArgumentError(f"pixels must be an array (H, W, 3) of uint8, got {pixels.shape} of {pixels.dtype}")
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "BMP")
        return self.describe(file.getvalue(), box)


def _without_advice(sentence: str) -> str:
    """Removes what the user of an index folder should do, because a collection does it."""
    return sentence.removesuffix(": make the folder again").removesuffix(": restore it, or index again")


def _shown(line: ProgressLine) -> Callable[[Work], None]:
    """Shows the description of photos on a line; the other steps take seconds."""

    def report(work: Work) -> None:
        if work.step == DESCRIBING and work.total:
            line.show(work.label, work.line)
            if work.done == work.total:
                line.clear()

    return report


_QUERY = (str, os.PathLike, bytes, np.ndarray)


def _listed(query: Query | Sequence[Query]) -> list[Query]:
    queries: list[Any] = list(query) if isinstance(query, Iterable) and not isinstance(query, _QUERY) else [query]
    for one in queries:
        if not isinstance(one, _QUERY):
            raise ArgumentError(
                "a query must be the name of a photo, the path or the bytes of a file, or pixels (H, W, 3), "
                f"got {type(one).__name__}"
            )
    return queries


def _boxes(box: Box | Sequence[Box | None] | None, count: int) -> list[Box | None]:
    if box is None:
        return [None] * count
    entries = list(box)
    if len(entries) == 4 and not any(isinstance(entry, tuple | list) or entry is None for entry in entries):
        entries = [tuple(entries)] * count
    if len(entries) != count:
        raise ArgumentError(f"box must be one box for each of {count} queries, got {len(entries)}")
    return entries


def _levels_text(crops: str | Sequence[int]) -> str:
    return crops if isinstance(crops, str) else ",".join(map(str, crops))


def _box_of(hits: Hits, place: int) -> Box | None:
    if hits.boxes is None:
        return None
    left, top, right, bottom = hits.boxes[place].tolist()
    return left, top, right, bottom


def _own_name(query: Query, box: Box | None, names: set[str]) -> str | None:
    """The name of a query that is a whole photo of the collection."""
    own = isinstance(query, str | os.PathLike) and box is None and os.fspath(query) in names
    return os.fspath(query) if own else None  # type: ignore[arg-type]


def _columns(where: Mapping[str, str | Sequence[str]]) -> dict[str, list[str]]:
    return {column: [values] if isinstance(values, str) else list(values) for column, values in where.items()}
