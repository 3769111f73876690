"""What `app` does behind its page: describes the photos, watches the folder, trains, and knows how far it is."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.photos.formats import PhotoFolderError
from keras_retrieval.pipelines.photos.intake_options import IntakeOptions

from keras_retrieval.errors import RetrievalError

from ..collection.collection import Collection, UpdateReport
from ..collection.errors import StoppedError
from ..collection.network_choice import RANDOM
from ..collection.work import DESCRIBING, Work
from ..search_page.source import Training
from .errors import StepFailedError, StepStoppedError
from .training import PRETRAINED, ChainOptions, ChainProgress, Outcome, train_on_photos
from .training import RANDOM as RANDOM_RECIPE
from .watching import FolderWatch

log = logging.getLogger("keras_retrieval")

NICE = 5  # of the thread that describes and of those that TensorFlow starts in it, so that pages stay quick
FOLDER_SECONDS, DISK_SECONDS = 5.0, 30.0  # until another try without the photo folder, and after an error of the disk


class Background:
    """The work on a collection in a thread of its own.

    Args:
        collection: the collection.
        watch: whether the folder is watched after the first update.
        train: whether a network is trained on the photos.
        intake: which files are photos, for the training.
        report: called with each change of the work, and with None when it is done.

    Attributes:
        work: the progress; None while nothing is being done.
        problem: a sentence if something failed; "" otherwise.
        note: a sentence about the folder, such as that it is gone; "" otherwise.
        training: the state of the training; None without one.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        watch: bool,
        train: bool,
        intake: IntakeOptions,
        report: Callable[[Work | None], None] = lambda work: None,
    ) -> None:
        self.work: Work | None = Work(1)
        self.problem = self.note = ""
        self.training: Training | None = Training("waiting") if train else None
        self._collection, self._intake, self._report = collection, intake, report
        self._watching, self._stopped = watch, threading.Event()
        self._watch: FolderWatch | None = None
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._rate: float | None = None
        self._searchable = False  # whether an update has been completed

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Asks for the end, and waits for it.

        Args:
            seconds: how long to wait.

        Returns:
            Whether the work has ended.
        """
        self._stopped.set()
        if self._watch is not None:
            self._watch.stop()
        self._collection.stop()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        _lower_priority()
        if self._watching:
            self._watch = FolderWatch(self._collection.folder)
        wait = self._update()
        if self.training is not None and not self._stopped.is_set():
            self._train()
        while self._watch is not None and not self._stopped.is_set():
            if self._watch.reason and not self.note:
                self.note = self._watch.reason
            if wait is None:
                self._stopped.wait(DISK_SECONDS)
            else:
                self._watch.wait(wait, self._stopped)
            if not self._stopped.is_set():
                wait = self._update()

    def _update(self) -> float | None:
        """Updates the collection; returns the seconds that a look at the folder takes, or None after an error."""
        started, folder_problem = time.monotonic(), False
        try:
            report = self._collection.update(self._progress)
            self._done(report)
            return time.monotonic() - started if not report.described else 0.0
        except StoppedError:
            return None
        except PhotoFolderError as error:
            folder_problem = True
            self._failed(f"{error}. The page goes on by itself when the photos are there again.")
        except OSError as error:
            self._failed(f"{_os_reason(error)} It is tried again every {DISK_SECONDS:.0f} seconds.")
        except RetrievalError as error:
            self._failed(str(error))
        except Exception as error:  # the page must go on, and say what happened
            log.exception("the photos could not be described")
            self._failed(f"An unexpected error, which the log shows: {type(error).__name__}: {str(error)[:200]}")
        if folder_problem:
            self._wait_for_folder()
            return 0.0
        return None

    def _wait_for_folder(self) -> None:
        while self._watch is not None and not self._stopped.wait(FOLDER_SECONDS):
            with contextlib.suppress(OSError):
                if any(self._collection.folder.iterdir()):
                    self._watch.restart()
                    self._watch.changed.set()
                    return

    def _progress(self, work: Work) -> None:
        if self._searchable and (work.step < DESCRIBING or not work.total):
            return  # a look at the folder, as there are many
        self.work = work
        self._rate = work.rate or self._rate
        self._report(work)

    def _done(self, report: UpdateReport) -> None:
        if self.problem:
            log.info(f"{self._collection.folder}: it goes on")
        self.work, self.problem, self._searchable = None, "", True
        self._report(None)
        counts = {
            "described": report.described, "renamed": report.renamed, "deleted": report.deleted,
        }  # fmt: skip
        changes = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        if changes:
            log.info(f"{report.searchable:,} photos can be searched ({changes}); {report.left_out:,} files left out")

    def _failed(self, sentence: str) -> None:
        self.work = None
        self._report(None)
        if sentence != self.problem:
            log.warning(sentence)
        self.problem = sentence

    def _train(self) -> None:
        collection, state = self._collection, self._collection.state
        network = collection.network
        if network is None or self.problem:
            self.training = Training("failed", message="Nothing was trained, because the photos are not described.")
            return
        self.training = Training("working", measure="mAP", message="Preparing the training.")
        try:
            options = ChainOptions(
                photos=collection.folder,
                work=state / "training",
                model=collection.network_file(),
                recipe=RANDOM_RECIPE if network.kind == RANDOM else PRETRAINED,
                size=collection.size or 0,
                intake=self._intake,
                rate=self._rate,
            )
            outcome = train_on_photos(options, self._training_progress, self._stopped)
            self._trained(outcome)
        except StepStoppedError:
            self.training = replace(self.training, message="The training goes on at the next start with --train.")
        except (StepFailedError, RetrievalError, OSError) as error:
            log.warning(f"training: {error}")
            self.training = Training("failed", message=str(error))

    def _training_progress(self, progress: ChainProgress) -> None:
        self.training = Training("working", measure="mAP", message=_training_line(progress))
        label = f"training, step {progress.step} of {progress.steps}: {progress.label}"
        done = progress.work
        self._report(
            Work(
                progress.step, progress.steps, label,
                0 if done is None else done.done, 0 if done is None else done.total or 0,
                None, progress.seconds_left,
            )
        )  # fmt: skip

    def _trained(self, outcome: Outcome) -> None:
        measured = Training("working", outcome.before, outcome.after, "mAP", outcome.message)
        if outcome.network is None or not outcome.better:
            state: Any = "failed" if outcome.network is None else "ready"
            self.training = replace(measured, state=state)
            log.info(outcome.message)
            return
        self.training = replace(measured, message=f"{outcome.message} The photos are being described with it.")
        self._searchable = False
        self._collection.use(str(outcome.network))
        self._update()
        done = "The page uses the trained network." if not self.problem else self.problem
        self.training = replace(
            measured, state="failed" if self.problem else "ready", message=f"{outcome.message} {done}"
        )
        log.info(self.training.message)


def _training_line(progress: ChainProgress) -> str:
    from ..collection.work import duration

    work = progress.work
    part = f", {work.done:,} of {work.total:,} {work.unit}" if work is not None and work.total else ""
    left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return f"Step {progress.step} of {progress.steps}: {progress.label}{part}{left}"


def _lower_priority() -> None:
    """Lowers the priority of this thread, and of those that it starts, where the system has one for each thread."""
    if hasattr(os, "setpriority") and Path("/proc/self/task").is_dir():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _os_reason(error: OSError) -> str:
    if isinstance(error, RetrievalError):
        return f"{error}."
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename or 'The state folder'} cannot be written: {reason}."
