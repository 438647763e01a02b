"""With what tolerance solutions on random nodes are solved, whose errors in time are alike."""

import dataclasses
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

    def tolerance(self, enough: float) -> float:
        """That with which a solution is off by `enough` in time: errors fall at least in proportion
        to tolerances."""
        return self.rtol if self.error <= enough else self.rtol * enough / self.error

    @staticmethod
    def found(
        solved: Callable[[float, int], Trajectory],
        apart: Callable[[Trajectory, Trajectory], float],
        limited: Callable[[Trajectory, int], bool],
        first: "Late",
        enough: float,
        affordable: Callable[[], bool],
    ) -> "Late":
        """From `first` on with a quarter of the tolerance, and half the longest step where
        `limited(run, time)` says that no tolerance makes steps shorter, until the error is
        `enough`, or no more is `affordable`; `solved(rtol, time)` is a solution, and `apart` says
        how far two are."""
        rtol, time = first.rtol, first.time
        rough, run = solved(rtol, time), solved(rtol / 4, time + 1)
        late = Late(rtol, time, apart(rough, run))
        try:
            while late.error > enough and affordable():
                time = late.time + limited(run, late.time + 1)
                rough, run = run, solved(late.rtol / 16, time + 1)
                late = Late(late.rtol / 4, time, apart(rough, run))
        except FailedRun:
            pass
        return late
