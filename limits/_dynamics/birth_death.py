"""Birth and death of neurons at a fixed number of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ensembles import Network, Parameters, Space
from ensembles.internal import choose, concrete, dot, kind

from .._energies.energy import Energy
from .._keys import JUMPS, reserved
from .dynamics import Dynamics, Moment, Update
from .gradient_flow import GradientFlow
from .schedules import Rates, Schedule, check_schedules, rates_at, schedules, varying

_OFTEN = 0.5  # expected events of a neuron in a step, above which steps are no process in time


class BirthDeath(Update):
    """Steps of `dynamics`, after each of which neurons die and are cloned: no mass moves.

    In a step of size ε a neuron with V = Ψ − ⟨Ψ⟩ > 0 dies with probability 1 − exp(−α V ε), one
    with V < 0 is cloned with probability 1 − exp(−α abs(V) ε). The number of neurons is then
    restored: where there are too many, some are removed, drawn uniformly; where there are too few,
    the places are filled with copies of survivors, or with draws from `prior` where one is given (a
    space of neurons (dim,), of charge 0 if they are not to change the outputs). Large numbers
    follow the `WassersteinFisherRao` flow of rate α; with a prior, neurons are also born where
    there are none. Source: Rotskoff, Jelassi, Bruna & Vanden-Eijnden (arXiv:1902.01843), whose code
    has no ε and does not subtract the mean (their α is α ε here, less the mean).

    `rate` is α, for all hidden layers or one for each (0: no neuron of it dies); in deep networks a
    copy takes all weights from and to its parent. With batches, Ψ is that of another batch. Copies
    of one neuron stay equal until noise separates them: together they are one neuron of larger
    mass.

    A neuron is cloned at most once a step: the expected number of its births, rate · step · (⟨Ψ⟩ −
    Ψ), must be at most 0.5 at the first step (`ValueError` otherwise), and a run stops as diverged
    where it exceeds 1. Births and deaths follow the energy, without the `weight_decay` of the
    dynamics: write it as `Risk(data) + PowerPenalty(...)` if it is to count.

    Neurons have equal masses; tracers do not die and are not cloned. After a jump a label no longer
    names a trajectory, and derivatives through jumps are refused.
    """

    dynamics: Dynamics
    rate: tuple[Array | Schedule, ...]
    prior: Space | None

    def __init__(
        self, dynamics: Dynamics | None = None, rate: Rates = 1.0, prior: Space | None = None
    ):
        self.dynamics = GradientFlow() if dynamics is None else dynamics
        kind("dynamics", self.dynamics, Dynamics, "write BirthDeath(GradientFlow(), rate=1.0)")
        self.rate = schedules("rate", rate, "lets no neuron of a layer die", "hidden layer")
        if prior is not None:
            kind("prior", prior, Space, "write Product(Atoms([[0.0]]), Gaussian(2))")
        self.prior = prior

    @property
    def random(self) -> bool:
        return True

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        return self.dynamics.timed | {"rate": varying(self.rate)}

    def prepare(self, network: Network) -> Network:
        return self.dynamics.prepare(network)

    def step(
        self, at: Moment, network: Network, memory: Any, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        assert at.key is not None
        value, change, memory = self.dynamics.step(at, network, memory, energy)
        network = _no_derivatives(network)
        moved = network.moved(jax.tree.map(jnp.add, network.increment, change))
        moved = energy.domain.project(moved)
        jump = reserved(at.key, JUMPS)
        rates = rates_at(self.rate, network.depth - 1, at.time, network.dtype)
        each = []
        for i, psi in enumerate(at.fresh().first_variation(moved)):
            p = network.initial_masses[i]
            events = _no_derivatives(rates[i] * at.step.astype(p.dtype) * (psi - dot(p, psi)))
            rare = jnp.where(p > 0, -events, 0).max() <= 1  # else it is no process in time any more
            value = jnp.where(rare, value, jnp.nan)
            each.append(offspring(events, p > 0, jax.random.fold_in(jump, i)))
        parents = [parent for parent, _ in each]
        copied = moved.map_neurons(
            lambda i, a, axis: jnp.take(a, parents[i], axis), network.initial_masses
        )
        now = jax.tree.map(jnp.subtract, copied.parameters.still(), network.start)
        after = network.moved(now)
        if self.prior is not None:
            born = self.prior.draw(network.width[0], jax.random.fold_in(jump, 2**16))
            vacant = each[0][1][:, None]
            points = after.points(0)
            after = after.with_points(jnp.where(vacant, born.astype(points.dtype), points))
        return value, jax.tree.map(jnp.subtract, after.increment, network.increment), memory

    def check(self, network: Network, energy: Energy) -> None:
        self.dynamics.check(network, energy)
        check_schedules("rate", self.rate, network.depth - 1, "hidden layers")
        if self.prepare(network).increment.growth is not None:
            raise ValueError(
                "dynamics must not move masses, which birth and death keep equal: write "
                "BirthDeath(GradientFlow()), or WassersteinFisherRao() without BirthDeath"
            )
        if self.prior is not None and (network.depth != 2 or self._dim(network) != self.prior.dim):
            raise ValueError(
                "prior must be a space of the neurons of one hidden layer, of dimension "
                f"{self._dim(network) if network.depth == 2 else '(none: the network is deeper)'}, "
                f"got {self.prior.dim}: write Product(Atoms([[0.0]]), Gaussian(dim - 1)) for charge"
                " 0 first"
            )
        for i, p in enumerate(network.initial_masses):
            known = concrete(p)
            if known is not None and np.ptp(known[known > 0]) > 1e-4 * known.max():
                raise ValueError(
                    f"masses[{i}] must be equal (or 0) for BirthDeath, got some from "
                    f"{known[known > 0].min():.3g} to {known.max():.3g}: write ensemble.sample(n, "
                    "key=key), or measure.resample(n, key=key)"
                )

    def check_step(
        self, network: Network, energy: Energy, step: Float[Array, ""], t0: Float[Array, ""]
    ) -> None:
        rates = rates_at(self.rate, network.depth - 1, t0, network.dtype)
        variation = energy.first_variation(network)
        for rate, psi, p in zip(rates, variation, network.masses, strict=True):
            births = jnp.where(p > 0, dot(p, psi) - psi, 0).max()
            often = concrete(rate * step * births)
            if often is not None and not often <= _OFTEN:
                raise ValueError(
                    f"rate times step must be small: the first step of size {float(step):.3g} has "
                    f"up to {often:.3g} expected births of a neuron: lower rate or step"
                )

    def _dim(self, network: Network) -> int:
        return jax.eval_shape(lambda: network.points(0)).shape[1]


def offspring(
    events: Float[Array, " n"], alive: Bool[Array, " n"], key: PRNGKeyArray
) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """Whose copy stands in every place after births and deaths, and where places were left over.

    `events` > 0 is the expected number of deaths of a neuron, < 0 that of births. Places that are
    not `alive` keep what they have. Places left over get a copy of a survivor, drawn uniformly.
    """
    n = len(events)
    happens, removal, filling = jax.random.split(key, 3)
    chance = -jnp.expm1(-jnp.abs(events))
    happened = alive & (jax.random.uniform(happens, (n,), chance.dtype) < chance)
    stays, cloned = alive & ~(happened & (events > 0)), happened & (events < 0)

    both = jnp.concatenate([stays, cloned])
    lot = jnp.where(both, jax.random.uniform(removal, (2 * n,), chance.dtype), -1)
    lots, order = jax.lax.top_k(lot, n)  # equal lots in the order of their places
    last = alive.sum() - 1
    least, at = lots[last], order[last]
    kept = both & ((lot > least) | ((lot == least) & (jnp.arange(2 * n, dtype=at.dtype) <= at)))
    stays_on, copies = kept[:n], kept[n:]

    free = alive & ~stays_on
    place = jnp.cumsum(free) - 1  # the how-manieth free place
    vacant = free & (place >= copies.sum())
    survivors = jnp.where(stays.any(), stays, alive).astype(chance.dtype)
    fill = choose(survivors / survivors.sum(), n, filling)
    copy = jnp.searchsorted(jnp.cumsum(copies), place, side="right")  # the how-manieth copy
    own = jnp.arange(n)
    parents = jnp.where(
        vacant, fill.astype(own.dtype), jnp.where(free, copy.astype(own.dtype), own)
    )
    return parents, vacant


@jax.custom_jvp
def _no_derivatives(tree: Any) -> Any:
    return tree


@_no_derivatives.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    raise ValueError(
        "births and deaths are jumps, whose derivatives would be wrong: differentiate a flow under "
        "WassersteinFisherRao, of which they are the particles"
    )
