"""Gaussian distributions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from scipy import special

from .._checks import concrete, count
from .coordinates import coordinates, held, positive
from .grids import hermite, tensor
from .space import Grid, Space

_TAIL = 8.3  # standard deviations, beyond which there is less than the last place of 1


class Gaussian(Space):
    """N(mean, diag(scale²)) on R^dim; `mean` and `scale` are scalars or of shape (dim,)."""

    _mean: Float[Array, " dim"]
    scale: Float[Array, " dim"]
    _basis: np.ndarray | None  # orthonormal columns, the images of the cube's axes; None: I

    def __init__(self, dim: int, mean: ArrayLike = 0.0, scale: ArrayLike = 1.0):
        dim = count("dim", dim)
        self._mean = coordinates("mean", mean, dim)
        self.scale = positive("scale", coordinates("scale", scale, dim))
        self._basis = None

    @property
    def mean(self) -> Float[Array, " dim"]:
        return self._mean

    @property
    def dim(self) -> int:
        return self.mean.shape[0]

    @property
    def dtype(self):
        return jnp.result_type(self.mean, self.scale)

    def draw(self, n: int, key: PRNGKeyArray) -> Float[Array, "n dim"]:
        z = jax.random.normal(key, (n, self.dim), self.dtype)
        return self.mean[None] + self.scale[None] * z

    def from_cube(self, u: np.ndarray) -> Any:
        z = special.ndtri(u)
        z = z if self._basis is None else np.matmul(z, self._basis.T)
        return self._placed(z)

    def aligned(self, x: Float[Array, "n d"]) -> "Space":
        if x.ndim != 2 or x.shape[1] != self.dim:
            return super().aligned(x)
        known = concrete(x), concrete(self.scale)
        if known[0] is None or known[1] is None:
            raise ValueError(
                "align must have inputs and a scale that are known, got traced ones: write "
                "rule=Sobol() under jit and grad"
            )
        inputs = known[0].astype(float) * known[1].astype(float)
        basis = np.linalg.svd(inputs, full_matrices=len(inputs) < self.dim)[2].T
        return eqx.tree_at(lambda s: s._basis, self, basis, is_leaf=lambda a: a is None)

    def grid(self, m: int) -> Grid:
        z, masses = hermite(m)
        points, masses = tensor([(z[:, None], masses)] * self.dim)
        return self._placed(points), masses

    def equidistant(self, m: int) -> Grid | None:
        """Of a Gaussian line the trapezoidal rule, whose error for analytic functions falls as
        exp(−2π²/h²) in the distance h of nodes: for 2,047 it is 1/123, and 1/300 of the labels are
        seen; for 511 1/31, and 1/77. Of 511 Gauss–Hermite nodes neighbours are a seventh of a
        standard deviation apart."""
        if self.dim > 1:
            return None
        z = np.linspace(-_TAIL, _TAIL, m)
        masses = np.exp(-(z**2) / 2)
        return self._placed(z[:, None]), masses / masses.sum()

    def _placed(self, z: np.ndarray) -> Any:
        """mean + scale z."""
        mean, scale = held(self.mean), held(self.scale)
        if isinstance(mean, np.ndarray) and isinstance(scale, np.ndarray):
            return mean + scale * z
        mean, scale = (jnp.asarray(a, self.dtype)[None] for a in (mean, scale))
        return mean + scale * jnp.asarray(z, self.dtype)
