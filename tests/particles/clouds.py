"""Clouds of particles and the potentials that move them."""

import jax
import jax.numpy as jnp

from ensembles import Gaussian, Network, shallow
from limits import Data, Interaction

KEY = jax.random.key(0)


def unit(theta, x):
    return theta[:1] * jnp.tanh(theta[1:] @ x)


X = jax.random.normal(jax.random.key(1), (20, 2))
DATA = Data(X, jnp.sin(X[:, :1] + X[:, 1:]))
SHALLOW = shallow(unit, Gaussian(3)).sample(12, key=KEY)
POTENTIALS = Interaction.from_data(unit, DATA)


def cloud(network):
    """The particles of a network."""
    return Network.particles(network.measure(0))


def well(k):
    """∫ k θ²/2 dμ, without interaction."""
    return Interaction(lambda t: -k * (t @ t) / 2, lambda t, u: jnp.zeros((), t.dtype))


ATTRACTION = Interaction(lambda t: jnp.sin(t[0]), lambda t, u: jnp.cos(t[0] - u[0]))


def sine(network):
    return network.masses[0] @ jnp.sin(network.points(0)[:, 0])


COVARIANCE, TEACHER, RIDGE, TAU = (
    jnp.array([[1.0, 0.3], [0.3, 0.5]]), jnp.array([1.0, -1.0]), 0.5, 0.25,
)  # fmt: skip
LINEAR = Interaction(
    lambda t: t @ COVARIANCE @ TEACHER - RIDGE / 2 * (t @ t), lambda t, u: t @ COVARIANCE @ u
)
