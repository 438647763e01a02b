"""Numbers that spaces are made from."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .._checks import concrete, floating, numeric


def coordinates(name: str, value: ArrayLike, dim: int) -> Array:
    value = numeric(name, value, f"write {name}=1.0, or an array ({dim},)")
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
            f"{name} must be positive, got {values}: write {name}=1.0; a constant label is "
            "Atoms([[...]])"
        )
    return value


def held(value: Array) -> Any:
    """`value` on the host, or as it is while it is traced: nodes are made of it either way."""
    known = concrete(value)
    return value if known is None else known


def like(nodes: np.ndarray, values: Any) -> Any:
    """`nodes` for arithmetic with `values`: as they are, in double precision, on the host; of the
    dtype of `values` while these are traced."""
    return nodes if isinstance(values, np.ndarray) else jnp.asarray(nodes, values.dtype)
