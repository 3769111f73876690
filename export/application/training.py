"""The chain reconstruct, tuples, train on the photos of a collection, each as a child process.

The chain continues where it was interrupted, and measures the network before and after training on photos of objects
that it has not been trained on.
"""

import json
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.components import connected
from keras_retrieval.pipelines.files.durable import fingerprint, sha256_of, write_file
from keras_retrieval.pipelines.photos.intake_options import IntakeOptions

from .children import Work, run_steps
from .errors import StepFailedError

NEGATIVES = 5  # the most negatives of a query
FEWEST_OBJECTS = 4  # two to train on, and two to measure on

VALIDATION = "0.1"  # share of the photos that is set aside
MOST_SET_ASIDE = 0.15
"""Share of the photos above which the network is trained again, on all photos, once it was measured to be better."""

RECONSTRUCTION_SECONDS = 0.8
"""Duration of the reconstruction per photo on two cores; it took 118 s of processor time for 96 photos of 640 px."""

PAIRS = 3  # the most pairs of a query that `tuples` makes
BACKWARD = 3.0  # duration of a training step on a photo, in those of its description
START_SECONDS = 15.0

OUTCOME = "outcome.json"

_UNUSABLE = "photos are unusable"  # in the message of `reconstruct` if no photo has features


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Attributes:
        lr: learning rate of Adam.
        epochs: number of epochs.
        queries: number of tuples in an epoch.
        size: longest side of the photos during training, in pixels.
        chunk: the most photos in the network at once, which bounds the memory; None for all of a step.
        pairs: how candidate pairs are chosen for reconstruction, as `reconstruct --pairs` takes it.
    """

    lr: float
    epochs: int
    queries: int
    size: int
    pairs: str
    chunk: int | None = None


PRETRAINED = Recipe(lr=3e-6, epochs=5, queries=200, size=320, pairs="retrieval", chunk=NEGATIVES + 2)
"""For a network that was trained before."""

RANDOM = Recipe(lr=1e-4, epochs=5, queries=200, size=224, pairs="vocabulary-tree")
"""For a network with random weights, which finds no pairs to match."""


@dataclass(frozen=True, kw_only=True)
class ChainOptions:
    """The inputs of the chain.

    Attributes:
        photos: folder of the photos.
        work: folder of the chain, which it alone writes.
        model: the .keras file of the network to train.
        recipe: how the network is trained.
        size: longest side, in pixels, of the photos that the trained network will describe.
        scales: the scales of the photos that the trained network will describe, such as "1,0.7071,0.5".
        precision: precision of the trunk during training, as `train --precision` takes it.
        intake: which files of the folder are photos.
        rate: number of photos that the network describes in a second at `size`, from which the duration is estimated;
            None if it is not known.
        nice: the amount by which the priority of the child processes is lowered.
    """

    photos: Path
    work: Path
    model: Path
    recipe: Recipe = PRETRAINED
    size: int = 1024
    scales: str = "1"
    precision: str = "auto"
    intake: IntakeOptions = field(default_factory=IntakeOptions)
    rate: float | None = None
    nice: int = 10


@dataclass(frozen=True)
class ChainProgress:
    """The progress of the chain.

    Attributes:
        step: number of the current step, from 1.
        steps: number of steps.
        label: what the step does, such as "3D models of the photos".
        work: progress within the step; None at its beginning.
        seconds_left: estimated time to the end of the chain, in seconds.
    """

    step: int
    steps: int
    label: str
    work: Work | None
    seconds_left: float


@dataclass(frozen=True)
class Outcome:
    """The result of the chain.

    Attributes:
        network: the trained network, a .keras file; None if there was nothing to train on.
        before: mAP of the network before training, from 0 to 1, over photos of objects that were set aside; None if it
            was not measured.
        after: the same after training. Where so many photos had to be set aside that the network was trained again on
            all of them, it is that of the network before.
        queries: number of photos over which both are averaged.
        objects: number of objects that the photos show.
        message: the result in a sentence.
    """

    network: Path | None
    before: float | None
    after: float | None
    queries: int
    objects: int
    message: str

    @property
    def better(self) -> bool:
        """Whether the trained network was measured to be better than the network before training."""
        return self.before is not None and self.after is not None and self.after > self.before


def calibration_tuples(outcome: Outcome, work: Path) -> tuple[Path, bool] | None:
    """Returns the photos of known objects from which probabilities can be learned after the chain.

    A network that was trained on photos of objects tells just these apart better than others.

    Args:
        outcome: the result of the chain.
        work: folder of the chain.

    Returns:
        The file of tuples, and whether only those that were set aside for validation count; None if the network was
        trained on all of them.
    """
    on_all = outcome.better and outcome.network != work / "run" / "model.keras"
    return None if on_all else (work / "tuples.npz", outcome.better)


STEPS = ("3D models of what the photos show", "training")
"""What the steps of the chain do."""


def train_on_photos(
    options: ChainOptions,
    report: Callable[[ChainProgress], None] | None = None,
    stopped: threading.Event | None = None,
    *,
    run: Callable[..., None] = run_steps,
) -> Outcome:
    """Reconstructs, makes tuples and trains, or returns the outcome of an equal chain that has finished.

    Args:
        options: the inputs.
        report: called with the progress.
        stopped: an event that stops the chain when it is set; the same call continues it later.
        run: runs steps in a child process, as `children.run_steps`.

    Returns:
        The outcome. Photos from which too few objects can be reconstructed are an outcome without a network, and no
        error.

    Raises:
        StepFailedError: a step failed. The message is the step's, with the path of its log.
        StepStoppedError: `stopped` was set.
        OSError: a file cannot be read or written.
    """
    return _Chain(options, report, stopped, run).outcome()


class _Chain:
    def __init__(
        self,
        options: ChainOptions,
        report: Callable[[ChainProgress], None] | None,
        stopped: threading.Event | None,
        run: Callable[..., None],
    ) -> None:
        self.options, self._report, self._stopped, self._run_steps = options, report, stopped, run
        self.work = options.work
        self.models, self.tuples, self.run = self.work / "models", self.work / "tuples.npz", self.work / "run"
        self._photos = 0

    def outcome(self) -> Outcome:
        options = self.options
        self.work.mkdir(parents=True, exist_ok=True)
        made_from = self._inputs()
        known = _read(self.work / OUTCOME)
        if known.get("inputs") == made_from:
            return _outcome(known, self.work)
        (self.work / OUTCOME).unlink(missing_ok=True)
        outcome = self._train()
        facts = {
            "inputs": made_from,
            "network": None if outcome.network is None else outcome.network.relative_to(self.work).as_posix(),
            "before": outcome.before, "after": outcome.after, "queries": outcome.queries, "objects": outcome.objects,
            "message": outcome.message, "options": {"size": options.size, "scales": options.scales},
        }  # fmt: skip
        write_file(self.work / OUTCOME, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        return outcome

    def _inputs(self) -> str:
        """Returns a hash of the network, the options and the photos with their sizes and times."""
        options = self.options
        photos = options.intake.take(options.photos).photos
        self._photos = len(photos)
        facts = [(name, *_size_and_time(options.photos / name)) for name in photos]
        return fingerprint(
            sha256_of(options.model), vars(options.recipe), options.size, options.scales, options.precision,
            str(options.photos.resolve()), facts,
        )  # fmt: skip

    def _train(self) -> Outcome:
        options, recipe = self.options, self.options.recipe
        if options.model.suffix == ".onnx":
            return Outcome(None, None, None, 0, 0, f"an .onnx network such as {options.model.name} cannot be trained")
        intake = intake_arguments(options.intake)
        reconstruct = [
            "reconstruct", str(options.photos), str(self.models), "--model", str(options.model), "--pairs",
            recipe.pairs, "--size", "1024", *intake,
        ]  # fmt: skip
        try:
            self._step(0, "models", [reconstruct], self.models)
        except StepFailedError as error:
            if _UNUSABLE not in error.reason:
                raise
            return Outcome(None, None, None, 0, 0, f"{_too_few(0)} ({error.reason})")
        objects = _objects(_read(self.models / "report.json"))
        if objects < FEWEST_OBJECTS:
            return Outcome(None, None, None, 0, objects, _too_few(objects))
        negatives = min(NEGATIVES, objects - 3)  # two objects are set aside, and a query has one of its own
        self._fit(self.tuples, self.run, negatives, ["--validation", VALIDATION], ["--score-validation"])
        results = _read(self.run / "results.json")
        outcome = self._result(results)
        if not outcome.better or _share_set_aside(results) <= MOST_SET_ASIDE:
            return outcome
        again = self.work / "run-all"
        self._fit(self.work / "tuples-all.npz", again, negatives, ["--validation", "0"], [])
        message = f"{outcome.message}; it was then trained on all {objects:,} objects in the same way"
        return replace(outcome, network=again / "model.keras", message=message)

    def _fit(
        self, file: Path, run: Path, negatives: int, tuples_options: Sequence[str], train_options: Sequence[str]
    ) -> None:
        """Makes tuples and trains on them, or continues the training."""
        options, recipe = self.options, self.options.recipe
        tuples = [
            "tuples", str(self.models), str(file), "--photos", str(options.photos), "--negatives", str(negatives),
            *tuples_options, *intake_arguments(options.intake),
        ]  # fmt: skip
        train = [
            "train", str(file), "--photos", str(options.photos), "--model", str(options.model), "--output", str(run),
            "--lr", f"{recipe.lr:g}", "--epochs", str(recipe.epochs), "--queries", str(recipe.queries), "--size",
            str(recipe.size), "--test-size", str(options.size), "--scales", options.scales, "--precision",
            options.precision, "--negatives", str(negatives), *train_options,
            *(["--chunk", str(recipe.chunk)] if recipe.chunk else []),
            *(["--accept-truncated"] if options.intake.accept_truncated else []),
            *(["--whiten", "none"] if _ends_with_whitening(options.model) else []),
        ]  # fmt: skip
        resume = ["--resume"] if (run / "checkpoint.npz").is_file() else []  # refused if the tuples are others
        self._step(1, run.name, [tuples, [*train, *resume]], run, [tuples, train])

    def _step(
        self,
        number: int,
        name: str,
        steps: Sequence[Sequence[str]],
        output: Path,
        anew: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Runs a step; if it cannot continue from an earlier output, that is removed, and the step begins anew."""
        existed = output.exists()
        log = self.work / "logs" / f"{number + 1}-{name}.log"
        seconds = self._estimates()
        begun = time.monotonic()

        def tell(work: Work | None) -> None:
            if self._report is not None:
                left = sum(seconds[number + 1 :]) + max(0.0, seconds[number] - (time.monotonic() - begun))
                self._report(ChainProgress(number + 1, len(STEPS), STEPS[number], work, left))

        def run(some: Sequence[Sequence[str]]) -> None:
            self._run_steps(some, log, nice=self.options.nice, report=tell, stopped=self._stopped)

        tell(None)
        try:
            run(steps)
        except StepFailedError:
            if not existed:
                raise
            shutil.rmtree(output)
            run(anew or steps)

    def _estimates(self) -> list[float]:
        """Returns the estimated duration of each step in seconds."""
        recipe, rate = self.options.recipe, self.options.rate or 5.0
        queries = min(recipe.queries, PAIRS * self._photos)
        passes = recipe.epochs * queries * (NEGATIVES + 2) * (recipe.size / self.options.size) ** 2
        return [
            RECONSTRUCTION_SECONDS * self._photos,
            (BACKWARD * passes + (2 + recipe.epochs) * self._photos) / rate + START_SECONDS,
        ]

    def _result(self, results: Mapping[str, Any]) -> Outcome:
        scores = results.get("validation_scores") or {}
        before, after = scores.get("before"), scores.get("after")
        if before is None or after is None:
            message = "the trained network could not be compared, because no photos could be set aside"
            return Outcome(self.run / "model.keras", None, None, 0, 0, message)
        message = (
            f"mAP {100 * before:.1f} before training, {100 * after:.1f} after, over {scores['queries']:,} photos of "
            f"{scores['objects']:,} objects that were not trained on"
        )
        return Outcome(self.run / "model.keras", before, after, int(scores["queries"]), int(scores["objects"]), message)


def _share_set_aside(results: Mapping[str, Any]) -> float:
    counts = results.get("tuples", {})
    photos = {part: int(counts.get(part, {}).get("photos", 0)) for part in ("training", "validation")}
    return photos["validation"] / max(1, sum(photos.values()))


def intake_arguments(intake: IntakeOptions) -> list[str]:
    """Returns the options of the intake as arguments of a step."""
    arguments: list[str] = []
    for name, value in intake.passed_on.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments += [flag] if value else []
        else:
            arguments += [part for pattern in value or () for part in (flag, pattern)]
    return arguments


def _too_few(objects: int) -> str:
    needs = (
        f"training needs {FEWEST_OBJECTS}, two of them to measure on, each on at least 5 photos from different sides"
    )
    if not objects:
        return f"no object could be reconstructed from these photos, and {needs}: the search is not changed"
    return (
        f"only {objects} different object{'s' if objects > 1 else ''} could be reconstructed from these photos, and "
        f"{needs}: the search is not changed"
    )


def _objects(report: Mapping[str, Any]) -> int:
    """Counts the objects in the report of a reconstruction: clusters, where linked clusters are one object."""
    links = [(int(one), int(other)) for one, other in report.get("same_object", ())]
    return len(connected(range(len(report.get("clusters", ()))), links))


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _ends_with_whitening(model: Path) -> bool:
    try:
        with zipfile.ZipFile(model) as file:
            layers = json.loads(file.read("config.json"))["config"]["layers"]
            return any(layer.get("config", {}).get("name") == "whitening" for layer in layers)
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _outcome(facts: Mapping[str, Any], work: Path) -> Outcome:
    network = facts["network"]
    return Outcome(
        None if network is None else work / network, facts["before"], facts["after"], facts["queries"],
        facts["objects"], facts["message"],
    )  # fmt: skip
