"""Bidirectional diversity: how richly the neurons of each layer differ.

Nguyen & Pham (arXiv:2001.11443) assume that the distribution of a neuron's profile, the weights
into it and out of it, (w_i(·, c), w_{i+1}(c, ·)) with c ~ P_i, has full support in L²(P_{i-1}) ×
L²(P_{i+1}), and (w_1(c), w_2(c, ·)) in R^d × L²(P_2). They show that this then holds at every
finite time, and that it makes the preactivations H_i(·, c) rich in L²(P_x). Full support cannot be
observed in finitely many neurons; what can be observed is whether it fails in the leading modes.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble
from ensembles.internal import count, kind, matmul, positive, randomness

from .._energies.data import Data
from .._result import Result
from .noise import without_edge_noise

_OFFSET = 1.0  # of half-spaces and balls from the mean, in standard deviations
_RADIUS = 0.75


class Diversity(Result):
    """How the neurons of hidden layers 1, …, L − 1 differ; all averages over neurons by mass.

    Profiles are centred at their mean over neurons. With λ_1 ≥ λ_2 ≥ … the eigenvalues of the
    covariance of what comes in to the neurons of a layer (or goes out of them), and τ the
    resolution:

    - `spectra` (L − 1, 2, modes): the leading λ, of what comes in and what goes out.
    - `rank` (L − 1, 2): the effective rank Σ_k λ_k / (λ_k + τ²), the number of directions in which
      neurons differ by more than τ. 0 when they are all alike.
    - `span_spectra` (L − 1, modes), `span` (L − 1,): the same of H_i(·, c) in L²(P_x), of
      channels in L²(P_x × sites), all sites alike.
    - `half_space` (L − 1,): the smallest mass of neurons in a half-space at distance 1 from the
      mean, over the sampled directions of the space of leading modes of both sides, where mode
      k is in units of (λ_k + τ²)^½; Gaussian profiles have 0.16.
    - `ball` (L − 1,): the smallest mass in a disc of radius 3/4 whose centre has distance 1, over
      sampled planes; Gaussian profiles have 0.16. Both are 0 where a mode is missing.
    - `target` (L − 1,): the mean distance of Gaussian random profiles from the nearest neuron's,
      relative to their root mean square; 1 where all modes are missing.

    Extrema over sampled directions bound the true ones from above. A mode that is missing gives 0
    at any width; with N neurons so does a direction of true mass below about 1/N, as skewed
    profiles have late in training.
    """

    spectra: Float[Array, "hidden sides=2 modes"]
    rank: Float[Array, "hidden sides=2"]
    span_spectra: Float[Array, "hidden modes"]
    span: Float[Array, " hidden"]
    half_space: Float[Array, " hidden"]
    ball: Float[Array, " hidden"]
    target: Float[Array, " hidden"]

    @property
    def holds(self) -> Bool[Array, " hidden"]:
        """Whether every sampled half-space and ball has neurons, layer by layer."""
        return (self.half_space > 0) & (self.ball > 0)


@eqx.filter_jit
def diversity(
    network: Network,
    data: Data,
    *,
    ensemble: NeuronalEnsemble | None = None,
    modes: int = 4,
    resolution: float = 0.1,
    directions: int = 64,
    key: PRNGKeyArray,
) -> Diversity:
    """Measure the diversity of the neurons of every hidden layer.

    Along a run, give it as an observation:
    `flow(..., observe=eqx.Partial(diversity, data=data, key=key))`.

    Arguments: `data` weighs the inputs of preactivations; `ensemble`, for a network with noisy
    weights, is where they were drawn from: profiles are then those of conditional means plus
    increments, while noise would count as one mode per neuron; `modes` how many leading modes of
    each side are evaluated (all there are, where a side has fewer dimensions); `resolution` τ in
    the units of weights; `directions` the number of random half-spaces, planes and targets, drawn
    with `key`. A layer of one neuron, the middle of an i.i.d. limit, has no diversity: all is 0.

    Raises `ValueError` for more modes than neurons and weights that are no numbers.
    """
    kind("network", network, Network, "write ensemble.sample(64, key=key), or run.final")
    kind("data", data, Data, "write Data(x, y)")
    if ensemble is not None:
        kind("ensemble", ensemble, NeuronalEnsemble, "write the one whose noise the network drew")
    modes, directions = count("modes", modes), count("directions", directions)
    key = randomness(key, "directions are drawn at random")
    tau = positive("resolution", resolution, network.dtype)
    if any(1 < n <= modes for n in network.width):
        raise ValueError(
            f"modes must be fewer than the neurons of a layer, got modes={modes} with widths "
            f"{network.width}: so few labels cannot carry them"
        )
    if not all(layer.affine for layer in network.layers):
        raise ValueError(f"network must have layers affine in their weights, got {network!r}")
    preactivations = network.preactivations(data.x)
    weights = (network if ensemble is None else without_edge_noise(ensemble, network)).weights
    p = (*network.masses, jnp.ones(1, network.dtype))  # outputs count with mass 1
    found = []
    for i in range(network.depth - 1):
        into = weights[i] if i == 0 else _weighed(weights[i].swapaxes(0, 1), p[i - 1])
        sides = [into, _weighed(weights[i + 1], p[i + 1])]
        sides = [_spectrum(p[i], a.reshape(len(p[i]), -1), tau, modes) for a in sides]
        h = _weighed(preactivations[i].swapaxes(0, 1), data.masses)
        sites = max(1, math.prod(h.shape[2:]))
        span = _spectrum(p[i], h.reshape(len(p[i]), -1) / math.sqrt(sites), tau, modes)
        z = jnp.concatenate([side[2] for side in sides], axis=1)
        found.append(
            Diversity(
                spectra=jnp.stack([side[0] for side in sides]),
                rank=jnp.stack([side[1] for side in sides]),
                span_spectra=span[0],
                span=span[1],
                **_support(p[i], z, directions, jax.random.fold_in(key, i)),
            )
        )
    return jax.tree.map(lambda *layers: jnp.stack(layers), *found)


def _weighed(profiles: Array, masses: Array) -> Array:
    """Profiles (N, M, ...) whose squares add up to averages by mass over their M."""
    return profiles * jnp.sqrt(masses).reshape((1, -1) + (1,) * (profiles.ndim - 2))


def _spectrum(p: Array, profiles: Array, tau: Array, modes: int) -> tuple[Array, Array, Array]:
    """Leading eigenvalues (modes,), effective rank and coordinates (N, modes) of profiles (N, D).

    From the Gram matrix of the smaller side. Coordinates are in units of (λ + τ²)^½; when D is
    below `modes` there are D of them, and the missing eigenvalues are 0.
    """
    centred = profiles - matmul(p, profiles)[None]
    scaled = jnp.sqrt(p)[:, None] * centred
    n, d = scaled.shape
    k = min(modes, n, d)
    gram = scaled.T if d < n else scaled
    values, vectors = jnp.linalg.eigh(matmul(gram, gram.T))
    values = jnp.maximum(values[::-1], 0)
    vectors = vectors[:, ::-1][:, :k]
    if d >= n:  # the modes are images of the Gram matrix's eigenvectors
        seen = values > 1e-12 * tau**2
        inverse = jnp.where(seen, 1 / jnp.sqrt(jnp.where(seen, values, 1)), 0)
        vectors = matmul(scaled.T, vectors) * inverse[None, :k]
    coordinates = matmul(centred, vectors)
    coordinates = coordinates / jnp.sqrt(values[:k] + tau**2)[None]
    leading = jnp.pad(values[:k], (0, modes - k))
    return leading, (values / (values + tau**2)).sum(), coordinates


def _support(p: Array, z: Array, directions: int, key: PRNGKeyArray) -> dict[str, Array]:
    """Smallest masses of half-spaces and discs, and distances of random targets, of z (N, m)."""
    m = z.shape[1]
    axes = jnp.eye(m, dtype=z.dtype)
    lines, planes, targets = jax.random.split(key, 3)
    random = jax.random.normal(lines, (directions, m), z.dtype)
    random = random / jnp.linalg.norm(random, axis=1, keepdims=True)
    normals = jnp.concatenate([axes, -axes, random])
    beyond = matmul(z, normals.T) >= _OFFSET
    mass = jnp.where(beyond, p[:, None], 0).sum(0)

    def disc(key: PRNGKeyArray) -> Array:
        frame = jnp.linalg.qr(jax.random.normal(key, (m, 2), z.dtype))[0]
        flat = matmul(z, frame)
        inside = ((flat - jnp.array([_OFFSET, 0], z.dtype)[None]) ** 2).sum(1) <= _RADIUS**2
        return jnp.where(inside, p, 0).sum()

    wanted = jax.random.normal(targets, (directions, m), z.dtype)
    counted = jnp.where(p > 0, 0, jnp.inf)
    squares = jax.vmap(lambda g: (((z - g[None]) ** 2).sum(1) + counted).min())(wanted)
    return {
        "half_space": mass.min(),
        "ball": jax.vmap(disc)(jax.random.split(planes, directions)).min(),
        "target": jnp.sqrt(squares / m).mean(),
    }
