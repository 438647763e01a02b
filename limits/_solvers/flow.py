"""Continuous time: the mean-field ODE of a network, finite or infinite."""

from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import ArrayLike, PRNGKeyArray

from ensembles import Network
from ensembles.internal import kind, randomness, traced

from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._dynamics.optimiser import instead
from .._energies.energy import Energy
from .adaptive import Adaptive
from .fresh import notice
from .integrate import integrate
from .progress import meter_of
from .time import Observe, checkpoints
from .trajectory import Trajectory, told


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
      the steps, and another for another `t0`: a run that goes on has fresh noise; solved by
      diffrax's `ShARK` unless `solver` says otherwise, of strong order 1.5 for this noise, with
      tolerances of 1e-3.
    - `tangent`: a direction in (network, energy, dynamics), a tree like them with None for what
      does not move. The derivative of the weights in it is integrated beside and its error
      controlled too. Explicit solvers keep a solution of a stiff flow stable by its error, but
      amplify derivatives, whose error they don't see: give one to differentiate over long times.
    - `adjoint`: how derivatives pass, reverse mode by default (checkpointed: memory of
      O(√max_steps) networks when differentiated); `diffrax.ForwardMode()` for forward mode.
    - `throw`: raise `FailedRun` if the run breaks down; otherwise `.result` says what happened.
    - `progress`: a diffrax progress meter.

    Where the energy has walls or curved spaces (`Game(..., spaces=)`), steps are brought back to
    them, and nothing is evaluated or observed outside.

    The local error is averaged with the neurons' masses (those of evolving masses count equally
    where they are positive), so tracers do not influence step sizes and change nothing, unless
    their own error exceeds 1,000 times the tolerance: then steps are shortened for them.

    Returns a `Trajectory`. Raises `ValueError` for arguments that do not fit together.
    """
    dynamics = GradientFlow() if dynamics is None else dynamics
    kind("network", network, Network, "write ensemble.sample(64, key=key), or .final of a run")
    kind("energy", energy, Energy, "write Risk(data)")
    remedy = instead(dynamics, "write GradientFlow(); updates such as SGD go to train")
    kind("dynamics", dynamics, Dynamics, remedy)
    if dynamics.random:
        key = randomness(key, "the dynamics has noise")
        solver, rtol = solver or diffrax.ShARK(), 1e-3 if rtol is None else rtol
        if tangent is not None:
            raise ValueError("tangent must be None for a dynamics with noise: leave it out")
        if energy.confines:
            raise ValueError(
                "dynamics must be without noise in spaces with walls or curvature, which it would "
                "leave: write train(network, game, SGD(Langevin(...)), ...), whose steps are "
                "brought back"
            )
    elif key is not None:
        raise ValueError("key must be None for a dynamics without noise: leave it out")
    options = Adaptive(
        rtol, rtol if atol is None else atol, diffrax.Tsit5() if solver is None else solver, step,
        max_step, kinks, max_steps,
    ).resolved(network.dtype)  # fmt: skip
    dynamics.check(network, energy)
    notice(observe, energy, dynamics, [vars(layer) for layer in network.layers])
    start, when = checkpoints(times, t0, t1, network.dtype)
    adjoint = (
        _adjoint((network, energy, dynamics, t0, t1, times, kinks)) if adjoint is None else adjoint
    )
    progress = meter_of(progress)
    try:
        run = integrate(
            network, energy, dynamics, options, start, jnp.asarray(t1, network.dtype), when,
            observe, tangent, adjoint, progress, key,
        )  # fmt: skip
    except TypeError as error:
        if "forward-mode autodiff" not in str(error):
            raise
        raise ValueError(
            "adjoint must be diffrax.ForwardMode() to differentiate in forward mode (jax.jvp, "
            "jax.jacfwd, jax.hessian), got the default, reverse mode: write flow(..., "
            "adjoint=diffrax.ForwardMode())"
        ) from error
    run = told(run, network, energy)
    return run.raise_if_failed() if throw else run


def _adjoint(given: Any) -> diffrax.AbstractAdjoint:
    """Reverse mode where derivatives may be taken; what is known cannot be differentiated any more,
    and compiles faster without."""
    return diffrax.RecursiveCheckpointAdjoint() if traced(given) else diffrax.ForwardMode()
