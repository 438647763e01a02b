"""Dynamics, of networks of three layers, and rates that freeze a layer or do not fit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ensembles import Parameters
from limits import Dynamics, FisherRao, GradientFlow, WassersteinFisherRao


def slowing(t):
    """A schedule."""
    return 1 / (1 + t)


class Motion(NamedTuple):
    """A dynamics, and whether the energy falls along it."""

    dynamics: Dynamics
    descends: bool = True


class Damped(Dynamics):
    """A user's dynamics: weights descend at a speed that saturates."""

    def value_and_velocity(self, t, network, energy):
        value, gradient, _ = energy.derivatives(network)
        return value, jax.tree.map(lambda g: -g / (1 + jnp.abs(g)), gradient)

    def check(self, network, energy):
        energy.check(network)


DYNAMICS = {
    "gradient flow": Motion(GradientFlow()),
    "a user's dynamics": Motion(Damped()),
    "scheduled gradient flow with decay": Motion(
        GradientFlow([slowing, 0.5, 2.0], weight_decay=0.1), descends=False
    ),
    "Fisher–Rao": Motion(FisherRao([slowing, 0.5])),
    "Wasserstein–Fisher–Rao": Motion(
        WassersteinFisherRao(GradientFlow([1.0, slowing, 0.5]), rate=0.7)
    ),
}


class Still(NamedTuple):
    """A dynamics with rates of 0, and the part of a velocity that they stop."""

    dynamics: Dynamics
    part: Callable[[Parameters], Any]


FROZEN = {
    "first layer": Still(GradientFlow([0.0, 1.0, 1.0]), lambda v: (v.weights[0], v.biases[0])),
    "last layer": Still(GradientFlow([slowing, 1.0, 0.0]), lambda v: (v.weights[2], v.biases[2])),
    "decay of a frozen layer": Still(
        GradientFlow([1.0, 0.0, 1.0], weight_decay=0.1), lambda v: (v.weights[1], v.biases[1])
    ),
    "masses of one layer": Still(
        FisherRao([0.0, 1.0]), lambda v: (v.growth[0], v.weights, v.biases)
    ),
    "one layer's masses beside transport": Still(
        WassersteinFisherRao(rate=[1.0, 0.0]), lambda v: v.growth[1]
    ),
    "transport of one layer beside masses": Still(
        WassersteinFisherRao(GradientFlow([1.0, 0.0, 1.0])), lambda v: (v.weights[1], v.biases[1])
    ),
}

BAD_RATES = {
    "two learning rates": (lambda: GradientFlow([1.0, 1.0]), "learning_rates"),
    "a negative learning rate": (lambda: GradientFlow([1.0, -1.0, 1.0]), "learning_rates"),
    "an infinite learning rate": (lambda: GradientFlow(jnp.inf), "learning_rates"),
    "negative decay": (lambda: GradientFlow(weight_decay=-0.1), "weight_decay"),
    "three rates of masses": (lambda: FisherRao([1.0, 1.0, 1.0]), "rate"),
    "a negative rate": (lambda: FisherRao(-1.0), "rate"),
    "no rate": (lambda: FisherRao([]), "rate"),
    "rates of masses beside transport": (lambda: WassersteinFisherRao(rate=[1.0] * 3), "rate"),
    "a negative rate beside transport": (lambda: WassersteinFisherRao(rate=[1.0, -1.0]), "rate"),
    "rates of transport": (
        lambda: WassersteinFisherRao(GradientFlow([1.0] * 4)),
        "learning_rates",
    ),
}
