"""Uniform distributions on boxes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._checks import concrete
from .coordinates import coordinates, held
from .grids import legendre, tensor
from .space import Grid, Space


class Uniform(Space):
    """The uniform distribution on the box `[low, high]`; `low` and `high` are scalars or of shape
    (dim,)."""

    low: Float[Array, " dim"]
    high: Float[Array, " dim"]

    def __init__(self, low: ArrayLike = 0.0, high: ArrayLike = 1.0):
        dim = max(np.size(low), np.size(high))
        self.low = coordinates("low", low, dim)
        self.high = coordinates("high", high, dim)
        known = concrete(self.low), concrete(self.high)
        if known[0] is not None and known[1] is not None and not (known[0] < known[1]).all():
            raise ValueError(
                f"low must be below high, got low={known[0]} and high={known[1]}: write "
                "Uniform(-1.0, 1.0); a constant label is Atoms([[...]])"
            )

    @property
    def mean(self) -> Float[Array, " dim"]:
        return (self.low + self.high) / 2

    @property
    def dim(self) -> int:
        return self.low.shape[0]

    @property
    def dtype(self):
        return jnp.result_type(self.low, self.high)

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        u = jax.random.uniform(key, (n, self.dim), self.dtype)
        return self.low[None] + (self.high - self.low)[None] * u

    def project(self, points: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        # at a wall the derivative is that of staying, where clipping would have half of it
        above = jnp.where(points < self.low[None], self.low[None], points)
        return jnp.where(above > self.high[None], self.high[None], above)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        # points are sums, and at a wall up to their rounding
        slack = 8 * jnp.finfo(points.dtype).eps * jnp.maximum(jnp.abs(self.low), jnp.abs(self.high))
        out = (points >= (self.high - slack)[None]) & (velocities > 0)
        out |= (points <= (self.low + slack)[None]) & (velocities < 0)
        return jnp.where(out, 0, velocities)

    def from_cube(self, u: np.ndarray) -> Any:
        low, high = held(self.low), held(self.high)
        if isinstance(low, np.ndarray) and isinstance(high, np.ndarray):
            return low + (high - low) * u
        low, high = (jnp.asarray(a, self.dtype)[None] for a in (low, high))
        return low + (high - low) * jnp.asarray(u, self.dtype)

    def grid(self, m: int) -> Grid:
        z, masses = legendre(m)
        points, masses = tensor([((z[:, None] + 1) / 2, masses)] * self.dim)
        return self.from_cube(points), masses
