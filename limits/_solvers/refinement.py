"""Levels of nodes: solutions on them, how far each is off, and which layers need more."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembles import Measure, Network

from .._energies.energy import Energy
from .apart import Apart, missed, size
from .late import Late
from .levels import Level, finer, power
from .nodal import NodalSolves
from .nodes import Sizes, coarsened, nearly, probe_pair, shared
from .start_error import start_error
from .time import Observe, observed
from .trajectory import RESULTS, FailedRun, Trajectory, failure

_RANDOMISATIONS = 5
_LEVELS = 8  # in time, for atoms
_FINEST = 4  # halvings of the longest step; tolerances alone go further
_MORE = 1.2  # times the steps, below which two solutions may share their error in time
_DRAWN = 0  # of random nodes, which converge too slowly to need finer steps
_AIM_DRAWN = 2e-3  # of the size of what is compared, from random nodes without a tolerance
_FALLS = 8  # times that the error of random nodes falls, about, from one level to the next
_FIRST = 1e-3  # tolerance of the first level, relative
_FAST = 8.0  # that distances fall by from level to level, where solutions are smooth
_NEAR = 4.0  # distances from a solution on a tenth fewer nodes that one is off by, then
_MATTER = 0.1  # of the error of the worst layer, from which another is refined too


@dataclasses.dataclass
class Refinement:
    """The limit of an ensemble, solved on finer and finer nodes until it is known to `tol`, or for
    None as well as `max_work` numbers to compute allow; `key` that of random nodes, None where they
    are not random. `limit` says how."""

    on: NodalSolves
    tol: float | None
    max_work: float
    key: PRNGKeyArray | None
    kept: float = 0.0  # what the layers are off by that are as they were on the level before
    missed: Apart | None = None  # by the nodes of a population of data
    late: Late = dataclasses.field(default_factory=lambda: Late(_FIRST))  # on random nodes
    shorter: int = 0  # more halvings of the longest step
    levels: list[Level] = dataclasses.field(default_factory=list)

    def fixed(self, sizes: Sizes) -> Trajectory:
        """The solution on so many nodes, compared with the next coarser ones."""
        aim = self._aim()
        if self.key is None:
            rougher = coarsened(self.on.ensemble.spaces, self.on.rules, sizes)
            run = self.on.solve(self.on.drawn(rougher, None), aim, 0, (0.0, 0.5))
            self.levels.append(Level(rougher, run, aim, None, None, None, 0.0))
        level = self._with_start(self._level(sizes, aim / 10, (0.5, 1.0)))
        self.levels = [level]
        self._miss(level)
        return self._returned(level, RESULTS.successful)

    def refined(self, sizes: Sizes, throw: bool) -> Trajectory:
        """The solution on as many nodes as it takes, from `sizes` on, and as `max_work` allows;
        raises `FailedRun` where `tol` is not met then, unless `throw` is False."""
        while True:
            try:
                level = self._level(sizes, self._tolerance(), self._span())
            except FailedRun as failed:
                if self.tol is not None or not self._has_bar(failed):
                    raise
                return self._returned(self._with_start(self.levels[-1]), RESULTS.successful)
            if not self.levels:
                level = self._in_time(level)
            self.levels.append(level)
            if len(self.levels) == 1:
                self._miss(level)
            met = level.error <= self._target(level) and self._compared_twice()
            more = None if met else self._finer(level)
            if more is None:
                level = self.levels[-1] = self._with_start(level)
                if met and level.error > self._target(level):  # its nodes miss some of the start
                    more = self._finer(level)
            if more is None:
                return self._ended(level, throw)
            sizes = more

    def _compared_twice(self) -> bool:
        """Whether more than one distance says how far the last level is off: the nodes of two
        coarse levels agree by chance once in a while."""
        fixed = not any(space.axes for space in self.on.ensemble.spaces)
        return self.key is not None or fixed or len(self.levels) > 2

    def _has_bar(self, failed: FailedRun) -> bool:
        """Whether a finer level only took more steps than there may be, and one before has a
        bar."""
        last = self.levels[-1] if self.levels else None
        return failed.partial.result == RESULTS.max_steps_reached and bool(last and last.off)

    def best(self, failed: FailedRun) -> Trajectory:
        """The best there is when a solve broke down: the last level, or what was solved."""
        if not self.levels:
            return dataclasses.replace(
                failed.partial, observed=failed.partial.observed["observed"],
                error=jnp.asarray(math.nan, failed.partial.energies.dtype),
            )  # fmt: skip
        return self._returned(self.levels[-1], failed.partial.result)

    def _level(self, sizes: Sizes, rtol: float, span: tuple[float, float]) -> Level:
        """The solution on so many nodes, and how far it is from the level before, or from redraws;
        `span` is its part of the meter."""
        low, high = span
        time = min(len(self.levels), _FINEST) + self.shorter
        spent = self.on.spent
        if self.key is None:
            run = self.on.solve(self.on.drawn(sizes, None), rtol, time, span)
            if self._shares_steps(run, rtol):
                self.shorter, rtol = self.shorter + 1, rtol / 4
                time += 1
                run = self.on.solve(self.on.drawn(sizes, None), rtol, time, (high, high))
            apart = off = None
            if self.levels:
                before = [None, *(one.apart for one in self.levels)]
                apart = self.on.apart(run, self.levels[-1].run).plus(self.kept)
                off = apart.doubted(before[-1], before[-2])
                if self._falls_fast(apart):
                    near = self._near(sizes, run, rtol, time, high)
                    off = near if near.error < off.error else off
            return Level(sizes, run, rtol, apart, off, None, self.on.spent - spent)
        used, *others = jax.random.split(self.key, _RANDOMISATIONS)
        ends = np.linspace((low + high) / 2, high, _RANDOMISATIONS)
        run = self.on.solve(self.on.drawn(sizes, used), rtol / 4, _DRAWN, (low, ends[0]))
        rougher = coarsened(self.on.ensemble.spaces, self.on.rules, sizes)
        pairs = zip(others, pairwise(ends), strict=True)
        runs = [
            self.on.solve(self.on.drawn(rougher, k), rtol, _DRAWN - 1, part, sizes)
            for k, part in pairs
        ]
        apart = self.on.apart(run, *runs)
        return Level(sizes, run, rtol, apart, apart, used, self.on.spent - spent)

    def _falls_fast(self, apart: Apart) -> bool:
        """Whether distances fall by more than they do where solutions have kinks."""
        last = self.levels[-1].apart
        return self.on.by_mass and last is not None and apart.error < last.error / _FAST

    def _near(self, sizes: Sizes, run: Trajectory, rtol: float, time: int, at: float) -> Apart:
        """How far a run is off that is so far from one on nearly as many nodes, with steps that are
        coarser: errors that fall by 8 when the nodes of an axis double are 1.4 times as large for a
        tenth fewer, so that four times the distance is more than the error."""
        fewer = nearly(self.on.ensemble.spaces, self.on.rules, sizes)
        nodes = self.on.drawn(fewer, None)
        other = self.on.solve(nodes, min(4 * rtol, _FIRST), max(time - 1, 0), (at, at), sizes)
        return self.on.apart(run, other).times(_NEAR).plus(self.kept)

    def _shares_steps(self, run: Trajectory, rtol: float) -> bool:
        """Whether a run made about the steps of the level before, none of which its tolerance made
        shorter, and is so near to it that the error in time, of both, may be more than that."""
        if not self.levels:
            return False
        last = self.levels[-1].run
        if float(run.stats["steps"]) > _MORE * float(last.stats["steps"]):
            return False
        apart = self.on.apart(run, last)
        return apart.error < 10 * rtol * float(apart.sizes.max())

    def _miss(self, level: Level) -> None:
        """Find, on the first level, what the nodes of a population of data miss."""
        finer = self.on.energy.with_finer_data()
        if finer is None:
            return
        run = self._again(level, self.on.drawn(level.sizes, level.key), finer)
        self.missed = self.on.apart(level.run, run)

    def _in_time(self, level: Level) -> Level:
        """The first level, of random nodes solved again with a tolerance that time asks for."""
        if level.key is None or level.apart is None:
            return level
        nodes, (low, _) = self.on.drawn(level.sizes, level.key), self._span()
        self.late = Late.found(
            lambda rtol: self.on.solve(nodes, rtol, _DRAWN, (low, low), level.sizes),
            lambda one, other: self.on.apart(one, other).error,
            level.rtol, self._late_enough(level), lambda: self.on.spent < self.max_work / 8,
        )  # fmt: skip
        same = self.late.rtol == level.rtol
        return level if same else self._level(level.sizes, self.late.rtol, (low, low))

    def _late_enough(self, level: Level) -> float:
        """Half of what a level on random nodes after this one may be off by."""
        return max(level.error / _FALLS, self._target(level)) / 2

    def _with_start(self, level: Level) -> Level:
        """With what its nodes miss of the initial weights."""
        nodes = self.on.drawn(level.sizes, level.key)
        pair = probe_pair(self.on.ensemble, self.on.rules, nodes, level.key)
        if level.off is None or pair is None:
            return level
        outputs, end = level.run.observed["outputs"], level.run.times[-1]
        error, share = start_error(pair, self.on.energy, self.on.dynamics, end, outputs)
        seen = None
        if self.on.observe is not None and self.on.by_mass:
            few, many = (_observed(self.on.observe, network) for network in pair)
            seen = missed(few, many, level.run.observed["observed"], share)
        return level._replace(off=level.off.at_least(error, seen))

    def _finer(self, level: Level) -> Sizes | None:
        """The next numbers of nodes, None where they would cost more than `max_work`."""
        if not any(space.axes for space in self.on.ensemble.spaces):
            return level.sizes if len(self.levels) < _LEVELS else None  # left is the error in time
        ratio = level.error / self._target(level)
        left = (self.max_work - self.on.spent) / self._more_steps(level)
        return finer(self.on, self.levels, ratio, left, partial(self._matter, level))

    def _more_steps(self, level: Level) -> float:
        """How many times the steps of this level the next one is expected to make."""
        if level.key is not None and self._tolerance() >= level.rtol:
            return 1.1
        steps = [float(one.run.stats["steps"]) for one in self.levels[-2:]]
        return min(max(2.0, steps[-1] / steps[0]), 4.0)

    def _matter(self, level: Level, finer: np.ndarray) -> list[np.ndarray]:
        """Which layers to refine: beyond shared shapes those alone that the error is of; then the
        worst of them."""
        spaces = self.on.ensemble.spaces
        refine = np.array([bool(space.axes) for space in spaces])
        if refine.sum() < 2 or finer[refine].max() <= max(shared(spaces)):
            return [refine]
        off = self._layer_errors(level)
        matter = off > max(self._target(level) / (2 * len(level.sizes)), _MATTER * off.max())
        if not matter.any():  # no layer alone shows what is missing: refine all
            return [refine]
        self.kept = float(off[~matter].sum())
        return [matter, off == off.max()]

    def _layer_errors(self, level: Level) -> np.ndarray:
        """How far the solution moves when the nodes of one layer alone are coarser, or redrawn."""
        sizes, key = level.sizes, level.key
        own = self.on.drawn(sizes, key)
        redrawn = None if key is None else jax.random.fold_in(key, len(own))
        rough = self.on.drawn(coarsened(self.on.ensemble.spaces, self.on.rules, sizes), redrawn)

        def error(i: int) -> float:
            if not self.on.ensemble.spaces[i].axes:
                return 0.0
            nodes = (*own[:i], rough[i], *own[i + 1 :])
            return self.on.apart(level.run, self._again(level, nodes)).error

        return np.array([error(i) for i in range(len(own))])

    def _again(
        self, level: Level, nodes: Sequence[Measure], energy: Energy | None = None
    ) -> Trajectory:
        """The flow on other nodes, or of another energy, solved as that of the last level was."""
        time, rtol = min(len(self.levels) - 1, _FINEST) + self.shorter, level.rtol
        if self.key is not None:
            time, rtol = _DRAWN, level.rtol / 4
        low, _ = self._span()
        return self.on.solve(nodes, rtol, time, (low, low), level.sizes, energy)

    def _span(self) -> tuple[float, float]:
        """The part of the meter of the next level: half of what is left."""
        done = len(self.levels)
        return 1 - 0.5**done, 1 - 0.5 ** (done + 1)

    def _tolerance(self) -> float:
        """Of the next level: a quarter of the last one's and a tenth of its error, relative to the
        size of outputs, so that levels show errors in time; but a hundredth of it is enough."""
        if not self.levels:
            return _FIRST
        last = self.levels[-1]
        if self.key is not None:
            return self.late.tolerance(self._late_enough(last))
        scale = size(self.on.energy, last.run)
        error = max(last.error, self._target(last)) / scale if scale > 0 else 0.0
        return last.rtol if last.rtol <= error / 100 else min(last.rtol / 4, error / 10)

    def _aim(self) -> float:
        return 1e-6 if jnp.finfo(self.on.ensemble.spaces[0].dtype).eps < 1e-10 else 1e-4

    def _target(self, level: Level) -> float:
        """Of nodes and time: `tol`, or where none is given 1e-6 (1e-4) of the size of energies and
        outputs, of random nodes 2e-3; less what the nodes of data miss, of which a tenth is
        enough."""
        missed = 0.0 if self.missed is None else self.missed.error
        aim = self._aim() if self.key is None else _AIM_DRAWN
        tol = aim * size(self.on.energy, level.run) if self.tol is None else self.tol
        return max(tol - missed, missed / 10)

    def _ended(self, level: Level, throw: bool) -> Trajectory:
        """The last level, whose error is all that was asked for, or above `tol`."""
        missed = 0.0 if self.missed is None else self.missed.error
        error = level.error + missed
        if self.tol is None or error <= self.tol:
            return self._returned(level, RESULTS.successful)
        run = self._returned(level, RESULTS.unresolved)
        if not throw:
            return run
        nodes = "x".join(map(str, level.sizes))
        known = f"Asked for tol={self.tol:.1e}, it is known to {error:.1e} with {nodes} nodes"
        if missed > self.tol / 2:
            raise failure(
                run,
                f"{known}, {missed:.1e} of it from the nodes of the data: give Data.from_space "
                "more of them. ",
            )
        more = (level.error / self.tol) ** (1 / power(self.levels))
        raise failure(
            run,
            f"{known} (max_work={self.max_work:.1e}). At the rate of its levels it takes some "
            f"{more:.2g} times the nodes. ",
        )

    def _returned(self, level: Level, result: Any) -> Trajectory:
        """The run of a level as `limit` returns it: on its own nodes, with its errors and the
        levels."""
        levels = tuple((one.sizes, one.error) for one in self.levels)
        run, off = level.run, level.off
        if off is not None and self.missed is not None:
            off = off.beside(self.missed)
        return dataclasses.replace(
            run,
            final=_first(run.final, run.stats["nodes"]),
            observed=run.observed["observed"],
            error=jnp.asarray(off.error if off else math.nan, run.energies.dtype),
            observed_error=None if off is None else off.observed,
            result=result,
            stats={**run.stats, "levels": levels},
        )


@eqx.filter_jit
def _observed(observe: Observe, network: Network) -> Any:
    return observed(observe, network)


@eqx.filter_jit
def _first(network: Network, sizes: Sizes) -> Network:
    """The first neurons: without those that were added to have one shape."""
    return network.neurons(sizes)
