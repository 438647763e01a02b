"""What would be right: an ensemble, a network, a risk, inputs and targets."""

import jax
import jax.numpy as jnp
from models import regression, smooth

from ensembles import Affine, Gaussian, iid
from limits import Risk

KEY = jax.random.key(0)
X = jnp.ones((4, 2))
Y = jnp.ones((4, 1))


def ensemble():
    return smooth(3)


def network():
    return ensemble().sample(3, key=KEY)


def risk():
    return Risk(regression(8))


def independent(depth, first=None, hidden=None, biases=None, layers=None):
    return iid(
        dim=2,
        depth=depth,
        first=Gaussian(1) if first is None else first,
        hidden=Gaussian(1, 1.0) if hidden is None and depth > 2 else hidden,
        last=Gaussian(1, 1.0),
        biases=biases,
        layers=Affine(jnp.tanh) if layers is None else layers,
    )


def product(w, b, h):
    return jnp.tanh(jnp.dot(w, h))
