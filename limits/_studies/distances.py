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
    sizes = [p.shape[1] for p in drawn.initial_masses]
    counted = tuple(p > 0 for p in drawn.initial_masses)

    def at_neurons(runs: Runs, skip: Sizes) -> Parameters:
        network, run = runs
        ranges = [slice(s, s + n) for s, n in zip(skip, sizes, strict=True)]

        def at(increment: Parameters) -> Parameters:
            return network.moved(increment).neurons(ranges).parameters

        return jax.vmap(at)(run.observed["moved"])

    def one(a: Runs, b: Runs, counted: tuple[Array, ...]) -> Distances:
        (_, run), (_, other) = a, b
        sup, rms, growth = _apart(at_neurons(a, skip_a), at_neurons(b, skip_b), counted)
        outputs = run.observed["outputs"] - other.observed["outputs"]
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


def _apart(
    a: Parameters, b: Parameters, counted: tuple[Array, ...]
) -> tuple[Array, Array, Array | None]:
    """Sup and root mean square over neurons of the largest distance over times, per layer, and the
    sup distance of growth per hidden layer."""

    def one(a: Array | None, b: Array | None, *ends: Array) -> tuple[Array, Array] | None:
        """Of arrays (T, ..., trailing axes), one axis for each of `ends`, the counted neurons."""
        if a is None or b is None:
            return None
        square = ((a - b) ** 2).sum(tuple(range(1 + len(ends), a.ndim))).max(0)
        both = ends[0] if len(ends) == 1 else ends[0][:, None] & ends[1][None]
        square = jnp.where(both, square, 0)
        return jnp.sqrt(square.max()), jnp.sqrt(square.sum() / both.sum().astype(square.dtype))

    outputs = jnp.ones(a.weights[-1].shape[2:3] if a.weights[-1] is not None else 1, bool)
    layers = (*counted, outputs)
    ends = [layers[:1], *pairwise(layers)]
    weights = [one(v, w, *e) for v, w, e in zip(a.weights, b.weights, ends, strict=True)]
    biases = [one(v, w, e) for v, w, e in zip(a.biases, b.biases, layers, strict=True)]
    zero = jnp.zeros((), a.weights[0].dtype)
    found = [
        [d for d in pair if d is not None] or [(zero, zero)]
        for pair in zip(weights, biases, strict=True)
    ]
    sup, rms = (
        jnp.stack([jnp.stack([d[j] for d in layer]).max() for layer in found]) for j in (0, 1)
    )
    if a.growth is None or b.growth is None:
        return sup, rms, None
    pairs = zip(a.growth, b.growth, counted, strict=True)
    return sup, rms, jnp.stack([jnp.where(c, jnp.abs(g - h), 0).max() for g, h, c in pairs])


def collect(found: list[Distances]) -> Distances:
    """All widths beside each other, (seeds, widths, ...), NaN where a seed is missing or failed."""
    seeds = max(len(one.ok) for one in found)

    def gather(*columns: np.ndarray) -> np.ndarray:
        padded = []
        for values, one in zip(columns, found, strict=True):
            ok = one.ok.reshape(-1, *(1,) * (values.ndim - 1))
            pad = np.full((seeds - len(values), *values.shape[1:]), np.nan, values.dtype)
            padded.append(np.concatenate([np.where(ok, values, np.nan), pad]))
        return np.stack(padded, axis=1)

    return jax.tree.map(gather, *found)
