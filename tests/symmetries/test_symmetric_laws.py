"""Risks of symmetric laws are the risks of changed data, functions and neurons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from swapped import ARBITRARY, CLOUD, EQUIVARIANT, KEY, PLAIN, SWAP, X, risks, sigma

from ensembles import Gaussian, Measure, Network, Symmetry
from ensembles.groups import defining, relative_measure_distance, rotations
from limits import Data, PowerPenalty, Risk, mean_field_gradient
from limits.symmetries import augmented


def test_averaged_functions_are_those_of_symmetrised_laws():
    """Q_G Φ_μ = Φ_{μ^G}, for a finite group and a compact one."""
    averaged, symmetrised = SWAP.function(PLAIN), SWAP.symmetrised(PLAIN)
    assert largest(averaged(X), symmetrised(X)) < 1e-14
    assert largest(averaged(X), Network.shallow(sigma, SWAP.symmetrised(CLOUD))(X)) < 1e-14
    assert largest(averaged(X), PLAIN(X)) > 0.05

    def radial(z, x):  # jointly equivariant under rotations of z and x
        return z * jnp.tanh(z @ x)

    turn = Symmetry(rotations(2, 12), inputs=defining, outputs=defining, neurons=defining)
    net = Network.shallow(radial, Gaussian(2).sample(4, key=KEY))
    assert largest(turn.function(net)(X), turn.symmetrised(net)(X)) < 1e-13
    assert np.abs(turn.projection).max() < 1e-14 and turn.basis.shape == (2, 0)


def test_the_three_risks_are_the_risk_of_changed_laws():
    """R^DA(μ) = ∫ R(M_g#μ) dλ, R^FA(μ) = R(μ^G), R^EA(μ) = R(μ^E); all of them R on symmetric laws
    (EA on strongly invariant ones), and R = R^DA where data are equivariant."""
    each, plain = risks(ARBITRARY), Risk(ARBITRARY)
    moved = SWAP.on_neurons(CLOUD.points)
    turned = [plain(Network.shallow(sigma, Measure(points, CLOUD.masses))) for points in moved]
    assert abs(each["DA"](PLAIN) - sum(turned) / 2) < 1e-15
    assert abs(each["FA"](PLAIN) - plain(SWAP.symmetrised(PLAIN))) < 1e-15
    assert abs(each["EA"](PLAIN) - plain(SWAP.projected(PLAIN))) < 1e-15
    assert len({round(float(e(PLAIN)), 3) for e in each.values()}) == 4
    weak, strong = SWAP.symmetrised(PLAIN), SWAP.projected(PLAIN)
    for law, names in ((weak, ["DA", "FA"]), (strong, ["DA", "FA", "EA"])):
        assert max(abs(float(each[n](law) - each["vanilla"](law))) for n in names) < 1e-15
    of_symmetric = risks(EQUIVARIANT)
    assert abs(of_symmetric["vanilla"](PLAIN) - of_symmetric["DA"](PLAIN)) < 1e-15
    basis = SWAP.basis
    wanted = np.stack([np.eye(2).ravel(), np.eye(2)[::-1].ravel()], 1) / np.sqrt(2)
    assert largest(basis @ basis.T, wanted @ wanted.T) < 1e-14


def test_symmetric_models_have_the_floor_of_what_no_symmetric_function_explains():
    """Corollary 1: E ‖Φ − f‖² = E ‖f − Q_G f‖² + E ‖Φ − Q_G f‖² for symmetric laws, invariant
    inputs."""
    inputs = jnp.concatenate([X, X[:, ::-1]])
    target = Data(inputs, jnp.stack([jnp.sin(inputs[:, 0]), inputs[:, 1] ** 2 / 4], 1))

    def f(x):
        return jnp.stack([jnp.sin(x[:, 0]), x[:, 1] ** 2 / 4], 1)

    best = SWAP.function(f)(inputs)
    floor = ((target.y - best) ** 2).sum(1).mean()
    model = SWAP.symmetrised(PLAIN)
    apart = ((model(inputs) - best) ** 2).sum(1).mean()
    assert abs(2 * Risk(target)(model) - floor - apart) < 1e-14 and floor > 0.1
    assert abs(2 * Risk(target)(PLAIN) - floor - ((PLAIN(inputs) - best) ** 2).sum(1).mean()) > 1e-3


def test_gradients_of_the_three_risks_are_ordinary_ones_over_masses():
    masses = jnp.array([0.1, 0.2, 0.3, 0.4, 0.0])
    for name, risk in risks(ARBITRARY).items():
        energy = risk + PowerPenalty(0.1)
        network = Network.shallow(sigma, Measure(CLOUD.points, masses))
        gradient = mean_field_gradient(network, energy).rows(0)
        ordinary = jax.grad(lambda p, e=energy, n=network: e(n.with_points(p)))(CLOUD.points)
        assert largest(gradient[:4], (ordinary / jnp.where(masses > 0, masses, 1)[:, None])[:4]) < (
            1e-14
        ), name
        alone = Network.shallow(sigma, Measure(CLOUD.points[:4], masses[:4]))
        assert abs(energy(alone) - energy(network)) < 1e-15
        assert float(jnp.abs(gradient[4]).max()) > 1e-4  # a tracer's


@pytest.mark.slow
def test_batches_of_augmented_data_are_unbiased_for_finite_and_compact_groups():
    turn = Symmetry(rotations(2, 16), inputs=defining, outputs=defining, neurons=defining)
    population = Data.from_space(Gaussian(2), lambda x: jnp.sin(x), 64)
    for data, symmetry in ((ARBITRARY, SWAP), (population, SWAP), (ARBITRARY, turn)):
        risk = Risk(augmented(data, symmetry))
        keys = jax.random.split(KEY, 4000)
        drawn = np.asarray(jax.vmap(lambda k, r=risk: r.draw(4, k)(PLAIN))(keys))
        assert abs(drawn.mean() - risk(PLAIN)) < 4 * drawn.std() / np.sqrt(4000)


def test_the_relative_distance_of_measures_is_between_zero_and_one():
    nothing = Measure(jnp.zeros((1, 4)), jnp.ones(1))
    opposite = Measure(-CLOUD.points, CLOUD.masses)
    assert abs(relative_measure_distance(CLOUD, nothing) ** 2 - 0.5) < 1e-12
    assert relative_measure_distance(nothing, nothing) == 0
    point = Measure(CLOUD.points[:1], jnp.ones(1))
    assert abs(relative_measure_distance(point, Measure(-point.points, jnp.ones(1))) - 1) < 1e-12
    assert 0 < relative_measure_distance(CLOUD, opposite) < 1
