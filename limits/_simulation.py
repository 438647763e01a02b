"""What finite networks do, seed by seed: the simulated counterpart of predicted fluctuations."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from scipy import stats

from ensembles import NeuronalEnsemble
from ensembles._checks import confidence, count, layer_ratios, randomness

from ._dynamics import SGD, GradientFlow
from ._energies import Energy
from ._flow import flow, positive, tolerance
from ._observables import Observable, check_observable
from ._seeds import over_seeds, seed_keys
from ._train import train
from ._trajectory import RESULTS, FailedRun, Trajectory, checkpoints


class Simulation(eqx.Module):
    """Observations of finite networks, sampled and trained independently.

    - `times` (T,); `width` N and `widths` (N_1, …, N_{L-1}).
    - `values` (seeds, T, ...): what was observed; NaN for seeds that broke down.
    - `mean` (T, ...) over seeds; `covariance` (T, ..., T, ...): N times the sample covariance;
      `variance` (T, ...) its diagonal.
    """

    times: np.ndarray
    width: int
    widths: tuple[int, ...]
    values: Float[np.ndarray, "seeds T ..."]

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

        By the χ² law of the sample variance of Gaussian variables, which observables are in the
        limit of large widths.
        """
        level, free = confidence(level), len(self.values) - 1
        high, low = free / stats.chi2.ppf([(1 - level) / 2, (1 + level) / 2], free)
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
    dynamics: GradientFlow | SGD | None = None,
    step: ArrayLike | None = None,
    rtol: ArrayLike | None = None,
    key: PRNGKeyArray,
) -> Simulation:
    """Sample and train `seeds` networks of widths N_i = r_i N (rounded), and observe them.

    Arguments: `observe`, `times`, `ratios` as in `fluctuations`, `width` N; `dynamics` a
    `GradientFlow` (default; solved to `rtol`) or an `SGD`, which takes a `step`; seed s uses
    `fold_in(key, s)`, split into one key for the network and one for mini-batches.

    One compilation per width. Raises `ValueError` for arguments that do not fit, `FailedRun` if
    seeds break down (its `.partial` is the `Simulation`).
    """
    key = randomness(key, "finite networks draw their labels")
    width, seeds = count("width", width), count("seeds", seeds)
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2 to have a variance, got {seeds}")
    dynamics = GradientFlow() if dynamics is None else dynamics
    discrete = isinstance(dynamics, SGD)
    if discrete != (step is not None):
        raise ValueError(
            f"step must be given with SGD, and with SGD only, got dynamics={dynamics!r} and "
            f"step={step}"
        )
    scale = layer_ratios(ratios, ensemble.depth - 1)
    widths = tuple(max(1, round(width * r)) for r in scale)
    example = ensemble.sample(widths, key=key)
    check_observable(observe, example)
    dynamics.check(example, energy)
    dtype = example.dtype
    run = _Run(
        energy,
        observe,
        dynamics,
        None if step is None else positive("step", step, dtype),
        jnp.asarray(t1, dtype),
        checkpoints(times, t1, dtype),
        tolerance("rtol", rtol, dtype, 1e-6),
    )
    values, ok = map(np.asarray, _values(ensemble, run, widths, seed_keys(key, seeds)))
    found = Simulation(np.asarray(run.times), width, widths, values)
    if not ok.all():
        raise FailedRun(
            f"{(~ok).sum()} of {seeds} seeds broke down. A smaller step or smaller learning rates "
            "usually help. The others are in this exception's `.partial`.",
            found,
        )
    return found


class _Run(eqx.Module):
    """How every seed is trained."""

    energy: Energy
    observe: Observable
    dynamics: GradientFlow | SGD
    step: Array | None
    t1: Array
    times: Array
    tol: Array

    def __call__(self, network: Any, key: PRNGKeyArray) -> Trajectory:
        if isinstance(self.dynamics, SGD):
            assert self.step is not None
            return train(
                network, self.energy, self.dynamics, step=self.step, t1=self.t1, times=self.times,
                observe=self.observe, key=key if self.dynamics.random else None, throw=False,
            )  # fmt: skip
        return flow(
            network, self.energy, self.dynamics, t1=self.t1, times=self.times,
            observe=self.observe, rtol=self.tol, atol=self.tol, throw=False,
        )  # fmt: skip


@eqx.filter_jit
def _values(
    ensemble: NeuronalEnsemble, run: _Run, widths: tuple[int, ...], keys: PRNGKeyArray
) -> tuple[Array, Array]:
    def one(key: PRNGKeyArray) -> tuple[Array, Array]:
        start, noise = jax.random.split(key)
        trajectory = run(ensemble.sample(widths, key=start), noise)
        return trajectory.observed, trajectory.result == RESULTS.successful

    return over_seeds(one, keys, max(widths))
