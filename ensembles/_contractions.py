"""Contractions over neurons and data, in full precision whatever the machine.

Accelerators multiply matrices in reduced precision unless asked otherwise, which would blur a limit
that is known to 1e-6. Every sum of products in this library goes through here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_FULL = jax.lax.Precision.HIGHEST


def matmul(a: Array, b: Array) -> Array:
    """`jnp.matmul`."""
    return jnp.matmul(a, b, precision=_FULL)


def dot(a: Array, b: Array) -> Array:
    """`jnp.dot`."""
    return jnp.dot(a, b, precision=_FULL)


def tensordot(a: Array, b: Array, axes: int | list[list[int]] = 1) -> Array:
    """`jnp.tensordot`; by default the last axis of `a` with the first of `b`."""
    return jnp.tensordot(a, b, axes=axes, precision=_FULL)


def einsum(subscripts: str, *operands: Array) -> Array:
    """`jnp.einsum`."""
    return jnp.einsum(subscripts, *operands, precision=_FULL)


def length(a: Float[Array, "..."], axis: int, keepdims: bool = False) -> Float[Array, "..."]:
    """The Euclidean norm along an axis, whose derivative is 0 where it is 0."""
    square = (a**2).sum(axis, keepdims=keepdims)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
