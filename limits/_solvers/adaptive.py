"""Options of solvers with adaptive steps, and what chooses the steps."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import concrete, count, is_number, kind, positive, shown

from .._checks import tolerance
from .._dynamics.dynamics import Dynamics, Update
from .._dynamics.optimiser import instead
from .._dynamics.schedules import Schedule, check_values, turning_points
from .._energies.energy import Energy
from .integrate import integrate
from .sizes import RelativeSteps, Sizes
from .solver import Solver
from .time import Observe
from .trajectory import Trajectory

_KINKED = 1e-4  # where the velocity jumps: steps are as many as 1/rtol where neurons slide


class Tolerance(NamedTuple):
    """A relative tolerance for velocities that are smooth, and for those that jump."""

    smooth: Any
    kinked: Any


class Adaptive(Solver):
    """Continuous time, solved by a method of diffrax with steps that it adapts.

    - `rtol` bounds the local error of weights, relative to their size (1e-7 if None, in single
      precision 1e-5; 1e-4 where the velocity jumps, as that of ReLU networks does, whose neurons
      may slide along kinks in steps as short as the tolerance; 1e-3 where the dynamics has noise;
      at least a unit of the last place): to the standard deviation over neurons that each of their
      coordinates starts with, or how far it has moved (its own size, where an entry is much
      smaller). So a start of size 1e-9 is solved as well as one of size 1.
    - `atol`: an absolute error, in place of the share of the size of the start.
    - `method`: a diffrax solver, `Tsit5()` by default; `ShARK()` where there is noise, of strong
      order 1.5 for noise like that of `Langevin`.
    - `step`: steps of this constant size, in place of adapted ones.
    - `max_step`: the longest step (no bound if None); `max_steps`: how many there may be.
    - `kinks`: increasing times at which the dynamics jumps or is not smooth, which adapted steps do
      not cross. They also end where the schedules of the dynamics turn (up to 256 times) and have
      passed another sixteenth of their variation, sampled at 4,097 times: pulses of some
      (t1 − t0)/2000 are not stepped over; for shorter ones give `kinks`.

    Raises `ValueError` for values that do not fit.
    """

    rtol: ArrayLike | Tolerance | None = None
    atol: ArrayLike | None = None
    method: diffrax.AbstractSolver | None = None
    step: ArrayLike | None = None
    max_step: ArrayLike | None = None
    kinks: ArrayLike | None = None
    max_steps: int = eqx.field(static=True, default=16_384)

    def __check_init__(self) -> None:
        if self.method is not None:
            remedy = "write method=diffrax.Tsit5(); tolerances are rtol= and atol="
            kind("method", self.method, diffrax.AbstractSolver, remedy)
        count("max_steps", self.max_steps)
        given = {"rtol": self.rtol, "atol": self.atol, "step": self.step}
        for name, value in given.items():
            if value is not None and not isinstance(value, Tolerance):
                positive(name, value, jnp.result_type(float))
        _longest(self.max_step, jnp.result_type(float))
        _increasing(self.kinks, jnp.result_type(float))

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
        least = jnp.finfo(dtype).eps
        rtol = jax.tree.map(lambda r: np.maximum(np.asarray(r) * tolerances, least), own.rtol)
        atol = None if own.atol is None else np.asarray(own.atol) * tolerances
        step = None if own.step is None else np.asarray(own.step) * steps
        return dataclasses.replace(own, rtol=rtol, atol=atol, step=step).resolved(dtype)

    def resolved(self, dtype: jnp.dtype, noise: bool = False) -> "Adaptive":
        """These options as arrays of that dtype, defaults filled in: those of a dynamics with or
        without `noise`."""
        method = diffrax.ShARK() if noise else diffrax.Tsit5()
        rtol = self.rtol
        if rtol is None:
            rtol = 1e-3 if noise else Tolerance(None, _KINKED)
        if not isinstance(rtol, Tolerance):
            rtol = Tolerance(rtol, rtol)
        return Adaptive(
            rtol=Tolerance(*(_resolved("rtol", tolerance("rtol", r, dtype)) for r in rtol)),
            atol=None if self.atol is None else tolerance("atol", self.atol, dtype),
            method=method if self.method is None else self.method,
            step=None if self.step is None else positive("step", self.step, dtype),
            max_step=_longest(self.max_step, dtype),
            kinks=_increasing(self.kinks, dtype),
            max_steps=self.max_steps,
        )

    @property
    def random(self) -> bool:
        return False

    def of_limit(self, dynamics: Update) -> "Adaptive":
        return self

    def check(
        self, network: Network, energy: Energy, dynamics: Update, times: Array, t0: ArrayLike = 0.0
    ) -> None:
        continuous(dynamics)
        refuse_noise(dynamics)
        self.resolved(network.dtype)
        dynamics.check(network, energy)
        self.check_times(dynamics, t0, times[-1])

    def check_times(self, dynamics: Update, t0: ArrayLike, t1: ArrayLike) -> None:
        """Raise `ValueError` for rates of `dynamics` that are none in a run from t0 to t1, and
        kinks that are not within it."""
        check_values(dynamics.timed, t0, t1)
        kinks, *ends = (None if a is None else concrete(a) for a in (self.kinks, t0, t1))
        if kinks is None or ends[0] is None or ends[1] is None:
            return
        outside = kinks[(kinks < ends[0]) | (kinks > ends[1])]
        if outside.size:
            raise ValueError(
                f"kinks must be times of the run, from t0={ends[0]:.6g} to t1={ends[1]:.6g}, got "
                f"{outside}: leave out those before and after"
            )

    def check_limit(self, dynamics: Update) -> None:
        """In continuous time they are."""

    def run(
        self,
        network: Network,
        energy: Energy,
        dynamics: Update,
        *,
        times: Array,
        observe: Observe,
        key: PRNGKeyArray | None = None,
        tangent: Any = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ) -> Trajectory:
        """As `Solver.run` says. `tangent` is a direction in (network, energy, dynamics), a tree
        like them with None for what does not move, along which the derivative of the weights is
        integrated too, its error controlled; `adjoint` as in `flow`, None where the run is not
        differentiated."""
        return integrate(
            network, energy, continuous(dynamics), self.resolved(network.dtype),
            jnp.zeros_like(times[-1]), times[-1], times, observe, tangent,
            adjoint, diffrax.NoProgressMeter(),
        )  # fmt: skip

    def controller(
        self,
        t0: Array,
        t1: Array,
        schedules: tuple[Schedule, ...],
        norm: Callable[[Any], Array],
        sizes: tuple[Sizes, Sizes | None],
        like: Parameters,
        kinked: bool,
    ) -> diffrax.AbstractStepSizeController:
        """What chooses the steps, which end at kinks and follow the variations of schedules;
        `sizes` are those of a state, increments `like` these, and of its derivative; `kinked` says
        whether its velocity jumps."""
        if self.step is not None:
            return diffrax.ConstantStepSize()
        relative, rtol = self.atol is None, self.rtol
        if isinstance(rtol, Tolerance):
            rtol = rtol.kinked if kinked else rtol.smooth
        steps: diffrax.AbstractAdaptiveStepSizeController = diffrax.PIDController(
            rtol=0.0 if relative else rtol,  # pyright: ignore[reportArgumentType]
            atol=1.0 if relative else self.atol,  # pyright: ignore[reportArgumentType]
            dtmax=self.max_step,  # pyright: ignore[reportArgumentType]
            dtmin=t1 * 4 * jnp.finfo(t1.dtype).eps,
            force_dtmin=False,
            norm=norm,
        )
        if relative:
            steps = RelativeSteps(steps, sizes, like, jnp.asarray(rtol))
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


def continuous(dynamics: Any) -> Dynamics:
    """`dynamics`, which must have a velocity; a `ValueError` otherwise."""
    remedy = (
        "write GradientFlow(); an update makes steps: write train, or in coupling and simulate "
        "solver=Steps(0.1)"
    )
    kind("dynamics", dynamics, Dynamics, instead(dynamics, remedy))
    return dynamics


def refuse_noise(dynamics: Update) -> None:
    """Raise `ValueError` for a random dynamics, which has no limit by nodes."""
    if dynamics.random:
        raise ValueError(
            f"dynamics must be without noise here, got {type(dynamics).__name__}: particles with "
            "noise of their own do not follow nodes. Write flow or train with key=, and grid_flow "
            "for the density of infinitely many"
        )


def _resolved(name: str, tolerance: Array) -> Array:
    """A relative tolerance, which steps can keep in its precision."""
    known, eps = concrete(tolerance), float(jnp.finfo(tolerance.dtype).eps)
    if known is not None and (known < eps).any():
        single = tolerance.dtype.itemsize < 8
        raise ValueError(
            f"{name} must be at least {eps:.1e}, a unit of the last place in {tolerance.dtype}, "
            f"got {known:.3g}: write {name}={1e-5 if single else 1e-10}"
            + ", or make network and data of float64"
            * single
        )
    return tolerance


def _longest(max_step: ArrayLike | None, dtype: jnp.dtype) -> Array:
    """`max_step` as an array, infinite for None."""
    if max_step is None:
        return jnp.asarray(jnp.inf, dtype)
    known = concrete(max_step)
    if not is_number(max_step) or (known is not None and not known > 0):
        raise ValueError(
            f"max_step must be positive, got {shown(max_step)}: leave it out for no bound"
        )
    return jnp.asarray(max_step, dtype)


def _increasing(kinks: ArrayLike | None, dtype: jnp.dtype) -> Array | None:
    """`kinks` as an array of increasing times, or None."""
    if kinks is None:
        return None
    known = concrete(kinks)
    numbers = known is None or (known.dtype.kind in "iuf" and np.isfinite(known).all())
    numbers = numbers and jnp.asarray(kinks).ndim == 1  # also while they are traced
    if not numbers or (known is not None and not (np.diff(known) > 0).all()):
        found = shown(kinks) if known is None else known
        raise ValueError(
            f"kinks must be increasing times, got {found}: write jnp.array([0.5, 1.0])"
        )
    return jnp.asarray(kinks, dtype)
