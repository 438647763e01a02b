"""Ready-made ensembles."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from ._ensemble import NeuronalEnsemble
from ._layers import Unit
from ._measures import Measure
from ._network import Network, Parameters
from ._spaces import Space


def shallow(
    sigma: Callable[[Array, Array], Array], neurons: Space | Measure
) -> NeuronalEnsemble | Network:
    """The shallow model ŷ(x) = E sigma(θ, x), whose labels are the neurons θ themselves.

    `sigma(theta, x)` gives (outputs,). On a `Space` of neurons this is an ensemble, on a
    `Measure` the network with these neurons and masses.
    """
    if isinstance(neurons, Measure):
        start = Parameters((neurons.points, None), (None, None))
        return Network((Unit(sigma),) * 2, (neurons.points,), (neurons.masses,), start)
    return NeuronalEnsemble((neurons,), (jnp.asarray, None), layers=Unit(sigma))
