"""The 3-spin function on the sphere, and its potentials by Funk–Hecke.

Source: Rotskoff & Vanden-Eijnden (arXiv:1805.00915), whose target it is for a i.i.d. N(0, 1).
"""

import itertools
from collections.abc import Callable
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy import special

from ensembles.internal import count, dot, einsum, floating


class ThreeSpin(eqx.Module):
    """f(x) = Σ_ijk a_ijk x_i x_j x_k / d for x uniform on the sphere of radius √d in R^d.

    With S the symmetric part of `a` (d, d, d) and v_i = Σ_j S_ijj it is f_3 + f_1, spherical
    harmonics of degree 3 and 1, with f_1(x) = 3⟨v, x⟩/(d + 2). Where the entries of a are i.i.d.
    N(0, 1), ‖f‖² is d in the mean. As a target: `Data.from_space(Sphere(d, d**0.5), f, nodes)`.
    """

    S: Float[Array, "d d d"]

    def __init__(self, a: ArrayLike):
        a = floating("a", a, ndim=3)
        if len(set(a.shape)) > 1 or a.shape[0] < 2:
            raise ValueError(
                f"a must have shape (d, d, d) with d at least 2, got {a.shape}: write "
                "jax.random.normal(key, (5, 5, 5))"
            )
        self.S = sum((jnp.transpose(a, p) for p in itertools.permutations(range(3))), 0 * a) / 6

    @property
    def dim(self) -> int:
        return self.S.shape[0]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, "1"]:
        return self._cubic(x)[None]

    @property
    def squared_norm(self) -> Float[Array, ""]:
        """‖f‖² = E f(x)² = (6 |S|² + 9 |v|²) / ((d + 2)(d + 4))."""
        return (6 * (self.S**2).sum() + 9 * (self._trace**2).sum()) / (
            (self.dim + 2) * (self.dim + 4)
        )

    @property
    def parts(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """‖f_3‖² and ‖f_1‖² = 9 |v|²/(d + 2)². Without biases ReLU units depend on f_1 only."""
        linear = 9 * (self._trace**2).sum() / (self.dim + 2) ** 2
        return self.squared_norm - linear, linear

    def force(
        self, h: Callable[[Array], Array], nodes: int = 128
    ) -> Callable[[Float[Array, " d+1"]], Float[Array, ""]]:
        """F(θ) = E[f(x) h(⟨a, x⟩ + b)] of particles θ = (a, b) of shape (d + 1,).

        By Funk–Hecke it is λ_3 f_3(√d a/|a|) + λ_1 f_1(√d a/|a|), λ_k = E[h(√d |a| t + b) P_k(t)]
        over t of density ∝ (1 − t²)^{(d − 3)/2}, P_1 = t, P_3 = ((d + 2) t³ − 3t)/(d − 1), by
        `nodes` Gauss nodes. With 128 the error for tanh is 1e-10 at √d |a| = 20, 1e-4 at 60; for
        ReLU, with a kink off the centre, below √d |a|/nodes². `h` maps a scalar to a scalar.
        """
        if not callable(h):
            raise ValueError(f"h must be a function of a scalar, got {h!r}: write jnp.tanh")
        return _Force(self, h, count("nodes", nodes))

    @property
    def _trace(self) -> Float[Array, " d"]:
        return jnp.trace(self.S, axis1=1, axis2=2)

    def _cubic(self, x: Array) -> Array:
        return einsum("ijk,i,j,k->", self.S.astype(x.dtype), x, x, x) / self.dim


class _Force(eqx.Module):
    """F(θ) = E[f(x) h(⟨a, x⟩ + b)], θ = (a, b)."""

    f: ThreeSpin
    h: Callable[[Array], Array]
    nodes: int = eqx.field(static=True)

    def __call__(self, theta: Array) -> Float[Array, ""]:
        d = self.f.dim
        if theta.shape != (d + 1,):
            raise ValueError(
                f"theta must be a particle (a, b) of shape ({d + 1},), got {theta.shape}: write "
                "jnp.append(a, b)"
            )
        a, b = theta[:-1], theta[-1]
        square = dot(a, a)
        # nearer to 0 than rounding resolves, F is taken as linear along rays, as at a kink
        least = jnp.finfo(a.dtype).eps
        r = jnp.sqrt(d * jnp.maximum(square, least))
        t, weights = (jnp.asarray(x, a.dtype) for x in _gegenbauer(d, self.nodes))
        values = weights * jax.vmap(self.h)(r * t + b)
        first, third = dot(values, t), dot(values, (d + 2) * t**3 - 3 * t) / (d - 1)
        linear, cubic = d * first / r, d**2 * third / r  # f_k(√d a/|a|) are multiples of f_k(a)
        squared = jnp.where(square > 0, square, 1.0)
        f1 = 3 * dot(self.f._trace.astype(a.dtype), a) / (d + 2)
        return linear * f1 + cubic * (self.f._cubic(a) - square * f1 / d) / squared


@cache
def _gegenbauer(d: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes of a coordinate of uniform points on the unit sphere of R^d."""
    t, weights = special.roots_jacobi(nodes, (d - 3) / 2, (d - 3) / 2)
    return t, weights / weights.sum()
