"""The options of the step `positions`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from keras_retrieval.errors import ArgumentError

from ..command.kinds import Writes
from ..command.options import Argument, Option
from ..files.durable import FolderError
from ..photos.intake_options import PHOTO_PLACE, PHOTOS_HELP, IntakeOptions

HEMISPHERES = ("NE", "NW", "SE", "SW")


@dataclass(frozen=True, kw_only=True)
class PositionOptions(IntakeOptions):
    """Options of the command `keras-retrieval positions`."""

    photos: Annotated[
        Path,
        Argument(PHOTOS_HELP, kind=PHOTO_PLACE),
    ] = field(kw_only=False)
    output: Annotated[Path, Argument("CSV file to write, such as positions.csv.", kind=Writes("file", FolderError))] = (
        field(kw_only=False)
    )
    times: Annotated[
        Path | None,
        Option(
            "CSV file to write with the times of all photos that have one, with or without a position, for the option "
            "--columns of `index`.",
            kind=Writes("file", FolderError),
        ),
    ] = None
    hemispheres: Annotated[
        str | None,
        Option(
            "Hemispheres of positions whose metadata states none. Without this option these photos have no position.",
            choices=HEMISPHERES,
        ),
    ] = None
    replace: Annotated[bool, Option("Replace OUTPUT and the file of --times if they exist.")] = False

    def check(self) -> None:
        """Checks the values of the options.

        Raises:
            ArgumentError: an option is out of range, or a file to write does not end in .csv or is written twice.
        """
        super().check()
        for path in filter(None, (self.output, self.times)):
            if path.suffix.lower() != ".csv":
                raise ArgumentError(f"{path}: the name of the table must end in .csv")
        if self.times is not None and self.times.resolve() == self.output.resolve():
            raise ArgumentError(f"OUTPUT and --times must be different files, got {self.output} for both")
