"""Neurons of blocks, on streams of three tokens in R⁴: each with the shape of one neuron, and what
one of them adds."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ensembles._layers.stream_units import EachNeuron
from ensembles.blocks import (
    GatedPerceptron,
    Normalised,
    Perceptron,
    StreamUnit,
    attention,
    causal_attention,
    layer_norm,
    linear_attention,
    rms_norm,
)

HEAD = (4, 2, 4)


class Listed(NamedTuple):
    unit: StreamUnit
    shape: tuple[int, ...]
    one: Callable


def _perceptron(theta, h):
    return jnp.outer(jnp.tanh(h @ theta[:4] + theta[4]), theta[5:])


def _unbiased(theta, h):
    return jnp.outer(jnp.tanh(h @ theta[:4]), theta[4:])


def _gated(theta, h):
    return jnp.outer(jax.nn.silu(h @ theta[:4]) * (h @ theta[4:8]), theta[8:])


UNITS = {
    "a function": Listed(EachNeuron(_unbiased), (8,), _unbiased),
    "Perceptron": Listed(Perceptron(jnp.tanh), (9,), _perceptron),
    "Perceptron without biases": Listed(Perceptron(jnp.tanh), (8,), _unbiased),
    "GatedPerceptron": Listed(GatedPerceptron(jax.nn.silu), (12,), _gated),
    "attention": Listed(EachNeuron(attention), HEAD, attention),
    "causal attention": Listed(EachNeuron(causal_attention), HEAD, causal_attention),
    "linear attention": Listed(EachNeuron(linear_attention), HEAD, linear_attention),
    "Normalised": Listed(
        Normalised(Perceptron(jnp.tanh), layer_norm),
        (9,),
        lambda theta, h: _perceptron(theta, layer_norm(h)),
    ),
    "Normalised head": Listed(
        Normalised(attention, rms_norm), HEAD, lambda theta, h: attention(theta, rms_norm(h))
    ),
}
