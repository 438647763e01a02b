"""Continuous time: the mean-field ODE of a network, finite or infinite."""

import diffrax
import jax.numpy as jnp
from jaxtyping import ArrayLike, PRNGKeyArray

from ensembles import Network
from ensembles.internal import kind, traced

from .._checks import flag
from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .adaptive import Adaptive, continuous
from .forward import forward_alone
from .integrate import integrate
from .progress import meter_of
from .recompilation import notice
from .steps import run_key
from .time import Observe, checkpoints
from .trajectory import Trajectory, with_cause


def flow(
    network: Network,
    energy: Energy,
    dynamics: Dynamics | None = None,
    *,
    t1: ArrayLike,
    t0: ArrayLike = 0.0,
    times: ArrayLike | None = None,
    observe: Observe = None,
    solver: Adaptive | None = None,
    key: PRNGKeyArray | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    throw: bool = True,
    progress: diffrax.AbstractProgressMeter | None = None,
) -> Trajectory:
    """Solve d(weights)/dt = dynamics from time `t0` to `t1`.

    Arguments:

    - `network`: the initial state; quadrature masses give the limit, masses 1/N a finite network.
    - `energy`: e.g. `Risk(data)`; `dynamics`: `GradientFlow()` by default.
    - `t1`: the final time; `t0`: the time at `network` (to go on from the `.final` of another run);
      `times`: times at which to observe, none before the one before it (t0 and t1 if None).
    - `observe`: a function of the network, or a dictionary of functions, kept at `times` (define
      them once, as every new lambda is compiled).
    - `solver`: `Adaptive()` by default; tolerances, method and steps are its options.
    - `key`: required where the dynamics is random. Its Brownian motion is the same whatever the
      steps, and another for another `t0`: a run that goes on draws new noise.
    - `adjoint`: how derivatives pass, reverse mode by default (checkpointed: memory of
      O(√max_steps) networks when differentiated); `diffrax.ForwardMode()` for forward mode.
    - `throw`: raise `FailedRun` if the run breaks down; otherwise `.result` says what happened.
    - `progress`: a diffrax progress meter.

    Derivatives are those of the flow also where its velocity jumps, as that of ReLU networks does
    when a neuron turns on or off at a datum: at every crossing the derivative jumps too, by
    (v⁺ − v⁻) ∂c·δ/∂c·v⁻ in a direction δ, c being what changes sign (or, where the solution slides
    along c = 0, so that it stays there), which automatic differentiation alone leaves out. Jumps
    are found in what the velocity compares (`where`, maxima of two, absolute values, signs,
    activations made of them), of the state, and of the time with a number that is differentiated,
    `where(t < w, ...)`; `UnseenKink` (`limits.warnings`) warns of others. Differentiated runs step
    over them in short steps, with which the error falls, slowly and not monotonically where neurons
    slide along kinks (a few per cent may be left where the value is right to 1e-6): compare with
    the difference of two runs. By these steps values differ, too, from those of the same run that
    is not differentiated. Derivatives are first ones: second ones know nothing of crossings, nor do
    derivatives at a start that lies on a kink.

    Where the energy has walls or curved spaces (`Game(..., spaces=)`), steps are brought back to
    them, and nothing is evaluated or observed outside. Explicit methods keep a solution of a stiff
    flow stable by its error, but amplify derivatives, whose error they do not control.

    The local error is averaged with the neurons' masses (those of evolving masses count equally
    where they are positive), so tracers do not influence step sizes and change nothing, unless
    their own error exceeds 1,000 times the tolerance: then steps are shortened for them.

    Returns a `Trajectory`. Raises `ValueError` for arguments that do not fit together.
    """
    dynamics = GradientFlow() if dynamics is None else dynamics
    kind("network", network, Network, "write ensemble.sample(64, key=key), or .final of a run")
    kind("energy", energy, Energy, "write Risk(data)")
    flag("throw", throw)
    continuous(dynamics)
    solver = Adaptive() if solver is None else solver
    remedy = "write solver=Adaptive(rtol=1e-8, method=diffrax.Tsit5()); steps are made by train"
    kind("solver", solver, Adaptive, remedy)
    if dynamics.random and energy.domain.bounded:
        raise ValueError(
            "dynamics must be without noise in spaces with walls or curvature, which it would "
            "leave: write train(network, game, Langevin(...), ...), whose steps are brought back"
        )
    if adjoint is not None:
        kind("adjoint", adjoint, diffrax.AbstractAdjoint, "write diffrax.ForwardMode()")
    key = run_key(key, solver, dynamics)
    options = solver.resolved(network.dtype, noise=dynamics.random)
    dynamics.check(network, energy)
    notice(observe, energy, dynamics, [vars(layer) for layer in network.layers])
    start, when = checkpoints(times, t0, t1, network.dtype)
    solver.check_times(dynamics, start, jnp.asarray(t1, network.dtype))
    if not traced((network, energy, dynamics, t0, t1, times, solver)):
        adjoint = None  # what is known cannot be differentiated any more
    elif adjoint is None:
        adjoint = diffrax.RecursiveCheckpointAdjoint()
    progress = meter_of(progress)
    try:
        run = integrate(
            network, energy, dynamics, options, start, jnp.asarray(t1, network.dtype), when,
            observe, None, adjoint, progress, key,
        )  # fmt: skip
    except TypeError as error:
        if "forward-mode autodiff" not in str(error):
            raise
        raise ValueError(
            "adjoint must be diffrax.ForwardMode() to differentiate in forward mode (jax.jvp, "
            "jax.jacfwd, jax.hessian), got the default, reverse mode: write flow(..., "
            "adjoint=diffrax.ForwardMode())"
        ) from error
    if isinstance(adjoint, diffrax.ForwardMode):
        run = forward_alone(run)
    run = with_cause(run, network, energy, dynamics, start)
    return run.raise_if_failed() if throw else run
