"""Derivatives of what is observed along a solve in many masses, by rows or by columns."""

import math
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_ENTRIES = 2**22  # state entries that all derivatives computed at once hold together
_REVERSE = 2.0  # what a derivative in reverse mode costs, in units of one in forward mode


def jacobian(
    run: Callable[[Array, diffrax.AbstractAdjoint], tuple[Array, Any]],
    at: Float[Array, " n"],
    entries: int,
) -> tuple[Array, Float[Array, "... n"], Any]:
    """The values (...) of `run(at, adjoint)`, their derivatives (..., n), and what comes beside.

    Reverse mode takes a solve backward per value, forward mode a solve per entry of `at`: the
    cheaper one is taken. Reverse mode is checkpointed and keeps O(√max_steps) states; solves of
    states of `entries` numbers are done together in blocks of bounded memory.
    """
    reverse = diffrax.RecursiveCheckpointAdjoint()
    shape = jax.eval_shape(lambda a: run(a, reverse)[0], at).shape
    size = math.prod(shape)
    if size * _REVERSE <= at.size:
        values, pull, beside = jax.vjp(lambda a: run(a, reverse), at, has_aux=True)
        basis = jnp.eye(size, dtype=values.dtype).reshape(size, *shape)
        rows = _in_blocks(lambda v: pull(v)[0], basis, entries)
        return values, rows.reshape(*shape, at.size), beside
    values, beside = run(at, reverse)

    def column(direction: Array) -> Array:
        forward = diffrax.ForwardMode()
        return jax.jvp(lambda a: run(a, forward)[0], (at,), (direction,))[1]

    columns = _in_blocks(column, jnp.eye(at.size, dtype=at.dtype), entries)
    return values, jnp.moveaxis(columns, 0, -1), beside


def _in_blocks(f: Callable[[Array], Array], rows: Array, entries: int) -> Array:
    """`f` of every row, in equal blocks of rows."""
    n = rows.shape[0]
    blocks = -(-n * entries // _ENTRIES)
    size = -(-n // min(blocks, n))
    short = -n % size
    padded = jnp.concatenate([rows, jnp.zeros((short, *rows.shape[1:]), rows.dtype)])
    found = jax.lax.map(jax.vmap(f), padded.reshape(-1, size, *rows.shape[1:]))
    return found.reshape(-1, *found.shape[2:])[:n]
