"""Perceptrons on streams, whose sums over neurons are products of matrices."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._contractions import einsum, matmul, tensordot
from .._promises import entrywise
from .layer import check_function, shown
from .stream_units import StreamUnit


class Perceptron(StreamUnit):
    """σ(θ, h) = u activation(w · h + b) with θ = (w, b, u), on the last axis of streams
    (..., D): neurons are arrays (2 D + 1,), `jnp.concatenate([w, b[None], u])`; without b of
    2 D. No array (batch, n, D) is formed.

    `activation` maps arrays entry by entry: raises `ValueError` for others.
    """

    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_function("activation", self.activation, "Perceptron(jnp.tanh)")
        entrywise("activation", self.activation)

    def average(self, theta: Array, masses: Float[Array, " n"], h: Array) -> Array:
        w, b, u = _parts(theta, h)
        return matmul(_each(self.activation(_seen(w, b, h)), masses), u)

    def pullback(
        self, theta: Array, masses: Float[Array, " n"], h: Array, d: Array
    ) -> tuple[Array, Array]:
        w, b, u = _parts(theta, h)
        a, back = jax.vjp(self.activation, _seen(w, b, h))
        (da,) = back(tensordot(d, u, [[-1], [-1]]))
        dw, du = einsum("...k,...d->kd", da, h), einsum("...k,...d->kd", a, d)
        db = da.reshape(-1, da.shape[-1]).sum(0)[:, None]
        parts = [dw, du] if b is None else [dw, db, du]
        return jnp.concatenate(parts, axis=1), matmul(_each(da, masses), w)

    def __repr__(self) -> str:
        return f"Perceptron({shown(self.activation)})"


def _parts(theta: Array, h: Array) -> tuple[Array, Array | None, Array]:
    """(w, b, u) of perceptrons on streams `h`, b None where they have none."""
    d = h.shape[-1]
    if theta.ndim != 2 or theta.shape[1] not in (2 * d, 2 * d + 1):
        raise ValueError(
            f"theta must give neurons ({2 * d + 1},), (w, b, u), or ({2 * d},), (w, u), of a "
            f"Perceptron on streams (..., {d}), got {theta.shape[1:]}: write "
            "jnp.concatenate([w, b[None], u])"
        )
    b = theta[:, d] if theta.shape[1] > 2 * d else None
    return theta[:, :d], b, theta[:, -d:]


def _seen(w: Array, b: Array | None, h: Array) -> Array:
    a = tensordot(h, w, [[-1], [-1]])
    return a if b is None else a + _along_last(b, a)


def _each(a: Array, masses: Array) -> Array:
    """Activations (..., n) times the masses of their neurons."""
    return a * _along_last(masses, a)


def _along_last(b: Array, a: Array) -> Array:
    return b.reshape((1,) * (a.ndim - 1) + (-1,))


class GatedPerceptron(StreamUnit):
    """σ(θ, h) = u (v · h) activation(w · h) with θ = (w, v, u), on the last axis of streams
    (..., D): neurons are arrays (3 D,), `jnp.concatenate([w, v, u])`. With SiLU it is SwiGLU
    (Shazeer, arXiv:2002.05202). No array (batch, n, D) is formed.

    `activation` maps arrays entry by entry: raises `ValueError` for others.
    """

    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_function("activation", self.activation, "GatedPerceptron(jax.nn.silu)")
        entrywise("activation", self.activation)

    def average(self, theta: Array, masses: Float[Array, " n"], h: Array) -> Array:
        w, v, u = _three(theta, h)
        a = self._gated(_seen(w, None, h), _seen(v, None, h))
        return matmul(_each(a, masses), u)

    def pullback(
        self, theta: Array, masses: Float[Array, " n"], h: Array, d: Array
    ) -> tuple[Array, Array]:
        w, v, u = _three(theta, h)
        a, back = jax.vjp(self._gated, _seen(w, None, h), _seen(v, None, h))
        da, dgate = back(tensordot(d, u, [[-1], [-1]]))
        pairs = (da, h), (dgate, h), (a, d)
        dtheta = [einsum("...k,...d->kd", *pair) for pair in pairs]
        dh = matmul(_each(da, masses), w) + matmul(_each(dgate, masses), v)
        return jnp.concatenate(dtheta, axis=1), dh

    def _gated(self, a: Array, gate: Array) -> Array:
        return self.activation(a) * gate

    def __repr__(self) -> str:
        return f"GatedPerceptron({shown(self.activation)})"


def _three(theta: Array, h: Array) -> tuple[Array, Array, Array]:
    """(w, v, u) of gated perceptrons on streams `h`."""
    d = h.shape[-1]
    if theta.ndim != 2 or theta.shape[1] != 3 * d:
        raise ValueError(
            f"theta must give neurons ({3 * d},), (w, v, u), of a GatedPerceptron on streams "
            f"(..., {d}), got {theta.shape[1:]}: write jnp.concatenate([w, v, u])"
        )
    return theta[:, :d], theta[:, d : 2 * d], theta[:, 2 * d :]
