"""The cones of weight space on which every ReLU unit is linear over the inputs."""

from math import comb
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import ArrayLike

from ensembles.internal import floating, on_host

_CONES = 4096  # a conic program of more takes minutes
_SAME = 1e-10  # directions nearer than this are one


class Cones(NamedTuple):
    """Cones C_k = {w : walls[k] w ≥ 0}, with `patterns` (cones, n): the inputs active inside."""

    patterns: np.ndarray
    walls: list[np.ndarray]


def activation_patterns(x: ArrayLike) -> np.ndarray:
    """Which of the inputs `x` (n, d) activate a unit relu(w · x_i): all sets that occur, as w
    varies.

    Booleans (patterns, n): the signs w · x_i > 0 on the open cones into which the hyperplanes
    w · x_i = 0 cut R^d. Their closures cover R^d, and on each closed cone relu(w · x_i) is w · x_i
    where the pattern is true and 0 elsewhere. There are 2 Σ_{j<d} C(n − 1, j) patterns for inputs
    in general position, fewer for others. Raises `ValueError` for more than 4096, or other shapes.
    """
    on_host("activation_patterns", x, jnp.zeros(()))
    return cones(np.asarray(floating("x", x, ndim=2), float)).patterns


def cones(x: np.ndarray) -> Cones:
    largest = np.abs(x).max(1, initial=0.0, keepdims=True)
    x = x / np.where(largest > 0, largest, 1)  # lengths do not count, and are numbers now
    planes = _hyperplanes(x)
    n, d = len(planes), np.linalg.matrix_rank(x) if x.size else 0
    bound = 2 * sum(comb(n - 1, j) for j in range(d)) if n else 1
    if bound > _CONES:
        raise ValueError(
            f"x may have as many as {bound} activation patterns, of {n} inputs that span {d} "
            f"dimensions, and at most {_CONES} are enumerated: take fewer inputs or coordinates"
        )
    inside = _interior(planes)
    signs = inside @ planes.T > 0
    known = {row.tobytes() for row in signs}
    flips = np.eye(n, dtype=bool)
    walls = []
    for row in signs:  # a hyperplane bounds a cone where its sign alone changes in another
        bounding = [(row ^ flip).tobytes() in known for flip in flips]
        walls.append((np.where(row, 1.0, -1.0)[:, None] * planes)[bounding])
    return Cones(inside @ x.T > 0, walls)


def peak(p: np.ndarray, x: np.ndarray, cones: Cones) -> float:
    """max over |w| = 1 of |Σ_i p_i relu(w · x_i)|, a bound from above up to rounding.

    On a cone {W w ≥ 0} it is the maximum of a linear g · w: the length of g's projection, which is
    the least |g + Wᵀ a| over a ≥ 0 (Moreau); every a ≥ 0 bounds the maximum.
    """
    sums = (cones.patterns * p) @ x
    return max(
        scipy.optimize.nnls(walls.T, g)[1] if len(walls) else float(np.linalg.norm(g))
        for s, walls in zip(sums, cones.walls, strict=True)
        for g in (-s, s)
    )


def _hyperplanes(x: np.ndarray) -> np.ndarray:
    """Unit normals of the different hyperplanes w · x_i = 0."""
    lengths = np.linalg.norm(x, axis=1)
    units = x[lengths > 0] / lengths[lengths > 0, None]
    kept: list[np.ndarray] = []
    for u in units:
        if all(min(np.linalg.norm(u - v), np.linalg.norm(u + v)) > _SAME for v in kept):
            kept.append(u)
    return np.array(kept).reshape(-1, x.shape[1])


def _interior(planes: np.ndarray) -> np.ndarray:
    """One point inside every cone that hyperplanes of these normals (n, d) cut out.

    The last hyperplane cuts the cones of the others in two along the cones of their traces on it
    (deletion and restriction): points of these, moved to its two sides, join the points before.
    """
    n, d = planes.shape
    if n == 0:
        return np.zeros((1, d))
    others, last = planes[:-1], planes[-1]
    before = _interior(others)
    basis = np.linalg.qr(last[:, None], mode="complete")[0][:, 1:]
    traces = others @ basis
    lengths = np.linalg.norm(traces, axis=1)
    if (lengths < _SAME).any():
        return before
    on = _interior(traces / lengths[:, None]) @ basis.T
    with np.errstate(divide="ignore"):
        room = np.abs(on @ others.T) / np.abs(others @ last)
    step = np.minimum(1.0, room.min(1, initial=np.inf) / 2)[:, None] * last
    points = np.concatenate([on + step, on - step, before])
    lengths = np.linalg.norm(points, axis=1)
    off = np.abs(points @ last) > 1e-12 * lengths
    points = points[off] / lengths[off, None]
    _, first = np.unique(points @ planes.T > 0, axis=0, return_index=True)
    return points[first]
