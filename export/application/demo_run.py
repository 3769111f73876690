"""The stages of the demo, each of which runs steps as child processes."""

import json
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.descriptors.folder import read_descriptors
from keras_retrieval.pipelines.files.durable import write_file
from keras_retrieval.pipelines.files.locks import lock
from keras_retrieval.pipelines.files.machine import cores
from keras_retrieval.pipelines.photos.intake import Intake, take_photos
from keras_retrieval.pipelines.photos.object_folders import ObjectFoldersError, Objects, find_objects

from keras_retrieval.errors import ArgumentError, printable

from .children import Work, last_lines, run_steps
from .demo_options import MARK, DemoOptions
from .demo_server import Served, start_server, stop_server
from .errors import StepFailedError
from .search_quality import Quality, search_quality
from .stages import Stages, duration, read_seconds, write_seconds
from .training import OUTCOME, PRETRAINED, RANDOM, ChainOptions, ChainProgress, Outcome, Recipe, train_on_photos

SIZE = 362
LEAST_COSINE = 0.999
SYNTHETIC_PHOTOS = 96

QUICK_PRETRAINED = Recipe(lr=1e-6, epochs=2, queries=25, size=224, pairs="retrieval")
QUICK_RANDOM = Recipe(lr=1e-4, epochs=2, queries=100, size=224, pairs="vocabulary-tree")
"""For the synthetic photos, within the four minutes of the demo."""

PHOTOS, NETWORK, BEFORE, MODELS, TRAINING, AFTER, PAGE = (
    "Photos", "Network", "Search before training", "3D models", "Training", "Search after training", "Search page",
)  # fmt: skip
SEARCH = "Search"

_SERVED = (".jpg", ".jpeg", ".png")  # formats that the served graph decodes on every server


@dataclass(frozen=True)
class _Network:
    path: Path
    pretrained: bool


class Demo:
    """A run of the demo.

    Args:
        options: the options of the step `demo`.
        say: called with each line of the result.
        show: called with a line about the progress, which replaces the one before.
        run: runs steps in a child process, as `children.run_steps`.
        serve: starts the server, as `demo_server.start_server`.
    """

    def __init__(
        self,
        options: DemoOptions,
        say: Callable[[str], None],
        show: Callable[[str], None],
        run: Callable[..., None] = run_steps,
        serve: Callable[..., Served] = start_server,
    ) -> None:
        self.options, self.work = options, options.work
        self.photos = options.photos or options.work / "photos"
        self._print, self._show, self._run_steps, self._serve = say, show, run, serve
        training = (BEFORE, MODELS, TRAINING, AFTER) if options.trains else (SEARCH,)
        self.stages = Stages((PHOTOS, NETWORK, *training, PAGE), {})
        self._rate: float | None = None
        self._objects: Objects | None = None

    def run(self) -> Served:
        """Runs all stages and leaves a server running.

        Returns:
            The addresses of the server.

        Raises:
            The errors of the step `demo`.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "demo.lock").open("ab") as held:
            try:
                lock(held.fileno(), wait=False)
            except BlockingIOError:
                raise ArgumentError(
                    f"another demo is running in {self.work}: wait for its end, or name another folder with --work"
                ) from None
            write_file(self.work / MARK, json.dumps({"photos": str(self.photos.resolve())}, ensure_ascii=False) + "\n")
            if stop_server(self.work):
                self._say("the server of an earlier demo has ended")
            try:
                return self._stages()
            except StepFailedError as error:
                stage = f"step {self.stages.number} of {len(self.stages.names)}, {self.stages.name}"
                raise StepFailedError(f"{stage}: {error}", error.reason, error.log) from error
            finally:
                self._show("")

    def _stages(self) -> Served:
        own = self.options.photos is not None
        intake = take_photos(self.photos, required=True) if own else None
        count = len(intake.photos) if intake else SYNTHETIC_PHOTOS
        self._expect(count)
        subject = printable(str(self.photos)) if own else "synthetic photos of buildings"
        self._say(
            f"Demo on {subject}: {len(self.stages.names)} steps, about {duration(self.stages.left())} in all. "
            f"Logs: {self.work / 'logs'}"
        )
        intake = self._photos(intake)
        network = self._network()
        if self.options.trains:
            descriptors, network = self._train(network)
        else:
            descriptors = self.work / "descriptors"
            self._search(SEARCH, network.path, descriptors, intake, index=True)
        served = self._page(network.path, descriptors)
        write_seconds(self.work / "timings.json", self._kind(count), self._typical(count))
        self._say(f"page: {served.page}  (`{self._stop_command()}` ends its server)")
        return served

    def _photos(self, intake: Intake | None) -> Intake:
        self.stages.begin(PHOTOS)
        if intake is None:
            self._child("photos", [["sample-photos", str(self.photos)]])
            intake = take_photos(self.photos, required=True)
        self._done(f"{len(intake.photos):,} in {self.photos}")
        left_out = len(intake.left_out)
        if left_out and self.options.photos is not None:
            name, reason = next(iter(intake.left_out.items()))
            self._say(f"    {left_out:,} other files are left out, the first is {printable(name)}: {printable(reason)}")
        return intake

    def _network(self) -> _Network:
        self.stages.begin(NETWORK)
        pretrained, random = self.work / "pretrained.keras", self.work / "random.keras"
        if not pretrained.is_file():
            try:
                self._child("network", [["build", "vgg16_gem", str(pretrained)]])
            except StepFailedError as error:
                if "could not be downloaded" not in error.reason:
                    raise
        if pretrained.is_file():
            self._done("VGG16-GeM with ImageNet weights")
            return _Network(pretrained, pretrained=True)
        if not random.is_file():
            self._child("network", [["build", "alexnet_gem", str(random), "--weights", "none"]])
        self._done(
            "a random AlexNet-GeM, because ImageNet weights could not be downloaded; with a network connection it is "
            "VGG16-GeM with ImageNet weights"
        )
        return _Network(random, pretrained=False)

    def _train(self, network: _Network) -> tuple[Path, _Network]:
        """Searches, trains and searches again; returns the descriptors and the network of the better search."""
        before, after = self.work / "descriptors-before", self.work / "descriptors-after"
        intake = take_photos(self.photos, required=True)
        first = self._search(BEFORE, network.path, before, intake)
        outcome = self._chain(network)
        if not outcome.better or outcome.network is None:
            self.stages.begin(AFTER)
            self._child("search-after", [self._index(before)])
            self._done("the search is not changed")
            return before, network
        second = self._search(AFTER, outcome.network, after, intake, index=True)
        if first is not None and second is not None:
            self._say(
                f"    mAP {100 * first.mean_ap:.1f} before and {100 * second.mean_ap:.1f} after training, over "
                f"{second.queries:,} photos of all objects"
            )
        return after, _Network(outcome.network, network.pretrained)

    def _chain(self, network: _Network) -> Outcome:
        own = self.options.photos is not None
        recipes = (RANDOM, PRETRAINED) if own else (QUICK_RANDOM, QUICK_PRETRAINED)
        work = self.work / "training"
        options = ChainOptions(
            photos=self.photos, work=work, model=network.path, recipe=recipes[network.pretrained], size=SIZE,
            rate=self._rate, nice=0,
        )  # fmt: skip
        self.stages.begin(MODELS)

        def report(progress: ChainProgress) -> None:
            if progress.step == 2 and self.stages.name == MODELS:
                self._done(_placed(work / "models"))
                self.stages.begin(TRAINING)
            self._progress(progress.work)

        outcome = train_on_photos(options, report, run=self._run_steps)
        if self.stages.name == MODELS:
            self._done(_placed(work / "models"))
            self.stages.begin(TRAINING)
        page = work / "run" / "page.html"
        self._done(outcome.message, page if outcome.network is not None else None)
        return outcome

    def _search(
        self, stage: str, model: Path, descriptors: Path, intake: Intake, *, index: bool = False
    ) -> Quality | None:
        self.stages.begin(stage)
        extract = [
            "extract", str(model), str(self.photos), str(descriptors), "--size", str(SIZE), "--precision", "auto",
            "--replace",
        ]  # fmt: skip
        begun = time.monotonic()
        self._child(stage.lower().replace(" ", "-"), [extract, *([self._index(descriptors)] if index else [])])
        self._rate = len(intake.photos) / max(time.monotonic() - begun, 1e-3)
        first = self._objects is None
        try:
            self._objects = self._objects or find_objects(intake.photos, self.photos)
            quality = search_quality(descriptors, self._objects)
            text = "no object has two photos" if quality is None else None
        except ObjectFoldersError as error:
            quality, text = None, str(error)
        if quality is not None:
            text = f"mAP {100 * quality.mean_ap:.1f} over {quality.queries:,} photos"
        elif stage != AFTER:
            text = f"{len(intake.photos):,} photos can be searched; no mAP is printed: {text}"
        else:
            text = f"{len(intake.photos):,} photos can be searched"
        self._done(text)
        if quality is not None and first and self._objects is not None and self.options.photos is not None:
            self._say(f"    {self._objects.account}")
        return quality

    def _index(self, descriptors: Path) -> list[str]:
        return ["index", str(descriptors), str(self.work / "index"), "--replace"]

    def _page(self, model: Path, descriptors: Path) -> Served:
        self.stages.begin(PAGE)
        serving = self.work / "serving"
        shutil.rmtree(serving, ignore_errors=True)
        self._child("export", [["export-saved-model", str(model), str(serving / "retrieval"), "--size", str(SIZE)]])
        arguments = [
            str(serving), "--index", str(self.work / "index"), "--photos", str(self.photos), "--port", "0",
            "--rest-port", "0", "--file-system-poll-wait-seconds", "0",
        ]  # fmt: skip
        served = self._serve(self.work, arguments, self.work / "logs" / "server.log")
        try:
            text = self._query(served, descriptors)
        except BaseException:
            stop_server(self.work)
            raise
        self._done(text)
        return served

    def _query(self, served: Served, descriptors: Path) -> str:
        """Searches for a photo over gRPC, and compares its descriptor with that of the index."""
        _, names, _ = read_descriptors(descriptors)
        name = next((name for name in names if Path(name).suffix.lower() in _SERVED), None)
        if name is None:
            return "the server answers; no photo is a JPEG or PNG, so that none is searched for over gRPC"
        log = self._child("query", [["query", str(self.photos / name), "--server", served.grpc, "-k", "1"]])
        score, _, found = last_lines(log, 1)[0].partition("  ")
        if float(score) < LEAST_COSINE:
            reason = f"the served network describes {name} otherwise than its index: cosine {score} to {found}"
            raise StepFailedError(f"{reason} (log: {log})", reason, log)
        return f"a photo searched for over gRPC is described as in the index, cosine {score}"

    def _child(self, label: str, steps: Sequence[Sequence[str]]) -> Path:
        log = self.work / "logs" / f"{self.stages.number}-{label}.log"
        self._progress(None)
        self._run_steps(steps, log, report=self._progress)
        return log

    def _progress(self, work: Work | None) -> None:
        text = ""
        if work is not None:
            total = "" if work.total is None else f" of {work.total:,}"
            text = f": {work.label} {work.done:,}{total} {work.unit}"
        self._show(f"{self.stages.label}{text}, about {duration(self.stages.left())} left in all")

    def _done(self, text: str, page: Path | None = None) -> None:
        seconds = self.stages.end()
        shown = "" if page is None else f"\n    page: {page.resolve()}"
        self._say(f"{self.stages.label}: {text} ({duration(seconds)}){shown}")

    def _say(self, text: str) -> None:
        self._show("")
        self._print(text)

    def _expect(self, count: int) -> None:
        """Sets the expected duration of each stage, which was measured on two cores of a Xeon or in an earlier run."""
        own = self.options.photos is not None
        pretrained = (self.work / "pretrained.keras").is_file()
        describing = count * (0.25 if pretrained else 0.03) + 5
        recipe = (PRETRAINED if pretrained else RANDOM) if own else QUICK_RANDOM
        training = 15 + recipe.epochs * recipe.queries * (1.5 if pretrained else 0.2) + 2 * describing
        expected = {
            PHOTOS: 1 if own else 32, NETWORK: 10, BEFORE: describing, SEARCH: describing, AFTER: describing,
            MODELS: 10 + 0.7 * count, PAGE: 25,
            TRAINING: (1 if own else 1.7) * training,
        }  # fmt: skip
        expected |= read_seconds(self.work / "timings.json", self._kind(count))
        if (self.photos / "manifest.json").is_file() and not own:
            expected[PHOTOS] = 1
        if (self.work / "training" / OUTCOME).is_file():
            expected[MODELS] = expected[TRAINING] = 1
        self.stages.seconds = {name: float(expected[name]) for name in self.stages.names}

    def _kind(self, count: int) -> str:
        return f"{count} photos, {len(self.stages.names)} steps, {cores()} cores"

    def _typical(self, count: int) -> dict[str, float]:
        """Returns the durations of this run; those of an earlier one where it had to do more."""
        earlier = read_seconds(self.work / "timings.json", self._kind(count))
        return {name: max(taken, 0.5 * earlier.get(name, 0.0)) for name, taken in self.stages.taken.items()}

    def _stop_command(self) -> str:
        command = ["keras-retrieval", "demo", "--stop"]
        return shlex.join(command if self.work == Path("demo") else [*command, "--work", str(self.work)])


def _placed(models: Path) -> str:
    report: dict[str, Any] = json.loads((models / "report.json").read_text(encoding="utf-8"))
    placed = sum(len(cluster["photos"]) for cluster in report["clusters"])
    clusters = len(report["clusters"])
    return (
        f"{placed:,} of {report['photo_count']:,} photos in {clusters:,} model{'' if clusters == 1 else 's'}\n"
        f"    page: {(models / 'index.html').resolve()}"
    )
