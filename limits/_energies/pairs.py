"""Sums over pairs of particles, in memory linear in their number.

Pairs are evaluated in tiles: a block of columns (the particles summed over) against a few rows at a
time. On processors a tile stays in the cache, and a pair costs what evaluating it does, for a
hundred particles as for a million.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TABLE = 2**22  # pairs whose values may be kept
_TILE = 2**22  # pairs evaluated at once
_CACHED = 2**16  # the same on processors
_COLUMNS = 2**14
_LANES = 128  # columns are multiples of it
_FEW = 4  # coordinates of a particle, up to which slopes are taken forward


def averages(
    f: Callable[[Array, Array, Array], Any],
    points: Float[Array, "n dim"],
    others: Float[Array, "m other"],
    masses: Float[Array, " m"],
) -> Any:
    """f(θ, others, masses) for every θ of `points`: a tree of arrays with leading axis n.

    `f` must be a sum over others, linear in their masses: it is given some of them at a time.
    Tiles are evaluated again in derivatives.
    """
    m = others.shape[0]
    blocks = -(-m // _COLUMNS)
    if blocks == 1:
        return each(lambda theta: f(theta, others, masses), points, m)
    columns = -(-m // (blocks * _LANES)) * _LANES
    rest = blocks * columns - m
    others = jnp.pad(others, ((0, rest), (0, 0)), mode="edge").reshape(blocks, columns, -1)
    masses = jnp.pad(masses, (0, rest)).reshape(blocks, columns)

    def more(total: Any, block: tuple[Array, Array]) -> tuple[Any, None]:
        some = each(lambda theta: f(theta, *block), points, columns)
        return jax.tree.map(jnp.add, total, some), None

    one = jax.eval_shape(jax.vmap(f, (0, None, None)), points, others[0], masses[0])
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), one)
    return jax.lax.scan(more, zero, (others, masses))[0]


def each(f: Callable[[Array], Any], points: Float[Array, "n dim"], columns: int) -> Any:
    """f(θ) for every θ of `points`, as many at once as make a tile with so many columns."""
    rows = max(2, _pairs() // columns)  # one row alone is summed without vector instructions
    if len(points) <= rows:
        return jax.vmap(f)(points)
    return jax.lax.map(jax.checkpoint(lambda theta: f(theta)), points, batch_size=rows)


def value_and_slope(f: Callable[[Array], Array], theta: Float[Array, " dim"]) -> Any:
    """The value and the gradient of `f`: for few coordinates forward, in one pass over pairs."""
    if theta.shape[0] > _FEW:
        return jax.value_and_grad(f)(theta)
    value, along = jax.linearize(f, theta)
    return value, jnp.stack([along(e) for e in jnp.eye(len(theta), dtype=theta.dtype)])


def _pairs() -> int:
    return min(_TILE, _CACHED) if jax.default_backend() == "cpu" else _TILE
