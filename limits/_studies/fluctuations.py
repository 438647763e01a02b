"""Fluctuations of finite networks around their limit: the central limit theorem at any depth.

A finite network of widths N_i = r_i N is the limit with every P_i replaced by the empirical measure
of its labels. An observable f_t is a function of these measures, so by the functional delta method
it is asymptotically Gaussian around the limit's, with

    N Cov(f_t, f_s) → Σ_i r_i⁻¹ E_{c ~ P_i}[IF_i(t, c) IF_i(s, c)],

IF_i(t, c) the influence function, the derivative of f_t in the mass of label c of layer i through
the whole flow, centred, E_{P_i} IF_i = 0. For two layers this is the dynamical central limit
theorem of Rotskoff, Chen, Bruna & Vanden-Eijnden (arXiv:2008.09623), for more that of Pham & Nguyen
(arXiv:2110.15954).

Noise on edges (`Noisy`, i.i.d. starts) adds nothing. f_t depends on the start of an edge at the
rate p_{i-1} p_i G, so N_{i-1} N_i independent edges of variance s² add Σ (N_{i-1} N_i)⁻² G² s², of
order N⁻², to the variance of f_t, and their second derivatives of order N⁻¹ to its mean. For the
preactivation of a single neuron they add at order N⁻¹ (at t = 0, for H_2, s_2² E σ_1² / N_1):
single neurons are no functions of the measures, and are refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, overload

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Measure, Network, NeuronalEnsemble, Rule
from ensembles.internal import count, kind, tensordot

from .._checks import layer_ratios, positive, quantile
from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._result import Result, span, when
from .._solvers.adaptive import Adaptive
from .._solvers.departure import unseen, warn_of
from .._solvers.nodes import looks
from .._solvers.time import checkpoints
from .._solvers.trajectory import Trajectory
from .influence import apart, centred, discretisations, jacobian, of_masses
from .jackknife import Jackknife, jackknife
from .noise import EdgeNoise, edge_variance
from .observables import Observable, check_differentiable, check_observable

_EDGES = 0.1  # of the variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Fluctuations(Result):
    """The Gaussian law of √N (f_t − its limit) for networks of widths N_i = r_i N, N → ∞.

    Shapes: T `times`, then the shape (...) of one observation.

    - `mean` (T, ...): the observable in the limit; `mean_error` (T, ...) its estimated error.
    - `influence`: for each hidden layer an array (T, ..., N_i), IF_i at the nodes `nodes[i]`, a
      `Measure` of labels; it averages to 0.
    - `variance` (T, ...): N Var f_t; `variance_error` (T, ...) its estimated error; `shares`
      (L − 1, T, ...): what each layer adds to it; `covariance` (T, ..., T, ...): N Cov(f_t, f_s).
    - `resampling` (T, ...): the Monte Carlo variance, N Var of the observable when neurons are
      drawn anew from the limit at time t and not trained.
    - `edges` (...): what the independent noise of edges adds to N² Var f at the start, left out
      above. `band` and `width` warn (`EdgeNoise`) where it is more than a tenth of N Var f.
    - `ratios`: r_i.

    Errors are distances from a coarser set of nodes solved with ten times the tolerance (the
    largest of three independent sets of half the nodes, for random rules), the largest up to each
    time and at least the root mean square over entries; or what some 500 nodes a layer see of the
    start beyond these (as in `limit`): of f and N Var f, and as a part of N Var f at all times and
    of the change of f.
    """

    times: Float[Array, " T"]
    mean: Float[Array, "T ..."]
    mean_error: Float[Array, "T ..."]
    influence: tuple[Float[Array, "T ... n"], ...]
    nodes: tuple[Measure, ...]
    ratios: Annotated[tuple[float, ...], "hidden"]
    resampling: Float[Array, "T ..."]
    variance_error: Float[Array, "T ..."]
    edges: Float[Array, "*entries"]

    def _words(self) -> list[str]:
        sizes = [len(m.masses) for m in self.nodes]
        error, off = (np.asarray(a).max() for a in (self.variance_error, self.mean_error))
        variance = sum(
            np.square(np.asarray(f)) @ np.asarray(m.masses) / r
            for f, m, r in zip(self.influence, self.nodes, self.ratios, strict=True)
        )
        return [
            f"{when(self.times)}, {math.prod(self.mean.shape[1:])} entries, nodes {sizes}",
            f"mean {span(self.mean)}, error {off:.2g}",
            f"N Var {span(variance)}, error {error:.2g}; by resampling {span(self.resampling)}",
        ]

    @property
    def shares(self) -> Float[Array, "hidden T ..."]:
        return _shares(self.influence, [m.masses for m in self.nodes], self.ratios)

    @property
    def variance(self) -> Float[Array, "T ..."]:
        return self.shares.sum(0)

    @property
    def covariance(self) -> Array:
        parts = [
            tensordot(f * (m.masses / r)[(None,) * (f.ndim - 1)], f, axes=[[-1], [-1]])
            for f, m, r in zip(self.influence, self.nodes, self.ratios, strict=True)
        ]
        return sum(parts[1:], parts[0])

    def band(self, width: int, level: float = 0.95) -> tuple[Array, Array]:
        """Bounds (low, high), each (T, ...), between which the observable of a network of `width`
        N lies with probability `level`, at one time and entry; up to O(1/N)."""
        half = quantile(level) * jnp.sqrt(self.variance / count("width", width))
        self._check_edges(width)
        return self.mean - half, self.mean + half

    def width(self, tolerance: float, level: float = 0.95) -> int:
        """The width N for which every entry at every time is within `tolerance` of the limit with
        probability `level` (each on its own)."""
        positive("tolerance", tolerance, jnp.result_type(float))
        largest = float(self.variance.max())
        found = max(1, math.ceil(largest * (quantile(level) / tolerance) ** 2))
        self._check_edges(found)
        return found

    def _check_edges(self, width: int) -> None:
        own, added = width * float(self.resampling[0].sum()), float(self.edges.sum())
        if added > _EDGES * own:
            share = added / own if own > 0 else math.inf
            warnings.warn(
                f"At width {width} the independent noise of edges adds {share:.2g} times the "
                "variance of the start, which is of higher order in 1/N and left out here. Its law "
                "must not depend on the width: a standard parametrisation, entries of variance "
                "proportional to N, is outside of this theory.",
                EdgeNoise,
                stacklevel=3,
            )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """N Var against time, averaged over the entries: in all, by layer, and by resampling."""
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1] if ax is None else ax

        def curve(values: Array) -> np.ndarray:
            return np.asarray(values).reshape(len(self.times), -1).mean(1)

        ax.plot(self.times, curve(self.variance), **{"color": "k", "label": "all layers", **kwargs})
        for i, share in enumerate(self.shares if len(self.nodes) > 1 else ()):
            ax.plot(self.times, curve(share), lw=1, label=f"share of layer {i + 1}")
        ax.plot(self.times, curve(self.resampling), "k:", lw=1, label="resampling")
        ax.set(xlabel="time $t$", ylabel=r"$N\,\mathrm{Var}$, mean over entries")
        ax.legend(fontsize="small")
        return ax


@overload
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
) -> Fluctuations: ...


@overload
def fluctuations(
    ensemble: Network,
    energy: Energy,
    observe: Observable,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    dynamics: Dynamics | None = None,
    solver: Adaptive | None = None,
) -> Jackknife: ...


def fluctuations(
    ensemble: NeuronalEnsemble | Network,
    energy: Energy,
    observe: Observable,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    nodes: int | Sequence[int] | None = None,
    ratios: Sequence[float] | None = None,
    dynamics: Dynamics | None = None,
    rule: Rule | Sequence[Rule | None] | None = None,
    solver: Adaptive | None = None,
    key: PRNGKeyArray | None = None,
) -> Fluctuations | Jackknife:
    """The variance N Var f_t of `observe` in wide networks of `ensemble`, from one derivative.

    The limit on `nodes` quadrature nodes is differentiated in its initial masses, once more on a
    coarser set for the error (three times on others, for random rules), in one compilation.

    A `Network` in place of the ensemble, one that was drawn, of equal masses and before its
    training, stands for the law of its own neurons, which need not be known: the result is a
    `Jackknife`, and `nodes`, `ratios`, `rule` and `key` are left out.

    Arguments:

    - `observe(network)`: one array, a function of the network's measures (e.g. a function
      `lambda network: network(x)` kept under one name; outputs, losses, averages by mass);
      `times` at which it is taken (start and end if None).
    - `ratios`: r_i > 0, one per hidden layer, for networks of widths N_i = r_i N (all equal if
      None).
    - `nodes`, `rule`, `key`: as in `NeuronalEnsemble.discretise`.
    - `dynamics`: `GradientFlow()` by default; `solver`: `Adaptive()` by default.

    Cost and memory: reverse mode takes one solve backward per number observed (times × entries),
    forward mode one per node; the cheaper is taken. Reverse mode keeps O(√max_steps) networks of
    nodes (checkpoints); derivatives are computed together in blocks that hold 2²² numbers a copy of
    the state.

    Warns (`UnresolvedStart`) when `nodes` miss much of the start's variance or motion.

    Raises `ValueError` for arguments that do not fit, and observables that give anything but one
    finite array or that single out neurons; `FailedRun` if the flow breaks down.
    """
    kind("ensemble", ensemble, (NeuronalEnsemble, Network), "write iid(...), or from_mlp(mlp)[0]")
    kind("energy", energy, Energy, "write Risk(data)")
    dynamics = GradientFlow() if dynamics is None else dynamics
    solver = Adaptive() if solver is None else solver
    kind("solver", solver, Adaptive, "it is of continuous time; write Adaptive()")
    if isinstance(ensemble, Network):
        for name, value in {"nodes": nodes, "ratios": ratios, "rule": rule, "key": key}.items():
            if value is not None:
                raise ValueError(
                    f"{name} must be None for a network, whose own neurons are used: leave it out"
                )
        return jackknife(
            ensemble, energy, observe, t1=t1, times=times, dynamics=dynamics, solver=solver
        )
    if nodes is None:
        raise ValueError("nodes is required for an ensemble: write nodes=32")
    scale = layer_ratios(ratios, ensemble.depth - 1)
    measures, network, others = discretisations(ensemble, nodes, rule, key)
    check_observable(observe, network)
    check_differentiable(observe, network)
    _, when = checkpoints(times, 0.0, t1, network.dtype)
    solver.check(network, energy, dynamics, when)
    solver = solver.resolved(network.dtype)
    watch = _Watch(observe, jnp.asarray(scale, network.dtype))

    def solve(network: Network, solver: Adaptive) -> tuple[Array, tuple[Array, ...], Array, Array]:
        values, influence, variance, run = _differentiate(
            network, energy, dynamics, solver, watch, when
        )
        return values, influence, variance, run.raise_if_failed().observed[1]

    mean, influence, variance, resampling = solve(network, solver)
    rougher = [solve(other, solver.rougher()) for other in others]
    mean_error = apart(mean, [other for other, *_ in rougher])
    variance_error = apart(variance, [other for _, _, other, _ in rougher])
    pair = looks(ensemble, ensemble.rules(rule), measures, key)
    if pair is not None:
        few, many = (_at_start(watch, one) for one in pair)
        changed, missing = jax.tree.map(lambda a, b: jnp.abs(a - b), few, many)
        share = missing.sum() / jnp.maximum(few[1].sum(), jnp.finfo(missing.dtype).tiny)
        warn_of(max(float(share), unseen(pair, energy, dynamics, when[-1])[1]), stacklevel=2)
        mean_error = _at_least(mean_error, changed, share * jnp.abs(mean - mean[:1]))
        variance_error = _at_least(variance_error, missing, share * variance)
    return Fluctuations(
        times=when,
        mean=mean,
        mean_error=mean_error,
        influence=influence,
        nodes=measures,
        ratios=scale,
        resampling=resampling,
        variance_error=variance_error,
        edges=edge_variance(ensemble, network, observe, scale),
    )


def _at_least(error: Array, at_start: Array, later: Array) -> Array:
    """What solutions tell of an error, or what a look at the start does."""
    return jnp.maximum(jnp.maximum(error, at_start[None]), later)


@eqx.filter_jit
def _at_start(watch: _Watch, network: Network) -> tuple[Array, Array]:
    return watch(network)


class _Watch(eqx.Module):
    """An observable, and its variance were neurons drawn anew and kept."""

    observe: Observable
    ratios: Float[Array, " layers"]

    def __call__(self, network: Network) -> tuple[Array, Array]:
        now = jax.lax.stop_gradient(network)
        slopes = jax.jacrev(lambda p: self.observe(now.weighed(p)))(now.masses)
        influence = tuple(map(centred, slopes, now.masses))
        return self.observe(network), _shares(influence, now.masses, self.ratios).sum(0)


@eqx.filter_jit
def _differentiate(
    network: Network,
    energy: Energy,
    dynamics: Dynamics,
    solver: Adaptive,
    watch: _Watch,
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
    return values, influence, _shares(influence, network.masses, watch.ratios).sum(0), trajectory


def _shares(
    influence: Sequence[Array], masses: Sequence[Array], ratios: Sequence[ArrayLike] | Array
) -> Float[Array, "layers ..."]:
    """r_i⁻¹ E_{P_i} IF_i² for every layer."""
    return jnp.stack(
        [tensordot(f**2, p, axes=1) / r for f, p, r in zip(influence, masses, ratios, strict=True)]
    )
