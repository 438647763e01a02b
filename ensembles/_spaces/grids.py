"""One-dimensional node sets, and tensor products of them."""

import math
from functools import lru_cache, reduce

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
        left = np.repeat(a[0], len(b[0]), axis=0)
        right = np.tile(b[0], (len(a[0]), 1))
        return np.concatenate([left, right], axis=1), np.outer(a[1], b[1]).ravel()

    points, masses = reduce(pair, grids)
    return points, masses / math.fsum(masses)
