"""What a run returns: the curve that was observed, the final network, and how it ended."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ensembles import Network
from ensembles.internal import Player, alike, concrete

from .._dynamics.dynamics import Update
from .._energies.energy import Energy
from .._result import Result, axes, course, shapes, when

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class RESULTS(diffrax.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How a run ended; the value is the message, empty when all went well."""

    diverged = (
        "The run diverged: the energy stopped being finite. A smaller `step`, or smaller "
        "learning rates, usually help."
    )
    unresolved = (
        "The limit was not resolved to `tol` within `max_work`. Raise `max_work` or `tol`, or "
        "choose another `rule`."
    )
    undefined = "The energy is not finite at t0: check data, potentials, penalties and rates."
    steep = "The energy has no finite derivative at t0: check data, potentials and penalties."
    unsteady = (
        "The first motion is not finite, though energy and derivative at t0 are: check learning "
        "rates, schedules, and the numbers of the transformation in an Optimiser."
    )


_SHORT = (
    "Where the velocity jumps (ReLU, abs) or the flow is stiff, tolerances make steps short: write "
    "solver=Adaptive(rtol=1e-4), or another method=. "
)


class FailedRun(RuntimeError):
    """A run that broke down. `partial` is its result: everything computed before."""

    def __init__(self, message: str, partial: Any):
        super().__init__(message)
        self.partial = partial


class Trajectory(Result):
    """A run observed at `times`.

    - `times` (T,): when; `energies` (T,) the energy then; `observed` what `observe(network)`
      returned, each array with a leading axis T (None without `observe`). States are saved only
      if observed: `observe=lambda network: network` keeps them all.
    - `final`: the network at the end; after a failure, the last one known to be finite.
    - `error`: for a limit, the estimated error of `energies` and of the outputs (largest over
      `times`, root mean square over inputs); None where none was estimated.
    - `observed_error`: for a limit, the estimated error of every entry of `observed`, the largest
      over `times` (NaN where its shape depends on the nodes); None where none was estimated.
    - `memory`: what the update of a `train` carries from step to step (a momentum, say), as it is
      at the end, for a run that goes on; None for the others.
    - `result`: how the run ended, a `RESULTS` whose value is a message; `stats`: numbers of steps.

    After a failure, entries later than `stats["time_reached"]` are NaN.
    """

    times: Float[Array, " T"]
    energies: Float[Array, " T"]
    observed: PyTree[Shaped[Array, "T ..."]]
    final: Network
    error: Float[Array, ""] | None
    result: RESULTS
    stats: dict[str, Any]
    memory: Any = None
    observed_error: PyTree[Array] | None = None

    @property
    def succeeded(self) -> bool | None:
        """Whether all went well; None while the result is traced or batched."""
        (ended,), (well,) = map(jax.tree.leaves, (self.result, RESULTS.successful))
        known = concrete(ended)  # on the host: comparing on a device would compile a program
        return None if known is None or known.ndim else bool(known == np.asarray(well))

    def raise_if_failed(self) -> Trajectory:
        """This trajectory if all went well; raise `FailedRun` otherwise (an error under jit)."""
        if self.succeeded is None:  # traced or batched
            return self._or_error(self.result != RESULTS.successful)
        if self.succeeded:
            return self
        short = "accepted_steps" in self.stats and self.result == RESULTS.max_steps_reached
        raise failure(self, self._where() + (_SHORT if short else ""))

    def _where(self) -> str:
        """Where it broke down: after the last of `times`, where it was seen at them alone."""
        reached, end = float(self.stats["time_reached"]), float(self.times[-1])
        if not reached < end:
            return ""
        steps = f", after {int(self.stats['steps'])} steps" if "steps" in self.stats else ""
        if "accepted_steps" in self.stats:  # the last of `times` that was reached
            return f"It broke down after time {reached:.6g}, its last record, of {end:.6g}{steps}. "
        return f"It broke down at time {reached:.6g} of {end:.6g}{steps}. "

    def _or_error(self, failed: Array) -> Trajectory:
        """This trajectory, whose use is an error at run time where it `failed`; NaN wherever the
        error does not reach. It goes through numbers, masses and counts only: what an error goes
        through is gathered on every device."""

        def masked(a: Array) -> Array:
            if not jnp.issubdtype(a.dtype, jnp.inexact):
                return a
            return jnp.where(
                failed.reshape(failed.shape + (1,) * (a.ndim - failed.ndim)), jnp.nan, a
            )

        def counts(a: Any) -> bool:
            return eqx.is_array(a) and not eqx.is_inexact_array(a)

        counted, measured = eqx.partition(self.observed, counts)
        small = (self.energies, self.final.initial_masses, counted)
        energies, masses, counted = self.result.error_if(small, failed)
        measured, start, increment = jax.tree.map(
            masked, (measured, self.final.start, self.final.increment)
        )
        final = eqx.tree_at(
            lambda n: (n.initial_masses, n.start, n.increment),
            self.final,
            (masses, start, increment),
        )
        observed = eqx.combine(counted, measured)
        return dataclasses.replace(self, energies=energies, observed=observed, final=final)

    def _words(self) -> list[str]:
        error = "" if self.error is None else f" ± {float(self.error):.2g}"
        observed = [] if self.observed is None else [f"observed: {shapes(self.observed)}"]
        steps = ", ".join(
            f"{name.replace('_', ' ')} {np.asarray(self.stats[name])}"
            for name in ("steps", "accepted_steps", "depth")
            if name in self.stats
        )
        if "nodes" in self.stats:
            steps += f", nodes {alike(tuple(self.stats['nodes']))}"
        return [
            when(self.times),
            f"{self._observable} {course(self.energies)}{error}",
            f"final: {self.final!r}",
            *([steps] if steps else []),
            *observed,
            *self._failure(),
        ]

    def _failure(self) -> list[str]:
        if self.succeeded is not False:
            return []
        reached = self.stats.get("time_reached")
        last = "after" if "accepted_steps" in self.stats else "at"  # seen at `times` alone
        where = "" if reached is None else f" {last} time {float(reached):.6g}"
        return [f"failed{where}: {RESULTS[self.result]}"]

    @property
    def _observable(self) -> str:
        in_game = isinstance(self.final.layers[0], Player)
        return "loss of player 1" if in_game else "energy"

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """The energy against time, with its error band where one was estimated (in a game the loss
        of the first player, which need not fall)."""
        ax = axes(ax)
        times, energies = np.asarray(self.times), np.asarray(self.energies)
        (line,) = ax.plot(times, energies, **kwargs)
        if self.error is not None:
            error = float(self.error)
            ax.fill_between(
                times, energies - error, energies + error, color=line.get_color(), alpha=0.3, lw=0
            )
        ax.set(xlabel="time $t$", ylabel=self._observable)
        return ax


def with_cause(
    run: Trajectory, network: Network, energy: Energy, update: Update, t0: Array
) -> Trajectory:
    """`run` from `network`; where it failed because it is not finite at t0, it says so."""
    if run.succeeded is not False:
        return run
    known = concrete(energy(network))
    if known is not None and not np.isfinite(known):
        return dataclasses.replace(run, result=RESULTS.undefined)
    slopes = [concrete(leaf) for leaf in jax.tree.leaves(energy.derivatives(network).gradient)]
    if not all(leaf is None or np.isfinite(leaf).all() for leaf in slopes):
        return dataclasses.replace(run, result=RESULTS.steep)
    if not update.random:
        motion = update.velocity(t0, update.prepare(network), energy)
        rates = [concrete(leaf) for leaf in jax.tree.leaves(motion)]
        if not all(leaf is None or np.isfinite(leaf).all() for leaf in rates):
            return dataclasses.replace(run, result=RESULTS.unsteady)
    return run


def failure(run: Trajectory, details: str) -> FailedRun:
    """The exception of a run that failed: how, `details`, and where to find the rest."""
    return FailedRun(
        f"{RESULTS[run.result]} {details}Everything computed before is in this exception's "
        "`.partial`; throw=False returns it instead.",
        run,
    )
