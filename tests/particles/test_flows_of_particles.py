"""Wasserstein and Fisher–Rao flows of particles: closed forms, dissipation, precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from clouds import ATTRACTION, KEY, POTENTIALS, SHALLOW, cloud, well
from models import largest

from ensembles import Gaussian, Measure, Network, particles, quadrature
from limits import (
    Adaptive,
    BirthDeath,
    FisherRao,
    GradientFlow,
    Interaction,
    Langevin,
    WassersteinFisherRao,
    coupling,
    flow,
    initial_motion,
    limit,
    mean_field_gradient,
    train,
)
from limits.references import minimising_movement


@pytest.mark.parametrize("transport", [1.0, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_gaussian_in_a_well_stays_gaussian(transport):
    """u = σ⁻² solves u' = 2γk u + αk, and the mean is m_0 u_0 exp(γkt)/u."""
    k, alpha, t, m, s = 0.7, 1.3, 1.5, 0.8, 0.6
    start = Network.particles(quadrature(Gaussian(1, m, s), 41))
    dynamics = WassersteinFisherRao(GradientFlow(transport), rate=alpha)
    end = flow(start, well(k), dynamics, t1=t, solver=Adaptive(rtol=1e-11)).final.measure(0)
    grown = np.exp(2 * transport * k * t)
    ratio = alpha / (2 * transport) if transport else None
    u = (s**-2 + ratio) * grown - ratio if transport else s**-2 + alpha * k * t
    mean = m * s**-2 * np.sqrt(grown) / u
    assert abs(end.masses.sum() - 1) < 1e-12
    assert abs(float(end.mean[0]) - mean) < 1e-8 and abs(float(end.covariance[0, 0]) - 1 / u) < 1e-8


def test_pure_births_and_deaths_lower_the_energy_as_d_over_two_alpha_t():
    alpha = 2.0
    start = Network.particles(quadrature(Gaussian(1, 0.3), 401))
    times = jnp.array([5.0, 10.0])
    run = flow(
        start, well(1.0), FisherRao(alpha), t1=10.0, times=times, solver=Adaptive(rtol=1e-10)
    )
    u = 1 + alpha * np.asarray(times)
    assert largest(run.energies, jnp.asarray((0.09 / u**2 + 1 / u) / 2)) < 1e-8
    assert abs(10 * run.energies[-1] - 1 / (2 * alpha)) < 0.02


def test_energies_fall_by_what_transport_and_reaction_dissipate():
    """dE/dt = −∫ |∇Ψ|² dμ − α Var Ψ, along a WFR flow of interacting particles."""
    alpha, times = 0.8, np.linspace(0.0, 1.0, 41)

    def dissipated(network):
        (slope,) = (mean_field_gradient(network, POTENTIALS).weights[0],)
        (psi,), p = POTENTIALS.first_variation(network), network.masses[0]
        return p @ (slope**2).sum(1) + alpha * (p @ psi**2 - (p @ psi) ** 2)

    run = flow(
        cloud(SHALLOW),
        POTENTIALS,
        WassersteinFisherRao(rate=alpha),
        t1=1.0,
        times=times,
        observe=dissipated,
        solver=Adaptive(rtol=1e-11),
    )
    lost = scipy.integrate.simpson(np.asarray(run.observed), x=times)
    assert abs(run.energies[0] - run.energies[-1] - lost) < 1e-6


@pytest.mark.slow
def test_coupling_follows_particles_one_by_one_growth_included():
    found = coupling(
        particles(Gaussian(1, 0.5)), ATTRACTION, WassersteinFisherRao(), widths=[16, 64, 256],
        seeds=16, nodes=31, t1=1.0, key=KEY,
    )  # fmt: skip
    for what in ("sup", "growth"):
        rate = found.power_law(what)
        rate = rate[0] if isinstance(rate, tuple) else rate
        assert rate.low < -0.5 + 0.1 and rate.high > -0.5 - 0.1
    assert (found.error <= 0.1 * found.sup.mean(0)).all()


@pytest.mark.slow
def test_minimising_movements_tend_to_the_flow_with_the_first_power_of_their_step():
    start = particles(Gaussian(2)).sample(8, key=KEY)
    energy = Interaction(
        lambda t: jnp.sin(t[0]) - (t @ t) / 4, lambda t, u: jnp.exp(-((t - u) @ (t - u)) / 2)
    )
    end = flow(start, energy, t1=1.0, solver=Adaptive(rtol=1e-9)).final.points(0)
    far = []
    for step in (0.25, 0.125):
        run = minimising_movement(start, energy, step=step, t1=1.0)
        assert (np.diff(run.energies) < 0).all()
        far.append(largest(run.final.points(0), end))
    assert 1.6 < far[0] / far[1] < 2.4


@pytest.mark.slow
def test_tracers_that_alone_are_stiff_do_not_blow_up():
    """θ' = −θ³ from far out, beside a particle at rest; and far nodes of the limit."""
    quartic = Interaction(lambda t: -(t[0] ** 4) / 4, lambda t, u: 0.0 * t[0] * u[0])
    for far in (3.0, 30.0):
        start = Network.particles(Measure(jnp.array([[0.1], [far]]), jnp.array([1.0, 0.0])))
        end = float(flow(start, quartic, t1=1.0).final.points(0)[1, 0])
        assert abs(end - far / np.sqrt(1 + 2 * far**2)) < 1e-3
    run = limit(particles(Gaussian(1, 0.5, 0.8)), quartic, t1=1.0, tol=1e-5)
    nodes = quadrature(Gaussian(1, 0.5, 0.8), 401)
    x, p = np.asarray(nodes.points)[:, 0], np.asarray(nodes.masses)
    assert abs(run.energies[-1] - p @ (x**4 / (1 + 2 * x**2) ** 2) / 4) < 3 * run.error


@pytest.mark.slow
def test_single_precision_is_kept():
    start = particles(Gaussian(2)).sample(4, key=KEY)
    small = jax.tree.map(lambda a: a.astype(jnp.float32), start)
    held = Interaction(lambda t: t[0] - t @ t, lambda t, u: t @ u)
    for run in (
        train(small, held, BirthDeath(Langevin()), step=0.01, t1=0.1, key=KEY),
        flow(small, held, WassersteinFisherRao(), t1=0.1),
    ):
        assert {a.dtype for a in jax.tree.leaves(run.final)} == {jnp.dtype(jnp.float32)}
    assert initial_motion(particles(Gaussian(1)), ATTRACTION).speed > 0
