"""Levels of nodes: solutions on them, how far each is off, and which layers need more."""

import dataclasses
import math
from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ensembles import Network, NeuronalEnsemble
from ensembles.blocks import Block

from .apart import Apart, missed, size
from .comparisons import Comparisons
from .levels import Level, finer, power
from .nodal import NodalSolves
from .nodes import Sizes, probe_pair, shared
from .start_error import start_error
from .time import Observe, observed
from .trajectory import RESULTS, FailedRun, Trajectory, failure

_LEVELS = 8  # in time, for atoms
_MATTER = 0.1  # of the error of the worst layer, from which another is refined too


@dataclasses.dataclass
class Refinement:
    """The limit of an ensemble, solved on finer and finer nodes until it is known to `tol`, or for
    None as well as `max_work` numbers to compute allow. `limit` says how."""

    on: NodalSolves
    compared: Comparisons
    tol: float | None
    max_work: float
    missed: Apart | None = None  # by the nodes of a population of data

    @property
    def levels(self) -> list[Level]:
        return self.compared.levels

    def fixed(self, sizes: Sizes) -> Trajectory:
        """The solution on so many nodes, compared with the next coarser ones, or with redraws."""
        level = self._with_start(self.compared.alone(sizes))
        self.compared.levels = [level]
        self._miss(level)
        return self._returned(level, RESULTS.successful)

    def refined(self, sizes: Sizes, throw: bool) -> Trajectory:
        """The solution on as many nodes as it takes, from `sizes` on, and as `max_work` allows;
        raises `FailedRun` where `tol` is not met then, unless `throw` is False."""
        while True:
            try:
                level = self._level(sizes)
            except FailedRun as failed:
                if self.tol is not None or not self._has_bar(failed):
                    raise
                return self._returned(self._with_start(self.levels[-1]), RESULTS.successful)
            self.levels.append(level)
            if len(self.levels) == 1:
                self._miss(level)
            met = level.error <= self._target(level) and self.compared.known
            more = None if met else self._finer(level)
            if more is None:
                level = self.levels[-1] = self._with_start(level)
                if met and level.error > self._target(level):  # its nodes miss some of the start
                    more = self._finer(level)
            if more is None:
                return self._ended(level, throw)
            sizes = more

    def _level(self, sizes: Sizes) -> Level:
        """The next level, on so many nodes."""
        last = self.levels[-1] if self.levels else None
        target = 0.0 if last is None else self._target(last)
        span = self._span()
        level = self.compared.level(sizes, self.compared.tolerance(target), span)
        if last is not None:
            return level
        return self.compared.in_time(
            level, self._target(level), span[0], lambda: self.on.spent < self.max_work / 8
        )

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

    def _miss(self, level: Level) -> None:
        """Find, on the first level, what the nodes of a population of data miss."""
        finer = self.on.energy.with_finer_data()
        if finer is None:
            return
        nodes = self.on.drawn(level.sizes, level.key)
        run = self.compared.again(level, nodes, self._span()[0], finer)
        self.missed = self.on.apart(level.run, run)

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
        left = (self.max_work - self.on.spent) / self.compared.more_steps(self._target(level))
        return finer(self.on, self.levels, ratio, left, partial(self._matter, level))

    def _matter(self, level: Level, finer: np.ndarray) -> list[np.ndarray]:
        """Which layers to refine: beyond shared shapes those groups alone that the error is of;
        then the worst of them."""
        spaces = self.on.ensemble.spaces
        refine = np.array([bool(space.axes) for space in spaces])
        if refine.sum() < 2 or finer[refine].max() <= max(shared(spaces)):
            return [refine]
        groups = _together(self.on.ensemble)
        if groups.max() == 0:
            return [refine]
        off = self._errors(level, groups)
        matters = off > max(self._target(level) / (2 * len(off)), _MATTER * off.max())
        if not matters.any():  # no layer alone shows what is missing: refine all
            return [refine]
        self.compared.kept = float(off[~matters].sum())
        return [matters[groups], (off == off.max())[groups]]

    def _errors(self, level: Level, groups: np.ndarray) -> np.ndarray:
        """How far the solution moves when the nodes of one group of layers alone are coarser, or
        redrawn."""
        own, rough = self.on.drawn(level.sizes, level.key), self.compared.rougher(level)
        axes = [space.axes for space in self.on.ensemble.spaces]

        def error(group: int) -> float:
            members = groups == group
            if not any(one for one, here in zip(axes, members, strict=True) if here):
                return 0.0
            pairs = zip(own, rough, members, strict=True)
            nodes = tuple(coarser if here else mine for mine, coarser, here in pairs)
            run = self.compared.again(level, nodes, self._span()[0])
            return self.on.apart(level.run, run).error

        return np.array([error(group) for group in range(groups.max() + 1)])

    def _span(self) -> tuple[float, float]:
        """The part of the meter of the next level: half of what is left."""
        done = len(self.levels)
        return 1 - 0.5**done, 1 - 0.5 ** (done + 1)

    def _target(self, level: Level) -> float:
        """Of nodes and time: `tol`, or where none is given 1e-6 (1e-4) of the size of energies and
        outputs, of random nodes 2e-3; less what the nodes of data miss, of which a tenth is
        enough."""
        missed = 0.0 if self.missed is None else self.missed.error
        tol = self.compared.aim * size(self.on.energy, level.run) if self.tol is None else self.tol
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


def _together(ensemble: NeuronalEnsemble) -> np.ndarray:
    """The group of every hidden layer, which are refined together: the blocks of one kind, since
    equal ones are one loop, and one by one they would take as many solves as there are; every other
    layer is its own."""
    groups: dict[Any, int] = {}
    pairs = zip(ensemble.spaces, ensemble.layers[1:], strict=True)
    keys = [
        (id(space), layer.unit, layer.keeps) if isinstance(layer, Block) else i
        for i, (space, layer) in enumerate(pairs)
    ]
    return np.array([groups.setdefault(key, len(groups)) for key in keys])


@eqx.filter_jit
def _observed(observe: Observe, network: Network) -> Any:
    return observed(observe, network)


@eqx.filter_jit
def _first(network: Network, sizes: Sizes) -> Network:
    """The first neurons: without those that were added to have one shape."""
    return network.neurons(sizes)
