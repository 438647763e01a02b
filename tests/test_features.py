"""Trained features against frozen ones, depth three against two: small versions of the example.

Units c relu(w · x) under the ridge (λ/2) ∫ (c² + |w|²) dμ minimise risk + λ ∫ |c| |w| dμ, the
variation norm F_1; frozen features have a ridge in a Hilbert space, F_2 (Bach, arXiv:1412.8690).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, diverse, iid, shallow
from limits import Data, PowerPenalty, Risk, fit_rate, train
from limits.kernels import ReLUKernel
from limits.references import sparse_relu

DIM, SEEDS = 8, 6
TARGETS = {
    "neuron": lambda x: jax.nn.relu(x[:, :1]),
    "radial": lambda x: jnp.linalg.norm(x, axis=1, keepdims=True),
}


def unit(theta, x):
    return theta[:1] * jax.nn.relu(theta[1:] @ x)[None]


def test_trained_features_reach_the_optimum_of_the_variation_norm():
    """Of all measures, by a certified convex program; two units do not."""
    x = jax.random.normal(jax.random.key(1), (10, 2))
    data, lam = Data(x, jnp.sin(2 * x[:, :1]) * x[:, 1:]), 0.05
    best = sparse_relu(data, lam)
    risk = Risk(data) + PowerPenalty(lam / 2)

    def reached(units):
        network = shallow(unit, Gaussian(3)).sample(units, key=jax.random.key(2))
        return float(train(network, risk, step=0.1, t1=400.0).energies[-1])

    assert best.value - 1e-9 < reached(200) < 1.01 * best.value
    assert reached(2) > 1.01 * best.value


@eqx.filter_jit
def errors(target, n, keys):
    """Test errors relative to the variance: F_1 with λ = 0.05 n^(-1/2), F_2 at its best."""

    def draw(n, key):
        x = jax.random.normal(key, (n, DIM))
        return Data(x / DIM**0.5, TARGETS[target](x))

    def one(key):
        start, sample, fresh = jax.random.split(key, 3)
        samples, test = draw(n, sample), draw(1000, fresh)
        risk = Risk(samples) + PowerPenalty(0.05 / n**0.5 / 2)
        network = shallow(unit, Gaussian(DIM + 1)).sample(96, key=start)
        run = train(network, risk, step=0.1, t1=150.0, observe=Risk(test))

        def K(a, b):
            return jax.vmap(lambda s: jax.vmap(lambda t: ReLUKernel(1)(s, t))(b))(a)

        def ridge(m):
            dual = jnp.linalg.solve(K(samples.x, samples.x) + m * n * jnp.eye(n), samples.y)
            return ((K(test.x, samples.x) @ dual - test.y) ** 2).mean()

        best = jnp.stack([ridge(10.0**k) for k in range(-6, 1)]).min()
        return jnp.stack([2 * run.observed[-1], best]) / test.y.var()

    return jax.vmap(one)(keys)


@pytest.mark.slow
def test_trained_features_learn_a_neuron_from_fewer_samples_and_a_radial_target_not():
    samples = [32, 96]
    found = {
        target: np.stack(
            [errors(target, n, jax.random.split(jax.random.key(n), SEEDS)) for n in samples], 1
        )
        for target in TARGETS
    }
    for target, e in found.items():
        print(f"\n{target}: mean errors (samples, F_1 and F_2)\n{e.mean(0).round(4)}")
    rate = fit_rate(samples, found["neuron"][..., 0])
    print(f"F_1 on the neuron: exponent in samples {rate}")
    assert (found["neuron"][..., 0] < found["neuron"][..., 1]).all()
    assert (found["radial"][..., 0] > found["radial"][..., 1]).all()
    assert rate.high < -0.5


@pytest.mark.slow
def test_three_layers_learn_an_oscillation_that_two_do_not():
    """sin(12 |x|) in R^6, as many weights, the same time; the best of three shallow scales."""

    def radial(n, key):
        direction, length = jax.random.split(key)
        x = jax.random.normal(direction, (n, 6))
        r = jax.random.uniform(length, (n, 1))
        x = r * x / jnp.linalg.norm(x, axis=1, keepdims=True)
        return jnp.concatenate([x, jnp.ones((n, 1))], axis=1), jnp.sin(12 * r)

    risk = Risk(Data(*radial(2000, jax.random.key(99)), sampler=radial))

    def start(scale):
        return dict(
            dim=7, first=Gaussian(1, 0.0, scale), last=Gaussian(1), layers=Affine(jnp.tanh)
        )  # fmt: skip

    def end(ensemble, width, seed):
        network = ensemble.sample(width, key=jax.random.key(seed))
        options = dict(step=0.5, t1=4000.0, key=jax.random.key(100 + seed))
        return 2 * float(train(network, risk, batch=256, **options).energies[-1])

    deep = diverse(depth=3, modes=8, scale=2.0, **start(4.0))
    three = [end(deep, 48, seed) for seed in range(4)]
    two = [end(iid(depth=2, **start(s)), 336, 0) for s in (8.0, 16.0, 32.0)]
    variance = float(risk.data.y.var())
    print(f"\nthree layers {np.array(three) / variance}, two {np.array(two) / variance}")
    assert max(three) < min(two) and np.mean(three) < 0.6 * min(two)
