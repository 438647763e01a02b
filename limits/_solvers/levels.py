"""Levels of a refinement, and the nodes of the next one: as many as it takes, and work allows."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray

from .apart import Apart
from .nodal import NodalSolves
from .nodes import Sizes, refined
from .trajectory import Trajectory

_POWER = 0.65  # of the number of random nodes that errors fall with, until one is observed
_JUMP = 64  # times as many random nodes, at most, from one level to the next
_BESIDE = 4  # where there are layers of a deterministic rule too


class Level(NamedTuple):
    """The solution on nodes of these `sizes`, solved with relative tolerance `rtol`; how far it is
    `apart` from others (None where there is nothing to compare with), and is taken to be `off` by;
    the key that its nodes were drawn with (None where they are not random); and its `cost`, in
    numbers computed."""

    sizes: Sizes
    run: Trajectory
    rtol: float
    apart: Apart | None
    off: Apart | None
    key: PRNGKeyArray | None
    cost: float

    @property
    def error(self) -> float:
        return math.inf if self.off is None else self.off.error


def finer(
    on: NodalSolves,
    levels: Sequence[Level],
    ratio: float,
    left: float,
    matter: Callable[[np.ndarray], list[np.ndarray]],
) -> Sizes | None:
    """The next numbers of nodes, None where they would cost more than the work that is `left` for
    as many steps as the last level made.

    Of the layers that `matter(sizes)` names, best choices first, random ones as many as it takes to
    lessen the error by `ratio`.
    """
    level = levels[-1]
    next_finer = np.array(refined(on.ensemble.spaces, on.rules, level.sizes))
    random = np.array([rule.random for rule in on.rules])

    def affordable(sizes: np.ndarray, share: float = 1.0) -> bool:
        return level.cost * on.work(tuple(sizes.tolist())) / on.work(level.sizes) <= share * left

    each = [np.where(one, next_finer, level.sizes) for one in np.eye(len(random), dtype=bool)]
    if not any(affordable(s) for s in each if tuple(s) != level.sizes):
        return None
    for some in matter(next_finer):
        sizes = np.where(some, next_finer, level.sizes)
        if not affordable(sizes):
            continue
        share, factor = 1.0, _wanted(levels, ratio) if (some & random).any() else 2
        if (some & ~random).any():  # of whose error the next level alone knows more
            share, factor = 0.5, min(factor, _BESIDE)
        while factor > 2:
            more = np.where(some & random, level.sizes * np.array(factor), sizes)
            if affordable(more, share):
                return tuple(more.tolist())
            factor //= 2
        return tuple(sizes.tolist())
    return None


def _wanted(levels: Sequence[Level], ratio: float) -> int:
    """By what power of two more random nodes would lessen the error by `ratio`."""
    return 2 ** min(math.ceil(math.log2(ratio) / power(levels)), int(math.log2(_JUMP)))


def power(levels: Sequence[Level]) -> float:
    """With what power of their number errors fall, as far as levels show."""
    known = [one for one in levels if one.apart is not None]
    if len(known) < 2 or known[-2].error <= known[-1].error:
        return _POWER
    more = max(a / b for a, b in zip(known[-1].sizes, known[-2].sizes, strict=True))
    if more <= 1:
        return _POWER
    found = math.log(known[-2].error / known[-1].error) / math.log(more)
    return min(max(found, _POWER / 2), 2.0)
