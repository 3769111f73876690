"""Supervised linear adaptation of descriptors: the normalised softmax over objects, shrunk towards the identity.

A descriptor x becomes y = L2(W x), where L2 denotes L2 normalisation. W begins as a whitening that is shrunk towards
the identity, and gradient descent on the normalised softmax changes it. Without a shift, the adaptation of a network
that already ends with a whitening can be merged with that whitening.

In the shapes, N is the number of descriptors (rows) and D the number of their dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError
from ..ranking.rows import as_rows, l2_normalize, require_finite
from .covariance import UNSEEN, Projection, fixed_sign, sorted_eigenvectors

SCALE = 20.0
"""The factor on cosine similarities in the softmax, the inverse of the temperature 0.05 of Zhai and Wu (BMVC 2019)."""

DIRECTIONS = 512
"""Largest number of directions that the softmax changes; the others are only whitened."""

ROWS = 4096
"""Largest number of descriptors from which the softmax learns, and largest number of directions that are whitened."""

_STEPS = 60
_HISTORY = 10


@dataclass(frozen=True)
class Strength:
    """How far an adaptation goes from the identity.

    Attributes:
        shrinkage: weight s of the identity in the whitening that W begins as, see `whiten_moment`; infinity for the
            identity alone.
        penalty: weight of the squared distance of W from its beginning in the loss of the softmax; infinity leaves W as
            it begins.
    """

    shrinkage: float = np.inf
    penalty: float = np.inf

    @property
    def is_identity(self) -> bool:
        """Whether the adaptation changes nothing."""
        return bool(np.isinf(self.shrinkage) and np.isinf(self.penalty))

    def __str__(self) -> str:
        whitened = "" if np.isinf(self.shrinkage) else f"whitened with shrinkage {self.shrinkage:g}"
        learned = "" if np.isinf(self.penalty) else f"softmax with penalty {self.penalty:g}"
        return ", ".join(filter(None, (whitened, learned))) or "unchanged"


def directions(rows: np.ndarray) -> np.ndarray:
    """Finds orthonormal directions that span descriptors, in order of decreasing second moment.

    If D exceeds 4096 (ROWS), the directions are those of at most 4096 of the rows, at equal intervals, and are computed
    from the Gram matrix of these rows, so that no D x D matrix is in memory.

    Args:
        rows: the descriptors, (N, D).

    Returns:
        The directions as rows, (r, D) float64, where r is the rank of the descriptors.

    Raises:
        ArgumentError: all descriptors are 0.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    rows = as_rows(rows, "rows", None)
    require_finite(rows, "row")
    if rows.shape[1] > ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), ROWS)).astype(np.int64)]
    rows = rows.astype(np.float64)
    of_rows = len(rows) < rows.shape[1]
    values, vectors = sorted_eigenvectors(rows @ rows.T if of_rows else rows.T @ rows)
    if not len(values) or values[0] <= np.finfo(np.float64).tiny:
        raise ArgumentError(f"all {len(rows)} descriptors are 0: they have no direction")
    kept = values > UNSEEN * values[0]
    found = vectors[:, kept].T @ rows / np.sqrt(values[kept])[:, None] if of_rows else vectors[:, kept].T
    return fixed_sign(found)


def whiten_moment(rows: np.ndarray, objects: np.ndarray, shrinkage: float, dim: int) -> np.ndarray:
    """Computes a whitening that is shrunk towards the identity, W = (I + M D / (s tr M))^(-1/2).

    M is the mean of x x^T over the photos of an object, averaged over objects. Directions in which all photos agree,
    such as the mean of descriptors that are not negative, have much of M and are damped; directions without photos are
    not changed. With s = 0 this would be the whitening by the second moment, with s = infinity it is the identity
    (shrinkage of covariance matrices: Ledoit and Wolf, J. Multivariate Analysis 2004).

    Args:
        rows: descriptors x in an orthonormal basis of the space that they span, (N, r).
        objects: the object of each row, (N,) integers.
        shrinkage: the weight s, above 0; infinity for the identity.
        dim: the number D of dimensions of the space that contains the r directions, in which the mean variance is
            tr M / D.

    Returns:
        The symmetric matrix W, (r, r) float64, whose eigenvalues are above 0 and at most 1.

    Raises:
        ArgumentError: `shrinkage` is not above 0.
    """
    if not shrinkage > 0:
        raise ArgumentError(f"shrinkage must be above 0, got {shrinkage}")
    if np.isinf(shrinkage):
        return np.eye(rows.shape[1])
    weighted = rows * _weights(objects)[:, None]
    moment = weighted.T @ rows
    values, vectors = sorted_eigenvectors(moment / (shrinkage * np.trace(moment) / dim))
    return (vectors / np.sqrt(1 + np.maximum(values, 0))) @ vectors.T


def fit_softmax(rows: np.ndarray, objects: np.ndarray, start: np.ndarray, penalty: float) -> np.ndarray:
    """Learns W from frozen descriptors by the normalised softmax over objects.

    The loss is that of Zhai and Wu (Classification is a Strong Baseline for Deep Metric Learning, BMVC 2019).

    The loss is the cross-entropy of softmax_k(20 cos(W x, c_k)) for the object k of each descriptor x, averaged over
    the photos of an object and then over objects, plus penalty x ||W - start||^2 (Frobenius norm). The centres c_k,
    which are learned too, begin as the means of W x. The minimum is found by L-BFGS (Nocedal, Mathematics of
    Computation 1980), with all rows in each step.

    Args:
        rows: descriptors x in an orthonormal basis, (N, r).
        objects: the object of each row, (N,) integers; at least two different ones.
        start: the matrix that W begins as, (r, r).
        penalty: weight of the distance from `start`, above 0; infinity returns `start`.

    Returns:
        The matrix W, (r, r) float64.

    Raises:
        ArgumentError: there are fewer than two objects, or `penalty` is not above 0.
    """
    if not penalty > 0:
        raise ArgumentError(f"penalty must be above 0, got {penalty}")
    labels = np.unique(objects, return_inverse=True)[1].ravel()
    count, size = int(labels.max(initial=-1)) + 1, rows.shape[1]
    if count < 2:
        raise ArgumentError(f"the softmax needs descriptors of at least 2 objects, got {count}")
    if np.isinf(penalty):
        return start
    weights = _weights(objects)
    centres = np.zeros((count, size))
    np.add.at(centres, labels, rows * (weights * count)[:, None])
    first = start.astype(np.float32)
    loss = SoftmaxLoss(rows.astype(np.float32), labels, weights.astype(np.float32), first, penalty)
    beginning = np.concatenate([first.ravel(), l2_normalize(centres @ start.T).astype(np.float32).ravel()])
    return minimise(loss, beginning)[: size * size].reshape(size, size).astype(np.float64)


@dataclass(frozen=True)
class SoftmaxLoss:
    """The loss of `fit_softmax`, as a function of W and the centres.

    Attributes:
        rows: descriptors x, (N, r).
        labels: the object of each, (N,) integers in 0..K-1.
        weights: the weight of each in the loss, (N,), with the sum 1.
        start: the matrix that W is drawn to, (r, r).
        penalty: weight of the squared distance from `start`.
    """

    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    start: np.ndarray
    penalty: float

    def __call__(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the loss and its gradient.

        Args:
            values: W row by row, followed by the K centres, (r r + K r,), in the dtype of `rows`.
        """
        size, each, dtype = len(self.start), np.arange(len(self.rows)), self.rows.dtype.type
        W = values[: size * size].reshape(size, size)
        y, y_norm = _unit(self.rows @ W.T)
        c, c_norm = _unit(values[size * size :].reshape(-1, size))
        logits = dtype(SCALE) * (y @ c.T)
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        moved = W - self.start
        likelihood = np.log(np.maximum(shares[each, self.labels], 1e-30))
        value = float(-(self.weights * likelihood).sum()) + self.penalty * float((moved * moved).sum())
        shares[each, self.labels] -= 1
        shares *= dtype(SCALE) * self.weights[:, None]
        of_y, of_c = shares @ c, shares.T @ y
        of_y = (of_y - (of_y * y).sum(axis=1, keepdims=True) * y) / y_norm
        of_c = (of_c - (of_c * c).sum(axis=1, keepdims=True) * c) / c_norm
        return value, np.concatenate([(of_y.T @ self.rows + dtype(2 * self.penalty) * moved).ravel(), of_c.ravel()])


def fit_linear(rows: np.ndarray, objects: np.ndarray, strength: Strength, dim: int) -> np.ndarray:
    """Learns the adaptation W of descriptors in the basis that `directions` finds.

    Args:
        rows: descriptors in an orthonormal basis in order of decreasing second moment, (N, r).
        objects: the object of each row, (N,) integers; at least two different ones.
        strength: how far W goes from the identity.
        dim: the number D of dimensions of the descriptors outside of the basis.

    Returns:
        The matrix W, (r, r) float64. The softmax changes at most the first 512 (DIRECTIONS) directions, and learns from
        at most 4096 (ROWS) rows, at equal intervals.
    """
    W = whiten_moment(rows, objects, strength.shrinkage, dim)
    if np.isinf(strength.penalty):
        return W
    size = min(DIRECTIONS, rows.shape[1])
    used = np.linspace(0, len(rows) - 1, min(len(rows), ROWS)).astype(np.int64)
    # The rows' other directions are whitened only: what remains of them after W does not enter the softmax.
    start = W[:size, :size]
    W = W.copy()
    W[:size, :size] = fit_softmax(rows[used, :size], objects[used], start, strength.penalty)
    return W


def learn_linear(rows: np.ndarray, objects: np.ndarray, strength: Strength, dim: int | None = None) -> Projection:
    """Learns a supervised linear adaptation from descriptors of objects.

    Args:
        rows: the descriptors, (N, D).
        objects: the object of each descriptor, (N,) integers; at least two different ones.
        strength: how far the adaptation goes from the identity, see `Strength`.
        dim: number of dimensions to keep; None keeps all.

    Returns:
        The adaptation as a `Projection` with the shift m = 0 and with P = E^T W, where the columns of E are the
        principal directions of the adapted descriptors W x about 0, in decreasing order. Cosine similarities are
        those of W x if all dimensions are kept. P has D rows, or `dim`.

    Raises:
        ArgumentError: the shapes do not match, there are fewer than two objects, all descriptors are 0, or `dim` is
            not in 1..D.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    rows, objects = as_rows(rows, "rows"), np.asarray(objects)
    if objects.shape != (len(rows),):
        raise ArgumentError(f"objects must have one number for each of {len(rows)} rows, got {objects.shape}")
    V = directions(rows)
    z = rows @ V.T
    return as_projection(V, fit_linear(z, objects, strength, rows.shape[1]), z, dim)


def as_projection(V: np.ndarray, W: np.ndarray, rows: np.ndarray, dim: int | None) -> Projection:
    """Turns an adaptation in a basis into a projection of descriptors.

    Args:
        V: the basis, (r, D), with orthonormal rows.
        W: the adaptation in this basis, (r, r). Outside of the basis, it is the identity.
        rows: descriptors in the basis, (N, r), from which the principal directions are computed.
        dim: number of dimensions to keep; None keeps all D. Beyond the r directions of the basis, the others follow in
            an arbitrary order.

    Returns:
        The projection, with the shift 0 and P of (dim, D), or of (D, D) if `dim` is None.

    Raises:
        ArgumentError: `dim` is not in 1..D.
    """
    if dim is not None and not 1 <= dim <= V.shape[1]:
        raise ArgumentError(f"dim must be in 1..{V.shape[1]}, got {dim}")
    P, kept = principal(rows @ W.T).T @ W @ V, V.shape[1] if dim is None else dim
    if kept > len(P):
        P = np.concatenate([P, _complement(V)])
    return Projection(np.zeros(V.shape[1]), fixed_sign(P[:kept]))


def principal(rows: np.ndarray) -> np.ndarray:
    """Returns the principal directions of vectors (N, r) about 0, as columns in decreasing order, (r, r)."""
    return sorted_eigenvectors(rows.T @ rows)[1]


def minimise(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], x: np.ndarray, steps: int = _STEPS) -> np.ndarray:
    """Finds a minimum of a smooth function by L-BFGS with a backtracking line search.

    Args:
        loss: function that maps x to its value and its gradient, (n,).
        x: the vector to begin from, (n,).
        steps: largest number of steps.

    Returns:
        The vector with the smallest value that was found, (n,).
    """
    value, gradient = loss(x)
    history: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(steps):
        step = -_inverse_hessian_times(gradient, history)
        slope = float(step @ gradient)
        if slope >= 0:
            break
        length = 1.0 if history else min(1.0, 1 / (float(np.linalg.norm(gradient)) + 1e-30))
        for _ in range(20):
            there = x + np.asarray(length, x.dtype) * step
            new_value, new_gradient = loss(there)
            if new_value <= value + 1e-4 * length * slope:
                break
            length /= 2
        else:
            break
        moved, turned = there - x, new_gradient - gradient
        product = float(moved @ turned)
        if product > 1e-12:
            history = [*history[1 - _HISTORY :], (moved, turned, product)]
        done = value - new_value <= 1e-5 * abs(value)
        x, value, gradient = there, new_value, new_gradient
        if done:
            break
    return x


def _inverse_hessian_times(gradient: np.ndarray, history: list[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    result, factors = gradient.copy(), []
    for moved, turned, product in reversed(history):
        factors.append(float(moved @ result) / product)
        result -= np.asarray(factors[-1], result.dtype) * turned
    if history:
        _, turned, product = history[-1]
        result *= np.asarray(product / float(turned @ turned), result.dtype)
    for (moved, turned, product), factor in zip(history, reversed(factors), strict=True):
        result += np.asarray(factor - float(turned @ result) / product, result.dtype) * moved
    return result


def _weights(objects: np.ndarray) -> np.ndarray:
    """Returns weights of rows with the sum 1, by which each object counts equally."""
    _, label, counts = np.unique(objects, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[label.ravel()])


def _unit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    norms = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), rows.dtype.type(1e-12))
    return rows / norms, norms


def _complement(V: np.ndarray) -> np.ndarray:
    """Returns orthonormal rows that complete those of V to a basis."""
    full = np.linalg.qr(V.T, mode="complete")[0]
    return full[:, len(V) :].T
