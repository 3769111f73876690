"""The options of the step demo."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.pipelines.command.colmap import require_colmap
from keras_retrieval.pipelines.command.kinds import Writes, require_package
from keras_retrieval.pipelines.command.options import Argument, Option, Options
from keras_retrieval.pipelines.files.durable import FolderError, check_outside
from keras_retrieval.pipelines.files.finished_folders import DEMO
from keras_retrieval.pipelines.photos.intake_options import PHOTO_FOLDER

from keras_retrieval.errors import ArgumentError

MARK = "demo.json"
_EARLIER = ("random.keras", "pretrained.keras")  # what demos of earlier versions have in their folder


@dataclass(frozen=True, kw_only=True)
class DemoOptions(Options):
    """The options of the step `demo`."""

    photos: Annotated[
        Path | None, Argument("Folder of photos. If not given: synthetic photos of buildings.", kind=PHOTO_FOLDER)
    ] = field(default=None, kw_only=False)
    work: Annotated[
        Path,
        Option(
            "Folder for everything that the demo writes; an interrupted demo continues in it.",
            kind=Writes("folder", FolderError, made=(DEMO,)),
        ),
    ] = Path("demo")
    train: Annotated[
        bool | None,
        Option(
            "Reconstruct the photos and train the network on them. If not given: only on synthetic photos.",
            flags="--train/--no-train",
        ),
    ] = None
    stop: Annotated[bool, Option("End the server that a demo in --work has left running, and do nothing else.")] = False

    @property
    def trains(self) -> bool:
        """Whether a network is trained."""
        return self.photos is None if self.train is None else self.train

    def check(self) -> None:
        """Checks that the folders can be used.

        Raises:
            ArgumentError: `work` contains other files than those of a demo.
            FolderError: `work` is a file, or inside the folder of the photos.
        """
        super().check()
        if self.photos is not None:
            check_outside(self.work, self.photos)
        names = {path.name for path in self.work.iterdir()} if self.work.is_dir() else set()
        if names and not names.intersection({MARK, *_EARLIER}):
            raise ArgumentError(f"--work {self.work} contains other files than those of a demo: name another folder")

    def check_packages(self) -> None:
        """Checks, without importing them, that the packages are installed that the demo needs beyond the base.

        Raises:
            MissingExtraError: a package is not installed; the message has the pip command.
        """
        if self.stop:
            return
        require_package("tensorflow_serving", "tensorflow-serving-api", "serving")
        require_package("grpc_health", "grpcio-health-checking", "serving")
        if self.trains:
            require_colmap()
