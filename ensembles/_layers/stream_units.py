"""What a block averages: functions of one neuron and a stream, and sums of them over neurons."""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._contractions import tensordot
from .._final import Family
from .._promises import called
from .layer import check_floating, check_function, shown

_BLOCK = 2**22  # entries of contributions that are kept alive at once


class StreamUnit(Family):
    """Neurons σ(θ, h) that read a stream h and add to it, and their sums over neurons.

    A plain function sigma(theta, h) becomes one by `as_unit`; subclasses are those whose sum has a
    shorter way than term by term.
    """

    @abc.abstractmethod
    def average(self, theta: Array, masses: Float[Array, " n"], h: Array) -> Array:
        """Σ_k p_k σ(θ_k, h) of the shape of `h` (batch, ...), for neurons `theta` (n, ...)."""

    @abc.abstractmethod
    def pullback(
        self, theta: Array, masses: Float[Array, " n"], h: Array, d: Array
    ) -> tuple[Array, Array]:
        """(Σ_x d(x) ∂σ/∂θ at every neuron, which is per unit mass, and Σ_k p_k d(x) ∂σ/∂h)."""


class EachNeuron(StreamUnit):
    """Any function sigma(theta, h) of one neuron and one stream, term by term, in blocks of the
    batch that are computed again in derivatives."""

    sigma: Callable[[Array, Array], Array] = eqx.field(static=True)

    def _terms(self, theta: Array, h: Array) -> Array:
        with called(f"sigma must fit a neuron {theta.shape[1:]} and a stream {h.shape}"):
            terms = jax.vmap(self.sigma, (0, None))(theta, h)
        check_floating("sigma", terms)
        return terms

    def average(self, theta: Array, masses: Float[Array, " n"], h: Array) -> Array:
        def one(h: Array) -> Array:
            return tensordot(masses, self._terms(theta, h))

        return jax.lax.map(jax.checkpoint(one), h, batch_size=self._block(theta, h))

    def pullback(
        self, theta: Array, masses: Float[Array, " n"], h: Array, d: Array
    ) -> tuple[Array, Array]:
        size = min(self._block(theta, h), h.shape[0])
        pad = -h.shape[0] % size
        h, d = (jnp.pad(a, [(0, pad)] + [(0, 0)] * (a.ndim - 1), mode="edge") for a in (h, d))
        d = d.at[d.shape[0] - pad :].set(0)

        def one(h: Array, d: Array) -> tuple[Array, Array]:
            def neuron(theta: Array) -> tuple[Array, Array]:
                return jax.vjp(self.sigma, theta, h)[1](d)

            dtheta, dh = jax.vmap(neuron)(theta)
            return dtheta, tensordot(masses, dh)

        def block(total: Array, hd: tuple[Array, Array]) -> tuple[Array, Array]:
            dtheta, dh = jax.vmap(one)(*hd)
            return total + dtheta.sum(0), dh

        blocks = tuple(a.reshape(-1, size, *a.shape[1:]) for a in (h, d))
        dtheta, dh = jax.lax.scan(jax.checkpoint(block), jnp.zeros_like(theta), blocks)
        return dtheta, dh.reshape(-1, *dh.shape[2:])[: h.shape[0] - pad]

    def _block(self, theta: Array, h: Array) -> int:
        """How many streams at once keep at most `_BLOCK` entries alive."""
        terms = jax.eval_shape(self._terms, theta, h[0])
        return max(1, _BLOCK // max(math.prod(terms.shape), theta.size))

    def __repr__(self) -> str:
        return shown(self.sigma)


def as_unit(sigma: Callable[[Array, Array], Array] | StreamUnit) -> StreamUnit:
    """`sigma` as a unit of blocks. Raises `ValueError` unless it is a unit, or a function of a
    neuron and a stream."""
    if isinstance(sigma, StreamUnit):
        return sigma
    remedy = "Block(lambda theta, h: theta[0] * jnp.tanh(theta[1] * h))"
    check_function("sigma", sigma, remedy, "a neuron and a stream", 2)
    return EachNeuron(sigma)
