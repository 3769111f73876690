"""The interface between the search page and what it shows: `PhotoSource`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from ..index_contract.contract import NeighbourIndex
from .catalogue import Catalogue

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a photo, in pixels of the upright photo."""


@dataclass(frozen=True)
class Training:
    """The state of a training that runs behind the page.

    Attributes:
        state: "waiting", "working", "ready" or "failed".
        before: measured result of the network that is in use; None if not measured.
        after: measured result of the trained network; None if not measured yet.
        measure: name of the measure, such as "mAP".
        message: sentence for the user; "" for none.
    """

    state: Literal["waiting", "working", "ready", "failed"]
    before: float | None = None
    after: float | None = None
    measure: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The progress of the work on a collection, and the number of its photos.

    Attributes:
        state: "working" while photos are being described, "ready", or "failed".
        step: number of the current step, from 1.
        steps: number of all steps.
        label: the current step in words, such as "describing photos"; "" if nothing is being done.
        done: number of finished units of the step, such as photos.
        total: number of all units of the step; 0 if unknown.
        rate: units per second; None if unknown.
        seconds_left: estimated seconds until all steps are done; None if unknown.
        photos: number of photos in the collection.
        searchable: number of photos in the index.
        left_out: number of files that could not be used.
        message: sentence for the user; "" for none. If `state` is "failed", it states what failed and what to do.
        network: name of the network, or of its file; "" while unknown.
        size: longest side in pixels to which photos are resized before they are described; None while unknown.
        training: state of a training; None without one.
    """

    state: Literal["working", "ready", "failed"] = "ready"
    step: int = 1
    steps: int = 1
    label: str = ""
    done: int = 0
    total: int = 0
    rate: float | None = None
    seconds_left: float | None = None
    photos: int = 0
    searchable: int = 0
    left_out: int = 0
    message: str = ""
    network: str = ""
    size: int | None = None
    training: Training | None = None


class PhotoSource(Protocol):
    """A collection of photos that a search page shows. Its methods are called by several threads at once.

    Attributes:
        folder: folder of the photos.
    """

    folder: Path

    def index(self) -> NeighbourIndex | None:
        """Returns the index to search; None until the first photos are searchable."""
        ...

    def catalogue(self) -> Catalogue:
        """Returns the names and facts of the photos: the same object until something has changed."""
        ...

    def describe(self, file: bytes, box: Box | None) -> np.ndarray:
        """Computes the descriptor of a photo.

        Args:
            file: content of the photo's file.
            box: part of the photo to describe; None for the whole photo.

        Returns:
            The L2-normalised descriptor, (D,) float32.

        Raises:
            PhotoError: the photo cannot be read, or the box is not a part of it.
            NotReadyError: the network cannot be used now.
        """
        ...

    def status(self) -> Status:
        """Returns the progress; called about once per second by each open page, so it must not wait for anything."""
        ...

    def left_out(self) -> Mapping[str, str]:
        """Returns the reason why each unused file of the folder was left out, by name."""
        ...
