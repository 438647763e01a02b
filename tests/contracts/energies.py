"""Energies, of networks of two outputs for inputs in R², and losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from models import regression

from contracts.layers import neuron
from ensembles import Gauss, Symmetry, Uniform
from ensembles.groups import cyclic, defining, trivial
from limits import (
    CrossEntropyLoss,
    Data,
    Derivatives,
    Energy,
    Game,
    HuberLoss,
    Interaction,
    LogisticLoss,
    PathNorm,
    Penalty,
    PowerPenalty,
    Risk,
    SquaredLoss,
)
from limits.symmetries import EquivariantArchitecture, FeatureAveraging


def quartic(prediction, y):
    """A user's loss."""
    return ((prediction - y) ** 4).sum() / 4


def target(x):
    return jnp.stack([jnp.sin(x[0] * x[1]), jnp.cos(x[0])])


def weighted(targets: Callable[[jax.Array], jax.Array]) -> Data:
    """Six points of unequal masses."""
    data = regression(6, outputs=2)
    return Data(data.x, targets(data.y), jnp.arange(1.0, 7.0) / 21)


SWAP = Symmetry(cyclic(2), inputs=defining, outputs=defining, neurons=trivial(1))
ENERGIES: dict[str, Energy] = {
    "risk": Risk(weighted(lambda y: y)),
    "Huber risk": Risk(weighted(lambda y: y), HuberLoss(0.4)),
    "logistic risk": Risk(weighted(lambda y: jnp.where(y > 0, 1.0, -1.0)), LogisticLoss()),
    "cross-entropy": Risk(weighted(lambda y: jax.nn.softmax(3 * y)), CrossEntropyLoss()),
    "risk of a user's loss": Risk(weighted(lambda y: y), quartic),
    "risk of a population": Risk(
        Data.from_space(Uniform(jnp.array([-1.0, -1.0]), 1.0), target, 64, Gauss())
    ),
    "feature averaging": Risk(weighted(lambda y: y), prediction=FeatureAveraging(SWAP)),
}
PARTICLES: dict[str, Energy] = {
    "equivariant architecture": Risk(
        weighted(lambda y: y), prediction=EquivariantArchitecture(SWAP)
    ),
    "potentials of data": Interaction.from_data(neuron, weighted(lambda y: y)),
    "penalised risk": Risk(weighted(lambda y: y)) + PowerPenalty(0.1, 1.5),
    "penalty and risk": PowerPenalty(0.1, 1.5) + Risk(weighted(lambda y: y)),
}


def bowl(theta):
    """A user's penalty."""
    return (theta**4).sum() / 4


class Tug(Energy):
    """A user's energy, ½ |∫ θ dμ|²: the mean of the neurons is pulled to 0."""

    def _mean(self, network):
        return network.masses[0] @ network.points(0)

    def __call__(self, network):
        return (self._mean(network) ** 2).sum() / 2

    def derivatives(self, network, *, variation=False):
        mean = self._mean(network)
        points, back = jax.vjp(lambda p: p.rows(0), network.parameters)
        gradient = back(jnp.broadcast_to(mean, points.shape))[0].still()
        return Derivatives(self(network), gradient, self.by_masses(network) if variation else None)

    def outputs(self, network):
        return self._mean(network)[None]

    def size(self, outputs):
        return jnp.sqrt((outputs**2).mean((-2, -1)))

    def stationarity(self, network):
        return jnp.sqrt((self._mean(network) ** 2).sum())

    def draw(self, batch, key):
        return self

    def check(self, network, batch=None):
        assert network.depth == 2


PARTICLES["a user's energy"] = Tug()
PARTICLES["penalty"] = PowerPenalty(0.1, 1.5)
PARTICLES["a user's penalty"] = Penalty(bowl)
NORMS: dict[str, Energy] = {
    "path norm": PathNorm(0.3),
    "risk and path norm": Risk(weighted(lambda y: y)) + PathNorm(0.3),
}
GAMES: dict[str, Energy] = {"bilinear game": Game(jnp.dot)}  # of players, in `test_games.py`
LOSSES = (SquaredLoss, HuberLoss, LogisticLoss, CrossEntropyLoss)
