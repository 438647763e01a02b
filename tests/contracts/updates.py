"""Updates, of networks of two layers."""

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

    @property
    def random(self):
        return False

    def memory(self, network):
        return jax.tree.map(jnp.zeros_like, network.increment)

    def __call__(self, t, step, network, memory, energy, key):
        value, velocity = self.dynamics.value_and_velocity(t, network, energy)
        change = jax.tree.map(lambda m, v: self.momentum * m + step * v, memory, velocity)
        return value, change, change

    def check(self, network, energy, step):
        self.dynamics.check(network, energy)


UPDATES: dict[str, Update] = {
    "gradient descent": GradientFlow(),
    "SGD": SGD(GradientFlow([slowing, 1.0]), batch=2),
    "SGD with masses": SGD(WassersteinFisherRao(), batch=2),
    "heavy ball": HeavyBall(GradientFlow()),
    "Adam": Optimiser(optax.adam(0.05), batch=2),
    "mirror prox": MirrorProx(WassersteinFisherRao(GradientFlow([slowing, 1.0])), batch=2),
    "Langevin": Langevin(temperature=1e-4),
    "birth and death": BirthDeath(SGD(batch=2), rate=0.1),
}
