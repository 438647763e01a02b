"""Whether a function of two particles is symmetric, as the first variation of its energy takes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles.internal import concrete, traced

_GENERIC = 16  # pairs of each kind at which it is looked at both ways


def check_symmetric(K: Callable[[Array, Array], Array], points: Float[Array, "n dim"]) -> None:
    """Raise `ValueError` where K(θ, θ') and K(θ', θ) differ at generic pairs: particles, points
    between two of them and points about them."""
    known = concrete(points)
    if known is None or known.ndim != 2 or traced(K):
        return
    pairs = jnp.asarray(_generic_pairs(known))
    there, back = map(np.asarray, _both_ways(K, pairs))
    finite = np.isfinite(there) & np.isfinite(back)
    apart = np.where(finite, np.abs(there - back), 0)
    size = np.abs(np.where(finite, there, 0)).max()
    if apart.max() > 1e-3 * size:
        i = apart.argmax()
        raise ValueError(
            f"K must be symmetric, got K(θ, θ') = {there[i]:.6g} and K(θ', θ) = {back[i]:.6g} "
            f"at θ = {pairs[0, i]} and θ' = {pairs[1, i]}: "
            "write lambda t, u: (k(t, u) + k(u, t)) / 2"
        )


def _generic_pairs(points: np.ndarray) -> np.ndarray:
    """Pairs (2, m, dim) of points near particles: none of them a reflection of another."""
    rng = np.random.default_rng(0)
    a, b, c, d = points[rng.integers(len(points), size=(4, _GENERIC))]
    s, t = rng.random((2, _GENERIC, 1))
    between = np.stack([a + s * (b - a), c + t * (d - c)])
    size = np.abs(points).max() or 1.0
    about = np.stack([a, b]) + 0.3 * size * rng.standard_normal((2, _GENERIC, points.shape[1]))
    ends = points[[0, -1]][:, None]
    return np.concatenate([ends, between, about], axis=1).astype(points.dtype)


@eqx.filter_jit
def _both_ways(K: Callable[[Array, Array], Array], pairs: Array) -> tuple[Array, Array]:
    """K(θ, θ') and K(θ', θ) of pairs (2, m, dim)."""
    return jax.vmap(K)(pairs[0], pairs[1]), jax.vmap(K)(pairs[1], pairs[0])
