"""What ReLU units cannot fit of the 3-spin function without biases, and can with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, NeuronalEnsemble, Product, Sphere, particles
from limits import Data, Interaction, Risk, train
from limits.kernels import ReLUKernel, charged
from limits.references import ThreeSpin

D = 5
TARGET = ThreeSpin(jax.random.normal(jax.random.key(D), (D, D, D)))
FLOOR = float(TARGET.parts[0]) / 2  # ½‖f_3‖²: relu(u) = u/2 + |u|/2 has no odd part but u/2
KEYS = jax.random.split(jax.random.fold_in(jax.random.key(4), 64), 4)


@pytest.mark.slow
def test_units_without_biases_never_cross_the_floor_and_come_as_near_as_one_waits():
    force, K = TARGET.force(jax.nn.relu), charged(ReLUKernel(1, radius=D**0.5))
    energy = Interaction(lambda t: t[0] * force(jnp.append(t[1:], 0.0)), K, TARGET.squared_norm / 2)
    times = jnp.array([0.0, 10.0, 100.0, 1000.0])

    @jax.jit
    def losses(key):
        start = particles(Gaussian(D + 1)).sample(64, key=key)
        return train(start, energy, step=0.1, t1=times[-1], times=times, throw=False).energies

    above = np.stack([losses(key) for key in KEYS]) - FLOOR
    print(f"\nabove the floor: {above.round(8)}")
    assert (above > 0).all() and (np.diff(above, axis=1) < 0).all()
    assert above[:, -1].max() < 1e-5


@pytest.mark.slow
def test_units_with_biases_go_below_the_floor():
    data = Data.from_space(Sphere(D, D**0.5), TARGET, 2048, key=jax.random.key(100 + D))
    ensemble = NeuronalEnsemble(
        [Product(Gaussian(D), Gaussian(1), Gaussian(1))], [lambda c: c[:D], lambda c: c[D + 1 :]],
        [lambda c: c[D], None], layers=Affine(jax.nn.relu),
    )  # fmt: skip

    @jax.jit
    def loss(key):
        network = ensemble.sample(64, key=key)
        return train(network, Risk(data), step=0.05, t1=100.0, throw=False).energies[-1]

    ends = np.stack([loss(key) for key in KEYS])
    print(f"\nfloor {FLOOR:.4f}, with biases {ends.round(4)}")
    assert ends.max() < 0.9 * FLOOR
