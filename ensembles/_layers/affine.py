"""The standard model: products of weights and activations."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._network.factors import outer, times, times_transposed
from .._promises import entrywise
from .layer import Layer, Pullback, check_function, shown


class Affine(Layer):
    """The standard model with biases, φ(w, b, h) = w · activation(h) + b.

    The first layer is H_1 = w_1 · x + b_1 and the outputs are H_L: the activation acts on the
    preactivations H_1, …, H_{L-1}, so one `Affine(tanh)` describes a whole network with linear
    outputs. No array of shape (batch, N, N) is formed.

    `activation` maps arrays entry by entry: raises `ValueError` for others (`jax.nn.softmax`,
    normalisation, gates), of which a neuron's output depends on the neurons beside it.
    """

    affine: ClassVar[bool] = True
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_function("activation", self.activation, "Affine(jnp.tanh)")
        entrywise("activation", self.activation)

    @property
    def takes_factors(self) -> bool:
        return True

    def first(
        self, w: Float[Array, "n d"], b: Float[Array, " n"] | None, x: Float[Array, "batch d"]
    ) -> Float[Array, "batch n"]:
        return _shift(times_transposed(x, w), b)

    def forward(
        self,
        masses: Float[Array, " n"],
        w: Any,
        b: Float[Array, " m"] | None,
        h: Float[Array, "batch n"],
    ) -> Float[Array, "batch m"]:
        return _shift(times(self.activation(h) * masses[None], w), b)

    def pullback(
        self,
        masses: Float[Array, " n"],
        w: Any,
        b: Float[Array, " m"] | None,
        h: Float[Array, "batch n"],
        d: Float[Array, "batch m"],
        masses_out: Float[Array, " m"],
    ) -> Pullback:
        a, activation_vjp = jax.vjp(self.activation, h)
        db = None if b is None else d.sum(0)
        (dh,) = activation_vjp(times_transposed(d * masses_out[None], w))
        return outer(a, d, w), db, dh

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        wanted = "(d,), one weight per input" if first else "(), a scalar per pair of neurons"
        if w is None or len(w) != (1 if first else 0):
            remedy = "vector-valued weights are for Elementwise layers"
            if first and w == ():
                remedy = "write w[None] for inputs x (batch, 1), jnp.stack([...]) for more of them"
            elif w == (1,):
                remedy = f"labels are arrays (dim,), write w[0]; {remedy}"
            raise ValueError(
                f"{name} must give shape {wanted} for an Affine layer, got {w}: {remedy}"
            )

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return w.shape[-1:]

    def __repr__(self) -> str:
        return f"Affine({shown(self.activation)})"


def _shift(h: Array, b: Array | None) -> Array:
    return h if b is None else h + b[None]
