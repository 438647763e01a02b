"""Continuous time: the mean-field ODE of a network, finite or infinite."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network
from ensembles._checks import concrete, count, kind, randomness

from .._checks import positive, tolerance
from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._dynamics.schedules import Schedule, turning_points
from .._energies.energy import Energy
from .solver import Solver
from .state import MassWeightedNorm, filled, packing, shares
from .time import Observe, checkpoints, look, nan_after
from .trajectory import RESULTS, Trajectory

_FINEST = 2.0**-16  # of a run, to which Brownian motion is resolved


class Adaptive(Solver):
    """Adaptive steps in continuous time: the options of `flow`, for studies of many runs.

    `rtol`, `atol` bound the local error of weights, relative and absolute (`atol=None`: as `rtol`;
    None: 1e-7, in single precision 1e-5); `solver` is a diffrax solver, `Tsit5()` by default;
    `max_step`, `kinks`, `max_steps` as in `flow`. Raises `ValueError` for values that do not fit.
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    solver: diffrax.AbstractSolver = diffrax.Tsit5()
    step: ArrayLike | None = None
    max_step: ArrayLike | None = None
    kinks: ArrayLike | None = None
    max_steps: int = eqx.field(static=True, default=16_384)

    def __check_init__(self) -> None:
        remedy = "write solver=diffrax.Tsit5(); tolerances are rtol= and atol="
        kind("solver", self.solver, diffrax.AbstractSolver, remedy)
        count("max_steps", self.max_steps)
        given = {"rtol": self.rtol, "atol": self.atol, "step": self.step}
        for name, value in given.items():
            if value is not None:
                positive(name, value, jnp.result_type(float))

    def reference(self, t1: Array) -> "Adaptive":
        """Tolerances ten times as tight and at least 32 steps, or steps of a quarter the size."""
        finer = self._scaled(t1.dtype, 1 / 10, 1 / 4)
        longest = np.minimum(np.asarray(finer.max_step), np.asarray(t1) / 32)
        return dataclasses.replace(finer, max_step=longest).resolved(t1.dtype)

    def rougher(self) -> "Adaptive":
        """Tolerances ten times as large, or steps twice the size."""
        return self._scaled(jnp.result_type(float), 10, 2)

    def _scaled(self, dtype: jnp.dtype, tolerances: float, steps: float) -> "Adaptive":
        """With that many times the tolerances, or steps. On the host, which compiles nothing."""
        own = self.resolved(dtype)
        rtol, atol = (np.asarray(a) * tolerances for a in (own.rtol, own.atol))
        step = None if own.step is None else np.asarray(own.step) * steps
        return dataclasses.replace(own, rtol=rtol, atol=atol, step=step).resolved(dtype)

    def resolved(self, dtype: jnp.dtype) -> "Adaptive":
        """These options as arrays of that dtype, defaults filled in."""
        atol = self.rtol if self.atol is None else self.atol
        return Adaptive(
            rtol=tolerance("rtol", self.rtol, dtype),
            atol=tolerance("atol", atol, dtype),
            solver=self.solver,
            step=None if self.step is None else positive("step", self.step, dtype),
            max_step=_longest(self.max_step, dtype),
            kinks=_increasing(self.kinks, dtype),
            max_steps=self.max_steps,
        )

    @property
    def random(self) -> bool:
        return False

    @property
    def continuous(self) -> "Adaptive":
        return self

    def check(self, network: Network, energy: Energy, dynamics: Dynamics, times: Array) -> None:
        remedy = "write dynamics=GradientFlow(); steps and batches are solver=Steps(step, batch)"
        kind("dynamics", dynamics, Dynamics, remedy)
        without_noise(dynamics)
        self.resolved(network.dtype)
        dynamics.check(network, energy)

    def run(
        self,
        network: Network,
        energy: Energy,
        dynamics: Dynamics,
        *,
        times: Array,
        observe: Observe,
        key: PRNGKeyArray | None = None,
        tangent: Any = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ) -> Trajectory:
        return _integrate(
            network, energy, dynamics, self.resolved(network.dtype), jnp.zeros_like(times[-1]),
            times[-1], times, observe, tangent,
            diffrax.ForwardMode() if adjoint is None else adjoint, diffrax.NoProgressMeter(),
        )  # fmt: skip

    def controller(
        self, t0: Array, t1: Array, schedules: tuple[Schedule, ...], norm: Callable[[Any], Array]
    ) -> diffrax.AbstractStepSizeController:
        """What chooses the steps, which end at kinks and follow the variations of schedules."""
        if self.step is not None:
            return diffrax.ConstantStepSize()
        steps = diffrax.PIDController(
            rtol=self.rtol,  # pyright: ignore[reportArgumentType]
            atol=self.atol,  # pyright: ignore[reportArgumentType]
            dtmax=self.max_step,  # pyright: ignore[reportArgumentType]
            dtmin=t1 * 4 * jnp.finfo(t1.dtype).eps,
            force_dtmin=False,
            norm=norm,
        )
        if not schedules and self.kinks is None:
            return steps
        turns = turning_points(schedules, t0, t1) if schedules else None
        jumps = None if self.kinks is None else jnp.asarray(self.kinks)
        if turns is not None and jumps is not None and jumps.size:  # no step between near ones
            near = jumps[jnp.abs(turns[:, None] - jumps[None]).argmin(1)]
            turns = jnp.where(jnp.abs(turns - near) < 1e-5 * (t1 - t0), t1, turns)
        return diffrax.ClipStepSizeController(
            steps,
            step_ts=None if turns is None else jnp.sort(turns),  # pyright: ignore[reportArgumentType]
            jump_ts=jumps,  # pyright: ignore[reportArgumentType]
        )


def flow(
    network: Network,
    energy: Energy,
    dynamics: Dynamics | None = None,
    *,
    t1: ArrayLike,
    t0: ArrayLike = 0.0,
    times: ArrayLike | None = None,
    observe: Observe = None,
    solver: diffrax.AbstractSolver | None = None,
    rtol: ArrayLike | None = None,
    atol: ArrayLike | None = None,
    step: ArrayLike | None = None,
    max_step: ArrayLike | None = None,
    kinks: ArrayLike | None = None,
    max_steps: int = 16_384,
    key: PRNGKeyArray | None = None,
    tangent: Any = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """Solve d(weights)/dt = dynamics from time `t0` to `t1`.

    Arguments:

    - `network`: where to start; quadrature masses give the limit, masses 1/N a finite network.
    - `energy`: e.g. `Risk(data)`; `dynamics`: `GradientFlow()` by default.
    - `t1`: the final time; `t0`: the time at `network` (to go on from the `.final` of another run);
      `times`: increasing times at which to observe (start and end if None).
    - `observe`: a function of the network, or a dictionary of functions, kept at `times` (define
      them once: a fresh lambda compiles anew).
    - `solver`: a diffrax solver, `Tsit5()` by default, with tolerances `rtol`, `atol` on the local
      error of weights (1e-7 in double, 1e-5 in single precision) and steps of at most `max_step`
      (no bound if None), `max_steps` of them; or steps of constant size `step`. `kinks`: increasing
      times at which the dynamics jumps or is not smooth, which adaptive steps do not cross. They
      also end where the schedules of `dynamics` turn (up to 256 times) and have passed another
      sixteenth of their variation, seen at 4,097 times: pulses of some (t1 − t0)/2000 are not
      stepped over; for shorter ones give `kinks`.
    - `key`: required exactly when the dynamics is random. Its Brownian motion is the same whatever
      the steps; solved by diffrax's `ShARK` unless `solver` says otherwise, of strong order 1.5 for
      this noise, with tolerances of 1e-3.
    - `tangent`: a direction in (network, energy, dynamics), a tree like them with None for what
      does not move. The derivative of the weights in it is integrated beside and its error
      controlled too. Explicit solvers keep a solution of a stiff flow stable by its error, but
      amplify derivatives, whose error they don't see: give one to differentiate over long times.
    - `adjoint`: how derivatives pass, reverse mode by default (checkpointed: memory of
      O(√max_steps) networks when differentiated); `diffrax.ForwardMode()` for forward mode.
    - `throw`: raise `FailedRun` if the run breaks down; otherwise `.result` says what happened.
    - `progress`: a diffrax progress meter.

    The local error is averaged with the neurons' masses (those of evolving masses count equally
    where they are positive), so tracers do not influence step sizes: they change nothing. They are
    integrated with the same steps as the neurons of positive mass.

    Returns a `Trajectory`. Raises `ValueError` for arguments that do not fit together.
    """
    dynamics = GradientFlow() if dynamics is None else dynamics
    kind("network", network, Network, "write ensemble.sample(64, key=key), or .final of a run")
    kind("energy", energy, Energy, "write Risk(data)")
    kind("dynamics", dynamics, Dynamics, "write GradientFlow(); updates such as SGD go to train")
    if dynamics.random:
        key = randomness(key, "the dynamics has noise")
        solver, rtol = solver or diffrax.ShARK(), 1e-3 if rtol is None else rtol
        if tangent is not None:
            raise ValueError("tangent must be None for a dynamics with noise: leave it out")
    elif key is not None:
        raise ValueError("key must be None for a dynamics without noise: leave it out")
    options = Adaptive(
        rtol, rtol if atol is None else atol, diffrax.Tsit5() if solver is None else solver, step,
        max_step, kinks, max_steps,
    ).resolved(network.dtype)  # fmt: skip
    dynamics.check(network, energy)
    start, when = checkpoints(times, t0, t1, network.dtype)
    adjoint = (
        _adjoint((network, energy, dynamics, t0, t1, times, kinks)) if adjoint is None else adjoint
    )
    progress = diffrax.NoProgressMeter() if progress is None else progress
    run = _integrate(
        network, energy, dynamics, options, start, jnp.asarray(t1, network.dtype), when, observe,
        tangent, adjoint, progress, key,
    )  # fmt: skip
    return run.raise_if_failed() if throw else run


def without_noise(dynamics: Dynamics) -> None:
    """Raise `ValueError` for a random dynamics, which has no limit by nodes."""
    if dynamics.random:
        raise ValueError(
            f"dynamics must be without noise here, got {type(dynamics).__name__}: particles with "
            "noise of their own do not follow nodes. Write flow or train with key=, and grid_flow "
            "for the law of infinitely many"
        )


def _adjoint(given: Any) -> diffrax.AbstractAdjoint:
    """Reverse mode where derivatives may be taken; what is known cannot be differentiated any more,
    and compiles faster without."""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given))
    return diffrax.RecursiveCheckpointAdjoint() if traced else diffrax.ForwardMode()


def _longest(max_step: ArrayLike | None, dtype: jnp.dtype) -> Array:
    """`max_step` as an array, infinite for None."""
    if max_step is None:
        return jnp.asarray(jnp.inf, dtype)
    known = concrete(max_step)
    if known is not None and not (known.ndim == 0 and known > 0):
        raise ValueError(f"max_step must be positive, got {known}: leave it out for no bound")
    return jnp.asarray(max_step, dtype)


def _increasing(kinks: ArrayLike | None, dtype: jnp.dtype) -> Array | None:
    """`kinks` as an array of increasing times, or None."""
    if kinks is None:
        return None
    known = concrete(kinks)
    if known is not None and not (known.ndim == 1 and (np.diff(known) > 0).all()):
        raise ValueError(
            f"kinks must be increasing times, got {known}: write jnp.array([0.5, 1.0])"
        )
    return jnp.asarray(kinks, dtype)


_Given = tuple[Network, Energy, Dynamics]


@eqx.filter_jit
def _integrate(
    network: Network,
    energy: Energy,
    dynamics: Dynamics,
    options: Adaptive,
    t0: Array,
    t1: Array,
    times: Array,
    observe: Observe,
    tangent: Any,
    adjoint: diffrax.AbstractAdjoint,
    progress: diffrax.AbstractProgressMeter,
    key: PRNGKeyArray | None = None,
) -> Trajectory:
    begin = dynamics.prepare(network).increment
    pack, unpack = packing(begin)
    given = (network, energy, dynamics)

    def rate(t: Array, state: Any, given: _Given) -> Any:
        network, energy, dynamics = given
        return pack(dynamics.velocity(t, network.moved(unpack(state)), energy))

    def velocity(t: Array, both: tuple[Any, Any], args: tuple[_Given, Any]) -> tuple[Any, Any]:
        (state, sensitivity), (given, direction) = both, args
        now = rate(t, state, given)
        if sensitivity is None:
            return now, None
        held, directions = jax.tree.map(
            lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
            ((state, given), (sensitivity, direction)),
        )
        return now, eqx.filter_jvp(lambda *at: rate(t, *at), held, directions)[1]

    def seen(t: Array, both: tuple[Any, Any], args: tuple[_Given, Any]) -> tuple[Array, Any]:
        network, energy, _ = args[0]
        now = network.moved(unpack(both[0]))
        return energy(now), look(observe, now)

    sensitivity = None if tangent is None else pack(filled(tangent[0].increment, begin))

    def noise(t: Array, both: tuple[Any, Any], args: tuple[_Given, Any]) -> Any:
        network, _, dynamics = args[0]
        now = network.moved(unpack(both[0]))
        return lineax.DiagonalLinearOperator((pack(dynamics.diffusion(t, now)), None))

    terms = diffrax.ODETerm(velocity)  # pyright: ignore[reportArgumentType]
    if key is not None:
        like = jax.eval_shape(lambda: (pack(begin), None))
        path = diffrax.VirtualBrownianTree(
            t0, t1, (t1 - t0) * _FINEST, like, key, levy_area=diffrax.SpaceTimeLevyArea
        )
        terms = diffrax.MultiTerm(terms, diffrax.ControlTerm(noise, path))  # pyright: ignore[reportArgumentType]
    solution = diffrax.diffeqsolve(
        terms,
        options.solver,
        t0,
        t1,
        options.step,  # pyright: ignore[reportArgumentType]
        (pack(begin), sensitivity),
        (given, tangent),
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=times, fn=seen),  # pyright: ignore[reportCallIssue]
                diffrax.SubSaveAt(t1=True, fn=lambda t, both, args: both[0]),  # pyright: ignore[reportCallIssue]
            ]
        ),
        stepsize_controller=options.controller(
            t0, t1, dynamics.schedules, MassWeightedNorm(pack(shares(network, begin)))
        ),
        adjoint=adjoint,
        max_steps=options.max_steps,
        throw=False,
        progress_meter=progress,
    )
    saved: Any = solution.ys
    saved_at: Any = solution.ts
    (energies, observed), end = saved
    finite = jnp.isfinite(energies)
    reached = jnp.isfinite(saved_at[0]) & finite
    ended = RESULTS.promote(solution.result)
    diverged = (ended == RESULTS.successful) & ~finite.all()
    result = RESULTS.where(diverged, RESULTS.diverged, ended)
    last = jnp.max(jnp.where(reached, times, t0), initial=0)
    return Trajectory(
        times=times,
        energies=nan_after(energies, reached),
        observed=nan_after(observed, reached),
        final=network.moved(unpack(jax.tree.map(lambda a: a[0], end))),
        error=None,
        result=result,
        stats={
            "time_reached": jnp.where(result == RESULTS.successful, t1, last),
            "steps": solution.stats["num_steps"],
            "accepted_steps": solution.stats["num_accepted_steps"],
        },
    )
