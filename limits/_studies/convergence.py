"""What the global-convergence theorems assume, as measured quantities.

Nguyen & Pham (arXiv:2001.11443; arXiv:2006.09355), for a loss with ∂ℓ = 0 ⇒ ℓ = 0 and y = y(x): the
loss tends to 0 when the initialisation is diverse, {σ_1(w · x)} is dense in L²(P_x), and the update
of one layer vanishes uniformly over its neurons as t → ∞: ∂_t w_2 for three layers, whose initial
weights may be i.i.d., and ∂_t w_L for L layers. Convexity is not needed.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembles import Affine, Network
from ensembles.internal import kind, matmul

from .._energies.risk import Risk
from .._result import Result

_RIDGE = 1e-6  # of the largest eigenvalue: what counts as the span of features


class Convergence(Result):
    """Assumptions of the theorems at one moment.

    - `energy` (): the risk; `stationarity` (): root mean square over the data of ∂ℓ/∂ŷ, which
      vanishes only at a stationary point in the outputs.
    - `updates` (L,): the convergence mode, the essential supremum over neurons of the derivative
      per unit mass of w_i: of its norm over inputs or outputs in the first and last layer; in the
      middle, over c, of the mean over c' of its absolute value, as in the theorem for three layers.
    - `residual` (L,): universal approximation. The part of the target's mean square that functions
      x ↦ E[f(c) σ(H_i(x, c))] + const cannot reach, i = 1, …, L − 1; 0 when the features of layer i
      span L²(P_x), 1 when they are constant in x.
    """

    energy: Float[Array, ""]
    stationarity: Float[Array, ""]
    updates: Float[Array, " layers"]
    residual: Float[Array, " hidden"]


@eqx.filter_jit
def convergence(network: Network, energy: Risk) -> Convergence:
    """Measure what the theorems on global convergence assume.

    Along a run: `flow(..., observe=eqx.Partial(convergence, energy=risk))`. Neurons of mass 0 do
    not count in suprema. The span of features is resolved to 10⁻⁶ of their largest mean square
    (ridge regression). Raises `ValueError` for networks whose layers are not `Affine`.
    """
    kind("network", network, Network, "write ensemble.sample(64, key=key), or run.final")
    kind("energy", energy, Risk, "write Risk(data)")
    layers = [layer for layer in network.layers if isinstance(layer, Affine)]
    if len(layers) < network.depth:
        raise ValueError(f"network must have Affine layers, got {network!r}")
    value, gradient, _ = energy.derivatives(network)
    data, h = energy.data, network.preactivations(energy.data.x)
    p, last = network.masses, network.depth - 1

    def largest(i: int, g: Array) -> Array:
        middle = 0 < i < last
        per_neuron = matmul(jnp.abs(g), p[i]) if middle else jnp.linalg.norm(g, axis=1)
        return jnp.where(p[max(i - 1, 0)] > 0, per_neuron, 0).max()

    features = [layer.activation(one) for layer, one in zip(layers[1:], h[:-1], strict=True)]
    return Convergence(
        value,
        energy.stationarity(network),
        jnp.stack([largest(i, g) for i, g in enumerate(gradient.weights)]),
        jnp.stack([_residual(data.masses, data.y, a, q) for a, q in zip(features, p, strict=True)]),
    )


def _residual(q: Array, y: Array, features: Array, p: Array) -> Array:
    """The relative distance squared of y (n, outputs) from the span of features (n, N) and 1."""

    def centred(a: Array) -> Array:
        return (a - matmul(q, a)[None]) * jnp.sqrt(q)[:, None]

    b, target = centred(features) * jnp.sqrt(p)[None], centred(y)
    values, vectors = jnp.linalg.eigh(matmul(b, b.T))
    tiny = jnp.finfo(features.dtype).tiny
    scale = jnp.maximum(_RIDGE * (q[:, None] * features**2 * p[None]).sum(), tiny)
    missed = scale / (jnp.maximum(values, 0) + scale)
    parts = matmul(vectors.T, target) ** 2
    return (missed[:, None] ** 2 * parts).sum() / jnp.maximum((target**2).sum(), tiny)
