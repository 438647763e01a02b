"""Finite volumes against closed forms of the mean-field equation, and against particles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ensembles import Measure, Network, Uniform
from limits import Adaptive, FailedRun, Interaction, WassersteinFisherRao, flow
from limits.references import GridFlow, boltzmann, grid_flow
from limits.references import _cells as cells


def nothing(theta, other):
    return 0.0 * theta[0] * other[0]


VALLEY = Interaction(lambda t: -(t**2).sum() / 2, nothing)
BOX = {"low": -5.0, "high": 5.0}


def gaussian(mean, variance):
    return lambda theta: jnp.exp(-((theta - mean) ** 2 / (2 * variance)).sum())


def bumps(width):
    """Attracted to the origin, pairs repel at distances of `width`."""
    return Interaction(
        lambda t: -(t**2).sum() / 2,
        lambda t, u: jnp.exp(-((t - u) ** 2).sum() / (2 * width**2)) / width,
        0.3,
    )


def moments(run: GridFlow, k: int = -1):
    m = run.measure(k)
    return np.asarray(m.mean), np.asarray(m.covariance)


def apart(run: GridFlow, mean, variance) -> float:
    """Total variation between the end and a Gaussian with independent coordinates."""
    points = np.asarray(run.points)
    exact = np.exp(-((points - mean) ** 2 / (2 * np.asarray(variance))).sum(-1))
    return np.abs(run.masses[-1] - exact / exact.sum()).sum() / 2


def order(errors, cells) -> float:
    return -np.polyfit(np.log(cells), np.log(errors), 1)[0]


def exact_valley(t, rate, temperature, mean=1.0, variance=0.5):
    """Mean and variance of a Gaussian start for V = θ²/2: v' = −2v + 2τ − α v (v − τ),
    m' = −(1 + α v) m."""

    def slope(_, at):
        m, v = at
        return [-(1 + rate * v) * m, -2 * v + 2 * temperature - rate * v * (v - temperature)]

    run = solve_ivp(slope, (0, t), [mean, variance], rtol=1e-11, atol=1e-12)
    return run.y[:, -1]


@pytest.mark.parametrize("temperature", [0.0, 0.2])
@pytest.mark.parametrize("rate", [0.0, 3.0])
@pytest.mark.parametrize("width", [1.0, 0.1])
def test_mass_is_kept_none_is_negative_and_the_free_energy_falls(temperature, rate, width):
    start = np.zeros(60)
    start[10:20], start[40] = 1.0, 5.0  # jumps, an atom, and empty cells
    run = grid_flow(
        bumps(width), start, low=-3.0, high=3.0, cells=60, t1=4.0, times=np.linspace(0, 4, 81),
        temperature=temperature, rate=rate,
    )  # fmt: skip
    np.testing.assert_allclose(run.masses.sum(1), 1, rtol=0, atol=1e-14)
    assert run.masses.min() >= 0
    assert np.diff(run.free_energies).max() <= 1e-14
    entropy = run.free_energies - run.energies
    assert (np.asarray(entropy) == 0).all() if temperature == 0 else np.abs(entropy).max() > 0.01
    assert run.free_energies[-1] < run.free_energies[0] - 0.1


@pytest.mark.parametrize("rate", [0.0, 3.0])
def test_steps_stay_stable_where_forces_vanish(rate):
    """K = θθ' moves all particles by −mean: speeds go to 0, and only K bounds the steps."""
    line = Interaction(lambda t: 0.0 * t[0], lambda t, u: t[0] * u[0])
    times = np.array([0.0, 1.0, 10.0, 100.0, 1000.0])
    run = grid_flow(
        line, gaussian(0.5, 0.1), low=-2.0, high=2.0, cells=40, t1=1e3, times=times, rate=rate
    )
    assert run.masses.min() >= 0 and np.diff(run.free_energies).max() <= 1e-14
    assert run.energies[-1] < 1e-12
    if rate == 0:
        np.testing.assert_allclose(run.energies[:2], 0.125 * np.exp(-2 * times[:2]), rtol=0.02)


@pytest.mark.parametrize(
    "temperature, rate",
    [
        pytest.param(0.0, 0.0, marks=pytest.mark.slow),
        pytest.param(0.0, 2.0, marks=pytest.mark.slow),
        (0.4, 0.0),
        (0.4, 2.0),
    ],
)
def test_gaussians_stay_gaussian_in_a_valley_at_second_order(temperature, rate):
    sizes, t = (40, 80, 160), 0.5
    exact = exact_valley(t, rate, temperature)
    if temperature == 0:  # the closed form in u = 1/v
        u = (2 + rate / 2) * np.exp(2 * t) - rate / 2
        np.testing.assert_allclose(exact, [2 * np.exp(t) / u, 1 / u], rtol=1e-8)
    errors = [
        apart(
            grid_flow(VALLEY, gaussian(1.0, 0.5), **BOX, cells=n, t1=t, temperature=temperature,
                      rate=rate), *exact,
        )
        for n in sizes
    ]  # fmt: skip
    assert 1.6 < order(errors, sizes) < 2.3
    assert errors[-1] < 2e-3
    control = exact_valley(2 * t, rate, temperature)  # another convention of time
    last = grid_flow(VALLEY, gaussian(1.0, 0.5), **BOX, cells=160, t1=t, temperature=temperature,
                     rate=rate)  # fmt: skip
    assert apart(last, *control) > 0.1


@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_two_dimensions_hold_independent_gaussians(temperature):
    steep = jnp.array([1.0, 2.0])
    valley = Interaction(lambda t: -(steep * t**2).sum() / 2, nothing)
    sizes, errors, t = (10, 20, 40), [], 0.4
    mean = np.array([1.0, -0.5]) * np.exp(-np.asarray(steep) * t)
    shrink = np.exp(-2 * np.asarray(steep) * t)
    variance = 0.4 * shrink + temperature / np.asarray(steep) * (1 - shrink)
    for n in sizes:
        run = grid_flow(
            valley, gaussian(jnp.array([1.0, -0.5]), 0.4), low=[-3.0, -4.0], high=[4.0, 3.0],
            cells=(n, n + n // 4), t1=t, temperature=temperature,
        )  # fmt: skip
        assert run.masses.shape == (2, n, n + n // 4) and run.points.shape == (n, n + n // 4, 2)
        np.testing.assert_allclose(run.masses.sum((1, 2)), 1, rtol=0, atol=1e-14)
        errors.append(apart(run, mean, variance))
    assert 1.6 < order(errors, sizes) < 2.5
    assert errors[-1] < 0.02


def noisy_line(ridge=0.3, target=0.7):
    """ŷ = E θ x with y = target x, E x² = 1: m' = −(1 + λ) m + target, v' = −2λ v + 2τ."""
    return Interaction(
        lambda t: target * t[0] - ridge * t[0] ** 2 / 2, lambda t, u: t[0] * u[0], target**2 / 2
    )


@pytest.mark.slow
def test_the_noisy_linear_unit_follows_its_moments():
    times, errors, sizes = np.array([0.5, 1.3]), [], (50, 100, 200)
    mean = 0.7 / 1.3 + (-1.0 - 0.7 / 1.3) * np.exp(-1.3 * times)
    variance = 0.4 / 0.3 + (0.5 - 0.4 / 0.3) * np.exp(-0.6 * times)
    for n in sizes:
        run = grid_flow(
            noisy_line(), gaussian(-1.0, 0.5), low=-7.0, high=7.0, cells=n, t1=1.3, times=times,
            temperature=0.4,
        )  # fmt: skip
        got = [moments(run, k) for k in range(2)]
        errors.append(
            max(
                np.abs(np.ravel([g[0] for g in got]) - mean).max(),
                np.abs(np.ravel([g[1] for g in got]) - variance).max(),
            )
        )
    assert 1.8 < order(errors, sizes) < 2.2
    assert errors[-1] < 3e-3
    risk = (0.7 - mean) ** 2 / 2 + 0.15 * (mean**2 + variance)
    np.testing.assert_allclose(run.energies, risk, atol=3e-3)


def test_boltzmann_is_the_gaussian_of_the_noisy_linear_unit_and_where_the_flow_ends():
    box = {"low": -7.0, "high": 8.0, "temperature": 0.4}
    still = boltzmann(noisy_line(), cells=150, **box)
    mean, variance = moments(still)
    assert abs(mean[0] - 0.7 / 1.3) < 1e-6
    assert abs(variance[0, 0] - 0.4 / 0.3) < 1e-5  # the box cuts tails of 6 deviations
    assert apart(still, 0.7 / 1.3, 0.4 / 0.3) < 1e-6
    assert apart(still, 0.7 / 1.3, 0.39 / 0.3) > 1e-3
    run = grid_flow(noisy_line(), gaussian(0.0, 1.0), cells=150, t1=60.0, **box)
    np.testing.assert_allclose(run.masses[-1], still.masses[0], atol=1e-9)
    assert abs(run.free_energies[-1] - still.free_energies[0]) < 1e-12


def test_boltzmann_in_two_dimensions_is_self_consistent():
    still = boltzmann(bumps(0.7), low=[-3.0, -3.0], high=[3.0, 3.0], cells=24, temperature=0.3)
    m = still.measure()
    network = Network.particles(m)
    psi = np.asarray(bumps(0.7).first_variation(network)[0])
    gibbs = np.exp(-(psi - psi.min()) / 0.3)
    np.testing.assert_allclose(m.masses, gibbs / gibbs.sum(), atol=1e-10)
    assert still.times[0] == np.inf


@pytest.mark.parametrize("rate", [pytest.param(None, marks=pytest.mark.slow), 1.5])
def test_particles_and_cells_agree(rate):
    """Particles at the centres of the cells, with their masses."""
    start = grid_flow(bumps(1.0), gaussian(0.5, 0.3), low=-3.0, high=3.0, cells=30, t1=0.01)
    dynamics = None if rate is None else WassersteinFisherRao(rate=rate)
    run = flow(
        Network.particles(start.measure(0)),
        bumps(1.0),
        dynamics,
        t1=1.0,
        solver=Adaptive(rtol=1e-6),
    )
    gaps, sizes = [], (30, 60, 120)
    for n in sizes:
        grid = grid_flow(
            bumps(1.0), gaussian(0.5, 0.3), low=-3.0, high=3.0, cells=n, t1=1.0, rate=rate or 0.0
        )
        gaps.append(abs(float(grid.energies[-1] - run.energies[-1])))
    assert gaps[-1] < 1e-3 and order(gaps, sizes) > 1.5
    assert run.energies[0] - run.energies[-1] > 0.05


def test_cells_too_many_for_a_matrix_give_the_same(monkeypatch):
    def masses():
        run = grid_flow(bumps(0.5), gaussian(1.0, 0.5), **BOX, cells=20, t1=0.3, temperature=0.1)
        return np.asarray(run.masses[-1])

    stored = masses()
    monkeypatch.setattr(cells, "_STORED", 10)
    other = bumps(0.5)  # functions of its own: compiled anew
    run = grid_flow(other, gaussian(1.0, 0.5), **BOX, cells=20, t1=0.3, temperature=0.1)
    np.testing.assert_allclose(run.masses[-1], stored, rtol=1e-11)


def test_other_temperatures_and_times_compile_nothing(compilations):
    held = Interaction(VALLEY.F, nothing, space=Uniform(BOX["low"], BOX["high"]))

    def run(temperature, t1):
        return grid_flow(held, np.ones(20), **BOX, cells=20, t1=t1, temperature=temperature)

    run(0.2, 0.1)
    with compilations() as count:
        run(0.3, 0.2)
    assert count() == 0


def test_starts_may_be_traced():
    def energies(masses):
        return grid_flow(VALLEY, masses, **BOX, cells=20, t1=0.5, rate=1.0).energies

    start = np.arange(20.0)
    np.testing.assert_allclose(jax.jit(energies)(start), energies(start), rtol=1e-12)
    _, slope = jax.jvp(energies, (start,), (np.eye(20)[3],))
    shift = 1e-4 * np.eye(20)[3]
    finite = (energies(start + shift) - energies(start - shift)) / 2e-4
    np.testing.assert_allclose(slope, finite, rtol=1e-5)


def test_a_flow_that_is_cut_short_says_so():
    with pytest.raises(FailedRun, match="max_steps=3") as caught:
        grid_flow(VALLEY, gaussian(1.0, 0.5), **BOX, cells=40, t1=1.0, max_steps=3)
    assert np.isfinite(caught.value.partial.masses[0]).all()
    with pytest.raises(FailedRun, match="F or K is not finite"):
        broken = Interaction(lambda t: jnp.log(t[0]), nothing)
        grid_flow(broken, gaussian(1.0, 0.5), **BOX, cells=40, t1=1.0)
    with pytest.raises(RuntimeError, match="max_steps=5"):
        boltzmann(noisy_line(), **BOX, cells=40, temperature=0.4, max_steps=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interaction": Measure([[0.0]], [1.0])}, "interaction must be an Interaction, got Meas"),
        ({"low": 6.0}, "low < high on every axis, got low=6.0"),
        ({"low": [0.0] * 3, "high": [1.0] * 3}, "two of each"),
        ({"low": [-5.0, -5.0]}, "two of each"),
        ({"cells": 2}, "cells must be at least 3 on every axis, got 2"),
        ({"cells": (5, 5)}, "one int per axis"),
        ({"density": np.ones(7)}, r"one mass per cell, shape \(10,\), got shape \(7,\)"),
        ({"density": lambda t: t}, "density must return scalars"),
        ({"density": -np.ones(10)}, "density must be finite, non-negative"),
        ({"density": np.zeros(10)}, "somewhere positive"),
        ({"temperature": -1.0}, "temperature must be a finite number of at least 0, got -1.0"),
        ({"rate": np.inf}, "rate must be a finite number"),
        ({"t1": 0.0}, "t1 must be"),
        ({"times": [0.0, 2.0]}, "times must not decrease"),
        ({"max_steps": 0}, "max_steps must be"),
        ({"interaction": Interaction(lambda t: t, nothing)}, "F must return a scalar"),
        ({"interaction": Interaction(lambda t: t[0], lambda t, u: t[0])}, "K must be symmetric"),
    ],
)  # fmt: skip
def test_wrong_arguments_name_what_to_write(change, message):
    arguments = {
        "interaction": VALLEY, "density": gaussian(0.0, 1.0), **BOX, "cells": 10, "t1": 1.0
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        grid_flow(**(arguments | change))


def test_boltzmann_needs_a_temperature():
    with pytest.raises(ValueError, match=r"temperature must be a positive finite number, got 0\.0"):
        boltzmann(VALLEY, **BOX, cells=10, temperature=0.0)
