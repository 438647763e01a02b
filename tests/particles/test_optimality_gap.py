"""A gap bounds the distance from the infimum, and says how it was found."""

import jax.numpy as jnp
import numpy as np
from clouds import ATTRACTION, KEY

from ensembles import Atoms, Gaussian, Measure, Network, Product, Torus, Uniform
from limits import Data, Interaction, PowerPenalty, Risk, optimality_gap


def test_the_gap_bounds_the_distance_from_the_infimum():
    """One datum: R = (c − 1)²/2 + λ c has its minimum λ − λ²/2 at c = 1 − λ."""
    lam, space = 0.2, Product(Uniform(-2.0, 2.0), Torus(1))

    def wave(theta, x):
        return theta[:1] * jnp.cos(2 * jnp.pi * theta[1:] - x)

    risk = Risk(Data(jnp.zeros((1, 1)), jnp.ones((1, 1)))) + PowerPenalty(lam, 1.0, (0,))
    best = lam - lam**2 / 2
    for charge, turn in ((1 - lam, 0.0), (1.0, 0.0), (0.5, 0.1), (-1.0, 0.3)):
        network = Network.shallow(wave, Measure(jnp.array([[charge, turn]]), jnp.ones(1)))
        found = optimality_gap(network, risk, space=space, key=KEY, starts=32)
        above = float(risk(network)) - best
        assert above <= found.gap + 1e-9
        assert (found.gap < 1e-8) == (abs(above) < 1e-12)
    assert "initial points" in str(found) and found.support_excess >= found.gap - 1e-12
    # Ψ = λ |c| − (λ + δ) c falls slowly, to the wall at M, and the bound is δ (M − c)
    off, charge = 1e-4, 1 - lam - 1e-4
    network = Network.shallow(wave, Measure(jnp.array([[charge, 0.0]]), jnp.ones(1)))
    for wall in (2.0, 50.0):
        box = Product(Uniform(-wall, wall), Torus(1))
        found = optimality_gap(network, risk, space=box, key=KEY, starts=32)
        assert abs(found.gap - off * (wall - charge)) < 1e-9 and abs(found.degree - 1) < 1e-6
        assert "Train longer, and give the smallest space that holds the neurons" in str(found)


def test_a_gap_below_the_rounding_of_a_large_energy_is_not_told_as_none():
    """(t − ½)² at t = 1 is ¼ above its least, beside a constant of 1e8 in single precision."""
    far = Interaction(lambda t: -1e8 - (t[0] - 0.5) ** 2, lambda t, u: 0 * t[0])
    start = Network.particles(Measure(jnp.ones((1, 1), jnp.float32), jnp.ones(1, jnp.float32)))
    box = Uniform(jnp.zeros(1, jnp.float32), 2 * jnp.ones(1, jnp.float32))
    assert 0.25 < optimality_gap(start, far, space=box, key=KEY, starts=4).gap < 1e3


def test_the_search_finds_its_way_along_a_kink():
    ridge = Interaction(lambda t: -10 * jnp.abs(t[0] - t[1]) - t[0] - t[1], lambda t, u: 0 * t[0])
    start = Network.particles(Measure(jnp.array([[0.5, 0.5]]), jnp.ones(1)))
    box = Uniform(-jnp.ones(2), jnp.ones(2))
    found = optimality_gap(start, ridge, space=box, key=KEY, starts=64)
    assert abs(found.gap - 3) < 1e-6 and np.abs(found.minimiser + 1).max() < 1e-6


def test_a_finite_space_is_looked_at_completely():
    space = Atoms([[0.0], [1.0], [2.0]])
    network = Network.particles(Measure(jnp.array([[0.0], [1.0]]), jnp.array([0.5, 0.5])))
    found = optimality_gap(network, ATTRACTION, space=space, key=KEY)
    psi = ATTRACTION.first_variation(Network.particles(Measure.mixture([network.measure(0)])))
    values = [-np.sin(t) + (np.cos(t) + np.cos(t - 1)) / 2 for t in (0.0, 1.0, 2.0)]
    assert abs(found.minimum - min(values)) < 1e-14
    assert abs(found.gap - (float(psi[0].mean()) - min(values))) < 1e-14
    assert found.steps == 0 and len(found.ends) == 3
    assert "the lowest of all 3 points of a finite space" in str(found)


def test_a_variation_without_an_infimum_has_no_gap():
    """Ψ = −log(1 + θ²) falls without end; −tanh falls to a limit at infinity."""
    start = Network.particles(Measure(jnp.array([[0.5, 0.5]]), jnp.ones(1)))
    energy = Interaction(lambda t: jnp.log(1 + t[0] ** 2), lambda t, u: 0 * t[0])
    found = optimality_gap(start, energy, space=Gaussian(2), key=KEY, starts=8)
    assert found.gap == np.inf == found.support_excess and found.minimum == -np.inf
    assert "falls without end" in str(found) and "bounded space" in str(found)
    energy = Interaction(lambda t: jnp.tanh(t[0]), lambda t, u: 0 * t[0])
    found = optimality_gap(start, energy, space=Gaussian(2), key=KEY, starts=8)
    assert abs(found.gap - (1 - np.tanh(0.5))) < 1e-9


def test_whole_turns_stay_on_a_torus():
    start = Network.particles(Measure(jnp.array([[3.25, 0.5]]), jnp.ones(1)))
    space, energy = Product(Torus(1), Uniform()), Interaction(_sine_of_turns, lambda t, u: 0 * t[0])
    assert optimality_gap(start, energy, space=space, key=KEY, starts=8).gap < 1e-9


def _sine_of_turns(theta):
    return jnp.sin(2 * jnp.pi * theta[0])
