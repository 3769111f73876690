"""The package COLMAP, of the extra sfm, of steps that need it."""

from dataclasses import dataclass

from .kinds import require_package
from .options import Options


def require_colmap() -> None:
    """Checks that COLMAP is installed, without importing it.

    Raises:
        MissingExtraError: pycolmap is not installed.
    """
    require_package("pycolmap", "COLMAP", "sfm")


@dataclass(frozen=True, kw_only=True)
class ColmapOptions(Options):
    """Base class of the options of steps that always need COLMAP."""

    def check_packages(self) -> None:
        """Checks that COLMAP is installed.

        Raises:
            MissingExtraError: pycolmap, or a package that other options need, is not installed.
        """
        super().check_packages()
        require_colmap()
