"""The options of all steps that take a folder of photos."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from ..command.kinds import Reads
from ..command.options import Option, Options
from .formats import PhotoFolderError
from .ignore_rules import IntakeRules
from .intake import Intake, take_photos

PHOTO_FOLDER = Reads("folder", PhotoFolderError)
"""The kind of an option that names a folder of photos."""

PHOTO_PLACE = Reads("folder", PhotoFolderError, addresses=True)
"""The kind of an option that names a folder of photos, or an address such as s3://BUCKET/FOLDER."""

OR_ADDRESS = "Or an address: s3://, gs://, hf:// or http(s):// (extra cloud)."
PHOTOS_HELP = f"Folder of photos; its sub-folders are read, too. {OR_ADDRESS}"
"""The help of an argument of `PHOTO_PLACE`."""
ACCEPT_TRUNCATED_HELP = (
    "Accept JPEG photos that lack their last bytes, with grey in place of what is missing; they are counted apart. "
    "Without this option they are left out."
)


@dataclass(frozen=True, kw_only=True)
class IntakeOptions(Options):
    """Which files of a folder of photos are taken; see `intake.take_photos`."""

    include: Annotated[
        list[str] | None,
        Option(
            'Take only photos whose path below PHOTOS matches this pattern, as in .gitignore: "*.jpg", "italy/" or '
            '"/2024/**/best*". May be given several times.'
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        Option("Ignore files and folders whose path below PHOTOS matches this pattern; as for --include."),
    ] = None
    hidden: Annotated[bool, Option("Take hidden files and folders, whose names begin with a dot.")] = False
    system_files: Annotated[
        bool,
        Option(
            "Take files that operating systems, storage servers and photo libraries keep beside photos, such as those "
            "in @eaDir, #recycle, $RECYCLE.BIN, __MACOSX and .photoslibrary. Without this option they are ignored."
        ),
    ] = False

    accept_truncated: Annotated[
        bool,
        Option(ACCEPT_TRUNCATED_HELP),
    ] = False

    @property
    def rules(self) -> IntakeRules:
        """The rules by which files are ignored."""
        return IntakeRules(
            include=self.include or (),
            exclude=self.exclude or (),
            hidden=self.hidden,
            system_files=self.system_files,
        )

    @property
    def passed_on(self) -> dict[str, Any]:
        """These options as keyword arguments for another step that takes them."""
        return {entry.name: getattr(self, entry.name) for entry in fields(IntakeOptions)}

    def take(self, photos: Path, *, required: bool = True) -> Intake:
        """Takes the photos of a folder by these options.

        Raises:
            PhotoFolderError: the folder does not exist, cannot be listed, or has no photo although one is required.
        """
        return take_photos(photos, self.rules, required=required)
