"""With what tolerance solutions on random nodes are solved, whose errors in time are alike."""

import dataclasses
import math
from collections.abc import Callable

from .trajectory import FailedRun, Trajectory


@dataclasses.dataclass(frozen=True)
class Late:
    """By how much a solution moves, `error`, when its tolerance `rtol` is lessened to a quarter and
    its `time`-th longest step to half.

    It hardly depends on the nodes, so that it is found on the few of a first level. Flows that are
    stiff or have kinks are off by far more than their tolerance, smooth ones make steps that no
    tolerance shortens.
    """

    rtol: float
    time: int
    error: float = 0.0

    def solved_to(self, enough: float) -> "Late":
        """That with which a solution is off by `enough` in time: errors fall at least in proportion
        to tolerances, and to a quarter with steps of half the length."""
        if self.error <= enough:
            return self
        more = self.error / enough
        return Late(self.rtol / more, self.time + math.ceil(math.log(more, 4)), enough)

    @staticmethod
    def found(
        solved: Callable[[float, int], Trajectory],
        apart: Callable[[Trajectory, Trajectory], float],
        rtol: float,
        time: int,
        enough: float,
        affordable: Callable[[], bool],
    ) -> "Late":
        """With the first of `rtol` and `time`, a quarter and one more, ... that makes it `enough`,
        or that is `affordable`; `solved(rtol, time)` is the solution, and `apart` says how far two
        are."""
        rough, run = solved(rtol, time), solved(rtol / 4, time + 1)
        late = Late(rtol, time, apart(rough, run))
        try:
            while late.error > enough and affordable():
                rough, run = run, solved(late.rtol / 16, late.time + 2)
                late = Late(late.rtol / 4, late.time + 1, apart(rough, run))
        except FailedRun:
            pass
        return late
