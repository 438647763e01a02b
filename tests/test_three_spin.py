"""Radial units on the 3-spin function: exact potentials, rates in n, and what ReLU cannot fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Gaussian, Network, Product, Sphere, particles, quadrature, shallow
from limits import Data, Interaction, Risk, fit_rate, mean_field_gradient, train
from limits.kernels import RBFKernel, ReLUKernel, charged
from limits.references import ThreeSpin

D, SCALE, STEP = 5, 32.0, 0.1
TARGET = ThreeSpin(jax.random.normal(jax.random.key(D), (D, D, D)))
START = Product(Gaussian(1), Sphere(D, D**0.5))
FORCE, RELU = TARGET.force(jnp.exp, nodes=32), TARGET.force(jax.nn.relu)
RBF, ARC = RBFKernel(1.0, radius=D**0.5), charged(ReLUKernel(1, radius=D**0.5))


def centre(y):
    return jnp.sqrt(D / (y @ y)) * y


def unit(theta, x):
    return SCALE * theta[:1] * jnp.exp(x @ centre(theta[1:]) - D)


def force(theta):
    return SCALE * theta[0] * FORCE(jnp.append(centre(theta[1:]), -1.0 * D))


def closed(theta, other):
    return SCALE**2 * theta[0] * other[0] * RBF(centre(theta[1:]), centre(other[1:]))


def interpolated():
    """The kernel of centres on the sphere as a polynomial in ⟨y, y'⟩/d."""
    t = np.polynomial.chebyshev.chebpts1(16)
    arc = np.sqrt(D) * np.stack([t, np.sqrt(1 - t**2), *[0 * t] * (D - 2)], 1)
    height = jax.jit(lambda y: RBF(jnp.asarray(np.sqrt(D) * np.eye(D)[0]), y))
    heights = [float(height(jnp.asarray(y))) for y in arc]
    powers = np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(t, heights, 15))

    def K(theta, other):
        turn, value = centre(theta[1:]) @ centre(other[1:]) / D, 0.0
        for k in powers[::-1]:
            value = value * turn + float(k)
        return SCALE**2 * theta[0] * other[0] * value

    return K


CONSTANT = TARGET.squared_norm / 2
EXACT = Interaction(force, interpolated(), CONSTANT)
PROBES = Sphere(D, D**0.5).draw(512, jax.random.key(7))
BARE = Interaction(lambda t: t[0] * RELU(jnp.append(t[1:], 0.0)), ARC, CONSTANT)


@pytest.mark.parametrize("length", [1.0, 1e-4, 1e-6, 1e-9, 1e-12])
def test_the_force_of_small_weights_is_exact_at_kinks_and_for_smooth_units(length):
    """F of ReLU is f_1(a)/2 without bias, f_1(a) or 0 far from the kink; of tanh it is
    tanh'(b) f_1(a) + O(|a|³)."""
    a = length * PROBES[0] / jnp.linalg.norm(PROBES[0])
    linear = 3 * jnp.trace(TARGET.S, axis1=1, axis2=2) @ a / (D + 2)
    tanh = TARGET.force(jnp.tanh)
    for b, slope in ((0.0, 0.5), (4.0, 1.0), (-4.0, 0.0)):
        found, turn = jax.value_and_grad(RELU)(jnp.append(a, b))
        assert abs(found - slope * linear) < 1e-7 * abs(linear)
        assert abs(turn[:-1] @ a - slope * linear) < 1e-6 * abs(linear)
    if length < 1e-3:
        wanted = linear / jnp.cosh(0.3) ** 2
        assert abs(tanh(jnp.append(a, 0.3)) - wanted) < 1e-6 * abs(linear)
    assert RELU(jnp.zeros(D + 1)) == 0


def test_the_kernel_of_centres_on_the_sphere_is_a_polynomial_of_their_scalar_product():
    a, b = START.draw(50, jax.random.key(0)), START.draw(50, jax.random.key(1))
    found, exact = jax.vmap(EXACT.K)(a, b), jax.vmap(closed)(a, b)
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_the_exact_loss_and_its_gradient_are_those_of_many_samples():
    network = particles(START).sample(6, key=jax.random.key(2))
    x = Sphere(D, D**0.5).draw(200_000, jax.random.key(3))
    risk, same = Risk(Data(x, jax.vmap(TARGET)(x))), Network.shallow(unit, network.measure(0))
    np.testing.assert_allclose(EXACT(network), risk(same), rtol=0.02)
    found, sampled = (mean_field_gradient(*p).weights[0] for p in ((network, EXACT), (same, risk)))
    assert float(jnp.abs(found - sampled).max()) < 0.02 * float(jnp.abs(found).max())
    inward = (found[:, 1:] * network.points(0)[:, 1:]).sum(1)
    assert float(jnp.abs(inward).max()) < 1e-9 * float(jnp.abs(found).max())  # on the sphere


@pytest.mark.slow
def test_relu_units_without_biases_reach_the_norm_of_the_cubic_part_and_no_less():
    floor, times = float(TARGET.parts[0]) / 2, jnp.array([0.0, 1.0, 5.0, 20.0, 100.0])
    run = train(
        particles(Gaussian(D + 1)).sample(32, key=jax.random.key(4)), BARE, step=STEP, t1=100.0,
        times=times,
    )  # fmt: skip
    above = np.asarray(run.energies) - floor
    assert (above > 0).all() and above[-1] < 2e-3 < 0.1 < above[0]


@eqx.filter_jit
def descend(network, times):
    def outputs(now):
        return Network.shallow(unit, now.measure(0))(PROBES)[:, 0]

    run = train(network, EXACT, step=STEP, t1=times[-1], times=times, observe=outputs)
    return run.energies, run.observed


@eqx.filter_jit
def descents(n, keys, times):
    return jax.vmap(lambda key: descend(particles(START).sample(n, key=key), times))(keys)


@eqx.filter_jit
def stochastic(n, batch, keys, risk):
    def one(key):
        first, second = jax.random.split(key)
        network = shallow(unit, START).sample(n, key=first)
        run = train(network, risk, step=STEP, batch=batch, t1=1.0, key=second)
        return run.final(PROBES)[:, 0]

    return jax.vmap(one)(keys)


def seeds(n, many=8):
    return jax.random.split(jax.random.fold_in(jax.random.key(11), n), many)


@pytest.mark.slow
def test_errors_are_of_order_one_over_n_at_finite_times_and_heal():
    widths, times = [64, 128, 256], jnp.array([0.0, 1.0, 16.0])
    limit = descend(Network.particles(quadrature(START, 1024, key=jax.random.key(5))), times)[1]
    far = np.stack(
        [((descents(n, seeds(n), times)[1] - limit[None]) ** 2).mean(2) / 2 for n in widths], 2
    )
    rates = [fit_rate(widths, far[:, i]) for i in range(3)]
    print(f"\nat t = 0, 1, 16: {', '.join(map(str, rates))}; n e: {256 * far[:, :, -1].mean(0)}")
    assert all(rate.low <= -1 <= rate.high for rate in rates[:2])
    assert rates[2].high < -0.5  # not 0, and steeper than 1/n while small networks heal less
    assert (np.diff(256 * far[:, :, -1].mean(0)) < 0).all()


@pytest.mark.slow
def test_errors_under_sgd_are_of_order_one_over_n_for_batches_like_n_and_not_for_fixed_ones():
    widths, times = [64, 128, 256, 512], jnp.array([0.0, 1.0])
    limit = descend(Network.particles(quadrature(START, 1024, key=jax.random.key(5))), times)[1][-1]
    risk = Risk(Data.from_space(Sphere(D, D**0.5), TARGET, 256, key=jax.random.key(6)))

    def far(n, batch):
        return ((stochastic(n, batch, seeds(n), risk) - limit[None]) ** 2).mean(1) / 2

    grown = fit_rate(widths, np.stack([far(n, n // 8) for n in widths], 1))
    fixed = fit_rate(widths, np.stack([far(n, 8) for n in widths], 1))
    print(f"\nt = 1, batch n/8: {grown}; batch 8: {fixed}")
    assert grown.low <= -1 <= grown.high and fixed.low > -0.5
