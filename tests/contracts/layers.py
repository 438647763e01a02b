"""Layers, in networks of two outputs for inputs in R²."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from models import smooth

from ensembles import Affine, Elementwise, Layer, NeuronalEnsemble, Uniform, residual, shallow
from ensembles.blocks import Perceptron
from ensembles.channels import Convolution, Pooling, Shared


def _vectors_first(w, b, x):
    return jnp.tanh(w * x + b)


def _vectors(w, b, h):
    return jnp.tanh(w * h + b) * w[::-1]


def _vectors_last(w, b, h):
    return w[1] * jnp.tanh(jnp.dot(w, h)) + b


def _vector_valued():
    """Weights and preactivations in R², φ not affine in the weights."""
    kinds = [Elementwise(_vectors_first), Elementwise(_vectors), Elementwise(_vectors_last)]
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * 2,
        [
            lambda c: jnp.stack([jnp.sin(2 * c[0]), 1 + c[0]]),
            lambda c, e: jnp.stack([1 + jnp.sin(c[0] + 2 * e[0]), c[0] - e[0]]),
            lambda c: jnp.stack([jnp.cos(c[0] + jnp.arange(2.0)), 1 + c[0] * jnp.arange(2.0)]),
        ],
        [lambda c: 0.3 * c[0], lambda c: 0.5 * jnp.sin(c[0]), jnp.asarray([0.1, 0.2])],
        layers=kinds,
    )


def neuron(theta, x):
    return theta[0] * jnp.stack([jnp.tanh(theta[0] + x[0]), jnp.sin(theta[0] * x[1])])


class Fourier(Layer):
    """A user's layer: affine on sines and cosines of the inputs."""

    affine = True
    inner: Affine = eqx.field(static=True)

    def first(self, w, b, x):
        return self.inner.first(w, b, jnp.concatenate([jnp.sin(x), jnp.cos(x)], axis=-1))

    def forward(self, masses, w, b, h):
        return self.inner.forward(masses, w, b, h)

    def pullback(self, masses, w, b, h, d, masses_out):
        return self.inner.pullback(masses, w, b, h, d, masses_out)

    def check(self, name, w, first):
        self.inner.check(name, w, first)

    def input_shape(self, w):
        return (w.shape[-1] // 2,)


def _fourier():
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * 2,
        [
            lambda c: jnp.stack([jnp.sin((2 + j) * c[0]) + c[0] for j in range(4)]),
            lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]) + c[0] * e[0],
            lambda c: jnp.stack([jnp.cos((3 + j) * c[0]) + c[0] for j in range(2)]),
        ],
        [lambda c: 0.3 * c[0], lambda c: 0.5 * jnp.sin(c[0]), jnp.asarray([0.1, 0.2])],
        layers=Fourier(Affine(jnp.tanh)),
    )


def _blocks(sigma, size, **further):
    """Five blocks on a stream in R², equal ones in a row."""

    def theta(s, c):
        return jnp.stack([jnp.sin((1 + 0.3 * j) * c[0] + j + s) for j in range(size)])

    return residual(sigma, Uniform(-1.0, 1.0), theta, depth=5, **further)


def _added(theta, h):
    return theta[0] * jnp.tanh(theta[1] * h + theta[2] * h[::-1])


def _kinds_in_turn():
    """Two kinds of blocks there and back by the midpoint rule, between trained ends."""

    def theta(s, c):
        return jnp.stack([jnp.sin((1 + 0.3 * j) * c[0] + j + s) for j in range(6)])

    def own(c):
        return jnp.stack([jnp.cos((1 + 0.3 * j) * c[0] + j) for j in range(6)])

    def embed(theta, x):
        return theta.reshape(3, 2) @ jnp.tanh(theta[:2] + x)

    def readout(theta, h):
        return jnp.stack([theta[:3] @ h, theta[3:] @ jnp.sin(h)])

    def turn(theta, h):
        return theta[:3] * jnp.tanh(theta[3:] @ h)

    line = Uniform(-1.0, 1.0)
    every = residual(
        [turn, Perceptron(jnp.tanh)], [line] * 2, [theta] * 2,
        embed=(embed, line, own), readout=(readout, line, own),
    )  # fmt: skip
    return every.of_depth(8, midpoint=True)


def _on_two_sites(w, b, x):
    return w * x + b


def _shared():
    """Channels with values at two sites."""
    mixes = [Shared(jnp.tanh, Convolution(2)), Shared(jnp.tanh, Pooling())]
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * 2,
        [
            lambda c: jnp.stack([jnp.sin(2 * c[0]), 1 + c[0]]),
            lambda c, e: jnp.stack([1 + jnp.sin(c[0] + 2 * e[0]), c[0] - e[0]]),
            lambda c: jnp.cos(3 * c[0] + jnp.arange(2.0)),
        ],
        [lambda c: 0.3 * c[0], lambda c: 0.5 * jnp.sin(c[0]), jnp.asarray([0.1, 0.2])],
        layers=[Elementwise(_on_two_sites), *mixes],
    )


LAYERS: dict[str, Callable[[], NeuronalEnsemble]] = {
    "Affine tanh": lambda: smooth(3, outputs=2, biases=True),
    "Affine relu": lambda: smooth(3, Affine(jax.nn.relu), outputs=2, biases=True),
    "Elementwise": _vector_valued,
    "a user's layer": _fourier,
    "Block": lambda: _blocks(_added, 3),
    "Block of perceptrons": lambda: _blocks(Perceptron(jnp.tanh), 5),
    "Blocks in turn": _kinds_in_turn,
    "Shared": _shared,
    "Unit": lambda: shallow(neuron, Uniform(-1.0, 1.0)),
}
