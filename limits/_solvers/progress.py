"""One progress meter over many solves."""

import dataclasses
import threading
import time
from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembles.internal import kind

from .seeds import alike_elsewhere

_BEAT = 1.0  # seconds between two readings of the clock
_EXPECTED = 10.0  # seconds that the first part takes, most of them to compile, before any is done


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
    """A meter of work that solves report into, each a stretch of it."""

    def __init__(self, meter: diffrax.AbstractProgressMeter | None):
        self.meter = meter_of(meter)
        self.state = self.meter.init()

    def stretch(self, low: float, high: float) -> diffrax.AbstractProgressMeter:
        """For a solve that is the part from `low` to `high`."""
        if isinstance(self.meter, diffrax.NoProgressMeter):
            return self.meter
        return Stretch(self.meter, self.state, *(jnp.asarray(a, float) for a in (low, high)))

    def close(self) -> None:
        self.meter.close(self.state)


class Parts:
    """A meter of `work` of which the parts are done one after the other, a context.

    Programs are compiled within parts, and no solve reports from there. So a thread moves the
    meter every second: of a part that should take T seconds, by the time that a unit of work has
    taken so far, t / (t + T) counts as done after t seconds. The meter never goes back. (Only
    between parts where JAX has settings of this thread alone, `with jax.enable_x64(True)`.)
    """

    def __init__(self, meter: diffrax.AbstractProgressMeter | None, work: Sequence[float]):
        meter = meter_of(meter)
        if isinstance(meter, diffrax.TqdmProgressMeter):  # which shows one in so many of its steps
            meter = dataclasses.replace(meter, refresh_steps=1)
        self.meter, self.state = meter, meter.init()
        self.work, self.done = list(work), 0
        self.began = self.ended = time.perf_counter()  # of the whole, and of the last part
        self.lock, self.over = threading.Lock(), threading.Event()
        self.silent = isinstance(meter, diffrax.NoProgressMeter)
        self.beats = None

    def share(self) -> float:
        """Of the work that is done, at this time."""
        done, left = sum(self.work[: self.done]), self.work[self.done :]
        if not left:
            return 1.0
        expected = (self.ended - self.began) / done * left[0] if done else _EXPECTED
        since = time.perf_counter() - self.ended
        return (done + left[0] * since / (since + expected)) / (done + sum(left))

    def step(self) -> None:
        """The next part is done."""
        with self.lock:
            self.done, self.ended = self.done + 1, time.perf_counter()
            self._show()
            if self.done == len(self.work):
                self.over.set()

    def _show(self) -> None:
        if not self.silent:
            self.state = _step(self.meter, self.state, jnp.asarray(self.share()))

    def _beat(self) -> None:
        while not self.over.wait(_BEAT):
            with self.lock:
                if not self.over.is_set():
                    self._show()

    def __enter__(self) -> "Parts":
        if not self.silent and alike_elsewhere():
            self.beats = threading.Thread(target=self._beat, name="progress", daemon=True)
            self.beats.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.over.set()
        if self.beats is not None:
            self.beats.join()
        self.meter.close(self.state)


@eqx.filter_jit
def _step(meter: diffrax.AbstractProgressMeter, state: Any, share: Array) -> Any:
    return meter.step(state, share)
