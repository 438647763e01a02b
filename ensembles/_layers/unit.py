"""Shallow models, whose neurons are functions of the input."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._contractions import einsum
from .._promises import traceable
from .layer import Layer, Pullback, check_floating, check_function, shown


class Unit(Layer):
    """A shallow model, ŷ(x) = Σ_k p_k sigma(θ_k, x), with neurons θ of any shape.

    `sigma(theta, x)` gives the outputs (outputs,) of one neuron. It stands for both layers of a
    two-layer network: the first evaluates the neurons, the second averages them without weights.
    Inputs come one at a time, not in batches.
    """

    affine: ClassVar[bool] = False
    sigma: Callable[[Array, Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        remedy = "Unit(lambda theta, x: jnp.tanh(theta @ x)[None])"
        check_function("sigma", self.sigma, remedy, "a neuron and an input", 2)

    def first(self, w: Array, b: Array | None, x: Array) -> Array:
        over_data = jax.vmap(self.sigma, (None, 0))
        with traceable("sigma"):
            h = jax.vmap(over_data, (0, None), 1)(w, x)
        check_floating("sigma", h)
        if h.ndim < 3:
            raise ValueError(
                "sigma must return an array (outputs,) for one neuron and one input, got a scalar: "
                "write jnp.tanh(theta @ x)[None] for one output, and keep y (n, outputs)"
            )
        return h

    def forward(
        self, masses: Array, w: Array | None, b: Array | None, h: Float[Array, "batch n outputs"]
    ) -> Float[Array, "batch outputs"]:
        return einsum("k,xk...->x...", masses, h)

    def pullback(
        self, masses: Array, w: Any, b: Any, h: Array, d: Array, masses_out: Array
    ) -> Pullback:
        return None, None, jnp.broadcast_to(d[:, None], h.shape)

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        if (w is not None) != first:
            wanted = "a function of the label" if first else "None"
            raise ValueError(
                f"{name} must be {wanted} for a Unit layer: write weights=(theta, None)"
            )

    def check_bias(self, name: str) -> None:
        raise ValueError(
            f"{name} must be None, got biases, which a Unit has none of: put them into theta, "
            "Unit(lambda theta, x: jnp.tanh(theta[:-1] @ x + theta[-1])[None])"
        )

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return None

    def __repr__(self) -> str:
        return f"Unit({shown(self.sigma)})"


def position(theta: Array, x: Array) -> Array:
    """The unit of particles, which are where they are whatever the input."""
    return theta
