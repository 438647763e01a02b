"""Numbers that spaces are made from."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .._checks import concrete, floating


def coordinates(name: str, value: ArrayLike, dim: int) -> Array:
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.integer):
        value = value.astype(float)
    value = floating(name, value)
    if value.shape not in ((), (1,), (dim,)):
        raise ValueError(f"{name} must be a scalar or of shape ({dim},), got shape {value.shape}")
    return jnp.broadcast_to(value, (dim,))


def positive(name: str, value: Array) -> Array:
    values = concrete(value)
    if values is not None and not (values > 0).all():
        raise ValueError(
            f"{name} must be positive, got {values}: a constant label is Atoms([[...]])"
        )
    return value
