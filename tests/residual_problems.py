"""Residual networks that studies share: starts whose weights are smooth in depth, and data."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ensembles import Uniform, residual
from ensembles.blocks import Perceptron
from limits import Data, Risk

LABELS = Uniform(-1.0, 1.0)


class Waves(eqx.Module):
    """θ(s, c) = a + b sin(k c + w s + φ), entry by entry; the second half of depths, s ≥ `jump`,
    with the other sign."""

    a: Array
    b: Array
    k: Array
    w: Array
    shift: Array
    jump: Array

    def __call__(self, s: float, c: Array) -> Array:
        theta = self.a + self.b * jnp.sin(self.k * c[0] + self.w * s + self.shift)
        return jnp.where(s < self.jump, theta, -theta)


def waves(key, shape, *, size=1.0, k=2.0, w=2.0, jump=2.0) -> Waves:
    """Random ones, of standard deviations `size`, `k` and `w`; without a jump by default."""
    a, b, *rest = jax.random.normal(key, (5, *shape))
    k, w, shift = k * rest[0], w * rest[1], 3 * rest[2]
    return Waves(0.5 * size * a, size * b, k, w, shift, jnp.asarray(jump))


def first(h):
    return h[:1]


def with_one(x):
    return jnp.append(x, jnp.ones(1, x.dtype))


def perceptrons(unit, theta, *, depth=None):
    """Networks of blocks on streams (x, 1) in R³, of which the first entry is read."""
    return residual(unit, LABELS, theta, depth=depth, embed=with_one, readout=first)


def regression_of(key, n=12) -> Risk:
    x = jax.random.normal(key, (n, 2))
    return Risk(Data(x, jnp.sin(1.5 * x[:, :1] * x[:, 1:]) + 0.5 * x[:, :1]))


class Outputs(eqx.Module):
    x: jax.Array

    def __call__(self, network):
        return network(self.x)[:, 0]


def in_waves(jump=2.0):
    """θ_j(s, c) = 2 sin((1 + 0.3 j) c + 1.5 s + j): smooth in depth, with parts that all share."""
    j = jnp.arange(7.0)
    zero = 0 * j
    return Waves(zero, 2 + zero, 1 + 0.3 * j, 1.5 + zero, j, jnp.asarray(jump))


NETWORKS = perceptrons(Perceptron(jnp.tanh), in_waves())
