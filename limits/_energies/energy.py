"""Energies: functions of a network with a derivative per unit mass and a first variation."""

import abc
from functools import partial, reduce
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ensembles import Network, Parameters
from ensembles.internal import Family, kind

from .._keys import TERMS, reserved
from .domain import Domain

Variation = tuple[Float[Array, " n"], ...]


class Derivatives(NamedTuple):
    """An energy at a network, and its derivatives.

    - `value`: a scalar.
    - `gradient`: the derivative per unit mass, with the shapes of `network.parameters`, without
      growth.
    - `variation`: Ψ_i = δE/δP_i at every neuron of each hidden layer, arrays (N_i,), up to a
      constant: the derivative in a neuron's mass, others fixed. It exists at mass 0 and is not
      centred. None where it was not asked for.
    """

    value: Float[Array, ""]
    gradient: Parameters
    variation: Variation | None

    def varied(self, energy: "Energy") -> Variation:
        """The first variation, which was asked for."""
        if self.variation is None:
            raise ValueError(
                f"{type(energy).__name__}.derivatives must give the first variation where it is "
                "asked for, got None: write Derivatives(value, gradient, self.by_masses(network) "
                "if variation else None)"
            )
        return self.variation


class Energy(Family):
    """What a dynamics descends: a value, its derivatives, and random approximations of it.

    A subclass gives `__call__` and `derivatives`, which are what runs need; `outputs`, `size` and
    `stationarity`, by which limits and studies measure; `draw` and `check`; a `domain` where
    neurons are confined to a space; and `with_finer_data` where it holds nodes of a population.
    `docs/howto/data.md` has a complete one.
    """

    takes: ClassVar[str | None] = None  # the one kind of network that it is an energy of

    @abc.abstractmethod
    def __call__(self, network: Network) -> Float[Array, ""]:
        """The value at `network`."""

    @abc.abstractmethod
    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        """The value, the derivative per unit mass, and with `variation` the first variation
        (`by_masses(network)` where there is no shorter way)."""

    @eqx.filter_jit
    def first_variation(self, network: Network) -> Variation:
        """Ψ_i = δE/δP_i at every neuron of each hidden layer, as in `Derivatives`. Raises
        `ValueError` for a network that does not fit."""
        kind("network", network, Network, "write ensemble.sample(64, key=key), or .final of a run")
        self.check(network)
        return self.derivatives(network, variation=True).varied(self)

    def by_masses(self, network: Network) -> Variation:
        """The first variation as the derivative of the value in every mass."""
        slopes = jax.grad(lambda p: self(network.weighed(p)))(network.masses)
        return tuple(g / share for g, share in zip(slopes, network.shares, strict=True))

    @property
    def domain(self) -> Domain:
        """Where neurons live."""
        return Domain()

    @property
    def takes_factors(self) -> bool:
        """Whether the derivative is one that layers pull back, as factors where weights have some;
        nothing is projected then."""
        return False

    def samples(self, network: Network) -> int:
        """At how many inputs, or beside how many others, every neuron is evaluated: what limits
        reckon their work by."""
        return 1

    @property
    def inputs(self) -> Float[Array, "n d"] | None:
        """The inputs of the networks, where they are vectors."""
        return None

    def with_finer_data(self) -> "Energy | None":
        """The same energy with more nodes of its population; None where data are all there is."""
        return None

    @abc.abstractmethod
    def outputs(self, network: Network) -> PyTree[Array]:
        """What the energy depends on, an array or a tree of arrays; limits are compared in it."""

    @abc.abstractmethod
    def size(self, outputs: Any) -> Float[Array, "..."]:
        """The root mean square of (differences of) outputs, by the masses of the data; leading axes
        are kept."""

    def by_term(self, outputs: Any) -> list[tuple["Energy", Any]]:
        """The energies that it is a sum of, each with its part of `outputs`."""
        return [(self, outputs)]

    @abc.abstractmethod
    def stationarity(self, network: Network) -> Float[Array, ""]:
        """The root mean square of the energy's derivative in the outputs; 0 when no change of the
        outputs lowers it to first order."""

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        """Raise `ValueError` unless the energy is convex in the measure of neurons, as far as
        `network` and neurons `points` show."""
        raise ValueError(
            f"energy must be convex in the measure for a bound, and {type(self).__name__} does not "
            "say: give it `check_convex`"
        )

    def check_noisy(self) -> None:
        """Raise `ValueError` where it sees more of weights between hidden layers than their mean
        given the labels: a limit keeps no more of weights that have noise of their own."""

    @abc.abstractmethod
    def draw(self, batch: int, key: PRNGKeyArray) -> "Energy":
        """An unbiased estimate of this energy from `batch` random samples; itself where there is
        nothing to sample."""

    @abc.abstractmethod
    def check(self, network: Network, batch: int | None = None) -> None:
        """Raise `ValueError` when the network, or a batch of that size, does not fit."""

    def __add__(self, other: "Energy") -> "Energy":
        remedy = "write Risk(data) + PowerPenalty(1e-3), or + Penalty(lambda theta: ...)"
        kind("other", other, Energy, remedy)
        return Total((*self.summands(), *other.summands()))

    def summands(self) -> tuple["Energy", ...]:
        """The energies that it is a sum of: itself alone."""
        return (self,)


class Total(Energy):
    """The sum of `terms`: a risk and its penalties, say. Whatever the terms are, value, derivative
    per unit mass and first variation are the sums of theirs.

    Outputs are all of theirs, whose size is the largest, so that a limit of the sum is known in all
    that its terms observe, in any order. Batches of different terms are independent.
    """

    terms: tuple[Energy, ...]

    def __check_init__(self) -> None:
        kinds = {term.takes: type(term).__name__ for term in self.terms if term.takes is not None}
        if len(kinds) > 1:
            raise ValueError(
                "other must be an energy of the same networks, got a sum of "
                + " and ".join(f"{name} (of {of})" for of, name in kinds.items())
                + ": write a penalty of players as a loss of the game, and a risk alone"
            )
        _ = self.domain  # one for all

    def summands(self) -> tuple[Energy, ...]:
        return self.terms

    def __call__(self, network: Network) -> Float[Array, ""]:
        return reduce(jnp.add, [term(network) for term in self.terms])

    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        found = [term.derivatives(network, variation=variation) for term in self.terms]
        return reduce(partial(jax.tree.map, jnp.add), found)

    @property
    def domain(self) -> Domain:
        return reduce(Domain.shared, [term.domain for term in self.terms])

    def samples(self, network: Network) -> int:
        return sum(term.samples(network) for term in self.terms)

    @property
    def inputs(self) -> Float[Array, "n d"] | None:
        return next((x for x in (term.inputs for term in self.terms) if x is not None), None)

    def with_finer_data(self) -> Energy | None:
        finer = [term.with_finer_data() for term in self.terms]
        if all(term is None for term in finer):
            return None
        return Total(tuple(new or old for new, old in zip(finer, self.terms, strict=True)))

    def outputs(self, network: Network) -> tuple[Any, ...]:
        return tuple(term.outputs(network) for term in self.terms)

    def by_term(self, outputs: tuple[Any, ...]) -> list[tuple[Energy, Any]]:
        return list(zip(self.terms, outputs, strict=True))

    def size(self, outputs: tuple[Any, ...]) -> Float[Array, "..."]:
        return reduce(jnp.maximum, [term.size(seen) for term, seen in self.by_term(outputs)])

    def stationarity(self, network: Network) -> Float[Array, ""]:
        return reduce(jnp.hypot, [term.stationarity(network) for term in self.terms])

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        for term in self.terms:
            term.check_convex(network, points)

    def check_noisy(self) -> None:
        for term in self.terms:
            term.check_noisy()

    def draw(self, batch: int, key: PRNGKeyArray) -> Energy:
        others = jax.random.split(reserved(key, TERMS), len(self.terms) - 1)
        pairs = zip(self.terms, [key, *others], strict=True)
        return Total(tuple(term.draw(batch, k) for term, k in pairs))

    def check(self, network: Network, batch: int | None = None) -> None:
        for term in self.terms:
            term.check(network, batch)


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
    return energy.domain.downhill(network, energy.derivatives(network).gradient)
