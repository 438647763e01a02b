"""Discrete time: gradient descent and other updates."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network
from ensembles.internal import concrete, count, kind

from .._checks import flag
from .._dynamics.dynamics import Update
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .iterate import iterate
from .progress import meter_of
from .recompilation import notice
from .steps import Steps, run_key
from .time import Observe, checkpoints, whole_steps
from .trajectory import Trajectory, with_cause


def train(
    network: Network,
    energy: Energy,
    dynamics: Update | None = None,
    *,
    step: ArrayLike,
    batch: int | None = None,
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

    - `dynamics`: `GradientFlow()` by default, gradient descent; any dynamics, in Euler's steps, or
      an update such as `Optimiser(optax.adam(1e-2))`.
    - `batch`: the number of samples of a step, drawn by the masses of the data with
      replacement (of a population: fresh samples); None is the full batch.
    - `step`: the step size ε; `t0`, `t1` and all `times` are multiples of it. The first step is
      number t0/ε: a run that goes on from the `.final` (and `.memory`) of another with the same
      schedule and key is the uninterrupted one, bit for bit (but to rounding where batches are so
      small compared with the widths that changes of large matrices are added up before they are
      merged, also at every one of `times`: batches of 1 from 128 neurons on, of N/64 at width N).
    - `memory`: the `.memory` of the run that this one goes on from, where the update has one; None
      begins with a new one.
    - `times`: times at which to observe, none before the one before it (t0 and t1 if None); the
      run goes on from the last of them to t1. `observe`, `throw`, `progress` as in `flow`.
    - `key`: required where there are batches or noise; step k uses `jax.random.fold_in(key, k)`.

    The number of steps is not compiled in: another step size or key compiles nothing. Reverse-mode
    derivatives keep O(times) + 64 networks. The energies in the result are those of the full data.

    Returns a `Trajectory`; a run whose loss stops being finite raises `FailedRun` with everything
    observed before (`throw=False`: returns it). Raises `ValueError` for arguments that do not fit.
    """
    update = GradientFlow() if dynamics is None else dynamics
    kind("network", network, Network, "write ensemble.sample(64, key=key), or .final of a run")
    kind("energy", energy, Energy, "write Risk(data)")
    flag("throw", throw)
    batch = None if batch is None else count("batch", batch)
    options = Steps(step, batch).resolved(network.dtype)
    step = jnp.asarray(options.step)
    start, when = checkpoints(times, t0, t1, network.dtype)
    first, steps = whole_steps(start, step, "t0"), whole_steps(when, step)
    options.check(network, energy, update, when, t0)
    notice(observe, energy, update, [vars(layer) for layer in network.layers])
    key = run_key(key, options, update)
    if memory is not None:
        _check_memory(memory, update, network)
    end = whole_steps(jnp.asarray(t1, when.dtype), step)
    steps = _checked(steps, end, when, jnp.asarray(t1, when.dtype), step)
    beyond = times is not None and not _same(steps, end, when, t1)
    if beyond:
        steps = jnp.append(steps, end)
    run = iterate(
        network, energy, update, batch, step, when, first, steps, key, memory, observe,
        meter_of(progress), beyond,
    )  # fmt: skip
    run = with_cause(run, network, energy, update, start)
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
