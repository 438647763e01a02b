"""Updates, of networks of two layers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from contracts.dynamics import slowing
from limits import (
    BirthDeath,
    Dynamics,
    GradientFlow,
    Langevin,
    MirrorProx,
    Optimiser,
    Update,
    WassersteinFisherRao,
)


class HeavyBall(Update):
    """A user's update: momentum, carried as memory."""

    dynamics: Dynamics
    momentum: float = 0.8

    def memory(self, network):
        return jax.tree.map(jnp.zeros_like, network.increment)

    def step(self, at, network, memory, energy):
        value, velocity = self.dynamics.value_and_velocity(at.time, network, energy)
        change = jax.tree.map(lambda m, v: self.momentum * m + at.step * v, memory, velocity)
        return value, change, change

    def check(self, network, energy):
        self.dynamics.check(network, energy)


class Stepped(NamedTuple):
    """An update, and the batch of its steps."""

    update: Update
    batch: int | None = None

    @property
    def random(self):
        return self.update.random or self.batch is not None


UPDATES = {
    "gradient descent": Stepped(GradientFlow()),
    "SGD": Stepped(GradientFlow([slowing, 1.0]), 2),
    "SGD with masses": Stepped(WassersteinFisherRao(), 2),
    "heavy ball": Stepped(HeavyBall(GradientFlow())),
    "Adam": Stepped(Optimiser(optax.adam(0.05)), 2),
    "mirror prox": Stepped(MirrorProx(WassersteinFisherRao(GradientFlow([slowing, 1.0]))), 2),
    "Langevin": Stepped(Langevin(temperature=1e-4)),
    "birth and death": Stepped(BirthDeath(rate=0.1), 2),
}
