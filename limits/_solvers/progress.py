"""One progress meter over many solves."""

import time
from collections.abc import Sequence
from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembles.internal import kind


def meter_of(progress: Any) -> diffrax.AbstractProgressMeter:
    """`progress` as a meter, one that shows nothing for None."""
    if progress is None:
        return diffrax.NoProgressMeter()
    wanted = diffrax.AbstractProgressMeter
    kind("progress", progress, wanted, "write progress=diffrax.TextProgressMeter()")
    return progress


class Stretch(diffrax.AbstractProgressMeter):
    """The part from `low` to `high` of a meter that was begun: a solve reports into it."""

    meter: diffrax.AbstractProgressMeter
    state: Any
    low: Float[Array, ""]
    high: Float[Array, ""]

    def init(self) -> Any:
        return self.state

    def step(self, state: Any, progress: Any) -> Any:
        low, high = (a.astype(jnp.result_type(progress)) for a in (self.low, self.high))
        return self.meter.step(state, low + (high - low) * progress)

    def close(self, state: Any) -> None:
        """The whole is closed when all is done."""


class Whole:
    """A meter of work of which the parts are done one after the other.

    What is left is weighed by the seconds that a unit of work has taken so far, compilation
    included, so that the meter shows shares of time. It never goes back.
    """

    def __init__(self, meter: diffrax.AbstractProgressMeter | None, work: Sequence[float] = ()):
        self.meter = meter_of(meter)
        self.state = self.meter.init()
        self.work, self.done, self.shown = list(work), 0.0, 0.0
        self.began = time.perf_counter()

    def stretch(self, low: float, high: float) -> diffrax.AbstractProgressMeter:
        """For a solve that is the part from `low` to `high`."""
        if isinstance(self.meter, diffrax.NoProgressMeter):
            return self.meter
        return Stretch(self.meter, self.state, *(jnp.asarray(a, float) for a in (low, high)))

    def step(self) -> None:
        """The next part is done."""
        self.done += self.work.pop(0)
        elapsed = time.perf_counter() - self.began
        total = elapsed * (1 + sum(self.work) / self.done)
        self.shown = max(self.shown, elapsed / total)
        self.state = self.meter.step(self.state, jnp.asarray(self.shown))

    def close(self) -> None:
        self.meter.close(self.state)
