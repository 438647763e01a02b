"""Noisy SGD against closed forms, the mean-field equation on a grid, and its Boltzmann laws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Gauss, Gaussian, Measure, Network, shallow
from limits import (
    Adaptive,
    Data,
    GradientFlow,
    Interaction,
    Langevin,
    PowerPenalty,
    Risk,
    fit_rate,
    flow,
    train,
)
from limits.references import IsotropicGaussians, boltzmann, grid_flow

RIDGE, TAU, COLD, WEAK = 0.5, 0.25, 0.02, 0.05
VALLEY = dict(low=-8.0, high=8.0, cells=160, temperature=TAU)
BOX = dict(low=-6.0, high=6.0, cells=120, temperature=COLD)


def bump(mean, variance):
    return lambda theta: jnp.exp(-((theta[0] - mean) ** 2) / (2 * variance))


def wave(theta, x):
    return jnp.sin(theta * x)


def waves(x):
    return (jnp.sin(x) + jnp.sin(3 * x)) / 2


INPUTS = Data.from_space(Gaussian(1), waves, 32, Gauss())
FREE = Interaction.from_data(wave, INPUTS)
ENERGY = Interaction(lambda t: FREE.F(t) - WEAK / 2 * (t @ t), FREE.K, FREE.constant)


def neurons(network):
    return network.points(0)


@eqx.filter_jit
def noisy(start, risk, update, batch, n, step, times, keys):
    def one(key):
        return train(
            start.sample(n, key=jax.random.fold_in(key, 0)), risk, update, step=step, batch=batch,
            t1=times[-1], times=times, observe=neurons, key=jax.random.fold_in(key, 1),
        ).observed  # fmt: skip

    return jax.vmap(one)(keys)


@pytest.mark.parametrize(
    ("coupled", "mean", "variance", "rate"),
    [(0.0, 2.0, 0.5, 2 * RIDGE), (0.0, 0.0, 1.5, 4 * RIDGE), (1.0, -1.5, 1.5, 4 * RIDGE)],
)
def test_the_free_energy_of_a_linear_unit_falls_at_the_log_sobolev_rate_or_faster(
    coupled, mean, variance, rate
):
    """2λ bounds the rate, and is reached by the mean of a unit without interaction alone."""
    energy = Interaction(
        lambda t: coupled * t[0] - RIDGE / 2 * t[0] ** 2, lambda t, u: coupled * t[0] * u[0]
    )
    rest, times = boltzmann(energy, tol=1e-12, **VALLEY), np.linspace(0, 8, 9)
    run = grid_flow(energy, bump(mean, variance), t1=8.0, times=times, **VALLEY)
    rates = -np.diff(np.log(np.asarray(run.free_energies - rest.free_energies[0])))
    assert rates.min() > 2 * RIDGE * (1 - 0.01)
    assert abs(rates[-1] - rate) < 0.02 * rate


@pytest.mark.slow
def test_the_law_of_waves_is_a_boltzmann_law_of_its_own_where_the_flow_ends():
    rest = boltzmann(ENERGY, tol=1e-10, **BOX)
    psi = np.asarray(ENERGY.first_variation(Network.particles(rest.measure()))[0])
    gibbs = np.exp(-(psi - psi.min()) / COLD)
    m = np.asarray(rest.masses[0])
    assert np.abs(gibbs / gibbs.sum() - m).sum() / 2 < 1e-6
    assert ((m[1:-1] > m[:-2]) & (m[1:-1] > m[2:])).sum() == 2  # not convex: two peaks
    run = grid_flow(ENERGY, bump(-1.0, 0.3), t1=260.0, times=np.linspace(0, 260, 14), **BOX)
    assert np.diff(run.free_energies).max() < 1e-14
    assert np.abs(run.masses[-1] - rest.masses[0]).sum() / 2 < 1e-6
    hotter = boltzmann(ENERGY, tol=1e-10, **(BOX | dict(temperature=2 * COLD)))
    assert np.abs(hotter.masses[0] - rest.masses[0]).sum() / 2 > 0.05


@pytest.mark.slow
def test_noisy_sgd_of_a_linear_unit_has_the_moments_of_its_gaussian_law():
    """Within four standard errors of sixteen seeds; at half the temperature it has others."""
    sigma, teacher, begin = np.array([1.5, 0.5]), np.array([1.0, -1.0]), np.array([-1.0, 0.5])

    def linear(theta, x):
        return jnp.dot(theta, x)[None]

    def teach(x):
        return jnp.dot(jnp.asarray(teacher), x)[None]

    times = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    data = Data.from_space(Gaussian(2, 0.0, jnp.asarray(sigma**0.5)), teach, 9, Gauss())
    risk = Risk(data) + PowerPenalty(RIDGE / 2)
    slope, fade = sigma + RIDGE, np.exp(-2 * RIDGE * times[1:, None])
    rest = sigma * teacher / slope
    mean = rest + np.exp(-slope * times[1:, None]) * (begin - rest)
    variance = np.repeat(fade * 0.09 + (1 - fade) * TAU / RIDGE, 2, 1)
    exact = np.concatenate([mean, variance], 1)
    largest = []
    for tau in (TAU, TAU / 2):
        update = Langevin(temperature=tau)
        start = shallow(linear, Gaussian(2, jnp.asarray(begin), 0.3))
        keys = jax.random.split(jax.random.key(1), 16)
        seen = noisy(start, risk, update, 50, 1000, jnp.array(0.0025), jnp.asarray(times), keys)
        points = np.asarray(seen)[:, 1:]
        found = np.concatenate([points.mean(2), points.var(2)], -1)
        error = found.std(0, ddof=1) / 4
        largest.append(np.abs((found.mean(0) - exact) / error).max())
    print(f"\nlargest deviation in standard errors: {largest[0]:.1f}, control {largest[1]:.1f}")
    assert largest[0] < 4 and largest[1] > 20


@pytest.mark.slow
def test_noisy_particles_approach_the_law_on_the_grid_as_one_over_root_n():
    times, numbers = np.array([0.0, 8.0, 16.0]), [100, 400, 1600]
    run = grid_flow(ENERGY, bump(-1.0, 0.3), t1=16.0, times=times, **(BOX | dict(cells=240)))
    cells = np.asarray(run.points)[:, 0]
    width = cells[1] - cells[0]
    risk, start = Risk(INPUTS) + PowerPenalty(WEAK / 2), Gaussian(1, -1.0, 0.3**0.5)

    def far(n, tau, key):
        """W_1 from the law at the last times, (12, 2)."""
        update, keys = Langevin(temperature=tau), jax.random.split(key, 12)
        seen = noisy(
            shallow(wave, start), risk, update, None, n, jnp.array(0.02), jnp.asarray(times), keys
        )
        clouds = np.sort(np.asarray(seen)[..., 0], axis=-1)
        return np.array([
            [
                np.abs(np.searchsorted(cloud[k], cells + width / 2) / n
                       - np.cumsum(run.masses[k])).sum() * width
                for k in (1, 2)
            ]
            for cloud in clouds
        ])  # fmt: skip

    found = np.stack([far(n, COLD, jax.random.key(10 + i)) for i, n in enumerate(numbers)], 1)
    for k in range(2):
        rate = fit_rate(numbers, found[..., k])
        print(f"\ntime {times[k + 1]}: {found[..., k].mean(0)}, exponent {rate}")
        assert rate.low <= -0.5 <= rate.high and rate.high < -0.35
    assert far(1600, COLD / 2, jax.random.key(12)).mean(0).min() > 2 * found[:, -1].mean(0).max()


@eqx.filter_jit
def settle(delta, t1):
    begin = Measure(jnp.linspace(0.5, 3.0, 16)[:, None], jnp.full(16, 1 / 16))
    run = flow(
        Network.particles(begin),
        IsotropicGaussians(delta).interaction,
        t1=t1,
        solver=Adaptive(rtol=1e-8, atol=1e-10, max_steps=10**6),
    )
    return 2 * run.energies[-1], run.final.points(0)[:, 0]


@pytest.mark.slow
def test_the_risk_of_isotropic_gaussians_vanishes_at_the_threshold_in_closed_form():
    """Its root falls like a line, to zero; beyond, several points have no risk."""
    deltas = np.array([0.44, 0.455, 0.47])
    best, ends = zip(*[settle(jnp.array(d), jnp.array(1e4)) for d in deltas], strict=True)
    found = np.polyfit(np.sqrt(best), deltas, 2)[-1]
    assert abs(found - IsotropicGaussians.threshold()) < 5e-5
    assert max(map(np.ptp, ends)) < 1e-6
    risk, points = settle(jnp.array(0.6), jnp.array(1e3))
    assert abs(risk) < 1e-10 and np.ptp(points) > 1


D, DELTA, SPREAD = 40, 0.8, 0.8


def hinge(theta, x):
    return jnp.clip(-2.5 + 10 * (jnp.dot(theta, x) - 0.5), -2.5, 7.5)[None]


class Classes(eqx.Module):
    def __call__(self, size, key):
        label, noise = jax.random.split(key)
        y = jax.random.rademacher(label, (size, 1), float)
        return (1 + DELTA * y) * jax.random.normal(noise, (size, D)), y


@pytest.mark.slow
def test_norms_under_sgd_in_forty_dimensions_have_the_law_of_the_grid():
    """Kolmogorov distances of 3,200 norms; the law for d → ∞ is another."""
    times = np.array([0.0, 0.3, 1.0, 3.0])
    start = shallow(hinge, Gaussian(D, 0.0, SPREAD / D**0.5))
    risk = Risk(Data(jnp.zeros((1, D)), jnp.zeros((1, 1)), sampler=Classes()))
    keys = jax.random.split(jax.random.key(30), 8)
    seen = noisy(start, risk, GradientFlow(), 100, 400, jnp.array(0.002), jnp.asarray(times), keys)
    norms = np.sort(np.linalg.norm(seen, axis=-1).transpose(1, 0, 2).reshape(len(times), -1))

    def chi(theta):
        r = theta[0] / SPREAD
        return jnp.exp((D - 1) * jnp.log(r) - D * r**2 / 2 + (D - 1) / 2)

    def distances(dim):
        run = grid_flow(
            IsotropicGaussians(DELTA, dim).interaction, chi, low=0.0, high=3.0, cells=600, t1=3.0,
            times=times,
        )  # fmt: skip
        faces = np.asarray(run.points)[:, 0] + 3.0 / 1200
        below = np.stack([np.searchsorted(r, faces) / len(r) for r in norms])
        return np.abs(below - np.cumsum(run.masses, axis=1)).max(1)

    own, flat = distances(D), distances(None)
    print(f"\nKolmogorov distances {own.round(3)}, for d → ∞ {flat.round(3)}")
    assert own.max() < 1.36 / np.sqrt(norms.shape[1]) * 1.2
    assert flat[2:].min() > 1.5 * own[2:].max()
