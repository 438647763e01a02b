"""With what tolerance solutions on random nodes are solved, whose errors in time are alike."""

import dataclasses
from collections.abc import Callable

from .trajectory import FailedRun, Trajectory


@dataclasses.dataclass(frozen=True)
class Late:
    """By how much a solution moves, `error`, when its tolerance `rtol` is lessened to a quarter.

    It hardly depends on the nodes, so that it is found on the few of a first level. Flows that are
    stiff or have kinks are off by far more than their tolerance.
    """

    rtol: float
    error: float = 0.0

    def tolerance(self, enough: float) -> float:
        """That with which a solution is off by `enough` in time: errors fall at least in proportion
        to tolerances."""
        return self.rtol if self.error <= enough else self.rtol * enough / self.error

    @staticmethod
    def found(
        solved: Callable[[float], Trajectory],
        apart: Callable[[Trajectory, Trajectory], float],
        rtol: float,
        enough: float,
        affordable: Callable[[], bool],
    ) -> "Late":
        """With the first of `rtol`, its quarter, ... that makes it `enough`, or that is
        `affordable`; `solved(rtol)` is the solution, and `apart` says how far two are."""
        rough, run = solved(rtol), solved(rtol / 4)
        late = Late(rtol, apart(rough, run))
        try:
            while late.error > enough and affordable():
                rough, run = run, solved(late.rtol / 16)
                late = Late(late.rtol / 4, apart(rough, run))
        except FailedRun:
            pass
        return late
