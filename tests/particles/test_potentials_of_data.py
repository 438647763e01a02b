"""A shallow network is a cloud of particles under the potentials of its data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import DATA, KEY, POTENTIALS, SHALLOW, cloud
from models import largest

import limits._energies.pairs as pairs
from limits import (
    Adaptive,
    FisherRao,
    GradientFlow,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
    flow,
    mean_field_gradient,
)


def test_potentials_from_data_are_the_risk_of_the_shallow_network():
    risk, points = Risk(DATA), cloud(SHALLOW)
    assert abs(risk(SHALLOW) - POTENTIALS(points)) < 1e-15
    ours, theirs = mean_field_gradient(points, POTENTIALS), mean_field_gradient(SHALLOW, risk)
    assert largest(ours, theirs) < 1e-14
    assert largest(POTENTIALS.first_variation(points), risk.first_variation(SHALLOW)) < 1e-14


@pytest.mark.parametrize(
    "dynamics", [FisherRao(), pytest.param(WassersteinFisherRao(), marks=pytest.mark.slow)]
)
def test_a_shallow_network_flows_as_its_particles_under_the_potentials(dynamics):
    options = dict(t1=2.0, times=jnp.linspace(0.0, 2.0, 5), solver=Adaptive(rtol=1e-11))
    one = flow(SHALLOW, Risk(DATA), dynamics, **options)
    other = flow(cloud(SHALLOW), POTENTIALS, dynamics, **options)
    assert largest(one.energies, other.energies) < 1e-9
    assert largest(one.final.points(0), other.final.points(0)) < 1e-9
    assert largest(one.final.masses, other.final.masses) < 1e-9


@pytest.mark.slow
def test_potentials_of_samples_are_unbiased():
    points = cloud(SHALLOW)
    keys = jax.random.split(KEY, 2000)
    found = jax.vmap(lambda k: POTENTIALS.draw(4, k).derivatives(points)[:2])(keys)
    wanted = POTENTIALS.derivatives(points)[:2]
    for many, one in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        values = np.asarray(many)
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        assert (np.abs(values.mean(0) - np.asarray(one)) <= 4 * error).all()


def test_pairs_summed_in_blocks_are_the_same(monkeypatch):
    points = cloud(SHALLOW)
    whole = POTENTIALS.derivatives(points)[:2], POTENTIALS.first_variation(points)
    monkeypatch.setattr(pairs, "_CACHED", 40)
    monkeypatch.setattr(pairs, "_COLUMNS", 7)
    blocks = POTENTIALS.derivatives(points)[:2], POTENTIALS.first_variation(points)
    assert largest(whole, blocks) < 1e-14
    slope = jax.grad(lambda p: POTENTIALS(points.weighed((p,))))(points.masses[0])
    assert largest(slope, blocks[1][0]) < 1e-14


def test_slopes_of_few_and_of_many_coordinates_are_the_same(monkeypatch):
    points = cloud(SHALLOW)
    forward = POTENTIALS.derivatives(points, variation=True)
    monkeypatch.setattr(pairs, "_FEW", 0)
    assert largest(forward, POTENTIALS.derivatives(points, variation=True)) < 1e-14
    assert largest(forward[2], POTENTIALS.first_variation(points)) < 1e-14


def test_a_penalty_is_an_average_over_neurons():
    penalty = PowerPenalty(0.3, 1.5, (0, 2))
    plain, penalised = Risk(DATA), Risk(DATA) + penalty
    points = np.asarray(SHALLOW.points(0))
    by_hand = 0.3 * (np.abs(points[:, [0, 2]]) ** 1.5).sum(1)
    assert abs(penalised(SHALLOW) - plain(SHALLOW) - by_hand.mean()) < 1e-15
    (variation,) = penalised.first_variation(SHALLOW)
    assert largest(variation - plain.first_variation(SHALLOW)[0], by_hand) < 1e-14
    slope = mean_field_gradient(SHALLOW, penalised).weights[0]
    steeper = slope - mean_field_gradient(SHALLOW, plain).weights[0]
    entries = np.sign(points) * 1.5 * 0.3 * np.sqrt(np.abs(points)) * np.array([1, 0, 1])
    assert largest(steeper, entries) < 1e-14


@pytest.mark.slow
def test_a_ridge_is_weight_decay():
    ridge, decay = Risk(DATA) + PowerPenalty(0.05), GradientFlow(weight_decay=0.1)
    one = flow(SHALLOW, ridge, t1=1.0, solver=Adaptive(rtol=1e-10))
    other = flow(SHALLOW, Risk(DATA), decay, t1=1.0, solver=Adaptive(rtol=1e-10))
    assert largest(one.final.points(0), other.final.points(0)) < 1e-9
