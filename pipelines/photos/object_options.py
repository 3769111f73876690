"""The option of all steps that take folders of photos for objects."""

from dataclasses import dataclass
from typing import Annotated

from ..command.options import Option, Options
from .object_folders import AUTO, RULES


@dataclass(frozen=True, kw_only=True)
class ObjectOptions(Options):
    """Which folders of photos are objects; see `object_folders.find_objects`."""

    objects: Annotated[
        str,
        Option(
            "Which photos show one object: those in one folder (folders); as folders, but train/a and test/a are one "
            "object (splits); in all folders of the same name (names); below one folder at the first level (top). auto "
            "takes folders or splits, and is an error where the names of the folders say that they are something else, "
            "such as years.",
            choices=RULES,
        ),
    ] = AUTO
