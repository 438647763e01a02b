"""One-dimensional node sets, and tensor products of them."""

import math
from functools import lru_cache, reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import special

from .space import Grid

_GOLDEN = (math.sqrt(5) - 1) / 2

# 511 nodes take milliseconds, and every probe of an initialisation asks for them.
legendre = lru_cache(maxsize=64)(special.roots_legendre)
hermite = lru_cache(maxsize=64)(special.roots_hermitenorm)


def turns(m: int) -> np.ndarray:
    """`m` equidistant points of the circle R/Z, from a place that depends on m.

    Were all sets to begin at 0, they would agree on waves that none of them resolves.
    """
    return (np.arange(m) + m * _GOLDEN % 1) / m


def tensor(grids: list[Grid]) -> Grid:
    """The tensor product of node sets: points side by side, masses multiplied."""

    def pair(a: Grid, b: Grid) -> Grid:
        left, right = np.divmod(np.arange(len(a[0]) * len(b[0])), len(b[0]))
        return beside([a[0][left], b[0][right]]), (a[1][:, None] * b[1][None]).ravel()

    points, masses = reduce(pair, grids)
    return points, masses / (math.fsum(masses) if isinstance(masses, np.ndarray) else masses.sum())


def beside(points: list[Any]) -> Any:
    """Points of several spaces side by side; on the host unless some are traced."""
    if all(isinstance(p, np.ndarray) for p in points):
        return np.concatenate(points, axis=1)
    dtype = jnp.result_type(*(p.dtype for p in points if not isinstance(p, np.ndarray)))
    return jnp.concatenate([jnp.asarray(p, dtype) for p in points], axis=1)
