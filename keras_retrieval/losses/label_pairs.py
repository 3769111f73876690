"""The pairs of photos of a batch that match by their labels, for the losses on labels and on classes."""

from dataclasses import dataclass
from typing import Any

from keras import ops

from ..errors import ArgumentError


def flat(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Returns the labels (K,) and descriptors (K, D) of all photos, with the axis of tuples flattened.

    Raises:
        ArgumentError: the numbers of labels and descriptors differ.
    """
    labels, photos = ops.reshape(y_true, (-1,)), ops.reshape(y_pred, (-1, y_pred.shape[-1]))
    _require_as_many(labels, photos, y_true, y_pred)
    return labels, photos


@dataclass(frozen=True)
class Labelled:
    """The photos of a batch with their labels, in the form in which losses on labels with exclusions get them.

    Attributes:
        photos: descriptors of length 1, (K, D).
        labels: the label of each photo, (K,); below 0 for padding, which is in no pair.
        excluded: labels whose photos are not compared with a photo, (K, L), padded with numbers below 0. L may be 0.
    """

    photos: Any
    labels: Any
    excluded: Any

    def pairs(self, labels: Any) -> tuple[Any, Any]:
        """Returns two masks (K, N), true for pairs that match and for pairs that do not.

        Pairs with padding are in neither mask, nor are pairs of a photo with an excluded label.

        Args:
            labels: the labels of the N photos that the K photos are compared with, (N,).
        """
        valid = ops.logical_and(self.labels[:, None] >= 0, labels[None] >= 0)
        same = ops.equal(self.labels[:, None], labels[None])
        different = ops.logical_and(valid, ops.logical_not(same))
        if self.excluded.shape[-1]:
            out = ops.any(ops.equal(self.excluded[:, None, :], labels[None, :, None]), axis=-1)
            different = ops.logical_and(different, ops.logical_not(out))
        return ops.logical_and(valid, same), different

    def shares(self) -> Any:
        """Returns the factors (K,) with which the mean over the K photos is the mean over those that are no padding."""
        valid = ops.cast(self.labels >= 0, "float32")
        return valid * ops.cast(ops.size(valid), "float32") / ops.maximum(ops.sum(valid), 1.0)


def labelled(y_true: Any, y_pred: Any) -> Labelled:
    """Reads labels with or without excluded labels, and normalises descriptors to length 1.

    Args:
        y_true: labels (B, M) or (K,); or (B, M, 1 + L) or (K, 1 + L), the label and L excluded labels of each photo.
        y_pred: descriptors (B, M, D) or (K, D).

    Raises:
        ArgumentError: the numbers of labels and descriptors differ.
    """
    columns = y_true.shape[-1] if len(y_true.shape) == len(y_pred.shape) else 1
    table, photos = ops.reshape(y_true, (-1, columns)), ops.reshape(y_pred, (-1, y_pred.shape[-1]))
    _require_as_many(table, photos, y_true, y_pred)
    return Labelled(unit(photos), table[:, 0], table[:, 1:])


def unit(x: Any) -> Any:
    """Divides rows by their lengths; a row of zeros stays zero, with gradient zero."""
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    # The root has no gradient at 0, and `where` does not stop NaN in the backward pass: use 1 there instead.
    return ops.where(squares > 0, x / ops.sqrt(ops.where(squares > 0, squares, 1.0)), 0.0)


def matching(labels: Any) -> Any:
    """Returns a mask (K, K) of the pairs with equal labels (K,), including each photo with itself."""
    return ops.equal(labels[:, None], labels[None])


def without_self(matches: Any) -> Any:
    """Returns the mask of matches (K, K) with the diagonal set to false."""
    return ops.logical_and(matches, ops.logical_not(ops.eye(ops.shape(matches)[0], dtype="bool")))


def _require_as_many(labels: Any, photos: Any, y_true: Any, y_pred: Any) -> None:
    if None not in (labels.shape[0], photos.shape[0]) and labels.shape[0] != photos.shape[0]:
        raise ArgumentError(
            "y_true must have one label per photo of y_pred, "
            f"got the shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}"
        )
