"""Continuous time: the mean-field ODE of a network, finite or infinite."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ensembles import Network, Parameters
from ensembles._checks import concrete

from ._dynamics import Dynamics, GradientFlow
from ._energies import Energy
from ._trajectory import RESULTS, Trajectory, checkpoints, nan_after


def flow(
    network: Network,
    energy: Energy,
    dynamics: Dynamics | None = None,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    observe: Callable[[Network], Any] | None = None,
    solver: diffrax.AbstractSolver | None = None,
    rtol: ArrayLike | None = None,
    atol: ArrayLike | None = None,
    step: ArrayLike | None = None,
    max_step: ArrayLike | None = None,
    kinks: ArrayLike | None = None,
    tangent: Any = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    max_steps: int = 16_384,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """Solve d(weights)/dt = dynamics from time 0 to `t1`.

    Arguments:

    - `network`: where to start; quadrature masses give the limit, masses 1/N a finite network.
    - `energy`: e.g. `Risk(data)`; `dynamics`: `GradientFlow()` by default.
    - `t1`: the final time; `times`: increasing times at which to observe (start and end if None).
    - `observe`: a function of the network, kept at `times` (define it once: a fresh lambda
      compiles anew).
    - `solver`: a diffrax solver, `Tsit5()` by default, with tolerances `rtol`, `atol` on the local
      error of weights (1e-7 in double, 1e-5 in single precision) and steps of at most `max_step`
      (no bound if None); or steps of constant size `step`. `kinks`: increasing times at which the
      dynamics is not smooth (e.g. a schedule's), where adaptive steps then end.
    - `tangent`: a direction in (network, energy, dynamics), a tree like them with None for what
      does not move. The derivative of the weights in it is integrated beside and its error
      controlled too. Explicit solvers keep a solution of a stiff flow stable by its error, but
      amplify derivatives, whose error they don't see: give one to differentiate over long times.
    - `adjoint`: how derivatives pass, reverse mode by default (checkpointed: memory of
      O(√max_steps) networks when differentiated); `diffrax.ForwardMode()` for forward mode.
    - `throw`: raise `FailedRun` if the run breaks down; otherwise `.result` says what happened.
    - `progress`: a diffrax progress meter.

    The local error is averaged with the neurons' masses, so tracers do not influence step sizes:
    they change nothing. They are integrated with the same steps as the neurons of positive mass.

    Returns a `Trajectory`. Raises `ValueError` for arguments that do not fit together.
    """
    dynamics = GradientFlow() if dynamics is None else dynamics
    solver = diffrax.Tsit5() if solver is None else solver
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    progress = diffrax.NoProgressMeter() if progress is None else progress
    dynamics.check(network, energy)
    rtol = tolerance("rtol", rtol, network.dtype, 1e-7)
    atol = tolerance("atol", atol, network.dtype, 1e-7)
    step = None if step is None else positive("step", step, network.dtype)
    max_step = None if max_step is None else positive("max_step", max_step, network.dtype)
    kinks = None if kinks is None else jnp.asarray(kinks, network.dtype)
    when = checkpoints(times, t1, network.dtype)
    end = jnp.asarray(t1, network.dtype)
    run = _integrate(
        network, energy, dynamics, end, when, observe, solver, rtol, atol, step, max_step,
        kinks, tangent, adjoint, max_steps, progress,
    )  # fmt: skip
    return run.raise_if_failed() if throw else run


_Args = tuple[Network, Energy, Dynamics]
_State = tuple[Parameters, Parameters | None]  # the increment, and its derivative in `tangent`


@eqx.filter_jit
def _integrate(
    network: Network,
    energy: Energy,
    dynamics: Dynamics,
    t1: Array,
    times: Array,
    observe: Callable[[Network], Any] | None,
    solver: diffrax.AbstractSolver,
    rtol: Array,
    atol: Array,
    step: Array | None,
    max_step: Array | None,
    kinks: Array | None,
    tangent: Any,
    adjoint: diffrax.AbstractAdjoint,
    max_steps: int,
    progress: diffrax.AbstractProgressMeter,
) -> Trajectory:
    def velocity(t: Array, state: _State, args: tuple[_Args, Any]) -> _State:
        def rate(increment: Parameters, args: _Args) -> Parameters:
            network, energy, dynamics = args
            return dynamics.velocity(t, moved(network, increment), energy)

        (increment, sensitivity), (given, direction) = state, args
        now = rate(increment, given)
        if sensitivity is None:
            return now, None
        held, directions = jax.tree.map(
            lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
            ((increment, given), (sensitivity, direction)),
        )
        return now, eqx.filter_jvp(rate, held, directions)[1]

    def look(t: Array, state: _State, args: tuple[_Args, Any]) -> tuple[Array, Any]:
        network, energy, _ = args[0]
        now = moved(network, state[0])
        return energy(now), None if observe is None else observe(now)

    if step is None:
        controller = diffrax.PIDController(
            rtol=rtol,  # pyright: ignore[reportArgumentType]
            atol=atol,  # pyright: ignore[reportArgumentType]
            dtmax=max_step,
            dtmin=t1 * 4 * jnp.finfo(t1.dtype).eps,
            force_dtmin=False,
            norm=MassWeightedNorm(network.parameter_masses()),
        )
        if kinks is not None:
            controller = diffrax.ClipStepSizeController(controller, step_ts=kinks)
    else:
        controller = diffrax.ConstantStepSize()
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),  # pyright: ignore[reportArgumentType]
        solver,
        jnp.zeros_like(t1),
        t1,
        step,
        (network.increment, None if tangent is None else network.increment),
        ((network, energy, dynamics), tangent),
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=times, fn=look),  # pyright: ignore[reportCallIssue]
                diffrax.SubSaveAt(t1=True, fn=lambda t, state, args: state[0]),  # pyright: ignore[reportCallIssue]
            ]
        ),
        stepsize_controller=controller,
        adjoint=adjoint,
        max_steps=max_steps,
        throw=False,
        progress_meter=progress,
    )
    saved: Any = solution.ys
    saved_at: Any = solution.ts
    (energies, observed), increment = saved
    finite = jnp.isfinite(energies)
    reached = jnp.isfinite(saved_at[0]) & finite
    ended = RESULTS.promote(solution.result)
    diverged = (ended == RESULTS.successful) & ~finite.all()
    result = RESULTS.where(diverged, RESULTS.diverged, ended)
    last = jnp.where(
        result == RESULTS.successful, t1, jnp.max(jnp.where(reached, times, 0), initial=0)
    )
    return Trajectory(
        times=times,
        energies=nan_after(energies, reached),
        observed=nan_after(observed, reached),
        final=moved(network, jax.tree.map(lambda a: a[0], increment)),
        error=None,
        result=result,
        stats={
            "time_reached": last,
            "steps": solution.stats["num_steps"],
            "accepted_steps": solution.stats["num_accepted_steps"],
        },
    )


class MassWeightedNorm(eqx.Module):
    """Root mean square over neurons with their masses, so that tracers do not count; the larger of
    a solution's and its derivative's."""

    masses: Parameters

    def __call__(self, error: tuple[Parameters, Parameters | None]) -> Float[Array, ""]:
        parts = [self._of(part) for part in error if part is not None]
        return jnp.max(jnp.stack(parts))

    def _of(self, error: Parameters) -> Float[Array, ""]:
        def square(p: Array, e: Array) -> Array:
            return (p * e**2).sum() / p.sum() * (p.size / e.size)

        squares = jax.tree.leaves(jax.tree.map(square, self.masses, error))
        return jnp.sqrt(sum(squares) / len(squares))


def moved(network: Network, increment: Parameters) -> Network:
    """`network` with another increment."""
    return eqx.tree_at(lambda n: n.increment, network, increment)


def positive(name: str, value: ArrayLike, dtype: jnp.dtype) -> Float[Array, ""]:
    """`value` as a positive scalar of that dtype."""
    held = jnp.asarray(value, dtype)
    known = concrete(held)
    if known is not None and not (known.ndim == 0 and known > 0 and known < float("inf")):
        raise ValueError(f"{name} must be a positive finite number, got {value}")
    return held


def tolerance(
    name: str, value: ArrayLike | None, dtype: jnp.dtype, default: float
) -> Float[Array, ""]:
    """`value` as a positive scalar; for None `default`, and 1e-5 in single precision."""
    if value is None:
        value = default if dtype.itemsize >= 8 else 1e-5
    return positive(name, value, dtype)
