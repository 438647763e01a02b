"""Energies: functions of a network with a derivative per unit mass and a first variation."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import kind


class Energy(eqx.Module):
    """What a dynamics descends: a value, derivatives, and random approximations of it."""

    @abc.abstractmethod
    def __call__(self, network: Network) -> Float[Array, ""]:
        """The value at `network`."""

    @abc.abstractmethod
    def value_and_gradient(self, network: Network) -> tuple[Float[Array, ""], Parameters]:
        """The value and the derivative per unit mass, with the shapes of `network.parameters`."""

    def first_variation(self, network: Network) -> tuple[Float[Array, " n"], ...]:
        """Ψ_i = δE/δP_i at every neuron of each hidden layer, arrays (N_i,), up to a constant.

        The derivative in a neuron's mass, others fixed: it exists at mass 0, and is not centred.
        """
        return self.value_and_first_variation(network)[1]

    def value_and_first_variation(
        self, network: Network
    ) -> tuple[Float[Array, ""], tuple[Float[Array, " n"], ...]]:
        """The value and the first variation."""
        return jax.value_and_grad(lambda p: self(network.weighed(p)))(network.masses)

    def retracted(self, network: Network) -> Network:
        """`network` with neurons brought back to where they live, when a step has left it."""
        return network

    def tangent(self, network: Network, velocity: Parameters) -> Parameters:
        """The part of a velocity at `network` that leaves neurons where they live."""
        return velocity

    def downhill(self, network: Network, gradient: Parameters) -> Parameters:
        """`gradient` without the part against which a descent would leave where neurons live."""
        way = self.tangent(network, jax.tree.map(jnp.negative, gradient))
        return jax.tree.map(jnp.negative, way)

    def value_gradient_and_variation(
        self, network: Network
    ) -> tuple[Float[Array, ""], Parameters, tuple[Float[Array, " n"], ...]]:
        """The value, the derivative per unit mass and the first variation."""
        return *self.value_and_gradient(network), self.first_variation(network)

    @property
    def takes_factors(self) -> bool:
        """Whether the derivative is one that layers pull back, as factors where weights have some;
        nothing is retracted then."""
        return False

    @property
    def confines(self) -> bool:
        """Whether noise would take neurons from where they live, so that steps have to be
        `retracted`."""
        return False

    @abc.abstractmethod
    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        """What the energy sees of the network; limits are compared in it."""

    @abc.abstractmethod
    def size(self, outputs: Float[Array, "... n outputs"]) -> Float[Array, "..."]:
        """The root mean square of (differences of) outputs, by the masses of the data."""

    @abc.abstractmethod
    def stationarity(self, network: Network) -> Float[Array, ""]:
        """The root mean square of the energy's derivative in the outputs; 0 when no change of the
        outputs lowers it to first order."""

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        """Raise `ValueError` unless the energy is convex in the measure of neurons, as far as can
        be seen at `network` and at neurons `points`."""
        raise ValueError(
            f"energy must be convex in the measure for a bound, and {type(self).__name__} does not "
            "say: give it `check_convex`"
        )

    @abc.abstractmethod
    def draw(self, batch: int, key: PRNGKeyArray) -> "Energy":
        """An unbiased estimate of this energy from `batch` random samples."""

    @abc.abstractmethod
    def check(self, network: Network, batch: int | None = None) -> None:
        """Raise `ValueError` when the network, or a batch of that size, does not fit."""

    def __add__(self, other: "Energy") -> "Energy":
        kind("other", other, Energy, "write Risk(data) + PathNorm(1e-3)")
        return Total(self, other)


def aside(key: PRNGKeyArray, n: int) -> PRNGKeyArray:
    """The child of a key, from its last ones, that no split of it has: children 0, 1, … are those
    of `jax.random.split`, which whatever draws with the key may take."""
    return jax.random.fold_in(key, 2**31 - 1 - n)


class Total(Energy):
    """`first` + `second`: a risk with a penalty, say. Outputs are those of the first."""

    first: Energy
    second: Energy

    def __call__(self, network: Network) -> Float[Array, ""]:
        return self.first(network) + self.second(network)

    def value_and_gradient(self, network: Network) -> tuple[Float[Array, ""], Parameters]:
        (a, slope), (b, other) = (
            energy.value_and_gradient(network) for energy in (self.first, self.second)
        )
        return a + b, jax.tree.map(jnp.add, slope, other)

    def retracted(self, network: Network) -> Network:
        return self.second.retracted(self.first.retracted(network))

    def tangent(self, network: Network, velocity: Parameters) -> Parameters:
        return self.second.tangent(network, self.first.tangent(network, velocity))

    @property
    def confines(self) -> bool:
        return self.first.confines or self.second.confines

    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        return self.first.outputs(network)

    def size(self, outputs: Float[Array, "... n outputs"]) -> Float[Array, "..."]:
        return self.first.size(outputs)

    def stationarity(self, network: Network) -> Float[Array, ""]:
        return self.first.stationarity(network)

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        self.first.check_convex(network, points)
        self.second.check_convex(network, points)

    def draw(self, batch: int, key: PRNGKeyArray) -> Energy:
        return Total(self.first.draw(batch, key), self.second.draw(batch, aside(key, 1)))

    def check(self, network: Network, batch: int | None = None) -> None:
        self.first.check(network, batch)
        self.second.check(network, batch)


@eqx.filter_jit
def mean_field_gradient(network: Network, energy: Energy) -> Parameters:
    """The derivative of `energy` in every weight and bias, per unit mass.

    It is the ordinary gradient divided by the masses p_{i-1} p_i of weights and p_i of biases (Δ
    in Nguyen & Pham, arXiv:2001.11443), and exists at mass 0: a tracer's is the velocity that the
    limit gives to its label, up to sign. Shapes are those of `network.parameters`. Raises
    `ValueError` when network and energy do not fit.
    """
    kind("network", network, Network, "write ensemble.sample(64, key=key), or .final of a run")
    kind("energy", energy, Energy, "write Risk(data)")
    energy.check(network)
    return energy.downhill(network, energy.value_and_gradient(network)[1])
