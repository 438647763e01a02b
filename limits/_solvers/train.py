"""Discrete time: gradient descent and other updates, in one compiled loop."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import concrete, count, kind, randomness

from .._checks import positive
from .._dynamics.dynamics import Dynamics, Update
from .._dynamics.optimiser import instead
from .._dynamics.sgd import SGD
from .._energies.energy import Energy
from .adaptive import Adaptive
from .fresh import notice
from .merging import Merging, merging
from .progress import meter_of
from .solver import Solver
from .time import Observe, checkpoints, look, nan_after
from .trajectory import RESULTS, Trajectory, told

_SAVED = 64  # networks kept per checkpoint interval when a run is differentiated


class Steps(Solver):
    """Steps of size `step`, as `train` does: those of an update, or Euler steps of a dynamics on
    batches of `batch` (None: the full batch).

    The limit beside a dynamics is in continuous time, solved as `limit` says. Beside an update
    (an `Optimiser`; `SGD()` for the steps themselves) it takes the very same steps: the distance is
    that of width alone. Raises `ValueError` for a step that is not positive.
    """

    step: ArrayLike
    batch: int | None = eqx.field(static=True, default=None)
    limit: Adaptive = Adaptive()

    def __check_init__(self) -> None:
        positive("step", self.step, jnp.result_type(float))
        if self.batch is not None:
            count("batch", self.batch)
        kind("limit", self.limit, Adaptive, "write limit=Adaptive(rtol=1e-6)")

    @property
    def random(self) -> bool:
        return self.batch is not None

    def beside(self, dynamics: Dynamics | Update) -> Solver:
        return self if isinstance(dynamics, Update) else self.limit

    def reference(self, t1: Array) -> "Steps":
        return self

    def grid(self, t1: ArrayLike) -> np.ndarray:
        step, even = np.asarray(self.step), super().grid(t1)
        whole = np.round(np.minimum(even[:-1] / step, np.floor(even[-1] / step)))
        return np.append(np.unique(whole) * step, even[-1])

    def resolved(self, dtype: jnp.dtype) -> "Steps":
        return Steps(positive("step", self.step, dtype), self.batch, self.limit.resolved(dtype))

    def _update(self, dynamics: Dynamics | Update) -> Update:
        return dynamics if isinstance(dynamics, Update) else SGD(dynamics, self.batch)

    def check(
        self, network: Network, energy: Energy, dynamics: Dynamics | Update, times: Array
    ) -> None:
        if isinstance(dynamics, Update):
            if dynamics.random or self.batch is not None:
                raise ValueError(
                    f"dynamics must be without randomness here, got {type(dynamics).__name__} with "
                    "batches or noise: a batch is common to all neurons, and does not average out "
                    "with width. Leave batch out, or give a dynamics in continuous time to "
                    "Steps(step, batch), whose steps fall"
                )
        else:
            self.limit.check(network, energy, dynamics, times)
        step = positive("step", self.step, network.dtype)
        self._update(dynamics).check(network, energy, step)
        whole_steps(times, step)

    def run(
        self,
        network: Network,
        energy: Energy,
        dynamics: Dynamics | Update,
        *,
        times: Array,
        observe: Observe,
        key: PRNGKeyArray | None = None,
    ) -> Trajectory:
        step = positive("step", self.step, network.dtype)
        steps = whole_steps(times, step)
        return _iterate(
            network, energy, self._update(dynamics), step, times, jnp.zeros_like(steps[0]),
            steps, key if self.random else None, None, observe, diffrax.NoProgressMeter(),
        )  # fmt: skip


def train(
    network: Network,
    energy: Energy,
    dynamics: Update | None = None,
    *,
    step: ArrayLike,
    t1: ArrayLike,
    t0: ArrayLike = 0.0,
    times: ArrayLike | None = None,
    observe: Observe = None,
    key: PRNGKeyArray | None = None,
    memory: Any = None,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """Train `network` in steps of size `step` up to time `t1`; time is step × number of steps.

    Arguments:

    - `dynamics`: an update, e.g. `SGD(GradientFlow([1.0, 0.1]), batch=32)`; full-batch gradient
      descent, `SGD()`, by default.
    - `step`: the step size ε; `t0`, `t1` and all `times` are multiples of it. The first step is
      number t0/ε: a run that goes on from the `.final` (and `.memory`) of another with the same
      schedule and key is the uninterrupted one, bit for bit (but to rounding where batches are
      so small beside the widths that changes of large matrices are added up before they are
      merged, also at every one of `times`: batches of 1 from 128 neurons on, of N/64 at width N).
    - `memory`: the `.memory` of the run that this one goes on from, where the update has one; None
      begins with a fresh one.
    - `times`: increasing times at which to observe (start and end if None); the run goes on to t1
      from the last. `observe`, `throw`,
      `progress` as in `flow`.
    - `key`: required exactly when the update is random; step k uses `jax.random.fold_in(key, k)`.

    The number of steps is not compiled in: another step size or key compiles nothing. Reverse-mode
    derivatives keep O(times) + 64 networks. The energies in the result are those of the full data.

    Returns a `Trajectory`; a run whose loss stops being finite raises `FailedRun` with everything
    observed before (`throw=False`: returns it). Raises `ValueError` for arguments that do not fit.
    """
    update = SGD() if dynamics is None else dynamics
    kind("network", network, Network, "write ensemble.sample(64, key=key), or .final of a run")
    kind("energy", energy, Energy, "write Risk(data)")
    held = type(update).__name__ if isinstance(update, Dynamics) else "GradientFlow"
    kind("dynamics", update, Update, instead(update, f"write SGD({held}(...)), or use flow"))
    step = positive("step", step, network.dtype)
    update.check(network, energy, step)
    notice(observe, energy, update, [vars(layer) for layer in network.layers])
    if update.random:
        key = randomness(key, "the dynamics draws at random at every step")
    elif key is not None:
        raise ValueError("key must be None for a dynamics without randomness: leave it out")
    if memory is not None:
        _check_memory(memory, update, network)
    start, when = checkpoints(times, t0, t1, network.dtype)
    first, steps = whole_steps(start, step, "t0"), whole_steps(when, step)
    end = whole_steps(jnp.asarray(t1, when.dtype), step)
    steps = _checked(steps, end, when, jnp.asarray(t1, when.dtype), step)
    beyond = times is not None and not _same(steps, end, when, t1)
    if beyond:
        steps = jnp.append(steps, end)
    progress = meter_of(progress)
    run = _iterate(
        network, energy, update, step, when, first, steps, key, memory, observe, progress,
        beyond,
    )  # fmt: skip
    run = told(run, network, energy)
    return run.raise_if_failed() if throw else run


def _checked(steps: Array, end: Array, times: Array, t1: Array, step: Array) -> Array:
    """`steps`, whose use is an error at run time where traced times are no multiples of the step,
    or the step or t1 is not positive. Known ones are checked before."""
    if concrete(times) is not None and concrete(step) is not None and concrete(t1) is not None:
        return steps
    exact, whole = jnp.append(times, t1) / step, jnp.append(steps, end)
    near = jnp.abs(exact - whole.astype(exact.dtype)) <= 1e-3 + 1e-6 * exact
    wrong = ~(near.all() & (step > 0) & (t1 > 0))
    steps = jnp.where(wrong, 0, steps)  # the loop ends, also where errors at run time are off
    return eqx.error_if(steps, wrong, "times and t1 must be positive multiples of step > 0")


def _check_memory(memory: Any, update: Update, network: Network) -> None:
    """Raise `ValueError` unless `memory` is like that of the update."""
    own = eqx.filter_eval_shape(lambda: update.memory(update.prepare(network)))
    name = type(update).__name__
    if own is None:
        raise ValueError(
            f"memory must be None for {name}, which keeps none, got {type(memory).__name__}: leave "
            "it out"
        )
    same = jax.tree.structure(memory) == jax.tree.structure(own)
    pairs = zip(jax.tree.leaves(memory), jax.tree.leaves(own), strict=True) if same else ()
    if not same or any(jnp.shape(a) != b.shape or jnp.result_type(a) != b.dtype for a, b in pairs):
        raise ValueError(
            f"memory must be the .memory of a run of the same network under the same {name}, got "
            f"a tree {jax.tree.structure(memory)} of shapes "
            f"{[jnp.shape(leaf) for leaf in jax.tree.leaves(memory)]}: write memory=run.memory"
        )


def _same(steps: Array, end: Array, times: Array, t1: ArrayLike) -> bool:
    """Whether the last of `times` is known to be t1."""
    known = concrete(steps), concrete(end)
    if known[0] is None or known[1] is None:
        known, slack = (concrete(times), concrete(t1)), 1e-6
    else:
        slack = 0.0
    last, final = known
    return last is not None and final is not None and bool(last[-1] >= final * (1 - slack))


def whole_steps(times: Array, step: Array, name: str = "times and t1") -> Array:
    """How many steps reach each of `times`."""
    known, size = concrete(times), concrete(step)
    if known is None or size is None:
        return jnp.round(times / step).astype(int)
    exact = known / size
    off = np.abs(exact - np.round(exact)) > 1e-3 + 1e-6 * exact
    if off.any():
        raise ValueError(
            f"{name} must be multiples of step={float(size):.6g}, got {known[off]}: the nearest "
            f"are {(np.round(exact) * size)[off]}; write times = step * jnp.arange(0, n, k)"
        )
    return jnp.asarray(np.round(exact).astype(jnp.result_type(int)))


class _Carry(NamedTuple):
    steps: Array  # done
    increment: Parameters
    memory: Any
    broke: Array  # the first step whose energy was not finite
    meter: Any


@eqx.filter_jit
def _iterate(
    network: Network,
    energy: Energy,
    update: Update,
    step: Array,
    times: Array,
    first: Array,
    steps: Array,
    key: PRNGKeyArray | None,
    memory: Any,
    observe: Observe,
    progress: diffrax.AbstractProgressMeter,
    beyond: bool = False,
) -> Trajectory:
    """`steps` are those at `times`, and with `beyond` those at an end where nothing is observed."""
    state = update.prepare(network)
    memory = update.memory(state) if memory is None else memory

    def one_step(at: _Carry, state: Network, added: Callable[..., Parameters]) -> _Carry:
        t = at.steps.astype(step.dtype) * step
        step_key = None if key is None else jax.random.fold_in(key, at.steps)
        now = state.moved(at.increment)
        value, change, memory = update(t, step, now, at.memory, energy, step_key)
        broke = jnp.where(jnp.isfinite(value), at.broke, jnp.minimum(at.broke, at.steps))
        done = (at.steps + 1 - first) / (steps[-1] - first)
        meter = progress.step(at.meter, done.astype(step.dtype))
        moved = state.moved(added(at.increment, change))
        increment = energy.retracted(moved).normalised().increment
        return _Carry(at.steps + 1, increment, memory, broke, meter)

    def one_by_one(at: _Carry, count: Array) -> _Carry:
        return one_step(at, state, lambda *both: jax.tree.map(jnp.add, *both))

    def to_merge(merge: Merging, at: _Carry, count: Array) -> _Carry:
        begin = merge.begin(state.moved(at.increment))
        end = jnp.minimum(at.steps + merge.steps, count)

        def step_on(c: _Carry) -> _Carry:
            return one_step(c, begin, lambda a, b: merge.added(a, b, c.steps - at.steps))

        on = until(end, step_on, at._replace(increment=begin.increment))
        return on._replace(increment=merge.merged(at.increment, on.increment))

    merge = merging(state, energy, update, step, key)
    steps_on = one_by_one if merge is None else partial(to_merge, merge)

    def until(count: Array, forward: Callable[[_Carry], _Carry], at: _Carry) -> _Carry:
        return eqxi.while_loop(
            lambda c: c.steps < count, forward, at, kind="checkpointed", checkpoints=_SAVED
        )

    def to_checkpoint(carry: tuple[_Carry, Parameters], count: Array):
        at, good = carry
        at = until(count, lambda c: steps_on(c, count), at)
        now = state.moved(at.increment)
        value = energy(now)
        finite = jnp.isfinite(value) & (at.broke == never)
        good = jax.tree.map(lambda new, old: jnp.where(finite, new, old), at.increment, good)
        return (at, good), (value, finite, look(observe, now))

    never = jnp.asarray(jnp.iinfo(steps.dtype).max)
    begin = _Carry(first, state.increment, memory, never, progress.init())
    (at, final), (energies, finite, observed) = jax.lax.scan(
        to_checkpoint, (begin, state.increment), steps
    )
    progress.close(at.meter)
    ok = finite.all()
    if beyond:
        energies, finite, observed = jax.tree.map(lambda a: a[:-1], (energies, finite, observed))
    end = steps[-1].astype(step.dtype) * step if beyond else times[-1]
    broke = jnp.minimum(at.broke, at.steps).astype(step.dtype) * step
    return Trajectory(
        times=times,
        energies=nan_after(energies, finite),
        observed=nan_after(observed, finite),
        final=state.moved(final),
        error=None,
        result=RESULTS.where(ok, RESULTS.successful, RESULTS.diverged),  # pyright: ignore[reportArgumentType]
        stats={
            "time_reached": jnp.where(ok, end, broke),
            "steps": at.steps - first,
        },
        memory=at.memory,
    )
