"""The path norm of a network: what its weights amount to along all paths from inputs to outputs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import concrete, dot, kind, matmul, number, tensordot

from .energy import Derivatives, Energy


class PathNorm(Energy):
    """λ ∫ ‖w_1(c_1)‖ |w_2(c_1, c_2)| ⋯ ‖w_L(c_{L-1})‖ dP_1 ⋯ dP_{L-1}, λ the `strength`.

    Added to a risk, `Risk(data) + PathNorm(1e-3)`, it is the norm of networks of depth L with
    homogeneous units that all layers' weights share (Neyshabur, Tomioka & Srebro, arXiv:1503.00036;
    Zweig & Bruna, arXiv:2008.06952, for networks on sets). Norms are Euclidean, over inputs and
    over outputs; biases do not count. It has no derivative where a weight is 0; there it is given
    as 0.
    """

    strength: Float[Array, ""]

    def __init__(self, strength: ArrayLike):
        self.strength = number("strength", strength, "write 1e-3", jnp.result_type(float))
        known = concrete(self.strength)
        if known is not None and not 0 <= known < float("inf"):
            raise ValueError(f"strength must be a finite number ≥ 0, got {strength}: write 1e-3")

    def __call__(self, network: Network) -> Float[Array, ""]:
        kind("network", network, Network, "write ensemble.sample(64, key=key)")
        forward, _ = _paths(network)
        sizes = _sizes(network)
        total = dot(network.masses[-1], forward[-1] * sizes[-1])
        return self.strength.astype(network.dtype) * total

    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        forward, backward = _paths(network)
        strength, w = self.strength.astype(network.dtype), network.weights
        last = network.depth - 1
        slopes = [
            _direction(w[0]) * _fit(backward[0], w[0]),
            *(jnp.sign(w[i]) * jnp.outer(forward[i - 1], backward[i]) for i in range(1, last)),
            _direction(w[last]) * _fit(forward[-1], w[last]),
        ]
        gradient = Parameters(
            tuple(strength * g for g in slopes),
            jax.tree.map(jnp.zeros_like, network.start.biases),
        )
        psi = self.by_masses(network) if variation else None
        return Derivatives(self(network), gradient, psi)

    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        return self(network)[None, None]

    def size(self, outputs: Float[Array, "... n outputs"]) -> Float[Array, "..."]:
        return jnp.sqrt((outputs**2).mean((-2, -1)))

    def stationarity(self, network: Network) -> Float[Array, ""]:
        return jnp.zeros((), network.dtype)

    def check_noisy(self) -> None:
        raise ValueError(
            "energy must see noisy weights by their mean alone to have a limit on labels, got a "
            "PathNorm, which sees their sizes |w|: write weights that are functions of the labels "
            "(diverse(...)), or train finite networks"
        )

    def draw(self, batch: int, key: PRNGKeyArray) -> "PathNorm":
        return self

    def check(self, network: Network, batch: int | None = None) -> None:
        _sizes(network)


def _sizes(network: Network) -> list[Array]:
    """Norms of the first and last weights, absolute values of the others."""
    w = network.weights
    axes = [None if a is None else a.ndim for a in w]
    if axes != [2] * network.depth:
        raise ValueError(
            "network must have weights w_1 in R^d, scalars between hidden layers and w_L in "
            f"R^outputs for a path norm, got arrays of {axes} axes"
        )
    return [_norm(w[0]), *(a * jnp.sign(a) for a in w[1:-1]), _norm(w[-1])]


def _paths(network: Network) -> tuple[list[Array], list[Array]]:
    """What comes in to each neuron, and goes out of it, along all paths, by hidden layer."""
    sizes, masses = _sizes(network), network.masses
    forward, backward = [sizes[0]], [sizes[-1]]
    for p, w in zip(masses, sizes[1:-1], strict=False):
        forward.append(tensordot(p * forward[-1], w))
    for p, w in zip(masses[:0:-1], sizes[-2:0:-1], strict=False):
        backward.insert(0, matmul(w, p * backward[0]))
    return forward, backward


def _norm(w: Array) -> Array:
    """Euclidean norms of rows, with derivative 0 at 0."""
    square = (w**2).sum(-1)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def _direction(w: Array) -> Array:
    norms = _norm(w)[:, None]
    return jnp.where(norms > 0, w / jnp.where(norms > 0, norms, 1), 0)


def _fit(a: Array, like: Array) -> Array:
    return a.reshape(a.shape + (1,) * (like.ndim - a.ndim))
