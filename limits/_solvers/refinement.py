"""Levels of nodes: solutions on them, how far each is off, and which layers need more."""

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Rule

from .._dynamics.dynamics import Dynamics
from .._energies.energy import Energy
from .adaptive import Adaptive
from .flow import flow
from .nodes import coarsened, padded_measures, probe_pair, refined, shared
from .progress import Whole
from .start_error import start_error
from .time import Observe
from .trajectory import RESULTS, FailedRun, Trajectory, failure

Sizes = tuple[int, ...]

_RANDOMISATIONS = 5
_LEVELS = 8  # in time, for atoms
_FINEST = 3  # in time, for random nodes, which converge too slowly to need finer steps
ROUNDING = 50  # units of the last place, below which nothing is asked of a solve


class Level(NamedTuple):
    """The solution on nodes of these `sizes`, its `error` (None where there is nothing to compare
    with), and the key that the nodes were drawn with (None where they are not random)."""

    sizes: Sizes
    run: Trajectory
    error: float | None
    key: PRNGKeyArray | None


@dataclasses.dataclass
class Refinement:
    """The limit of an ensemble on finer and finer nodes, until it is known to `target`; `key` that
    of random nodes, None where they are not random. `limit` says how."""

    ensemble: NeuronalEnsemble
    energy: Energy
    dynamics: Dynamics
    rules: tuple[Rule, ...]
    t1: ArrayLike
    times: ArrayLike | None
    observe: Observe
    solver: Adaptive
    target: float
    key: PRNGKeyArray | None
    progress: Whole
    levels: list[Level] = dataclasses.field(default_factory=list)

    def fixed(self, sizes: Sizes) -> Trajectory:
        """The solution on so many nodes, compared with the next coarser ones."""
        before = None
        if self.key is None:
            rougher = coarsened(self.ensemble.spaces, self.rules, sizes)
            before = self._solve(self._drawn(rougher, None), 0, (0.0, 0.5))
        level = self._level(sizes, 1, (0.5, 1.0), before, fixed=True)
        self.levels.append(level)
        return self._returned(level.run, level.error, RESULTS.successful)

    def refined(self, sizes: Sizes, max_nodes: int, throw: bool) -> Trajectory:
        """The solution on as many nodes as it takes, from `sizes` on, at most `max_nodes` in a
        layer; raises `FailedRun` where these are not enough, unless `throw` is False."""
        before, kept = None, 0.0
        while True:
            level = self._level(sizes, len(self.levels), self._span(), before, kept)
            self.levels.append(level)
            before = level.run
            if level.error is not None and level.error <= self.target:
                return self._returned(level.run, level.error, RESULTS.successful)
            finer, kept = self._finer(level, kept)
            exact = finer == sizes  # atoms: what is left is the error in time
            if (exact and len(self.levels) == _LEVELS) or (not exact and max(finer) > max_nodes):
                return self._unresolved(level, max_nodes, throw)
            sizes = finer

    def best(self, failed: FailedRun) -> Trajectory:
        """The best there is when a solve broke down: the last level, or what was solved."""
        if not self.levels:
            return self._returned(failed.partial, None, failed.partial.result)
        last = self.levels[-1]
        return self._returned(last.run, last.error, failed.partial.result)

    def _level(
        self,
        sizes: Sizes,
        time: int,
        span: tuple[float, float],
        before: Trajectory | None,
        kept: float = 0.0,
        fixed: bool = False,
    ) -> Level:
        """One level, solved with the `time`-th tolerances: from `before`, the next coarser one, or
        from redraws; `kept` is what layers are off by that are as they were in `before`."""
        low, high = span
        if self.key is None:
            run, used = self._solve(self._drawn(sizes, None), time, span), None
            if before is None:
                return Level(sizes, run, None, None)
            apart = self._by_chance(self._apart(run, before) + kept, run)
        else:
            used, *others = jax.random.split(self.key, _RANDOMISATIONS)
            time = min(time, _FINEST)
            ends = np.linspace((low + high) / 2, high, _RANDOMISATIONS)  # they have half the nodes
            run = self._solve(self._drawn(sizes, used), time + 1, (low, ends[0]))
            rougher = coarsened(self.ensemble.spaces, self.rules, sizes)
            pairs = zip(others, pairwise(ends), strict=True)
            runs = (self._solve(self._drawn(rougher, k), time, span) for k, span in pairs)
            apart = max(self._apart(run, other) for other in runs)
        if fixed or apart <= self.target:
            apart = max(apart, self._start_error(run, sizes, used))
        return Level(sizes, run, apart, used)

    def _start_error(self, run: Trajectory, sizes: Sizes, key: PRNGKeyArray | None) -> float:
        nodes = self._drawn(sizes, key)
        pair = probe_pair(self.ensemble, self.rules, nodes, key)
        end, outputs = run.times[-1], run.observed["outputs"]
        return start_error(pair, self.energy, self.dynamics, end, outputs)[0]

    def _finer(self, level: Level, kept: float) -> tuple[Sizes, float]:
        """The next numbers of nodes, and what the layers are off by that keep theirs: beyond shared
        shapes only those are refined that matter."""
        spaces = self.ensemble.spaces
        finer = refined(spaces, self.rules, level.sizes)
        several = [n for n, space in zip(finer, spaces, strict=True) if space.axes]
        if len(several) < 2 or max(several) <= max(shared(spaces)):
            return finer, kept
        off = self._layer_errors(level)
        matter = off > self.target / (2 * len(level.sizes))
        matter |= ~matter.any()  # no layer alone shows what is missing: refine all
        return tuple(np.where(matter, finer, level.sizes).tolist()), float(off[~matter].sum())

    def _layer_errors(self, level: Level) -> np.ndarray:
        """How far the solution moves when the nodes of one layer alone are coarser, or redrawn."""
        sizes, key = level.run.stats["nodes"], level.key
        own = self._drawn(sizes, key)
        redrawn = None if key is None else jax.random.fold_in(key, len(own))
        rough = self._drawn(coarsened(self.ensemble.spaces, self.rules, sizes), redrawn)
        time = len(self.levels) - 1
        time = time if key is None else min(time, _FINEST) + 1
        _, high = self._span()

        def error(i: int) -> float:
            if not self.ensemble.spaces[i].axes:
                return 0.0
            nodes = (*own[:i], rough[i], *own[i + 1 :])
            return self._apart(level.run, self._solve(nodes, time, (high, high)))

        return np.array([error(i) for i in range(len(own))])

    def _solve(
        self, measures: Sequence[Measure], time: int, span: tuple[float, float]
    ) -> Trajectory:
        """The flow on these nodes, with the `time`-th tolerances and longest step; `span` is its
        part of the meter."""
        sizes = tuple(len(m.masses) for m in measures)
        if self.observe is None:  # observables should be given the nodes, and nothing else
            measures = padded_measures(measures, shared(self.ensemble.spaces))
        longest, given = np.asarray(self.t1) / (8 * 2**time), self.solver.max_step
        network = self.ensemble.network(measures)
        rounding = ROUNDING * float(jnp.finfo(network.dtype).eps)
        solver = dataclasses.replace(
            self.solver,
            rtol=max(self.target / 10**time, rounding),
            max_step=longest if given is None else np.minimum(longest, given),
        )
        run = flow(
            network, self.energy, self.dynamics, t1=self.t1, times=self.times,
            observe={"outputs": self.energy.outputs, "observed": self.observe}, solver=solver,
            adjoint=diffrax.ForwardMode(), progress=self.progress.stretch(*span), throw=False,
        )  # fmt: skip
        return dataclasses.replace(run, stats={**run.stats, "nodes": sizes}).raise_if_failed()

    def _drawn(self, sizes: Sizes, key: PRNGKeyArray | None) -> tuple[Measure, ...]:
        return self.ensemble.measures(sizes, self.rules, key=key)

    def _span(self) -> tuple[float, float]:
        """The part of the meter of the next level: half of what is left."""
        done = len(self.levels)
        return 1 - 0.5**done, 1 - 0.5 ** (done + 1)

    def _apart(self, a: Trajectory, b: Trajectory) -> float:
        """The largest difference in energies and outputs, or ten units of their last place."""
        outputs = a.observed["outputs"], b.observed["outputs"]
        return float(_distance(self.energy, a.energies, b.energies, *outputs))

    def _by_chance(self, apart: float, run: Trajectory) -> float:
        """`apart`, or a third of the square of what it was a level before where that is larger,
        relative to the outputs: Gauss rules double the digits with the nodes; more is by chance."""
        last = self.levels[-1].error if self.levels else None
        if last is None:
            return apart
        scale = float(np.max(self.energy.size(run.observed["outputs"])))
        return max(apart, min(last, last**2 / scale) / 3 if scale > 0 else apart)

    def _unresolved(self, level: Level, max_nodes: int, throw: bool) -> Trajectory:
        run = self._returned(level.run, level.error, RESULTS.unresolved)
        if not throw:
            return run
        raise failure(
            run,
            f"Asked for tol={self.target:.1e}, it is known to "
            f"{math.inf if level.error is None else level.error:.1e} with "
            f"{'x'.join(map(str, level.sizes))} nodes (max_nodes={max_nodes}). ",
        )

    def _returned(self, run: Trajectory, error: float | None, result: Any) -> Trajectory:
        """`run` as `limit` returns it: on its own nodes, with its error and the levels."""
        levels = tuple((level.sizes, level.error) for level in self.levels)
        return dataclasses.replace(
            run,
            final=_first(run.final, run.stats["nodes"]),
            observed=run.observed["observed"],
            error=jnp.asarray(math.nan if error is None else error, run.energies.dtype),
            result=result,
            stats={**run.stats, "levels": levels},
        )


@eqx.filter_jit
def _distance(energy: Energy, e: Array, f: Array, outputs: Any, others: Any) -> Array:
    both = jax.tree.map(lambda a, b: jnp.stack([a, a - b]), outputs, others)
    size, apart = energy.size(both).max(1)
    scale = jnp.maximum(size, jnp.abs(e).max())
    rounding = 10 * jnp.finfo(scale.dtype).eps * scale
    return jnp.maximum(jnp.maximum(apart, jnp.abs(e - f).max()), rounding)


@eqx.filter_jit
def _first(network: Network, sizes: tuple[int, ...]) -> Network:
    """The first neurons: without those that were added to have one shape."""
    return network.neurons(sizes)
