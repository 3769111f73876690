"""The local features of one photo, in memory and as records of a file."""

from dataclasses import dataclass

import numpy as np

STORAGES = ("float16", "int8")
"""Types in which a number of a descriptor is stored; int8 has 64 bytes for a descriptor of XFeat."""
_POSITIONS = 65535  # positions are stored as fractions of the photo's sides, in 16 bits
_INT8 = 127.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class LocalFeatures:
    """The n local features of a photo, best first.

    Attributes:
        keypoints: x and y of each feature in pixels of the upright photo at full resolution, (n, 2) float32, where the
            centre of the first pixel is at 0.5.
        descriptors: L2-normalised descriptors, (n, D) float32.
        width: width of the upright photo in pixels.
        height: height of the upright photo in pixels.
    """

    keypoints: np.ndarray
    descriptors: np.ndarray
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.keypoints)

    def inside(self, box: Box | None) -> "LocalFeatures":
        """Returns the features inside a box (left, top, right, bottom) in pixels; all of them for None."""
        if box is None:
            return self
        left, top, right, bottom = box
        x, y = self.keypoints.T
        chosen = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return LocalFeatures(self.keypoints[chosen], self.descriptors[chosen], self.width, self.height)


def record_type(storage: str, dimensions: int) -> np.dtype:
    """Returns the type of a stored feature: its position (2 x 16 bits) and its descriptor.

    Args:
        storage: an entry of `STORAGES`.
        dimensions: the dimensions of a descriptor.
    """
    return np.dtype([("position", "<u2", (2,)), ("descriptor", "<f2" if storage == "float16" else "i1", (dimensions,))])


PHOTO_RECORD = np.dtype([("features", "<i4"), ("width", "<i4"), ("height", "<i4")])
"""The type of the record of a photo: the number of its features, and its size in pixels."""


def to_records(features: LocalFeatures, storage: str) -> np.ndarray:
    """Returns the features of a photo as records, (n,) of `record_type`."""
    records = np.zeros(len(features), record_type(storage, features.descriptors.shape[1]))
    fractions = features.keypoints / np.array([features.width, features.height])
    records["position"] = np.clip(np.rint(fractions * _POSITIONS), 0, _POSITIONS)
    scale = 1.0 if storage == "float16" else _INT8
    rows = features.descriptors * scale
    records["descriptor"] = rows if storage == "float16" else np.clip(np.rint(rows), -_INT8, _INT8)
    return records


def from_records(records: np.ndarray, photo: np.ndarray) -> LocalFeatures:
    """Returns the features that `to_records` stored.

    Args:
        records: the records of the features, (n,).
        photo: the record of the photo, a scalar of `PHOTO_RECORD`.
    """
    width, height = int(photo["width"]), int(photo["height"])
    keypoints = records["position"].astype(np.float32) * np.array([width, height], np.float32) / _POSITIONS
    rows = records["descriptor"].astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return LocalFeatures(keypoints, rows / np.maximum(norms, 1e-12), width, height)
