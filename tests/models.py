"""Ensembles and data shared by tests."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ensembles import Affine, Layer, NeuronalEnsemble, Uniform
from limits import Data, Risk


@functools.cache  # the same weight functions every time: nothing compiles twice
def smooth(
    depth: int, layers: Layer | None = None, *, outputs: int = 1, biases: bool = False
) -> NeuronalEnsemble:
    """Analytic weight functions of one-dimensional labels, uniform on [-1, 1]; inputs in R²."""

    def first(c):
        return jnp.stack([jnp.sin(2 * c[0]), jnp.cos(c[0]) + c[0]])

    def hidden(c, e):
        return 1 + jnp.sin(c[0] + 2 * e[0]) + c[0] * e[0]

    def last(c):
        return jnp.stack([jnp.cos((3 + j) * c[0]) + c[0] for j in range(outputs)])

    def bias(c):
        return 0.3 * jnp.sin(c[0] + 0.5)

    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * (depth - 1),
        [first, *[hidden] * (depth - 2), last],
        [*[bias] * (depth - 1), jnp.linspace(0.1, 0.2, outputs)] if biases else None,
        layers=Affine(jnp.tanh) if layers is None else layers,
    )


def tanh_edges(w, b, h):
    """φ(w, b, h) = tanh(w h + b), not linear in w; in the first layer tanh(w · x + b)."""
    shift = 0 if b is None else b
    return jnp.tanh(jnp.dot(w, h) + shift)


def affine_edges(activation: Callable) -> Callable:
    """φ(w, b, h) = w activation(h) + b, and w · x + b in the first layer."""

    def phi(w, b, h):
        shift = 0 if b is None else b
        return jnp.dot(w, h) + shift if w.ndim else w * activation(h) + shift

    return phi


@functools.cache
def regression(n: int = 32, outputs: int = 1) -> Data:
    """n Gaussian inputs in R² with smooth targets."""
    x = jax.random.normal(jax.random.key(11), (n, 2))
    y = jnp.stack([jnp.sin(x[:, 0] * x[:, 1] + j) for j in range(outputs)], axis=1)
    return Data(x, y)


def largest(a, b) -> float:
    """The largest absolute difference between two trees."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(u) - np.asarray(v)).max()) for u, v in pairs)


class Outputs(eqx.Module):
    """What a fresh lambda would do, without compiling anew each time."""

    risk: Risk

    def __call__(self, network):
        return self.risk.outputs(network)


def distance(a, b) -> float:
    """Of two (energies, outputs) along runs, as `limit` takes it for data of equal masses."""
    (energies, outputs), (others, ones) = jax.tree.map(np.asarray, (a, b))
    apart = np.sqrt(((outputs - ones) ** 2).mean((1, 2))).max()
    return max(float(np.abs(energies - others).max()), float(apart))
