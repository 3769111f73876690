"""What `app` does behind its page: describes the photos, watches the folder, trains, and knows how far it is."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from keras_retrieval.pipelines.photos.formats import PhotoFolderError
from keras_retrieval.pipelines.photos.intake_options import IntakeOptions

from keras_retrieval.errors import RetrievalError

from ..collection.collection import Collection, UpdateReport
from ..collection.errors import StoppedError
from ..collection.network_choice import RANDOM, TRAINED
from ..collection.work import DESCRIBING, Work, duration
from ..search_page.source import Training
from .children import Work as StepWork
from .errors import StepFailedError, StepStoppedError
from .training import PRETRAINED, ChainOptions, ChainProgress, Outcome, calibration_tuples, train_on_photos
from .training import RANDOM as RANDOM_RECIPE
from .watching import FolderWatch

log = logging.getLogger("keras_retrieval")

NICE = 5  # of the thread that describes and of those that TensorFlow starts in it, so that pages stay quick
AGAIN_SECONDS, LONGEST_SECONDS = 5.0, 300.0  # until another try after an error, and after many errors in a row


class Background:
    """The work on a collection in threads of its own.

    Args:
        collection: the collection.
        watch: whether the folder is watched after the first update.
        train: whether a network is trained on the photos.
        intake: which files are photos, for the training.
        report: called with each change of the work, and with None when it is done.

    Attributes:
        work: the progress; None while nothing is being done.
        problem: a sentence if something failed; "" otherwise.
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
        self.problem = ""
        self.training: Training | None = Training("waiting") if train else None
        self._collection, self._intake, self._report = collection, intake, report
        self._watching, self._stopped = watch, threading.Event()
        self._watch: FolderWatch | None = None
        self._threads = [threading.Thread(target=self._follow, name="describe", daemon=True)]
        self._rate: float | None = None
        self._failures = 0  # in a row
        self._complete = False  # whether an update with the present network has been completed

    @property
    def note(self) -> str:
        """A sentence about how the folder is watched; "" if there is nothing to say."""
        return "" if self._watch is None else self._watch.reason

    def start(self) -> None:
        """Begins."""
        self._threads[0].start()

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
            self._watch.notice()
        self._collection.stop()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _follow(self) -> None:
        _lower_priority()
        if self._watching:
            self._watch = FolderWatch(self._collection.folder)
        seconds = self._update()
        if self.training is not None and not self._stopped.is_set():
            self._threads.append(threading.Thread(target=self._train, name="train", daemon=True))
            self._threads[-1].start()
        while not self._stopped.is_set() and (self._watch is not None or self.problem):
            if self._watch is None:
                self._stopped.wait(self._pause())
            else:
                self._wait(self._watch, seconds)
            if not self._stopped.is_set():
                seconds = self._update()

    def _wait(self, watch: FolderWatch, seconds: float) -> None:
        if not self.problem:
            watch.wait(seconds, self._stopped)
            return
        # An error ends with a change of the folder, or with something else, such as space on the disk.
        timer = threading.Timer(self._pause(), watch.notice)
        timer.daemon = True
        timer.start()
        watch.wait(seconds, self._stopped)
        timer.cancel()

    def _pause(self) -> float:
        """The seconds until another try, which grow with each failure."""
        return min(LONGEST_SECONDS, AGAIN_SECONDS * 2 ** min(self._failures - 1, 10))

    def _update(self) -> float:
        """Updates the collection, and notes a failure; returns the seconds that a look at the folder takes."""
        started = time.monotonic()
        try:
            watch = self._watch
            changed = watch.has_changed if watch is not None else (lambda: False)
            report = self._collection.update(self._progress, changed)
        except StoppedError:
            return 0.0
        except PhotoFolderError as error:
            self._failed(f"{error}. The page goes on by itself when the photos are there again.")
        except OSError as error:
            self._failed(f"{_reason(error)} It is tried again from time to time.")
        except RetrievalError as error:
            self._failed(str(error))
        except Exception as error:  # the page must go on, and say what happened
            log.exception("the photos could not be described")
            self._failed(f"An unexpected error, which the terminal shows: {type(error).__name__}: {str(error)[:200]}")
        else:
            self._done(report)
            return 0.0 if report.described else time.monotonic() - started
        return 0.0

    def _progress(self, work: Work) -> None:
        nothing_to_do = work.step == DESCRIBING and not work.total
        if nothing_to_do or ((self._complete or self.problem) and work.step < DESCRIBING):
            return  # one of the regular looks at the folder, or another try after an error
        self.work = work
        self._rate = work.rate or self._rate
        self._report(work)

    def _done(self, report: UpdateReport) -> None:
        if self.problem:
            log.info(f"{self._collection.folder}: it goes on")
        first, self._complete = not self._complete, True
        self.work, self.problem, self._failures = None, "", 0
        self._report(None)
        counts = {"described": report.described, "renamed": report.renamed, "deleted": report.deleted}
        changes = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        if changes or first:
            left_out = f"; {report.left_out:,} files left out" if report.left_out else ""
            then = "they are found" if self._watching else "start again"
            advice = "" if report.photos else f": put photos into {self._collection.folder}, and {then}"
            found = f"{report.searchable:,} photos can be searched{f' ({changes})' if changes else ''}"
            log.info(f"{found}{left_out}{advice}")

    def _failed(self, sentence: str) -> None:
        self.work, self._failures = None, self._failures + 1
        self._report(None)
        if sentence != self.problem:
            log.warning(sentence)
        self.problem = sentence

    # -- training

    def _train(self) -> None:
        try:
            self.training = self._trained()
        except StepStoppedError:
            return
        except (StepFailedError, RetrievalError, OSError) as error:
            self.training = Training("failed", message=f"Training failed: {error}")
        except Exception as error:  # the page must go on, and say what happened
            log.exception("training failed")
            self.training = Training("failed", message=f"Training failed: {type(error).__name__}: {str(error)[:200]}")
        log.info(self.training.message)

    def _trained(self) -> Training:
        collection, network = self._collection, self._collection.network
        if network is None or self.problem:
            return Training("failed", message="Nothing was trained, because the photos are not described.")
        if network.choice == TRAINED:
            known = Training("ready", **collection.note("training"))
            return replace(known, message=f"{known.message} It was trained earlier; --model auto begins anew.".strip())
        self.training = Training("working", measure="mAP", message="The training begins.")
        options = ChainOptions(
            photos=collection.folder,
            work=collection.state / "training",
            model=collection.network_file(),
            recipe=RANDOM_RECIPE if network.kind == RANDOM else PRETRAINED,
            size=collection.size or 0,
            intake=self._intake,
            rate=self._rate,
        )
        outcome = train_on_photos(options, self._training_progress, self._stopped)
        trained = self._switched(outcome)
        if trained.state != "ready":
            return trained
        trained = replace(trained, message=f"{trained.message} {self._calibrated(outcome, options.work)}")
        if outcome.better:
            self._note(trained)
        return trained

    def _calibrated(self, outcome: Outcome, work: Path) -> str:
        """Learns the probabilities of matches from the objects of the chain; returns the result in a sentence."""
        known = calibration_tuples(outcome, work)
        if known is None:
            return "Results have no probabilities, because the network was trained on all objects that are known."
        tuples, validation_only = known
        try:
            calibration = self._collection.calibrate(tuples, validation_only=validation_only)
        except (RetrievalError, OSError) as error:
            return f"Results have no probabilities: {error}."
        return f"Results have probabilities, which were learned from {calibration.facts['objects']:,} objects."

    def _training_progress(self, progress: ChainProgress) -> None:
        self.training = Training("working", measure="mAP", message=_training_line(progress))
        if self.work is None:
            units = progress.work or StepWork("", 0, None, "")
            label = f"training: {progress.label}"
            self._report(
                Work(progress.step, progress.steps, label, units.done, units.total or 0, None, progress.seconds_left)
            )

    def _switched(self, outcome: Outcome) -> Training:
        """Uses the trained network if it is better."""
        measured = Training("working", outcome.before, outcome.after, "mAP", outcome.message)
        if outcome.network is None:
            return replace(measured, state="failed")
        if not outcome.better:
            return replace(
                measured, state="ready", message=f"{outcome.message}. The page keeps the network that it has."
            )
        self.training = replace(measured, message=f"{outcome.message}. The photos are being described with it.")
        self._complete = False
        self._collection.use_trained(outcome.network)
        self._update()
        if self._stopped.is_set():
            return self.training
        if self.problem:
            return replace(measured, state="failed", message=f"{outcome.message}. {self.problem}")
        done = replace(measured, state="ready", message=f"{outcome.message}. The page uses the trained network.")
        self._note(done)
        return done

    def _note(self, training: Training) -> None:
        """Keeps the result of a training for later starts."""
        self._collection.write_note(
            "training", {name: one for name, one in asdict(training).items() if name != "state"}
        )


def _training_line(progress: ChainProgress) -> str:
    work = progress.work
    part = f", {work.done:,} of {work.total:,} {work.unit}" if work is not None and work.total else ""
    left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return f"Training, step {progress.step} of {progress.steps}: {progress.label}{part}{left}."


def _lower_priority() -> None:
    """Lowers the priority of this thread, and of those that it starts, where the system has one for each thread."""
    if hasattr(os, "setpriority") and Path("/proc/self/task").is_dir():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _reason(error: OSError) -> str:
    if isinstance(error, RetrievalError) or error.strerror is None:
        return f"{error}."
    return f"{error.filename or 'The state folder'} cannot be written: {error.strerror.lower()}."
