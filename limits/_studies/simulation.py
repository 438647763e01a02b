"""What finite networks do, seed by seed: the simulated counterpart of predicted fluctuations."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import NeuronalEnsemble
from ensembles.internal import count, kind, on_host, randomness

from .._checks import confidence, layer_ratios
from .._dynamics.dynamics import Update
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._result import Result, span, when
from .._solvers.adaptive import Adaptive
from .._solvers.observables import Observable, check_observable
from .._solvers.seeds import map_over_seeds, run_all, samples, seed_keys, together
from .._solvers.solver import Solver
from .._solvers.time import checkpoints
from .._solvers.trajectory import RESULTS, FailedRun


class Simulation(Result):
    """Observations of finite networks, sampled and trained independently.

    - `times` (T,); `width` N and `widths` (N_1, …, N_{L-1}).
    - `values` (seeds, T, ...): what was observed; NaN for seeds that broke down.
    - `mean` (T, ...) over seeds; `covariance` (T, ..., T, ...): N times the sample covariance;
      `variance` (T, ...) its diagonal.
    """

    times: Float[np.ndarray, " T"]
    width: int
    widths: Annotated[tuple[int, ...], "hidden"]
    values: Float[np.ndarray, "seeds T ..."]

    def _words(self) -> list[str]:
        entries = self.values.shape[2:]
        failed = int(np.isnan(self.values.reshape(len(self.values), -1)).any(1).sum())
        return [
            f"{len(self.values)} seeds of widths {', '.join(map(str, self.widths))}, "
            f"{when(self.times)}",
            f"values {entries or ''} {span(self.values)}",
            f"N Var {span(self.variance)}" if not failed else f"{failed} seeds broke down",
        ]

    @property
    def mean(self) -> Float[np.ndarray, "T ..."]:
        return self.values.mean(0)

    @property
    def variance(self) -> Float[np.ndarray, "T ..."]:
        return self.width * self.values.var(0, ddof=1)

    @property
    def covariance(self) -> np.ndarray:
        apart = self.values - self.mean
        return self.width * np.tensordot(apart, apart, axes=(0, 0)) / (len(apart) - 1)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (low, high), each (T, ...), of N Var with confidence `level` at each entry.

        By the χ² distribution of the sample variance of Gaussian variables, which observables are
        in the limit of large widths.
        """
        level, free = confidence(level), len(self.values) - 1
        high, low = free / scipy.stats.chi2.ppf([(1 - level) / 2, (1 + level) / 2], free)
        return low * self.variance, high * self.variance


def simulate(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    observe: Observable,
    *,
    width: int,
    seeds: int,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    ratios: Sequence[float] | None = None,
    dynamics: Update | None = None,
    solver: Solver | None = None,
    key: PRNGKeyArray,
) -> Simulation:
    """Sample and train `seeds` networks of widths N_i = r_i N (rounded), and observe them.

    Arguments: `observe`, `times`, `ratios` as in `fluctuations`, `width` N; `dynamics` and `solver`
    as in `coupling`; seed s uses `fold_in(key, s)`, split into one key for the network and one for
    mini-batches.

    One compilation per width. Raises `ValueError` for arguments that do not fit, `FailedRun` if
    seeds break down (its `.partial` is the `Simulation`).
    """
    kind("ensemble", ensemble, NeuronalEnsemble, "a network cannot be drawn again: write iid(...)")
    kind("energy", energy, Energy, "write Risk(data)")
    on_host("simulate", ensemble, energy, dynamics, t1, times, solver, observe, jnp.zeros(()))
    dynamics = GradientFlow() if dynamics is None else dynamics
    solver = Adaptive() if solver is None else solver
    kind("solver", solver, Solver, "write solver=Adaptive() or solver=Steps(0.1, batch=1)")
    key = randomness(key, "finite networks draw their labels")
    width, seeds = count("width", width), count("seeds", seeds)
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2 to have a variance, got {seeds}")
    scale = layer_ratios(ratios, ensemble.depth - 1)
    widths = tuple(max(1, round(width * r)) for r in scale)
    keys, size = seed_keys(key, seeds), together(max(widths), seeds)
    example = jax.tree.map(lambda a: a[0], samples(ensemble, keys[:size], widths, widths))
    check_observable(observe, example)
    dtype = example.dtype
    _, when = checkpoints(times, 0.0, t1, dtype)
    solver.check(example, energy, dynamics, when)
    solver = solver.resolved(dtype)

    def batch(keys: PRNGKeyArray) -> tuple[Array, Array]:
        networks = samples(ensemble, keys, widths, widths)
        noise = keys if solver.random or dynamics.random else None
        run = run_all(solver, networks, energy, dynamics, when, observe, noise)
        return run.observed, run.result == RESULTS.successful

    values, ok = map_over_seeds(batch, keys, size)
    found = Simulation(np.asarray(when), width, widths, np.asarray(values))
    if not ok.all():
        raise FailedRun(
            f"{(~np.asarray(ok)).sum()} of {seeds} seeds broke down. A smaller step or smaller "
            "learning rates usually help. The others are in this exception's `.partial`.",
            found,
        )
    return found
