"""Networks without the noise of their edges: what the labels alone determine."""

import jax.numpy as jnp
from jaxtyping import Array

from ensembles import Measure, Network, NeuronalEnsemble, Noisy, Parameters
from ensembles._contractions import tensordot


def without_noise(ensemble: NeuronalEnsemble, network: Network) -> Network:
    """`network` with noisy weights replaced by what its labels determine of them.

    Weights are w(t) = E[w(0) | c, c'] + a(t) u + δ(t, c, c'), u the noise, a = 1 but for weight
    decay, under which a(t) = exp(−λ ∫ ξ). The start becomes the conditional mean, and the increment
    loses (a − 1) u, u centred and a by least squares over pairs of neurons (by mass). What is left
    of u is of order 1/N.
    """
    if not any(isinstance(w, Noisy) for w in ensemble.weights):
        return network
    pairs = zip(network.labels, network.initial_masses, strict=True)
    mean = ensemble.network(tuple(Measure(*pair) for pair in pairs))

    def quiet(i: int, increment: Array | None, p: Array) -> Array | None:
        if increment is None or not isinstance(ensemble.weights[i], Noisy):
            return increment
        noise = network.start.weights[i] - mean.start.weights[i]
        centred = noise - tensordot(p, noise, axes=p.ndim)
        along, square = (tensordot(p, a * centred, axes=p.ndim) for a in (increment, centred))
        share = jnp.where(square > 0, along / jnp.where(square > 0, square, 1), 0)
        return increment - share * centred

    now = network.increment
    each = zip(now.weights, network.edge_masses(), strict=True)
    weights = tuple(quiet(i, *pair) for i, pair in enumerate(each))
    return mean.moved(Parameters(weights, now.biases, now.growth))
