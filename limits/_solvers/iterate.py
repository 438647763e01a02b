"""One compiled loop of steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network, Parameters

from .._dynamics.dynamics import Update, check_change, check_value
from .._energies.energy import Energy
from .merging import Merging, drawn, merging
from .time import Observe, nan_after, observed
from .trajectory import RESULTS, Trajectory

_SAVED = 64  # networks kept per checkpoint interval when a run is differentiated


class _Carry(NamedTuple):
    steps: Array  # done
    increment: Parameters
    memory: Any
    broke: Array  # the first step whose energy was not finite
    meter: Any


@eqx.filter_jit
def iterate(
    network: Network,
    energy: Energy,
    update: Update,
    batch: int | None,
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
        seen, moment = drawn(energy, batch, t, step, step_key)
        returned = update.step(moment, now, at.memory, seen)
        of = f"{type(update).__name__}.step"
        check_value(of, returned, "value, change, memory")
        value, change, memory = returned
        check_change(of, change, at.increment)
        broke = jnp.where(jnp.isfinite(value), at.broke, jnp.minimum(at.broke, at.steps))
        done = (at.steps + 1 - first) / (steps[-1] - first)
        meter = progress.step(at.meter, done.astype(step.dtype))
        moved = state.moved(added(at.increment, change))
        increment = energy.domain.project(moved).normalised().increment
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

    merge = merging(state, energy, update, batch, step, key)
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
        return (at, good), (value, finite, observed(observe, now))

    never = jnp.asarray(jnp.iinfo(steps.dtype).max)
    begin = _Carry(first, state.increment, memory, never, progress.init())
    (at, final), (energies, finite, seen) = jax.lax.scan(
        to_checkpoint, (begin, state.increment), steps
    )
    progress.close(at.meter)
    ok = finite.all()
    if beyond:
        energies, finite, seen = jax.tree.map(lambda a: a[:-1], (energies, finite, seen))
    end = steps[-1].astype(step.dtype) * step if beyond else times[-1]
    broke = jnp.minimum(at.broke, at.steps).astype(step.dtype) * step
    return Trajectory(
        times=times,
        energies=nan_after(energies, finite),
        observed=nan_after(seen, finite),
        final=state.moved(final),
        error=None,
        result=RESULTS.where(ok, RESULTS.successful, RESULTS.diverged),  # pyright: ignore[reportArgumentType]
        stats={
            "time_reached": jnp.where(ok, end, broke),
            "steps": at.steps - first,
        },
        memory=at.memory,
    )
