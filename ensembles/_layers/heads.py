"""Attention heads as neurons, and normalised streams."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._contractions import matmul
from .layer import check_function, shown
from .stream_units import StreamUnit, as_unit

Tokens = Float[Array, "tokens D"]


def attention(theta: Float[Array, "4 r D"], h: Tokens) -> Tokens:
    """A softmax head with θ = (Q, K, V, O), each (r, D): A (h Vᵀ) O, A the softmax over tokens of
    (h Qᵀ)(h Kᵀ)ᵀ/√r."""
    return _read(jax.nn.softmax(_scores(theta, h)), theta, h)


def causal_attention(theta: Float[Array, "4 r D"], h: Tokens) -> Tokens:
    """`attention` of each token to itself and those before it."""
    scores = _scores(theta, h)
    seen = jnp.tril(jnp.ones(scores.shape, bool))
    return _read(jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)), theta, h)


def linear_attention(theta: Float[Array, "4 r D"], h: Tokens) -> Tokens:
    """A head without softmax: A = (h Qᵀ)(h Kᵀ)ᵀ/T over T tokens."""
    a = matmul(matmul(h, theta[0].T), matmul(h, theta[1].T).T) / h.shape[0]
    return _read(a, theta, h)


def _scores(theta: Array, h: Array) -> Array:
    return matmul(matmul(h, theta[0].T), matmul(h, theta[1].T).T) / jnp.sqrt(
        jnp.asarray(theta.shape[1], h.dtype)
    )


def _read(a: Array, theta: Array, h: Array) -> Array:
    return matmul(matmul(a, matmul(h, theta[2].T)), theta[3])


_LEAST = 1e-6  # beside mean squares, as is usual


def rms_norm(h: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """h / √(mean h² + 1e-6) over the last axis."""
    return h * jax.lax.rsqrt((h**2).mean(-1, keepdims=True) + _LEAST)


def layer_norm(h: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """`rms_norm` of h less its mean over the last axis."""
    return rms_norm(h - h.mean(-1, keepdims=True))


class Normalised(StreamUnit):
    """Neurons σ(θ, norm(h)), which see a normalised stream: `Normalised(attention, layer_norm)`."""

    unit: StreamUnit = eqx.field(static=True)
    norm: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        sigma: Callable[[Array, Array], Array] | StreamUnit,
        norm: Callable[[Array], Array],
    ):
        self.unit = as_unit(sigma)
        check_function("norm", norm, "Normalised(sigma, layer_norm)")
        self.norm = norm

    def average(self, theta: Array, masses: Float[Array, " n"], h: Array) -> Array:
        return self.unit.average(theta, masses, self.norm(h))

    def pullback(
        self, theta: Array, masses: Float[Array, " n"], h: Array, d: Array
    ) -> tuple[Array, Array]:
        seen, back = jax.vjp(self.norm, h)
        dtheta, dseen = self.unit.pullback(theta, masses, seen, d)
        return dtheta, back(dseen)[0]

    def __repr__(self) -> str:
        return f"Normalised({self.unit!r}, {shown(self.norm)})"
