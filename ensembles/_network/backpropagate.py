"""Derivatives per unit mass, pulled back through the layers of a network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._layers.layer import Layer
from .fits import check_input
from .forward import through
from .network import Network
from .parameters import Parameters

_through = eqx.filter_jit(through)


def backpropagate(
    network: Network, x: Float[Array, "batch ..."]
) -> tuple[Float[Array, "batch outputs"], Callable[[Array], Parameters]]:
    """The outputs at `x`, and the map from derivatives in the outputs to those per unit mass.

    The map takes D (batch, outputs), the derivative of an energy in each output, each output
    counted with mass 1, and pulls it back through the layers (`Layer.pullback`).
    """
    layers = network.layers
    check_input(x, layers[0], network.start.weights[0])
    parameters, each = network.parameters, network.masses
    outputs, passes = _through(layers, parameters, each, x)
    w, b = parameters.weights, parameters.biases

    def pull(d: Float[Array, "batch outputs"]) -> Parameters:
        behind = (*each, jnp.ones(d.shape[1], d.dtype))  # masses of the neurons behind each layer
        parts = (None, *each), w, b, behind
        dw: list[Any] = []
        db: list[Any] = []
        for run, handed in reversed(passes):
            group = layers[run.start : run.start + run.size]
            if run.groups == 1:
                rows = [part[run.start : run.stop] for part in parts]
                d, (own_w, own_b) = _pulled(group, d, (*rows, handed))
            else:
                rows = [run.each(part) for part in parts]
                back = partial(_pulled, group)
                d, stacked = jax.lax.scan(back, d, (*rows, handed), reverse=True)
                own_w, own_b = map(run.entries, stacked)
            dw, db = [*own_w, *dw], [*own_b, *db]
        _, vjp = jax.vjp(lambda w, b: layers[0].first(w, b, x), w[0], b[0])
        first_w, first_b = vjp(d)
        return Parameters((first_w, *dw), (first_b, *db))

    return outputs, pull


def _pulled(layers: Sequence[Layer], d: Any, rows: Any) -> tuple[Any, tuple[Any, Any]]:
    """`d` pulled back through some layers, and their derivatives in weights and in biases."""
    found = []
    for layer, masses, w, b, masses_out, h in reversed(list(zip(layers, *rows, strict=True))):
        dw, db, d = layer.pullback(masses, w, b, h, d, masses_out)
        found.append((dw, db))
    dw, db = zip(*reversed(found), strict=True)
    return d, (dw, db)
