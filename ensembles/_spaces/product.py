"""Products of spaces."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._contractions import length
from .gaussian import Gaussian
from .grids import beside, tensor
from .space import Grid, Space


class Product(Space):
    """The product of `spaces`: labels are the concatenation of their labels.

    Spaces of few dimensions get the leading coordinates of the cube, which Sobol points fill best.
    """

    spaces: tuple[Space, ...]

    def __init__(self, *spaces: Space):
        if not spaces or not all(isinstance(space, Space) for space in spaces):
            raise ValueError(
                f"spaces must be one or more spaces, got {spaces!r}: write "
                "Product(Uniform(-1.0, 1.0), Gaussian(2))"
            )
        self.spaces = spaces

    @property
    def mean(self) -> Float[Array, " dim"]:
        return jnp.concatenate([space.mean.astype(self.dtype) for space in self.spaces])

    @property
    def dim(self) -> int:
        return sum(space.dim for space in self.spaces)

    @property
    def factors(self) -> tuple[Space, ...]:
        return self.spaces

    @property
    def axes(self) -> int:
        return sum(space.axes for space in self.spaces)

    @property
    def cube_dim(self) -> int:
        return sum(space.cube_dim for space in self.spaces)

    @property
    def dtype(self):
        return jnp.result_type(*(space.dtype for space in self.spaces))

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        keys = jax.random.split(key, len(self.spaces))
        drawn = [space.draw(n, k) for space, k in zip(self.spaces, keys, strict=True)]
        return jnp.concatenate([points.astype(self.dtype) for points in drawn], axis=1)

    def project(self, points: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
        ends = np.cumsum([space.dim for space in self.spaces])[:-1]
        parts = jnp.split(points, ends, axis=1)
        near = [space.project(p) for space, p in zip(self.spaces, parts, strict=True)]
        return jnp.concatenate([p.astype(points.dtype) for p in near], axis=1)

    def distance(self, points: Float[Array, "n dim"]) -> Float[Array, " n"]:
        ends = np.cumsum([space.dim for space in self.spaces])[:-1]
        pairs = zip(self.spaces, jnp.split(points, ends, axis=1), strict=True)
        return length(jnp.stack([space.distance(p) for space, p in pairs]), 0)

    def tangent(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        parts = [space.tangent(p, v) for space, p, v in self._parts(points, velocities)]
        return jnp.concatenate([v.astype(velocities.dtype) for v in parts], axis=1)

    def along(
        self, points: Float[Array, "n dim"], velocities: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        parts = [space.along(p, v) for space, p, v in self._parts(points, velocities)]
        return jnp.concatenate([v.astype(velocities.dtype) for v in parts], axis=1)

    def _parts(self, points: Array, velocities: Array) -> Iterator[tuple[Space, Array, Array]]:
        ends = np.cumsum([space.dim for space in self.spaces])[:-1]
        split = (jnp.split(a, ends, axis=1) for a in (points, velocities))
        return zip(self.spaces, *split, strict=True)

    @property
    def bounded(self) -> bool:
        return any(space.bounded for space in self.spaces)

    def from_cube(self, u: np.ndarray) -> Any:
        order = np.argsort([space.cube_dim for space in self.spaces], kind="stable")
        ends = np.cumsum([self.spaces[i].cube_dim for i in order])[:-1]
        parts = dict(zip(order, np.split(u, ends, axis=1), strict=True))
        return beside([space.from_cube(parts[i]) for i, space in enumerate(self.spaces)])

    def aligned(self, x: Float[Array, "n d"]) -> "Space":
        fits = [isinstance(s, Gaussian) and (s.dim,) == x.shape[1:] for s in self.spaces]
        if not any(fits):
            return super().aligned(x)
        return Product(
            *(s.aligned(x) if fit else s for s, fit in zip(self.spaces, fits, strict=True))
        )

    def grid(self, m: int) -> Grid:
        return tensor([space.grid(m) for space in self.spaces])
