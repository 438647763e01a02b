"""The noise of edges: networks without it, and what it adds to an observable at first."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ensembles import Measure, Network, NeuronalEnsemble, Noisy, Parameters, quadrature
from ensembles.internal import einsum, tensordot

from .._solvers.observables import Observable

_DRAWS = 64  # nodes of the distribution of an edge's noise
_DRAWS_OF_SEVERAL = 1024  # where it has several numbers


class EdgeNoise(UserWarning):
    """Noise of edges that the central limit theorem neglects is not small at a width."""


def without_edge_noise(ensemble: NeuronalEnsemble, network: Network) -> Network:
    """`network` with noisy weights replaced by what its labels determine of them.

    Weights are w(t) = E[w(0) | c, c'] + a(t) u + δ(t, c, c'), u the noise, a = 1 but for weight
    decay, under which a(t) = exp(−λ ∫ ξ). Initial weights become the conditional mean, the
    increment loses (a − 1) u, u centred and a by least squares over pairs of neurons (by mass).
    What is left of u is of order 1/N.
    """
    if not ensemble.noisy:
        return network
    pairs = zip(network.labels, network.initial_masses, strict=True)
    mean = ensemble.network(tuple(Measure(*pair) for pair in pairs))

    def quiet(i: int, increment: Array | None, p: Array) -> Array | None:
        if increment is None or not isinstance(ensemble.weights[i], Noisy):
            return increment
        noise = network.start.weights[i] - mean.start.weights[i]
        ends = (None,) * p.ndim
        centred = noise - tensordot(p, noise, axes=p.ndim)[ends]
        along, square = (tensordot(p, a * centred, axes=p.ndim) for a in (increment, centred))
        share = jnp.where(square > 0, along / jnp.where(square > 0, square, 1), 0)
        return increment - share[ends] * centred

    now = network.increment
    each = zip(now.weights, network.edge_masses(), strict=True)
    weights = tuple(quiet(i, *pair) for i, pair in enumerate(each))
    return mean.moved(Parameters(weights, now.biases, now.growth))


def edge_variance(
    ensemble: NeuronalEnsemble, network: Network, observe: Observable, ratios: Sequence[float]
) -> Array:
    """N² times the variance that independent edges add to `observe` at time 0, in networks of
    widths N_i = r_i N.

    Edge (k, c') of layer i has the variance s_i² and moves an observable f by p_{i-1} p_i G_i, so

        N² Var f = Σ_i (r_{i-1} r_i)⁻¹ Σ p_{i-1} p_i s_i² G_i²,

    a sum over pairs of entries of its covariance where a weight has several.
    """
    added = []
    for i, weight in enumerate(ensemble.weights):
        if isinstance(weight, Noisy):
            many = _DRAWS if weight.noise.dim == 1 else _DRAWS_OF_SEVERAL
            draws = quadrature(weight.noise, many, key=jax.random.key(0))
            found = _of_layer(weight, draws, network, observe, i)
            added.append(found / (ratios[i - 1] * ratios[i]))
    return sum(added[1:], added[0]) if added else jnp.zeros((), network.dtype)


@eqx.filter_jit
def _of_layer(
    weight: Noisy, draws: Measure, network: Network, observe: Observable, i: int
) -> Array:
    p = network.edge_masses()[i]

    def covariance(c: Array, e: Array) -> Array:
        def product(u: Array) -> Array:
            off = (weight.weight(c, e, u) - weight.mean(c, e)).reshape(-1)
            return off[:, None] * off[None]

        return draws.expectation(product)

    def seen(w: Array) -> Array:
        return observe(eqx.tree_at(lambda n: n.start.weights[i], network, w))

    s = jax.vmap(jax.vmap(covariance, (None, 0)), (0, None))(*network.labels[i - 1 : i + 1])
    w = network.start.weights[i]
    slopes = jax.jacrev(seen)(w)
    slopes = slopes.reshape(*slopes.shape[: slopes.ndim - w.ndim], *p.shape, -1)
    root = jnp.sqrt(jnp.maximum(p, jnp.finfo(p.dtype).tiny))  # slopes are p G: nothing overflows
    scaled = slopes / root[..., None][(None,) * (slopes.ndim - 3)]
    return einsum("...nmk,nmkl,...nml->...", scaled, s, scaled)
