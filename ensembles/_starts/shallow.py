"""Ensembles without layers between neurons: shallow models, particles, players."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from .._checks import kind
from .._ensemble import NeuronalEnsemble
from .._layers.player import Player
from .._layers.unit import Unit
from .._measures import Measure
from .._network.network import Network
from .._network.parameters import Parameters
from .._spaces.space import Space


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
    kind("neurons", neurons, (Space, Measure), "write Gaussian(3), or Measure(points, masses)")
    return NeuronalEnsemble((neurons,), (jnp.asarray, None), layers=Unit(sigma))


def particles(positions: Space | Measure) -> NeuronalEnsemble | Network:
    """Particles θ for energies without data: `shallow` with the unit σ(θ, x) = θ.

    On a `Space` an ensemble, whose `sample(n, key=)` are n particles of mass 1/n, on a `Measure`
    the network with these particles and masses.
    """
    kind("positions", positions, (Space, Measure), "write Gaussian(3), or Measure(points, masses)")
    return shallow(position, positions)


def players(*strategies: Space | Measure) -> NeuronalEnsemble | Network:
    """Players of a `Game`, each with a distribution of strategies: hidden layer i is player i.

    On `Space`s an ensemble, whose `sample((n, m), key=)` are n and m strategies of masses 1/n and
    1/m, on `Measure`s the network with these strategies and masses. Then `measure(i)` is that of
    player i, counted from 0.
    """
    if not strategies:
        raise ValueError("strategies must be one space or measure for each player, got none")
    first = strategies[0]
    wanted = Measure if isinstance(first, Measure) else Space
    for space in strategies:
        kind("strategies", space, wanted, "write players(Sphere(3), Sphere(3)), or two measures")
    k = len(strategies)
    weights, layers = (None,) * k, (Player(),) * (k + 1)
    if isinstance(first, Measure):
        points = [m.points for m in strategies if isinstance(m, Measure)]
        masses = tuple(m.masses for m in strategies if isinstance(m, Measure))
        start = Parameters((points[0], *weights), (None, *points[1:], None))
        return Network(layers, tuple(points), masses, start)
    spaces = tuple(s for s in strategies if isinstance(s, Space))
    places = (None, *(jnp.asarray,) * (k - 1), None)
    return NeuronalEnsemble(spaces, (jnp.asarray, *weights), places, layers=layers)


def position(theta: Array, x: Array) -> Array:
    return theta
