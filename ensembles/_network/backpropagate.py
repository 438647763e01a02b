"""Derivatives per unit mass, pulled back through the layers of a network."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .fits import check_input
from .forward import forward
from .network import Network
from .parameters import Parameters

_forward = eqx.filter_jit(forward)


def backpropagate(
    network: Network, x: Float[Array, "batch ..."]
) -> tuple[Float[Array, "batch outputs"], Callable[[Array], Parameters]]:
    """The outputs at `x`, and the map from derivatives in the outputs to those per unit mass.

    The map takes D (batch, outputs), the derivative of an energy in each output, each output
    counted with mass 1, and pulls it back through the layers (`Layer.pullback`).
    """
    check_input(x, network.layers[0], network.start.weights[0])
    parameters, each = network.parameters, network.masses
    h = _forward(network.layers, parameters, each, x)
    w, b = parameters.weights, parameters.biases

    def pull(d: Float[Array, "batch outputs"]) -> Parameters:
        dw: list[Array | None] = [None] * network.depth
        db: list[Array | None] = [None] * network.depth
        masses_out = jnp.ones(d.shape[1], d.dtype)
        for i in range(network.depth - 1, 0, -1):
            masses = each[i - 1]
            dw[i], db[i], d = network.layers[i].pullback(
                masses, w[i], b[i], h[i - 1], d, masses_out
            )
            masses_out = masses
        _, vjp = jax.vjp(lambda w, b: network.layers[0].first(w, b, x), w[0], b[0])
        dw[0], db[0] = vjp(d)
        return Parameters(tuple(dw), tuple(db))

    return h[-1], pull
