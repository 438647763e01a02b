"""Fluctuations of finite networks around their limit: the central limit theorem at any depth.

A finite network of widths N_i = r_i N is the limit with every P_i replaced by the empirical measure
of its labels. An observable f_t is a function of these measures, so by the functional delta method
it is asymptotically Gaussian around the limit's, with

    N Cov(f_t, f_s) → Σ_i r_i⁻¹ E_{c ~ P_i}[IF_i(t, c) IF_i(s, c)],

IF_i(t, c) the influence function, the derivative of f_t in the mass of label c of layer i through
the whole flow, centred, E_{P_i} IF_i = 0. For two layers this is the dynamical central limit
theorem of Rotskoff, Chen, Bruna & Vanden-Eijnden (arXiv:2008.09623), for more that of Pham & Nguyen
(arXiv:2110.15954).

Noise on edges (`Noisy`, i.i.d. weights) adds nothing. f_t depends on an edge's initial weight at
the rate p_{i-1} p_i G, so N_{i-1} N_i independent edges of variance s² add Σ (N_{i-1} N_i)⁻² G² s²,
of order N⁻², to the variance of f_t, and their second derivatives of order N⁻¹ to its mean. For the
preactivation of a single neuron they add at order N⁻¹ (at t = 0, for H_2, s_2² E σ_1² / N_1):
single neurons are no functions of the measures, and are refused.
"""

import math
from collections.abc import Sequence

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule
from ensembles.internal import kind, on_host

from .._checks import layer_ratios
from .._dynamics.by_mass import check_motion
from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._solvers.adaptive import Adaptive
from .._solvers.nodes import check_noisy, probe_pair
from .._solvers.observables import Observable, check_observable
from .._solvers.start_error import start_error, warn_of
from .._solvers.time import checkpoints
from .._solvers.trajectory import Trajectory
from .fluctuations_result import Fluctuations
from .influence import (
    apart,
    apart_in_size,
    centred,
    contributions,
    discretisations,
    jacobian,
    of_masses,
)
from .noise import edge_variance


def fluctuations(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    observe: Observable,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    nodes: int | Sequence[int],
    ratios: Sequence[float] | None = None,
    dynamics: Dynamics | None = None,
    rule: Rule | Sequence[Rule | None] | None = None,
    solver: Adaptive | None = None,
    key: PRNGKeyArray | None = None,
) -> Fluctuations:
    """The variance N Var f_t of `observe` in wide networks of `ensemble`, from one derivative.

    The limit on `nodes` quadrature nodes is differentiated in its initial masses, once more on a
    coarser set for the error (three times on others, for random rules), in one compilation. What
    the nodes of a population (`Data.from_space`) miss is in the errors too: its distance from the
    same on finer ones, which costs as much again.

    For one network whose ensemble is not known see `jackknife`.

    Arguments:

    - `observe(network)`: one array, a function of the network's measures (e.g. a function
      `lambda network: network(x)` kept under one name; outputs, losses, averages by mass);
      `times` at which it is taken (0 and t1 if None).
    - `ratios`: r_i > 0, one per hidden layer, for networks of widths N_i = r_i N (all equal if
      None).
    - `nodes`, `rule`, `key`: as in `NeuronalEnsemble.discretise`.
    - `dynamics`: `GradientFlow()` by default; `solver`: `Adaptive()` by default.

    Cost and memory: reverse mode takes one solve backward per number observed (times × entries),
    forward mode one per node; the cheaper is taken. Reverse mode keeps O(√max_steps) networks of
    nodes (checkpoints); derivatives are computed together in blocks that hold 2²² numbers a copy of
    the state.

    Neurons with kinks (ReLU) are differentiated as `flow` says. Which nodes cross a datum, and
    when, is an integral that nodes resolve like that of a step function, O(1/n) in one dimension:
    give many nodes, and trust `variance_error`. Some neurons come to slide along a kink, in
    steps as short as the tolerance: write solver=Adaptive(rtol=1e-4), or, where that fails too,
    constant steps, Adaptive(step=t1 / 150).

    Warns (`UnresolvedStart`) when `nodes` miss much of the variance or motion at time 0.

    Raises `ValueError` for arguments that do not fit, and observables that give anything but one
    finite array or that single out neurons; `FailedRun` if the flow breaks down.
    """
    kind("ensemble", ensemble, NeuronalEnsemble, "write iid(...); for one network, jackknife")
    kind("energy", energy, Energy, "write Risk(data)")
    on_host("fluctuations", ensemble, energy, dynamics, t1, times, solver, observe, jnp.zeros(()))
    dynamics = GradientFlow() if dynamics is None else dynamics
    solver = Adaptive() if solver is None else solver
    kind("solver", solver, Adaptive, "it is of continuous time; write Adaptive()")
    scale = layer_ratios(ratios, ensemble.depth - 1)
    check_noisy(ensemble, energy)
    check_motion(ensemble, energy, dynamics)
    measures, network, others = discretisations(ensemble, nodes, rule, key)
    check_observable(observe, network, differentiable=True)
    _, when = checkpoints(times, 0.0, t1, network.dtype)
    solver.check(network, energy, dynamics, when)
    solver = solver.resolved(network.dtype)
    watch = _Observation(observe, jnp.asarray(scale, network.dtype))

    def solve(
        network: Network, energy: Energy, solver: Adaptive
    ) -> tuple[Array, tuple[Array, ...], Array, Array]:
        values, influence, variance, run = _differentiate(
            network, energy, dynamics, solver, watch, when
        )
        return values, influence, variance, run.raise_if_failed().observed[1]

    mean, influence, variance, resampling = solve(network, energy, solver)
    rougher = [solve(other, energy, solver.rougher()) for other in others]
    mean_error = apart(mean, [other for other, *_ in rougher])
    variance_error = apart_in_size(variance, [other for _, _, other, _ in rougher])
    pair = probe_pair(ensemble, ensemble.rules(rule), measures, key)
    if pair is not None:
        few, many = (jax.tree.map(np.asarray, _at_start(watch, one)) for one in pair)
        changed, missing = (np.abs(a - b) for a, b in zip(few, many, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):  # nodes may see nothing of it
            share = float(np.nan_to_num(missing.sum() / few[1].sum(), posinf=np.inf))
        warn_of(max(share, start_error(pair, energy, dynamics, when[-1])[1]), stacklevel=2)
        moved = np.abs(np.asarray(mean) - np.asarray(mean)[:1])
        now = np.asarray(variance)
        mean_error = _at_least(mean_error, changed, _times(share, moved))
        variance_error = _at_least(variance_error, _kept(few[1], missing, now), _times(share, now))
    finer_data = energy.with_finer_data()
    if finer_data is not None:
        other, _, theirs, _ = solve(network, finer_data, solver)
        mean_error = mean_error + apart(mean, [other])
        variance_error = variance_error + apart_in_size(variance, [theirs])
    return Fluctuations(
        times=when,
        mean=mean,
        mean_error=jnp.asarray(mean_error),
        influence=influence,
        nodes=measures,
        ratios=scale,
        resampling=resampling,
        variance_error=jnp.asarray(variance_error),
        edges=edge_variance(ensemble, network, observe, scale),
    )


class _Observation(eqx.Module):
    """An observable, and its variance were neurons redrawn from the measures and kept."""

    observe: Observable
    ratios: Float[Array, " layers"]

    def __call__(self, network: Network) -> tuple[Array, Array]:
        now = jax.lax.stop_gradient(network)
        slopes = jax.jacrev(lambda p: self.observe(now.weighed(p)))(now.masses)
        influence = tuple(map(centred, slopes, now.masses))
        return self.observe(network), contributions(influence, now.masses, self.ratios).sum(0)


def _times(share: float, of: np.ndarray) -> np.ndarray:
    """A part, which may be infinite, of what may be 0."""
    return np.where(of > 0, share * np.where(of > 0, of, 1), 0)


def _at_least(error: np.ndarray, at_start: np.ndarray, later: np.ndarray) -> np.ndarray:
    """The error estimated from solutions, or that of the initial weights."""
    return np.maximum(np.maximum(error, at_start), later)


def _kept(start: np.ndarray, missing: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """What nodes miss of a variance at the start, at all times: in proportion to the variance, but
    for entries of which they miss more than half."""
    known = missing <= start / 2
    ratio = np.where(known & (start > 0), missing / np.where(start > 0, start, 1), 0)
    return np.where(known, ratio * variance, missing)


@eqx.filter_jit
def _at_start(watch: _Observation, network: Network) -> tuple[Array, Array]:
    return watch(network)


@eqx.filter_jit
def _differentiate(
    network: Network,
    energy: Energy,
    dynamics: Dynamics,
    solver: Adaptive,
    watch: _Observation,
    times: Array,
) -> tuple[Array, tuple[Array, ...], Array, Trajectory]:
    """What is observed (T, ...), its influence functions, N Var, and the trajectory."""
    flat, shaped = ravel_pytree(network.masses)
    tangent = of_masses(network, energy, dynamics)

    def run(masses: Array, adjoint: diffrax.AbstractAdjoint) -> tuple[Array, Trajectory]:
        trajectory = solver.run(
            network.weighed(shaped(masses)), energy, dynamics, times=times, observe=watch,
            tangent=tangent, adjoint=adjoint,
        )  # fmt: skip
        return trajectory.observed[0], trajectory

    entries = sum(leaf.size for leaf in jax.tree.leaves(network.increment))
    seen = math.prod(jax.eval_shape(watch.observe, network).shape) * len(times)
    values, slopes, trajectory = jacobian(run, flat, values=seen, entries=entries)
    ends = np.cumsum([p.shape[0] for p in network.masses])[:-1]
    parts = jnp.split(slopes, ends, axis=-1)
    influence = tuple(map(centred, parts, network.masses))
    return (
        values,
        influence,
        contributions(influence, network.masses, watch.ratios).sum(0),
        trajectory,
    )
