"""From photo to neighbours in one request: a served network whose versions answer the signature `search`, too.

A version describes photos by its own graph, batched with all other requests, and the index finds the neighbours of
the descriptors. Only the network that the index was made with may do so: a version of another one answers all its
own signatures, and a search with FAILED_PRECONDITION.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError, read_manifest
from keras_retrieval.pipelines.photos.reader import PhotoError, read_photo

from ..contract import signatures as names
from ..contract import version_manifest as saved_model
from ..index_contract.contract import Hits, NeighbourIndex
from .errors import Code, ServingError
from .limits import ComputeSlots, Deadline
from .model_registry import ModelRegistry
from .search_signature import answer, checked, search_signature
from .servable import Run, Servable

NOT_OURS = "it was not written by `keras-retrieval export-saved-model`, or is not whole"


class PhotoSearch:
    """An index, and what it asks of the network that describes the queries.

    Args:
        index: opened.
        slots: of looking into it, and of decoding photos, which takes memory for all their pixels.
    """

    def __init__(self, index: NeighbourIndex, slots: ComputeSlots) -> None:
        self.index, self.slots = index, slots

    def load(self, path: Path, name: str, version: int) -> Servable:
        """Loads a version; one that `export-saved-model` wrote answers `search`, too."""
        try:
            facts = read_manifest(path, kind=saved_model.KIND, version=saved_model.VERSION)
        except FolderError:
            return Servable(path, name, version)
        return SearchingServable(path, name, version, self, facts)

    def model(self, models: ModelRegistry) -> str:
        """The first model whose newest version is the network of the index.

        Raises:
            ServingError: FAILED_PRECONDITION, there is none; the message says what each differs in.
        """
        from tensorflow_serving.apis import model_pb2

        reasons = []
        for name in models.names():
            try:
                with models.acquire(model_pb2.ModelSpec(name=name)).held() as servable:
                    unfit = servable.unfit if isinstance(servable, SearchingServable) else NOT_OURS
            except ServingError as error:
                unfit = error.message
            if not unfit:
                return name
            reasons.append(f"{name}: {unfit}")
        told = "; ".join(reasons)
        raise ServingError(Code.FAILED_PRECONDITION, f"No model is the one that the index was made with. {told}")

    def holds(self, name: str) -> bool:
        """Whether the index has a photo of this name."""
        try:
            return len(self.index.vectors([name])) == 1
        except ValueError:
            return False

    def nearest(self, rows: np.ndarray, k: int, deadline: Deadline) -> list[Hits]:
        """The neighbours of descriptors (Q, D), at most k of each.

        Raises:
            ServingError: UNAVAILABLE, the index does not answer; or nobody waits any more.
        """
        try:
            with self.slots.slot(deadline):
                return self.index.search(rows, k) if len(rows) else []
        except (OSError, FolderError) as error:
            raise ServingError(Code.UNAVAILABLE, f"The index does not answer: {error}") from error


class SearchingServable(Servable):
    """A version of an exported network that answers `search`.

    Args:
        path: version folder.
        name: the model's name.
        version: the version's number.
        search: the index.
        facts: the version's manifest.
    """

    def __init__(self, path: Path, name: str, version: int, search: PhotoSearch, facts: Mapping[str, Any]) -> None:
        super().__init__(path, name, version)
        self._search, self._facts = search, facts
        self.signatures[names.SEARCH] = search_signature()

    @property
    def unfit(self) -> str:
        """What tells it from the network of the index as that is now; "" if nothing does."""
        return saved_model.mismatch(self._facts, self._search.index.facts)

    def compute(
        self, signature: Any, inputs: Mapping[str, np.ndarray], aliases: Sequence[str], run: Run, deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """As for every servable; `search` describes the photos and asks the index."""
        if signature is not self.signatures[names.SEARCH]:
            return super().compute(signature, inputs, aliases, run, deadline)
        if unfit := self.unfit:
            raise ServingError(Code.FAILED_PRECONDITION, f"Version {self.version} cannot be searched with: {unfit}")
        files, k, boxes = checked(inputs)
        rows, status = self._described(files, boxes, run, deadline)
        found = status == names.OK
        hits = iter(self._search.nearest(rows[found], int(k.max(initial=1)), deadline))
        outputs = answer([next(hits) if is_found else None for is_found in found], k, status)
        return {alias: outputs[alias] for alias in aliases}

    def _described(
        self, files: np.ndarray, boxes: np.ndarray, run: Run, deadline: Deadline
    ) -> tuple[np.ndarray, np.ndarray]:
        """Descriptors (B, D) of photos, or of their boxes, and status (B,)."""
        boxed = boxes.any(axis=1)
        whole, whole_status = self._whole(files[~boxed], run, deadline)
        rows = np.zeros((len(files), whole.shape[1]), np.float32)
        status = np.zeros(len(files), np.int32)
        rows[~boxed], status[~boxed] = whole, whole_status
        for row in np.flatnonzero(boxed):
            rows[row], status[row] = self._part(files[row], boxes[row], run, deadline)
        return rows, status

    def _whole(self, files: np.ndarray, run: Run, deadline: Deadline) -> tuple[np.ndarray, np.ndarray]:
        if not len(files):
            return np.zeros((0, self._search.index.facts["dimensions"]), np.float32), np.zeros(0, np.int32)
        found = self._ask(
            names.SERVING_DEFAULT, {names.IMAGE_BYTES: files}, [names.DESCRIPTORS, names.STATUS], run, deadline
        )
        return found[names.DESCRIPTORS], found[names.STATUS]

    def _part(self, file: bytes, box: np.ndarray, run: Run, deadline: Deadline) -> tuple[np.ndarray | float, int]:
        """A box is cut at full resolution and then shrunk as the whole photo would be: its scale is the index's."""
        left, top, right, bottom = box.tolist()
        try:
            with self._search.slots.slot(deadline):
                crop, facts = (left, top, right, bottom), self._facts
                pixels = read_photo(file, size=facts["size"], crop=crop, max_pixels=facts["max_pixels"])
        except PhotoError:
            _, (status,) = self._whole(np.array([file], object), run, deadline)
            return 0.0, status or names.BAD_BOX
        found = self._ask(names.IMAGES_UINT8, {names.PIXELS: pixels[None]}, [names.DESCRIPTORS], run, deadline)
        (row,) = found[names.DESCRIPTORS]
        sound = np.isfinite(row).all() and row.any()
        return (row, names.OK) if sound else (0.0, names.NO_DESCRIPTOR)

    def _ask(
        self, signature: str, inputs: Mapping[str, np.ndarray], aliases: Sequence[str], run: Run, deadline: Deadline
    ) -> dict[str, np.ndarray]:
        return super().compute(self.signatures[signature], inputs, aliases, run, deadline)
