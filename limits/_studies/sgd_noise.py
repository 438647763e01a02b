"""What mini-batches add to the variance: the linear noise approximation along the limit.

SGD with step ε on batches of b has at every step the masses of its batch in place of the masses q
of the data. To first order in ε/b an observable f_t then varies by

    Var f_t = (ε/b) ∫_0^t Var_{k ~ q}[h_t(s, k)] ds,

h_t(s, k) the derivative of f_t in the mass that data point k has at time s, per unit time, through
the whole flow of the limit. With λ_t(s) the adjoint of f_t at time s, h_t(s, k) = ⟨λ_t(s), v_k(s)⟩,
v_k the velocity that point k alone would give: the covariance of the Gaussian process
dδ = Dv δ ds + (ε/b)^½ dM (for two layers Rotskoff & Vanden-Eijnden, arXiv:1805.00915). All neurons
share a batch, so that this noise does not fall with width. Penalties add to the drift v, not to M.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Parameters, Rule
from ensembles.internal import count, einsum, kind, on_host, positive, tensordot

from .._dynamics.by_mass import check_motion
from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._dynamics.schedules import Schedule
from .._energies.energy import Energy
from .._energies.risk import Risk
from .._result import Result, span, when
from .._solvers.adaptive import Adaptive
from .._solvers.nodes import check_noisy, probe_pair
from .._solvers.observables import Observable, check_observable
from .._solvers.start_error import start_error, warn_of
from .._solvers.time import checkpoints
from .._solvers.trajectory import Trajectory
from .influence import apart_in_size, centred, direction, discretisations, jacobian, perturbation
from .time_grid import adapted, graded, halved, integrals

_SOLVES = 4  # on as many grids, at most
_RESOLVED = 5e-3  # of the variance, what every second grid time may miss
_ROUNDING = 4  # units of the last place of times, that are lost where intervals meet


class SGDNoise(Result):
    """The Gaussian distribution of (b/ε)^½ (f_t − its limit) under SGD of step ε on batches of b.

    Shapes: T `times`, then the shape (...) of one observation; J `grid` times, n data points.

    - `mean` (T, ...): the observable in the limit without noise.
    - `influence` (T, ..., J, n): h_t(s_j, k), around its mean over the data; 0 for s_j after t.
    - `per_ratio` (T, ...): the variance for ε/b = 1; `error` (T, ...) its estimated error:
      distances from every second grid time, from a coarser (or redrawn) set of nodes and from
      finer nodes of a population of data; infinite where every second grid time tells half the
      variance, so that none resolves it.
    """

    times: Float[Array, " T"]
    grid: Float[Array, " grid"]
    mean: Float[Array, "T ..."]
    influence: Float[Array, "T ... grid data"]
    masses: Float[Array, " data"]
    error: Float[Array, "T ..."]

    @property
    def per_ratio(self) -> Float[Array, "T ..."]:
        return _integral(self.influence, self.masses, self._spans())

    def _spans(self) -> Float[Array, "T grid"]:
        return jnp.asarray(integrals(np.asarray(self.times), np.asarray(self.grid)))

    def _words(self) -> list[str]:
        return [
            f"{when(self.times)}, {len(self.masses)} data points, {len(self.grid)} grid times",
            f"mean {span(self.mean)}",
            f"influence {span(self.influence)}; error of the variance per ε/b "
            f"{np.asarray(self.error).max():.2g}",
        ]

    def variance(self, step: ArrayLike, batch: int) -> Float[Array, "T ..."]:
        """Var f_t for steps ε = `step` on batches of `batch`, to first order in the step.

        What is left out is of relative order a ε, a the curvature of the risk, the largest rate at
        which outputs relax. Stationary SGD around a quadratic minimum has 1/(1 − a ε/2) times this
        variance, and none from a ε = 2 on, where its steps diverge; this formula does not see it.
        In doubt compare with `simulate(..., solver=Steps(step, batch))`.
        """
        return self._scale(step, batch) * self.per_ratio

    def covariance(self, step: ArrayLike, batch: int) -> Array:
        """Cov(f_t, f_s), likewise."""
        t, shape = len(self.times), self.mean.shape[1:]
        h = self.influence.reshape(t, -1, *self.influence.shape[-2:])
        spans = self._spans()
        both = jnp.minimum(spans[:, None], spans[None])
        unit = einsum("tajk,sbjk,tsj,k->tasb", h, h, both, self.masses)
        return self._scale(step, batch) * unit.reshape(t, *shape, t, *shape)

    def _scale(self, step: ArrayLike, batch: int) -> Array:
        return positive("step", step, self.times.dtype) / count("batch", batch)


def sgd_noise(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    observe: Observable,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    nodes: int | Sequence[int],
    intervals: int = 64,
    dynamics: Dynamics | None = None,
    rule: Rule | Sequence[Rule | None] | None = None,
    solver: Adaptive | None = None,
    key: PRNGKeyArray | None = None,
) -> SGDNoise:
    """The variance of `observe` that mini-batches add in the limit of `ensemble`, to first order.

    The masses of the data are made piecewise linear functions of time on `intervals` intervals of
    [0, t1] (an even number), and the flow is differentiated in their values. Intervals are short
    where influence varies, just before `times`: first in proportion to the distance from these and
    even, then by what was found, solved anew until every second grid time tells the variance to
    half a per cent, up to four times.

    `energy` is a risk, with or without penalties: these are the same on every batch, so that they
    have no noise of their own, and shape the flow along which that of the risk is carried.

    Neurons with kinks (ReLU) are differentiated as `flow` says, crossings of data included.

    Arguments otherwise as in `fluctuations`, and its errors; for widths N and step ε the variances
    add, Var f_t ≈ N⁻¹ `fluctuations(...).variance` + `sgd_noise(...).variance(ε, b)`.
    """
    kind(
        "ensemble",
        ensemble,
        NeuronalEnsemble,
        "a network has no law of its neurons: write iid(...)",
    )
    kind("energy", energy, Energy, "mini-batches are drawn from data; write Risk(data)")
    _check_noise(energy)
    on_host("sgd_noise", ensemble, energy, dynamics, t1, times, solver, observe, jnp.zeros(()))
    dynamics = GradientFlow() if dynamics is None else dynamics
    solver = Adaptive() if solver is None else solver
    kind("solver", solver, Adaptive, "it is of continuous time; write Adaptive()")
    if solver.step is not None:
        raise ValueError(
            f"solver must adapt its steps, which end at grid times, got step={solver.step}: write "
            "Adaptive(rtol=1e-7)"
        )
    if count("intervals", intervals) % 2:
        raise ValueError(f"intervals must be even, got {intervals}: every second one is an error")
    check_noisy(ensemble, energy)
    check_motion(ensemble, energy, dynamics)
    measures, network, others = discretisations(ensemble, nodes, rule, key)
    check_observable(observe, network, differentiable=True)
    dtype = network.dtype
    _, when = checkpoints(times, 0.0, t1, dtype)
    solver.check(network, energy, dynamics, when)
    jumps = np.asarray([] if solver.kinks is None else solver.kinks, dtype)
    pair = probe_pair(ensemble, ensemble.rules(rule), measures, key)
    warn_of(start_error(pair, energy, dynamics, when[-1])[1], stacklevel=2)

    def solve(network: Network, energy: Energy, grid: np.ndarray, rougher: bool) -> _Solved:
        q, own = _masses(energy), np.union1d(grid, jumps)
        steps = dataclasses.replace(solver, kinks=own).resolved(dtype)
        steps = steps.rougher() if rougher else steps
        mean, slopes, run = _differentiate(
            network, energy, dynamics, steps, observe, jnp.asarray(grid), when
        )
        run.raise_if_failed()
        return _Solved(mean, slopes, *_told(slopes, q, when, grid))

    def compared(grid: np.ndarray) -> tuple[_Solved, np.ndarray]:
        """What is found on a grid, and its distance from every second time."""
        found = solve(network, energy, grid, rougher=False)
        coarse = jnp.asarray(halved(np.asarray(found.slopes), grid))
        half = _told(coarse, _masses(energy), when, grid[::2])[1]
        return found, apart_in_size(found.variance, [half])

    grid = graded(np.asarray(when), intervals).astype(dtype)
    found, in_time = compared(grid)
    for _ in range(_SOLVES - 1):
        if (in_time <= _RESOLVED * np.asarray(found.variance)).all():
            break
        grid = _adapted(grid, found.influence, _masses(energy), when)
        found, in_time = compared(grid)
    variance = np.asarray(found.variance)
    others = [solve(other, energy, grid, rougher=True).variance for other in others]
    rounded = _ROUNDING * np.finfo(dtype).eps * grid[-1] / np.diff(grid).min()
    in_time = _unresolved(in_time, variance) + rounded * variance
    error = in_time + apart_in_size(found.variance, others)
    finer_data = energy.with_finer_data()
    if finer_data is not None:
        finer = solve(network, finer_data, grid, rougher=False).variance
        error = error + apart_in_size(found.variance, [finer])
    return SGDNoise(
        when, jnp.asarray(grid), found.mean, found.influence, _masses(energy), jnp.asarray(error)
    )


def _masses(energy: Energy) -> Float[Array, " n"]:
    """Those of the data from which batches are drawn."""
    return next(term for term in energy.summands() if isinstance(term, Risk)).data.masses


def _check_noise(energy: Energy) -> None:
    """Raise `ValueError` unless one term draws batches, a risk; what others add is penalties, which
    every batch has alike."""
    others = [term for term in energy.summands() if not isinstance(term, Risk)]
    one = len(others) == len(energy.summands()) - 1
    if not one or any(term.draw(1, jax.random.key(0)) is not term for term in others):
        names = " + ".join(type(term).__name__ for term in energy.summands())
        raise ValueError(
            f"energy must draw batches from the data of one Risk, and add penalties alone, got "
            f"{names}: write Risk(data), or Risk(data) + PowerPenalty(1e-3)"
        )


class _Solved(NamedTuple):
    """What is observed, its derivatives in the masses at grid times, and what they tell."""

    mean: Array
    slopes: Array
    influence: Array
    variance: Array


def _told(slopes: Array, q: Array, times: Array, grid: np.ndarray) -> tuple[Array, Array]:
    """The influence and the variance."""
    spans = jnp.asarray(integrals(np.asarray(times), grid))
    influence = _per_time(slopes, q, spans)
    return influence, _integral(influence, q, spans)


def _adapted(grid: np.ndarray, influence: Array, q: Array, times: Array) -> np.ndarray:
    """The next grid."""
    entries = np.asarray(influence).reshape(len(times), -1, *influence.shape[-2:])
    spans = integrals(np.asarray(times), grid)
    return adapted(grid, entries, np.asarray(q), spans).astype(grid.dtype)


def _unresolved(error: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The error in time, from that of every second grid time: about as much where this is small,
    and without bound where halving the intervals doubles the variance."""
    left = 1 - 2 * error / np.where(variance > 0, variance, 1)
    return np.where(left > 0, error / np.where(left > 0, left, 1), np.inf)


class _Reweighted(Dynamics):
    """A dynamics under data whose masses are piecewise linear functions of time."""

    dynamics: Dynamics
    grid: Float[Array, " J"]
    masses: Float[Array, "J n"]

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        return self.dynamics.schedules

    @property
    def timed(self) -> dict[str, tuple[Schedule, ...]]:
        return self.dynamics.timed

    def prepare(self, network: Network) -> Network:
        return self.dynamics.prepare(network)

    def value_and_velocity(
        self, t: Float[Array, ""], network: Network, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters]:
        now = diffrax.LinearInterpolation(self.grid, self.masses).evaluate(t)
        return self.dynamics.value_and_velocity(t, network, eqx.tree_at(_masses, energy, now))

    def check(self, network: Network, energy: Energy) -> None:
        self.dynamics.check(network, energy)


@eqx.filter_jit
def _differentiate(
    network: Network,
    energy: Energy,
    dynamics: Dynamics,
    solver: Adaptive,
    observe: Observable,
    grid: Array,
    times: Array,
) -> tuple[Array, Array, Trajectory]:
    """What is observed (T, ...), its derivatives (T, ..., J, n) in masses, and the trajectory."""
    q = _masses(energy)
    shape = (grid.shape[0], q.shape[0])
    constant = jnp.broadcast_to(perturbation(q, jax.random.key(0)), shape)

    def run(masses: Array, adjoint: diffrax.AbstractAdjoint) -> tuple[Array, Trajectory]:
        varied = _Reweighted(dynamics, grid, masses.reshape(shape))
        tangent = direction((network, energy, varied), lambda at: at[2].masses, constant)
        trajectory = solver.run(
            network, energy, varied, times=times, observe=observe, tangent=tangent, adjoint=adjoint
        )
        return trajectory.observed, trajectory

    entries = sum(leaf.size for leaf in jax.tree.leaves(network.increment))
    seen = math.prod(jax.eval_shape(observe, network).shape) * len(times)
    flat = jnp.broadcast_to(q, shape).ravel()
    values, slopes, trajectory = jacobian(run, flat, values=seen, entries=entries)
    return values, slopes.reshape(*values.shape, *shape), trajectory


def _per_time(
    slopes: Float[Array, "T ... J n"], q: Float[Array, " n"], spans: Float[Array, "T J"]
) -> Float[Array, "T ... J n"]:
    """Derivatives in hat functions as averages over them, around the mean over the data."""
    known = spans.reshape(spans.shape[0], *(1,) * (slopes.ndim - 3), spans.shape[1], 1)
    return jnp.where(known > 0, centred(slopes, q) / jnp.where(known > 0, known, 1), 0)


def _integral(
    influence: Float[Array, "T ... J n"], q: Float[Array, " n"], spans: Float[Array, "T J"]
) -> Float[Array, "T ..."]:
    """∫_0^t Var_q h ds."""
    variances = tensordot(influence**2, q, axes=1)
    return (variances * spans.reshape(spans.shape[0], *(1,) * (variances.ndim - 2), -1)).sum(-1)
