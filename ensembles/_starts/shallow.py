"""Ensembles without layers between neurons: shallow models, particles, players."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from .._checks import kind
from .._ensemble import NeuronalEnsemble
from .._layers.player import Player
from .._layers.unit import Unit, position
from .._measures import Measure
from .._spaces.space import Space


def shallow(sigma: Callable[[Array, Array], Array], neurons: Space) -> NeuronalEnsemble:
    """The shallow model ŷ(x) = E sigma(θ, x), whose labels are the neurons θ themselves.

    `sigma(theta, x)` gives (outputs,). The network with the neurons and masses of a `Measure` is
    `Network.shallow(sigma, measure)`.
    """
    _space("neurons", neurons, "shallow(sigma, measure)")
    return NeuronalEnsemble((neurons,), (jnp.asarray, None), layers=Unit(sigma))


def particles(positions: Space) -> NeuronalEnsemble:
    """Particles θ for energies without data: `shallow` with the unit σ(θ, x) = θ.

    `sample(n, key=)` are n particles of mass 1/n; the network with the particles and masses of a
    `Measure` is `Network.particles(measure)`.
    """
    _space("positions", positions, "particles(measure)")
    return shallow(position, positions)


def players(*strategies: Space) -> NeuronalEnsemble:
    """Players of a `Game`, each with a distribution of strategies: hidden layer i is player i.

    `sample((n, m), key=)` are n and m strategies of masses 1/n and 1/m; the network with the
    strategies and masses of `Measure`s is `Network.players(*measures)`. Then `measure(i)` is
    that of player i, counted from 0.
    """
    if not strategies:
        raise ValueError("strategies must be one space for each player, got none")
    for space in strategies:
        _space("strategies", space, "players(*measures)")
    k = len(strategies)
    places = (None, *(jnp.asarray,) * (k - 1), None)
    weights = (jnp.asarray, *(None,) * k)
    return NeuronalEnsemble(strategies, weights, places, layers=(Player(),) * (k + 1))


def _space(name: str, value: object, made: str) -> None:
    """Raise `ValueError` unless `value` is a space; of a measure there is a network."""
    network = f"write Network.{made}"
    kind(name, value, Space, network if isinstance(value, Measure) else "write Gaussian(3)")
