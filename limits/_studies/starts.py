"""Where searches for the minimum of a first variation begin."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Atoms, Product, Space, quadrature

_COMBINATIONS = 4096  # of atoms of finite factors, each of which a search begins at
_POINTS = 2**20  # of a finite space, which are evaluated


class Starts(NamedTuple):
    """Where a search begins, and how many steps it takes; how many combinations there are of atoms
    of finite factors, and of how many of them it begins."""

    points: Float[Array, "m dim"]
    steps: int
    combinations: int = 1
    visited: int = 1


def starting_points(
    space: Space, points: Float[Array, "n dim"], starts: int, steps: int, key: PRNGKeyArray
) -> Starts:
    """At least `starts` draws of `space` for neurons like `points`. A search does not go from atom
    to atom: as many begin at each combination of atoms of finite factors, whatever their masses,
    where there are at most 4,096; otherwise at combinations drawn uniformly."""
    finite = _finite(space)
    total = math.prod(map(len, finite))
    if not space.axes:
        if total > _POINTS:
            raise ValueError(
                f"space must have at most {_POINTS} points to be evaluated completely, got {total}:"
                " write fewer Atoms, or Uniform(low, high) for a search"
            )
        return Starts(quadrature(space, 1).points.astype(points.dtype), 0)
    whole = total <= _COMBINATIONS
    n = -(-starts // total) * total if whole else starts
    drawn = space.draw(n, key).astype(points.dtype)
    if not finite:
        return Starts(drawn, steps)
    sizes = [len(atoms) for atoms in finite]
    if whole:
        digits = np.stack(np.unravel_index(np.arange(n) % total, sizes))
    else:
        digits = np.random.default_rng(0).integers(np.array(sizes)[:, None], size=(len(sizes), n))
    chosen = iter([atoms[k] for atoms, k in zip(finite, digits, strict=True)])
    visited = total if whole else len(np.unique(digits, axis=1).T)
    return Starts(_at_atoms(space, drawn, chosen), steps, total, visited)


def _finite(space: Space) -> list[Array]:
    """The atoms of the finite factors of a space."""
    if isinstance(space, Product):
        return [atoms for factor in space.spaces for atoms in _finite(factor)]
    return [space.measure.points] if isinstance(space, Atoms) else []


def _at_atoms(
    space: Space, points: Float[Array, "n dim"], atoms: Iterator[Array]
) -> Float[Array, "n dim"]:
    """`points` with the coordinates of finite factors those of `atoms`, one array a factor."""
    if isinstance(space, Product):
        ends = np.cumsum([s.dim for s in space.spaces])[:-1]
        pairs = zip(space.spaces, jnp.split(points, ends, axis=1), strict=True)
        return jnp.concatenate([_at_atoms(s, p, atoms) for s, p in pairs], axis=1)
    return next(atoms).astype(points.dtype) if isinstance(space, Atoms) else points
