"""Games that several files play."""

import jax
import jax.numpy as jnp

from ensembles import Gaussian, Measure, Network, Sphere, Torus
from limits import Game

KEY = jax.random.key(0)


def keys(n, seed=1):
    return jax.random.split(jax.random.key(seed), n)


# Three players, each with a loss of its own


LOSSES = (
    lambda x, y, z: jnp.sin(x[0] + 2 * y[0]) * z[0] + x[0] * y[1],
    lambda x, y, z: jnp.cos(y[0] * x[0]) + y[1] * z[0] ** 2,
    lambda x, y, z: jnp.exp(-(z[0] ** 2)) * x[0] + z[0] * (y @ y),
)
THREE = Game(*LOSSES, spaces=(None, Sphere(2), None))


# Two on the torus, with an equilibrium of two atoms each: Example 4.1 of arXiv:2211.01280


def example(x, y):
    angles = jnp.sin(4 * jnp.pi * x[0]) + jnp.sin(4 * jnp.pi * y[0])
    return angles + 2 * jnp.cos(2 * jnp.pi * (x[0] + y[0]))


CIRCLING = Game(example, spaces=(Torus(1), Torus(1)))
ATOMS = jnp.array([[3 / 8], [7 / 8]]), jnp.array([[1 / 8], [5 / 8]])


def near_equilibrium(shift, weight):
    """Two particles a player, off by `shift` in position and `weight` in mass."""
    p = jnp.array([0.5 + weight, 0.5 - weight])
    return Network.players(*(Measure(x + shift, p) for x in ATOMS))


# Two on the line, whose laws stay Gaussian


A_X, B_XY, C_Y, TAU = 1.0, 1.5, 1.0, 0.3


def gaussian_payoff(x, y):
    return A_X / 2 * (x @ x) + B_XY * (x @ y) - C_Y / 2 * (y @ y)


GAUSSIAN = Game(gaussian_payoff)
START = Gaussian(1, 0.8, 0.6), Gaussian(1, -0.5, 0.4)


# Two on the torus, with random waves


COEFFICIENTS = jax.random.normal(jax.random.key(3), (2, 7, 7))
MODES = jnp.arange(-3.0, 4.0)


def fourier_payoff(x, y):
    angles = 2 * jnp.pi * (MODES[:, None] * x[0] + MODES[None] * y[0])
    return (COEFFICIENTS[0] * jnp.cos(angles) - COEFFICIENTS[1] * jnp.sin(angles)).sum()


FOURIER = Game(fourier_payoff)
