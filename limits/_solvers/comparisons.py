"""How solutions on nodes are made and compared: with those on coarser nodes, or on redrawn ones."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembles import Measure

from .._energies.energy import Energy
from .apart import Apart, size
from .late import Late
from .levels import Level
from .nodal import NodalSolves
from .nodes import Sizes, coarsened, nearly
from .trajectory import Trajectory

_FIRST = 1e-3  # tolerance of the first level, relative
_RANDOMISATIONS = 5
_FINEST = 4  # halvings of the longest step; tolerances alone go further
_MORE = 1.2  # times the steps, below which two solutions may share their error in time
_FAST = 8.0  # that distances fall by from level to level, where solutions are smooth
_NEAR = 4.0  # distances from a solution on a tenth fewer nodes that one is off by, then
_DRAWN = -1  # halvings of the longest step of redraws, where their error in time allows it
_AIM_DRAWN = 2e-3  # of the size of what is compared, from random nodes without a tolerance
_FALLS = 8  # times that the error of random nodes falls, about, from one level to the next


@dataclasses.dataclass
class Comparisons(abc.ABC):
    """The `levels` solved so far, and how the next one is; `kept` is what the layers are off by
    that stay as they are on the level before."""

    on: NodalSolves
    levels: list[Level] = dataclasses.field(default_factory=list)
    kept: float = 0.0

    @property
    @abc.abstractmethod
    def aim(self) -> float:
        """The error to reach where no other is asked for, relative to what is compared."""

    @property
    @abc.abstractmethod
    def known(self) -> bool:
        """Whether enough distances say how far the last level is off."""

    @abc.abstractmethod
    def level(self, sizes: Sizes, rtol: float, span: tuple[float, float]) -> Level:
        """The solution on so many nodes, and how far it is off; `span` is its part of the meter."""

    @abc.abstractmethod
    def alone(self, sizes: Sizes) -> Level:
        """The level on so many nodes, none before it."""

    def in_time(
        self, level: Level, target: float, at: float, affordable: Callable[[], bool]
    ) -> Level:
        """A first level, solved with the tolerance that time asks for: as it is."""
        return level

    @abc.abstractmethod
    def tolerance(self, target: float) -> float:
        """Of the next level, where an error of `target` is enough."""

    @abc.abstractmethod
    def more_steps(self, target: float) -> float:
        """How many times the steps of the last level the next one is expected to make."""

    @abc.abstractmethod
    def again(
        self, level: Level, nodes: Sequence[Measure], at: float, energy: Energy | None = None
    ) -> Trajectory:
        """The flow on other nodes, or of another energy, solved as that of the last level was."""

    def rougher(self, level: Level) -> tuple[Measure, ...]:
        """The nodes of a level, coarser or redrawn."""
        sizes, key = coarsened(self.on.ensemble.spaces, self.on.rules, level.sizes), level.key
        redrawn = None if key is None else jax.random.fold_in(key, len(sizes))
        return self.on.drawn(sizes, redrawn)


@dataclasses.dataclass
class WithCoarser(Comparisons):
    """Of deterministic nodes, each level with the one before; steps are refined as nodes are.

    Where distances fall fast the last is compared once more, with nearly as many nodes."""

    shorter: int = 0  # more halvings of the longest step

    @property
    def aim(self) -> float:
        return _aim(self.on)

    @property
    def known(self) -> bool:
        """The nodes of two coarse levels agree by chance once in a while."""
        return len(self.levels) > 2 or not any(space.axes for space in self.on.ensemble.spaces)

    def alone(self, sizes: Sizes) -> Level:
        """Compared with the next coarser nodes."""
        rougher = coarsened(self.on.ensemble.spaces, self.on.rules, sizes)
        run = self.on.solve(self.on.drawn(rougher, None), self.aim, 0, (0.0, 0.5))
        self.levels = [Level(rougher, run, self.aim, None, None, None, 0.0)]
        return self.level(sizes, self.aim / 10, (0.5, 1.0))

    def level(self, sizes: Sizes, rtol: float, span: tuple[float, float]) -> Level:
        _, end = span
        time, spent = min(len(self.levels), _FINEST) + self.shorter, self.on.spent
        run = self.on.solve(self.on.drawn(sizes, None), rtol, time, span)
        if self._shares_steps(run, rtol):
            self.shorter, rtol, time = self.shorter + 1, rtol / 4, time + 1
            run = self.on.solve(self.on.drawn(sizes, None), rtol, time, (end, end))
        apart = off = None
        if self.levels:
            before = [None, *(one.apart for one in self.levels)]
            apart = self.on.apart(run, self.levels[-1].run).plus(self.kept)
            off = apart.doubted(before[-1], before[-2])
            if self._falls_fast(apart):
                near = self._near(sizes, run, rtol, time, end)
                off = near if near.error < off.error else off
        return Level(sizes, run, rtol, apart, off, None, self.on.spent - spent)

    def tolerance(self, target: float) -> float:
        """A quarter of the last one's and a tenth of its error, relative to the size of outputs, so
        that levels show errors in time; but a hundredth of it is enough."""
        if not self.levels:
            return _FIRST
        last = self.levels[-1]
        scale = size(self.on.energy, last.run)
        error = max(last.error, target) / scale if scale > 0 else 0.0
        return last.rtol if last.rtol <= error / 100 else min(last.rtol / 4, error / 10)

    def more_steps(self, target: float) -> float:
        steps = [float(one.run.stats["steps"]) for one in self.levels[-2:]]
        return min(max(2.0, steps[-1] / steps[0]), 4.0)

    def again(
        self, level: Level, nodes: Sequence[Measure], at: float, energy: Energy | None = None
    ) -> Trajectory:
        time = min(len(self.levels) - 1, _FINEST) + self.shorter
        return self.on.solve(nodes, level.rtol, time, (at, at), level.sizes, energy)

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

    def _falls_fast(self, apart: Apart) -> bool:
        """Whether distances fall by more than they do where solutions have kinks."""
        last = self.levels[-1].apart
        return self.on.by_mass and last is not None and apart.error < last.error / _FAST

    def _near(self, sizes: Sizes, run: Trajectory, rtol: float, time: int, at: float) -> Apart:
        """How far a run is off that is so far from one on nearly as many nodes, with steps that are
        coarser: errors that fall by 8 when the nodes of an axis double are 1.4 times as large for a
        tenth fewer, so that four times the distance is more than the error."""
        nodes = self.on.drawn(nearly(self.on.ensemble.spaces, self.on.rules, sizes), None)
        other = self.on.solve(nodes, min(4 * rtol, _FIRST), max(time - 1, 0), (at, at), sizes)
        return self.on.apart(run, other).times(_NEAR).plus(self.kept)


@dataclasses.dataclass
class WithRedraws(Comparisons):
    """Of nodes of which some are random, with four independent draws; the `key` of all.

    Their errors in time are alike, and found on the first level."""

    key: PRNGKeyArray = dataclasses.field(kw_only=True)
    late: Late = dataclasses.field(default_factory=lambda: Late(_FIRST, _DRAWN))

    @property
    def aim(self) -> float:
        return _AIM_DRAWN

    @property
    def known(self) -> bool:
        return True

    def level(self, sizes: Sizes, rtol: float, span: tuple[float, float]) -> Level:
        (low, high), spent = span, self.on.spent
        used, *others = jax.random.split(self.key, _RANDOMISATIONS)
        ends = np.linspace((low + high) / 2, high, _RANDOMISATIONS)
        time = self.late.time
        run = self.on.solve(self.on.drawn(sizes, used), rtol / 4, time + 1, (low, ends[0]))
        rougher = coarsened(self.on.ensemble.spaces, self.on.rules, sizes)
        pairs = zip(others, pairwise(ends), strict=True)
        runs = [
            self.on.solve(self.on.drawn(rougher, k), rtol, time, part, sizes) for k, part in pairs
        ]
        apart = self.on.apart(run, *runs)
        return Level(sizes, run, rtol, apart, apart, used, self.on.spent - spent)

    def alone(self, sizes: Sizes) -> Level:
        return self.level(sizes, _aim(self.on) / 10, (0.5, 1.0))

    def in_time(
        self, level: Level, target: float, at: float, affordable: Callable[[], bool]
    ) -> Level:
        nodes = self.on.drawn(level.sizes, level.key)
        self.late = Late.found(
            lambda rtol, time: self.on.solve(nodes, rtol, time, (at, at), level.sizes),
            lambda one, other: self.on.apart(one, other).error,
            self.on.limited, Late(level.rtol, self.late.time), _enough(level, target), affordable,
        )  # fmt: skip
        same = self.late.rtol == level.rtol
        return level if same else self.level(level.sizes, self.late.rtol, (at, at))

    def tolerance(self, target: float) -> float:
        if not self.levels:
            return _FIRST
        return self.late.tolerance(_enough(self.levels[-1], target))

    def more_steps(self, target: float) -> float:
        return 1.1 if self.tolerance(target) >= self.levels[-1].rtol else 2.0

    def again(
        self, level: Level, nodes: Sequence[Measure], at: float, energy: Energy | None = None
    ) -> Trajectory:
        return self.on.solve(
            nodes, level.rtol / 4, self.late.time + 1, (at, at), level.sizes, energy
        )


def _aim(on: NodalSolves) -> float:
    return 1e-6 if jnp.finfo(on.ensemble.spaces[0].dtype).eps < 1e-10 else 1e-4


def _enough(level: Level, target: float) -> float:
    """Half of what a level on random nodes after this one may be off by."""
    return max(level.error / _FALLS, target) / 2
