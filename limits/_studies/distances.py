"""Distances between the runs of two networks, neuron by neuron."""

from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ensembles import Network, Parameters

from .._energies.energy import Energy
from .._solvers.trajectory import RESULTS, Trajectory

Sizes = tuple[int, ...]


class Distances(NamedTuple):
    """Of the seeds of one width, each with a leading axis."""

    sup: Any
    rms: Any
    growth: Any
    outputs: Any
    energies: Any
    curves: Any
    observed: Any
    ok: Any


Runs = tuple[Network, Trajectory]


@eqx.filter_jit
def compare(
    energy: Energy, a: Runs, b: Runs, skip_a: Sizes, skip_b: Sizes, drawn: Network
) -> Distances:
    """Distances between runs, one a seed, at the neurons of the networks `drawn`: those of positive
    mass, behind the first `skip` of each layer."""
    sizes = tuple(p.shape[1] for p in drawn.initial_masses)
    counted = tuple(p > 0 for p in drawn.initial_masses)

    def one(a: Runs, b: Runs, counted: tuple[Array, ...]) -> Distances:
        (_, run), (_, other) = a, b
        apart = _largest(_along(a, skip_a, sizes), _along(b, skip_b, sizes))
        sup, rms, growth = _over_neurons(apart, counted)
        outputs = jax.tree.map(jnp.subtract, run.observed["outputs"], other.observed["outputs"])
        return Distances(
            sup=sup,
            rms=rms,
            growth=growth,
            outputs=energy.size(outputs).max(),
            energies=jnp.abs(run.energies - other.energies).max(),
            curves=run.energies,
            observed=run.observed["observed"],
            ok=(run.result == RESULTS.successful) & (other.result == RESULTS.successful),
        )

    return jax.vmap(one)(a, b, counted)


class Furthest(NamedTuple):
    """The largest distances over times between two runs of the same neurons, a seed each.

    - `apart`, `moved`: of each weight, bias and growth, between the runs and from time 0.
    - `functions` (seeds,): of outputs and energies; `ok` (seeds,): whether both runs ended well.
    """

    apart: Parameters
    moved: Parameters
    functions: Array
    ok: Array

    def beside(self, other: "Furthest") -> "Furthest":
        """With another error that is independent of this one added."""
        return Furthest(
            jax.tree.map(np.add, self.apart, other.apart),
            self.moved,
            self.functions + other.functions,
            self.ok & other.ok,
        )


@eqx.filter_jit
def furthest(
    energy: Energy, a: Runs, b: Runs, skip_a: Sizes, skip_b: Sizes, sizes: Sizes
) -> Furthest:
    """How far runs are apart at the `sizes` neurons behind the first `skip` of each layer."""

    def one(a: Runs, b: Runs) -> Furthest:
        (_, run), (_, other) = a, b
        ours, theirs = _along(a, skip_a, sizes), _along(b, skip_b, sizes)
        apart = jax.tree.map(jnp.subtract, run.observed["outputs"], other.observed["outputs"])
        outputs = energy.size(apart)
        return Furthest(
            apart=_largest(ours, theirs),
            moved=_largest(theirs, jax.tree.map(lambda v: v[:1], theirs)),
            functions=jnp.maximum(outputs, jnp.abs(run.energies - other.energies)).max(),
            ok=(run.result == RESULTS.successful) & (other.result == RESULTS.successful),
        )

    return jax.vmap(one)(a, b)


class Within(NamedTuple):
    """Of each layer the sup and the root mean square over neurons, of each hidden one the sup of
    the growth."""

    sup: np.ndarray
    rms: np.ndarray
    growth: np.ndarray | None


def within(apart: Parameters, sizes: Sizes, width: Sizes, groups: int) -> Within:
    """How far networks of `width` are apart.

    The largest of up to `groups` disjoint ones that the `sizes` neurons of each seed make up:
    labels are independent draws.
    """
    groups = max(1, min(groups, *(n // m for n, m in zip(sizes, width, strict=True))))
    last = len(width)

    def largest(a: Any, *layers: int) -> float:
        """Of `a` (seeds, ...), whose axis 1 + j counts neurons of hidden layer layers[j]."""
        ranges = ([slice(g * width[i], (g + 1) * width[i]) for i in layers] for g in range(groups))
        return max(float(np.asarray(a)[(slice(None), *r)].max()) for r in ranges)

    def mean(a: Any, *layers: int) -> float:
        """Of all neurons that there are, without those that were padded."""
        there = np.asarray(a)[(slice(None), *(slice(sizes[i]) for i in layers))]
        return float(np.sqrt((there**2).mean()))

    ends = [(0,), *pairwise(range(last)), (last - 1,)]
    sup, rms = [], []
    for i, (w, b) in enumerate(zip(apart.weights, apart.biases, strict=True)):
        own = () if i == last else (i,)
        held = [(a, e) for a, e in ((w, ends[i]), (b, own)) if a is not None]
        sup.append(max([0.0, *(largest(a, *e) for a, e in held)]))
        rms.append(max([0.0, *(mean(a, *e) for a, e in held)]))
    grown = None
    if apart.growth is not None:
        grown = np.array([largest(g, i) for i, g in enumerate(apart.growth)])
    return Within(np.array(sup), np.array(rms), grown)


def _along(runs: Runs, skip: Sizes, sizes: Sizes) -> Parameters:
    """The parameters (T, ...) of so many neurons behind the first `skip` of each layer."""
    network, run = runs
    ranges = [slice(s, s + n) for s, n in zip(skip, sizes, strict=True)]

    def at(increment: Parameters) -> Parameters:
        return network.moved(increment).neurons(ranges).parameters

    return jax.vmap(at)(run.observed["moved"])


def _largest(a: Parameters, b: Parameters) -> Parameters:
    """The largest distance over times, one number for each neuron or pair."""

    def one(a: Array | None, b: Array | None, ends: int) -> Array | None:
        if a is None or b is None:
            return None
        return jnp.sqrt(((a - b) ** 2).sum(tuple(range(1 + ends, a.ndim))).max(0))

    last = len(a.weights) - 1
    ends = [1, *[2] * (last - 1), 1]
    return Parameters(
        tuple(map(one, a.weights, b.weights, ends)),
        tuple(map(one, a.biases, b.biases, [1] * (last + 1))),
        None
        if a.growth is None or b.growth is None
        else tuple(jnp.abs(g - h).max(0) for g, h in zip(a.growth, b.growth, strict=True)),
    )


def _over_neurons(
    apart: Parameters, counted: tuple[Array, ...]
) -> tuple[Array, Array, Array | None]:
    """Sup and root mean square over the counted neurons per layer, and the sup of the growth."""

    def one(a: Array | None, *ends: Array) -> tuple[Array, Array] | None:
        if a is None:
            return None
        both = ends[0] if len(ends) == 1 else ends[0][:, None] & ends[1][None]
        a = jnp.where(both, a, 0)
        return a.max(), jnp.sqrt((a**2).sum() / both.sum().astype(a.dtype))

    outputs = apart.biases[-1]
    everywhere = jnp.ones(1 if outputs is None else outputs.shape, bool)
    ends = [counted[:1], *pairwise(counted), counted[-1:]]
    weights = [one(a, *e) for a, e in zip(apart.weights, ends, strict=True)]
    biases = [one(a, e) for a, e in zip(apart.biases, (*counted, everywhere), strict=True)]
    zero = jnp.zeros((), apart.weights[0].dtype)
    found = [
        [d for d in pair if d is not None] or [(zero, zero)]
        for pair in zip(weights, biases, strict=True)
    ]
    sup, rms = (
        jnp.stack([jnp.stack([d[j] for d in layer]).max() for layer in found]) for j in (0, 1)
    )
    if apart.growth is None:
        return sup, rms, None
    pairs = zip(apart.growth, counted, strict=True)
    return sup, rms, jnp.stack([jnp.where(c, g, 0).max() for g, c in pairs])


def collect(found: list[Distances]) -> Distances:
    """All widths in one array, (seeds, widths, ...), NaN where a seed is missing or failed."""
    seeds = max(len(one.ok) for one in found)

    def gather(*columns: np.ndarray) -> np.ndarray:
        padded = []
        for values, one in zip(columns, found, strict=True):
            ok = one.ok.reshape(-1, *(1,) * (values.ndim - 1))
            pad = np.full((seeds - len(values), *values.shape[1:]), np.nan, values.dtype)
            padded.append(np.concatenate([np.where(ok, values, np.nan), pad]))
        return np.stack(padded, axis=1)

    return jax.tree.map(gather, *found)
