"""Discrete time: gradient descent and its stochastic kin, in one compiled loop."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles._checks import concrete, randomness

from ._dynamics import SGD
from ._energies import Energy
from ._flow import moved, positive
from ._trajectory import RESULTS, Trajectory, checkpoints, nan_after

_SAVED = 64  # networks kept per checkpoint interval when a run is differentiated


def train(
    network: Network,
    energy: Energy,
    dynamics: SGD | None = None,
    *,
    step: ArrayLike,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    observe: Callable[[Network], Any] | None = None,
    key: PRNGKeyArray | None = None,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """Train `network` in steps of size `step` up to time `t1`; time is step × number of steps.

    Arguments:

    - `dynamics`: `SGD(batch)`, or full-batch gradient descent by default.
    - `step`: the step size ε; `t1` and all `times` are multiples of it.
    - `times`: increasing times at which to observe (start and end if None); `observe`, `throw`,
      `progress` as in `flow`.
    - `key`: required exactly when the dynamics is random; step k uses `jax.random.fold_in(key, k)`.

    The number of steps is not compiled in: another step size or key compiles nothing. Reverse-mode
    derivatives keep O(times) + 64 networks. The energies in the result are those of the full data.

    Returns a `Trajectory`; a run whose loss stops being finite raises `FailedRun` with everything
    observed before (`throw=False`: returns it). Raises `ValueError` for arguments that do not fit.
    """
    dynamics = SGD() if dynamics is None else dynamics
    dynamics.check(network, energy)
    if dynamics.random:
        key = randomness(key, "the dynamics draws at random at every step")
    elif key is not None:
        raise ValueError("key must be None for a dynamics without randomness: leave it out")
    step = positive("step", step, network.dtype)
    when = checkpoints(times, t1, network.dtype)
    steps = whole_steps(when, step)
    progress = diffrax.NoProgressMeter() if progress is None else progress
    run = _iterate(network, energy, dynamics, step, when, steps, key, observe, progress)
    return run.raise_if_failed() if throw else run


def whole_steps(times: Array, step: Array) -> Array:
    """How many steps reach each of `times`."""
    exact = times / step
    known = concrete(exact)
    if known is not None:
        off = np.abs(known - np.round(known)) > 1e-3 + 1e-6 * known
        if off.any():
            raise ValueError(
                f"times and t1 must be multiples of step={float(step)}, got "
                f"{np.asarray(times)[off]}: write times = step * jnp.arange(0, n, k)"
            )
    return jnp.round(exact).astype(int)


_Carry = tuple[Array, Parameters, Array, Any]  # steps done, increment, first bad step, meter


@eqx.filter_jit
def _iterate(
    network: Network,
    energy: Energy,
    dynamics: SGD,
    step: Array,
    times: Array,
    steps: Array,
    key: PRNGKeyArray | None,
    observe: Callable[[Network], Any] | None,
    progress: diffrax.AbstractProgressMeter,
) -> Trajectory:
    def one_step(carry: _Carry) -> _Carry:
        k, increment, broke, meter = carry
        t = k.astype(step.dtype) * step
        step_key = None if key is None else jax.random.fold_in(key, k)
        value, change = dynamics.update(t, step, moved(network, increment), energy, step_key)
        broke = jnp.where(jnp.isfinite(value), broke, jnp.minimum(broke, k))
        meter = progress.step(meter, ((k + 1) / steps[-1]).astype(step.dtype))
        return k + 1, jax.tree.map(jnp.add, increment, change), broke, meter

    def to_checkpoint(carry: tuple[_Carry, Parameters], count: Array):
        state, good = carry
        state = eqxi.while_loop(
            lambda c: c[0] < count, one_step, state, kind="checkpointed", checkpoints=_SAVED
        )
        now = moved(network, state[1])
        value = energy(now)
        finite = jnp.isfinite(value) & (state[2] == never)
        good = jax.tree.map(lambda new, old: jnp.where(finite, new, old), state[1], good)
        look = None if observe is None else observe(now)
        return (state, good), (value, finite, look)

    never = jnp.iinfo(steps.dtype).max
    start = (jnp.zeros_like(steps[0]), network.increment, jnp.asarray(never), progress.init())
    (state, final), (energies, finite, observed) = jax.lax.scan(
        to_checkpoint, (start, network.increment), steps
    )
    progress.close(state[3])
    ok = finite.all()
    broke = jnp.minimum(state[2], state[0]).astype(step.dtype) * step
    return Trajectory(
        times=times,
        energies=nan_after(energies, finite),
        observed=nan_after(observed, finite),
        final=moved(network, final),
        error=None,
        result=RESULTS.where(ok, RESULTS.successful, RESULTS.diverged),  # pyright: ignore[reportArgumentType]
        stats={
            "time_reached": jnp.where(ok, times[-1], broke),
            "steps": state[0],
        },
    )
