"""Solutions of a limit on sets of nodes, and how much they cost."""

import dataclasses
from collections.abc import Sequence

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Rule, Space

from .._dynamics.dynamics import Dynamics
from .._energies.energy import Energy
from .adaptive import Adaptive
from .apart import Apart, between
from .flow import flow
from .nodes import SHARED, Sizes, padded_measures, work
from .progress import Whole
from .time import Observe
from .trajectory import Trajectory

_LONGER = 8  # times as long is the next shape that several levels share
_COMPILED = 2**29  # numbers that take as long as to compile again
_STEPS = 8  # of the longest length
_LIMITED = 1.5  # times as many, beside those short ones that a run begins with
_STAGES = 6  # evaluations a step, of methods that do not say how many
_LOOSE = 1e-6  # tolerances of random nodes from which on a method of order 3 is as good
ROUNDING = 50  # units of the last place, below which nothing is asked of a solve


@dataclasses.dataclass
class NodalSolves:
    """Flows of an ensemble on nodes in place of its labels. `by_mass` says whether `observe` may be
    given neurons of mass 0; `spent` is how many numbers were computed."""

    ensemble: NeuronalEnsemble
    energy: Energy
    dynamics: Dynamics
    rules: tuple[Rule, ...]
    t1: ArrayLike
    times: ArrayLike | None
    observe: Observe
    by_mass: bool
    solver: Adaptive
    progress: Whole
    spent: float = 0.0
    _steps: float = 16.0  # the most that any solve made
    _shapes: dict[Sizes, Sizes] = dataclasses.field(default_factory=dict)
    _works: dict[Sizes, float] = dataclasses.field(default_factory=dict)

    def drawn(self, sizes: Sizes, key: PRNGKeyArray | None) -> tuple[Measure, ...]:
        return self.ensemble.measures(sizes, self.rules, key=key)

    def solve(
        self,
        measures: Sequence[Measure],
        rtol: float,
        time: int,
        span: tuple[float, float],
        beside: Sizes | None = None,
        energy: Energy | None = None,
    ) -> Trajectory:
        """The flow on these nodes, with the `time`-th longest step; `span` is its part of the
        meter, `beside` the numbers of nodes whose shape it shares, `energy` another to descend."""
        sizes = tuple(len(m.masses) for m in measures)
        if self.by_mass:
            measures = padded_measures(measures, self._shape(sizes if beside is None else beside))
        longest, given = np.asarray(self.t1) / (_STEPS * 2**time), self.solver.max_step
        network = self.ensemble.network(measures)
        rounding = ROUNDING * float(jnp.finfo(network.dtype).eps)
        rtol = max(rtol, rounding)
        method: diffrax.AbstractSolver = diffrax.Tsit5()
        if rtol >= _LOOSE and any(rule.random for rule in self.rules):
            method = diffrax.Bosh3()  # half the evaluations and a third of the memory
        solver = dataclasses.replace(
            self.solver,
            method=method if self.solver.method is None else self.solver.method,
            rtol=rtol,
            atol=rtol * scale if (scale := _largest(network)) > 0 else None,
            max_step=longest if given is None else np.minimum(longest, given),
        )
        run = flow(
            network, self.energy if energy is None else energy, self.dynamics, t1=self.t1,
            times=self.times, observe={"outputs": self.energy.outputs, "observed": self.observe},
            solver=solver, adjoint=diffrax.ForwardMode(), progress=self.progress.stretch(*span),
            throw=False,
        )  # fmt: skip
        steps = float(run.stats["steps"])
        self._steps = max(self._steps, steps)
        self.spent += _evaluations(solver) * steps * self.work(sizes)
        return dataclasses.replace(run, stats={**run.stats, "nodes": sizes}).raise_if_failed()

    def limited(self, run: Trajectory, time: int) -> bool:
        """Whether a run with the `time`-th longest step made hardly more steps than it allows."""
        return float(run.stats["steps"]) < _LIMITED * _STEPS * 2**time

    def apart(self, run: Trajectory, *others: Trajectory) -> Apart:
        return between(self.energy, run, *others)

    def work(self, sizes: Sizes) -> float:
        """About how many numbers one evaluation takes on so many nodes."""
        if sizes not in self._works:
            self._works[sizes] = work(self.ensemble, self.energy, sizes)
        return self._works[sizes]

    def _shape(self, sizes: Sizes) -> Sizes:
        """The numbers of nodes to which `sizes` are padded to share a compilation with other
        levels, where that costs less than to compile again: with twice the steps there were."""

        def longer(n: int, space: Space, rule: Rule) -> int:
            if not space.axes or rule.random:
                return n
            padded = SHARED
            while padded < n:
                padded *= _LONGER
            return padded

        if sizes not in self._shapes:
            each = zip(sizes, self.ensemble.spaces, self.rules, strict=True)
            padded = tuple(longer(*one) for one in each)
            more = self.work(padded) - self.work(sizes)
            worth = max(padded) <= SHARED or more * _STAGES * 2 * self._steps <= _COMPILED
            self._shapes[sizes] = padded if worth else sizes
        return self._shapes[sizes]


def _evaluations(solver: Adaptive) -> int:
    """Of the velocity, in a step; the last of a step is often the first of the next."""
    tableau = getattr(solver.method, "tableau", None)
    if not isinstance(tableau, diffrax.ButcherTableau):
        return _STAGES
    return tableau.num_stages - bool(tableau.fsal)


def _largest(network: Network) -> float:
    """The size of the initial weights of the layer where they are largest. Steps need not resolve a
    neuron near 0 beside it, which may be the node of a kink."""
    leaves = map(np.asarray, jax.tree.leaves(network.start))
    return max(float(np.sqrt(np.mean(leaf**2))) for leaf in leaves)
