"""Adds the signature `search` to versions of a served network, which finds the neighbours of photos in one request.

A version describes the photos with its own graph, in batches with all other requests, and the index finds the
neighbours of the descriptors. This requires the network with which the index was made. A version of another network
keeps all its own signatures, and answers `search` with FAILED_PRECONDITION.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError, read_manifest
from keras_retrieval.pipelines.local_features.verification import Match
from keras_retrieval.pipelines.photos.reader import PhotoError, read_photo

from keras_retrieval.errors import ArgumentError

from ..contract import signatures as names
from ..contract.version_manifest import KIND, VERSION, mismatch
from ..index_contract.contract import Filter, Hits, NeighbourIndex
from ..index_contract.errors import CalibrationError
from ..search_page.probabilities import Judging, no_judge
from ..search_page.verification import HitVerifier
from .errors import Code, ServingError, invalid
from .limits import ComputeSlots, Deadline
from .model_registry import ModelRegistry
from .search_signature import output_tensors, read_inputs, search_signature
from .servable import Run, Servable

FOREIGN = "it was not written by `keras-retrieval export-saved-model`, or is incomplete"


class PhotoSearch:
    """An index that is searched with the descriptors of served networks.

    Args:
        index: the open index.
        slots: limit on concurrent searches and on concurrent decoding of photos, which needs memory for all pixels of a
            photo.
        verifier: verifies the first neighbours by local features; None for no verification.
        judging: gives what judges neighbours by their probabilities.

    Attributes:
        index: the open index.
        slots: limit on concurrent searches and decoding.
        verifier: verifies neighbours, or None.
        judging: gives what judges neighbours.
    """

    def __init__(
        self,
        index: NeighbourIndex,
        slots: ComputeSlots,
        verifier: HitVerifier | None = None,
        judging: Judging = no_judge,
    ) -> None:
        self.index, self.slots, self.verifier, self.judging = index, slots, verifier, judging

    def load(self, path: Path, name: str, version: int) -> Servable:
        """Loads a version, and adds the signature `search` if `export-saved-model` wrote the version.

        Args:
            path: folder of the version.
            name: name of the model.
            version: number of the version.

        Raises:
            Exception: TensorFlow cannot load the folder.
        """
        try:
            facts = read_manifest(path, kind=KIND, version=VERSION)
        except FolderError:
            return Servable(path, name, version)
        return SearchingServable(path, name, version, self, facts)

    def model(self, models: ModelRegistry) -> str:
        """Finds the model to search with: the first whose newest version is the network with which the index was made.

        Args:
            models: the served models.

        Returns:
            The name of the model.

        Raises:
            ServingError: FAILED_PRECONDITION if there is no such model; the message states how each model differs
                from the network of the index.
        """
        from tensorflow_serving.apis import model_pb2

        reasons = []
        for name in models.names():
            try:
                with models.acquire(model_pb2.ModelSpec(name=name)).releasing() as servable:
                    reason = servable.mismatch if isinstance(servable, SearchingServable) else FOREIGN
            except ServingError as error:
                reason = error.message
            if not reason:
                return name
            reasons.append(f"{name}: {reason}")
        listed = "; ".join(reasons)
        raise ServingError(Code.FAILED_PRECONDITION, f"No model is the network that the index was made with. {listed}")

    def check(self, where: Filter) -> None:
        """Checks that a filter fits the columns of the index.

        Raises:
            ServingError: INVALID_ARGUMENT if it does not.
        """
        try:
            where.check(self.index.facts)
        except ArgumentError as error:
            raise invalid(f"{names.WHERE}: {error}") from error

    def nearest(self, rows: np.ndarray, k: int, deadline: Deadline, where: Filter | None = None) -> list[Hits]:
        """Finds the nearest neighbours of descriptors in the index.

        Args:
            rows: descriptors, (Q, D) float32; Q may be 0.
            k: maximum number of neighbours per descriptor.
            deadline: deadline of the request.
            where: filter of the neighbours; None for all photos.

        Returns:
            The neighbours of each descriptor.

        Raises:
            ServingError: INVALID_ARGUMENT if the filter does not fit the columns of the index; UNAVAILABLE if the index
                cannot be read or does not respond; DEADLINE_EXCEEDED or CANCELLED if the client no longer waits.
        """
        try:
            with self.slots.slot(deadline):
                return self.index.search(rows, k, where=where) if len(rows) else []
        except ArgumentError as error:
            raise invalid(f"{names.WHERE}: {error}") from error
        except (OSError, FolderError) as error:
            raise ServingError(Code.UNAVAILABLE, f"The index does not answer: {error}") from error

    def verify(
        self, file: bytes, box: np.ndarray, hits: Hits, deadline: Deadline
    ) -> tuple[Hits, Sequence[Match | None]]:
        """Verifies the first neighbours of a photo and orders them, if there is a verifier.

        Args:
            file: content of the photo's file.
            box: part of the photo, (4,); zeros for the whole photo.
            hits: its neighbours.
            deadline: deadline of the request.

        Returns:
            The neighbours in their order, and the match of each with the photo. The order is that of `hits`, and there
            are no matches, if the photo has no local features because it is not decoded by Pillow.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED if the client no longer waits.
        """
        if self.verifier is None:
            return hits, []
        with self.slots.slot(deadline):
            try:
                query = self.verifier.describe(file, tuple(box.tolist()) if box.any() else None)
            except PhotoError:
                return hits, []
            hits, found = self.verifier.verify_any([query], hits)
        return hits, [None if one is None else one[1] for one in found]

    def likely(
        self, row: np.ndarray, hits: Hits, matches: Sequence[Match | None], deadline: Deadline
    ) -> tuple[Hits, Sequence[Match | None], np.ndarray]:
        """Gives the probabilities of the neighbours of a photo, and leaves out those that are not probable enough.

        Args:
            row: descriptor of the photo, (D,).
            hits: its neighbours.
            matches: the match of each neighbour with the photo; empty if none was verified.
            deadline: deadline of the request.

        Returns:
            The neighbours that are left, their matches, and their probabilities, (n,); zeros without a calibration.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED if the client no longer waits; FAILED_PRECONDITION if a
                probability is to be promised, and no calibration fits the index any more; UNAVAILABLE if the index
                cannot be read.
        """
        try:
            judge = self.judging()
        except CalibrationError as error:
            raise ServingError(Code.FAILED_PRECONDITION, f"No probabilities: {error}") from error
        if judge is None:
            return hits, matches, np.zeros(len(hits.names))
        try:
            with self.slots.slot(deadline):
                probabilities = judge.answers.probabilities(row, hits, matches or None)
        except (OSError, FolderError, ArgumentError) as error:  # as while the index of another network takes over
            raise ServingError(Code.UNAVAILABLE, f"The index does not answer: {error}") from error
        kept = np.flatnonzero(probabilities >= judge.min_probability)
        return hits.pick(kept), [matches[place] for place in kept.tolist()] if matches else [], probabilities[kept]


class SearchingServable(Servable):
    """A version of an exported network, with the additional signature `search`.

    Args:
        path: folder of the version.
        name: name of the model.
        version: number of the version.
        search: the index to search.
        facts: manifest of the version.
    """

    def __init__(self, path: Path, name: str, version: int, search: PhotoSearch, facts: Mapping[str, Any]) -> None:
        super().__init__(path, name, version)
        self._search, self._facts = search, facts
        self._with_search = {
            calibrated: {
                **self._signatures,
                names.SEARCH: search_signature(
                    crops=bool(search.index.facts.get("crops")),
                    verified=search.verifier is not None,
                    calibrated=calibrated,
                ),
            }
            for calibrated in (False, True)
        }

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The signatures of the version, and `search`, whose outputs depend on whether the index is calibrated now."""
        try:
            calibrated = self._search.judging() is not None
        except CalibrationError:
            calibrated = True
        return self._with_search[calibrated]

    @property
    def mismatch(self) -> str:
        """The differences from the network with which the index was made, as text; empty if there are none."""
        return mismatch(self._facts, self._search.index.facts)

    def compute(
        self, signature: Any, inputs: Mapping[str, np.ndarray], aliases: Sequence[str], run: Run, deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Computes outputs as `Servable.compute` does; for `search`, describes the photos and searches the index.

        Raises:
            ServingError: FAILED_PRECONDITION if the index was made with another network, INVALID_ARGUMENT if an input
                is invalid.
        """
        if all(signature is not some[names.SEARCH] for some in self._with_search.values()):
            return super().compute(signature, inputs, aliases, run, deadline)
        if reason := self.mismatch:
            raise ServingError(Code.FAILED_PRECONDITION, f"Version {self.version} does not fit the index: {reason}")
        given = read_inputs(inputs)
        for where in given.where:
            if where is not None:
                self._search.check(where)
        rows, status = self.describe(given.files, given.boxes, run, deadline)
        hits: list[Hits | None] = [None] * len(rows)
        matches: list[Sequence[Match | None]] = [[]] * len(rows)
        likely: list[np.ndarray] = [np.zeros(0)] * len(rows)
        depth = 1 if self._search.verifier is None else self._search.verifier.depth
        groups: dict[int, list[int]] = {}
        for row in np.flatnonzero(status == names.OK).tolist():
            groups.setdefault(id(given.where[row]), []).append(row)
        for group in groups.values():
            most, where = int(given.k[group].max(initial=depth)), given.where[group[0]]
            for row, one in zip(group, self._search.nearest(rows[group], most, deadline, where), strict=True):
                file, box = given.files[row], given.boxes[row]
                found, same = self._search.verify(file, box, one, deadline)
                found = found.pick(range(min(int(given.k[row]), len(found.names))))
                same = same[: len(found.names)]
                hits[row], matches[row], likely[row] = self._search.likely(rows[row], found, same, deadline)
        outputs = output_tensors(hits, given.k, status, matches, likely)
        return {alias: outputs[alias] for alias in aliases}

    def describe(
        self, files: np.ndarray, boxes: np.ndarray, run: Run, deadline: Deadline
    ) -> tuple[np.ndarray, np.ndarray]:
        """Computes the descriptors of whole photos or of their boxes.

        Args:
            files: contents of the photos' files, (B,) bytes.
            boxes: left, top, right and bottom in pixels, (B, 4) float32; zeros for a whole photo.
            run: function that computes tensors.
            deadline: deadline of the request.

        Returns:
            The descriptors, (B, D) float32, and the status codes, (B,) int32; see `contract.signatures.REASONS`.

        Raises:
            ServingError: the computation failed, or the client no longer waits.
        """
        boxed = boxes.any(axis=1)
        whole, whole_status = self._describe_whole(files[~boxed], run, deadline)
        rows = np.zeros((len(files), whole.shape[1]), np.float32)
        status = np.zeros(len(files), np.int32)
        rows[~boxed], status[~boxed] = whole, whole_status
        for row in np.flatnonzero(boxed):
            rows[row], status[row] = self._describe_box(files[row], boxes[row], run, deadline)
        return rows, status

    def _describe_whole(self, files: np.ndarray, run: Run, deadline: Deadline) -> tuple[np.ndarray, np.ndarray]:
        if not len(files):
            return np.zeros((0, self._search.index.facts["dimensions"]), np.float32), np.zeros(0, np.int32)
        found = self._compute(
            names.SERVING_DEFAULT, {names.IMAGE_BYTES: files}, [names.DESCRIPTORS, names.STATUS], run, deadline
        )
        return found[names.DESCRIPTORS], found[names.STATUS]

    def _describe_box(
        self, file: bytes, box: np.ndarray, run: Run, deadline: Deadline
    ) -> tuple[np.ndarray | float, int]:
        """Describes a box of a photo, cropped at full resolution and then shrunk like a photo, as in the step `search`.

        Returns:
            The descriptor (D,), or 0.0 if there is none, and the status code.
        """
        left, top, right, bottom = box.tolist()
        try:
            with self._search.slots.slot(deadline):
                crop, facts = (left, top, right, bottom), self._facts
                pixels = read_photo(file, size=facts["size"], crop=crop, max_pixels=facts["max_pixels"])
        except PhotoError:
            _, (status,) = self._describe_whole(np.array([file], object), run, deadline)
            return 0.0, status or names.BAD_BOX
        found = self._compute(names.IMAGES_UINT8, {names.PIXELS: pixels[None]}, [names.DESCRIPTORS], run, deadline)
        (row,) = found[names.DESCRIPTORS]
        sound = np.isfinite(row).all() and row.any()
        return (row, names.OK) if sound else (0.0, names.NO_DESCRIPTOR)

    def _compute(
        self, signature: str, inputs: Mapping[str, np.ndarray], aliases: Sequence[str], run: Run, deadline: Deadline
    ) -> dict[str, np.ndarray]:
        return super().compute(self.signatures[signature], inputs, aliases, run, deadline)
