"""Diversity, its negative controls, what convergence theorems assume, and starts that stand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression

from ensembles import Affine, Atoms, Gaussian, NeuronalEnsemble, Sobol, Uniform, diverse, iid
from limits import (
    Adaptive,
    Data,
    GradientFlow,
    HuberLoss,
    Risk,
    convergence,
    diversity,
    flow,
    initial_motion,
    limit,
    mean_field_gradient,
)
from limits.warnings import StationaryStart  # fmt: skip

TANH, KEY = Affine(jnp.tanh), jax.random.key(5)


def independent(depth=5, hidden=1.0, last=0.7):
    return iid(
        dim=2, depth=depth, first=Gaussian(1), hidden=Gaussian(1, hidden, 0.5),
        last=Gaussian(1, last, 0.5), layers=TANH,
    )  # fmt: skip


def correlated(modes=6, depth=5, **options):
    return diverse(dim=2, depth=depth, modes=modes, scale=2.0, layers=TANH, **options)


def measured(ensemble, network, **options):
    return diversity(network, regression(16), ensemble=ensemble, key=KEY, **options)


@pytest.mark.slow
def test_spectra_and_ranks_are_those_of_the_profiles_covariance():
    """Against NumPy's eigenvalues, with unequal masses, more neurons than inputs and fewer."""
    network = correlated().sample((16, 32, 24, 40), key=KEY)
    p = jnp.arange(1.0, 33) / jnp.arange(1.0, 33).sum()
    masses = network.masses
    network = network.weighed((masses[0], p, *masses[2:]))
    found = measured(None, network, modes=5, resolution=0.2)
    w, p = network.weights, network.masses
    h = network.preactivations(regression(16).x)
    for i in range(1, 3):
        incoming = np.asarray(w[i]) * np.sqrt(np.asarray(p[i - 1]))[:, None]
        outgoing = np.asarray(w[i + 1]).T * np.sqrt(np.asarray(p[i + 1]))[:, None]
        profiles = [
            (found.spectra[i, 0], found.rank[i, 0], incoming),
            (found.spectra[i, 1], found.rank[i, 1], outgoing),
            (found.span_spectra[i], found.span[i], np.asarray(h[i]) / 4),
        ]
        for spectrum, rank, a in profiles:
            values = np.linalg.eigvalsh(np.cov(a, aweights=np.asarray(p[i]), bias=True))[::-1]
            np.testing.assert_allclose(spectrum, values[:5], rtol=1e-9, atol=1e-14)
            np.testing.assert_allclose(rank, (values / (values + 0.04)).sum(), rtol=1e-9)


def test_gaussian_profiles_have_the_masses_of_gaussians():
    """Half-spaces at distance 1: 0.159, discs of radius 3/4 at distance 1: 0.165, over directions
    of 4096 neurons; modes far above the resolution."""
    ensemble = NeuronalEnsemble(
        [Gaussian(3), Uniform(-1.0, 1.0)], [_first_two, _third_times, jnp.cos], layers=TANH
    )
    network = ensemble.discretise([2**12, 8], [Sobol(), None], key=KEY)
    found = diversity(network, regression(4), modes=1, resolution=1e-3, key=KEY)
    assert found.rank.shape == (2, 2) and abs(float(found.rank[0, 0]) - 2) < 1e-4
    assert 0.13 < float(found.half_space[0]) < 0.16
    assert 0.13 < float(found.ball[0]) < 0.166


def _first_two(c):
    return c[:2]


def _third_times(c, e):
    return c[2] * jnp.cos(e[0])


@pytest.mark.slow
def test_diverse_starts_are_diverse_at_every_width_and_iid_starts_are_not():
    """i.i.d.: no rank in conditional means, a span that vanishes; diverse: both stay."""
    widths = (32, 128)
    for ensemble, stays in ((correlated(), True), (independent(), False)):
        few = [measured(ensemble, ensemble.sample(n, key=KEY)) for n in widths]
        spans = np.stack([found.span for found in few])
        if stays:
            assert (spans[1, 1:] > 0.9 * spans[0, 1:]).all() and (spans[1] > 0.8).all()
            least = [[1.5, 4], [4, 4], [4, 4], [4, 0.9]]
            assert (np.asarray(few[1].rank) > least).all()
            assert few[1].holds.all()
        else:
            assert (spans[1, 1:3] < 0.5 * spans[0, 1:3]).all()
            assert largest(few[1].rank[1:3], jnp.zeros((2, 2))) < 1e-12
            assert not few[1].holds.any()


@pytest.mark.slow
def test_one_mode_is_flagged_and_so_is_a_missing_ensemble():
    found = measured(None, correlated(modes=1, depth=3).sample(128, key=KEY))
    assert not found.holds.any() and float(found.rank[1, 0]) < 1.01
    noise = measured(None, independent(3).sample(128, key=KEY))
    assert float(noise.rank[1, 0]) > 10 * float(found.rank[1, 0])  # noise, not modes


@pytest.mark.slow
def test_independent_labels_have_modes_that_nothing_excites():
    """At correlation 0 the profiles are diverse and the preactivations collapse with width."""
    spans = [
        float(measured(None, correlated(correlation=0.0).sample(n, key=KEY)).span[2])
        for n in (32, 256)
    ]
    assert spans[1] < 0.3 * spans[0]
    assert initial_motion(correlated(correlation=0.0), Risk(regression(16)), key=KEY).stationary
    assert not initial_motion(correlated(), Risk(regression(16)), key=KEY).stationary


@pytest.mark.slow
def test_at_correlation_zero_the_limit_is_that_of_independent_weights():
    """Three layers, one mode, symmetric Gauss nodes: equal loss curves, unlike at 0.7."""
    risk, last = Risk(Data(regression(16).x[:, :1], regression(16).y)), Gaussian(1, 0.5)
    weights = iid(
        dim=1, depth=3, first=Gaussian(1), hidden=Gaussian(1), last=last, layers=TANH
    ).discretise([6, 6])
    known = flow(
        weights, risk, t1=5.0, times=jnp.linspace(0, 5, 6), solver=Adaptive(rtol=1e-9, atol=1e-9)
    )
    for correlation, equal in ((0.0, True), (0.7, False)):
        ensemble = diverse(dim=1, depth=3, modes=1, last=last, correlation=correlation, layers=TANH)
        run = flow(
            ensemble.discretise([36, 36]),
            risk,
            t1=5.0,
            times=jnp.linspace(0, 5, 6),
            solver=Adaptive(rtol=1e-9, atol=1e-9),
        )
        apart = largest(run.energies, known.energies)
        assert apart < 1e-8 if equal else apart > 1e-4


@pytest.mark.slow
def test_diversity_stays_along_a_run():
    """Bidirectional diversity at every recorded time: half-spaces and discs of profiles keep at
    least a tenth of a Gaussian's mass, and what goes in and out its rank. Independent weights have
    none at any time, and the span of their middle layers is that of noise (N = 256)."""
    times, risk = jnp.linspace(0.0, 20.0, 7), Risk(regression(16))
    solver = Adaptive(rtol=1e-4, atol=1e-5)

    def follow(ensemble, network):
        look = eqx.Partial(diversity, data=risk.data, ensemble=ensemble, key=KEY)
        run = flow(network, risk, t1=20.0, times=times, observe=look, solver=solver)
        assert run.observed.span.shape == (7, 4)
        seen = jax.tree.map(np.asarray, run.observed)
        print(
            f"\n  half-spaces {seen.half_space.min(0).round(3)}, discs {seen.ball.min(0).round(3)}"
        )
        print(
            f"  least ranks {seen.rank.min(0).round(2).tolist()}, spans {seen.span.min(0).round(2)}"
        )
        return run, seen

    ensemble = correlated()
    run, seen = follow(ensemble, ensemble.discretise(256, Sobol(), key=KEY))
    assert run.energies[-1] < run.energies[0]
    assert (seen.half_space > 0.016).all() and (seen.ball > 0.016).all()
    assert (seen.rank.min(0) > [[1.5, 4], [4, 4], [4, 4], [4, 0.9]]).all()
    assert (seen.span[:, :3] > 0.8).all()
    _, noise = follow(independent(), independent().sample(256, key=KEY))
    assert not (noise.holds[:, 1:3]).any() and (noise.span[:, 1:3] < 0.1).all()


def test_convergence_measures_are_what_they_say():
    """Updates are suprema of the mean-field gradient; residuals those of least squares."""
    data = Data(regression(16).x, regression(16).x[:, :1] ** 3)
    network, risk = independent(3).sample((40, 3), key=KEY), Risk(data)
    found, gradient = convergence(network, risk), mean_field_gradient(network, risk)
    assert abs(found.updates[1] - jnp.abs(gradient.weights[1]).mean(1).max()) < 1e-14
    assert abs(found.updates[2] - jnp.abs(gradient.weights[2]).max()) < 1e-14
    y = np.asarray(data.y)[:, 0]
    features = np.tanh(np.asarray(network.preactivations(data.x)[1]))
    design = np.column_stack([features, np.ones(16)])
    missed = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert found.residual[0] < 0.05
    assert abs(found.residual[1] - (missed**2).sum() / ((y - y.mean()) ** 2).sum()) < 1e-3
    blind = eqx.tree_at(lambda n: n.start.weights[0], network, jnp.zeros((40, 2)))
    assert largest(convergence(blind, risk).residual, jnp.ones(2)) < 1e-12


@pytest.mark.slow
def test_three_layers_from_an_iid_start_converge_with_a_loss_that_is_not_convex():
    """ℓ = log(1 + (ŷ − y)²) has ∂ℓ = 0 ⇒ ℓ = 0; the last layer frozen (w_3 ≠ 0) or trained."""
    x, y = jnp.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]), jnp.array([[0.3], [-0.2], [0.3]])
    risk = Risk(Data(x, y), _log_loss)
    nodes = independent(3).discretise([64, 8])
    look = eqx.Partial(convergence, energy=risk)
    for rates in ([1.0, 1.0, 0.0], 1.0):
        run = flow(
            nodes,
            risk,
            GradientFlow(rates),
            t1=120.0,
            times=jnp.array([0.0, 50.0, 120.0]),
            observe=look,
            solver=Adaptive(rtol=1e-5, atol=1e-6),
        )
        assert run.energies[-1] < 1e-4 * run.energies[0]
        assert run.observed.updates[-1, 1] < 0.02 * run.observed.updates[0, 1]
        assert run.observed.residual[:, 0].max() < 0.05
        if not isinstance(rates, float):
            assert largest(run.final.weights[2], nodes.weights[2]) == 0


def _log_loss(prediction, y):
    return jnp.log1p(((prediction - y) ** 2).sum())


@pytest.mark.parametrize(
    ("ensemble", "layers"),
    [
        pytest.param(independent(4, hidden=0.0), (1, 2, 3), marks=pytest.mark.slow),
        pytest.param(independent(5, hidden=0.0), (1, 2, 3, 4), marks=pytest.mark.slow),
        (independent(5, hidden=1.0, last=0.0), (1, 5)),
        pytest.param(independent(3, hidden=1.0, last=0.0), None, marks=pytest.mark.slow),
        (independent(3, hidden=0.0), None),
        (independent(5), None),
    ],
)
def test_stationary_starts_are_recognised(ensemble, layers):
    """Centred i.i.d. starts of four layers or more; centred first and last layers with tanh."""
    risk = Risk(regression(16), HuberLoss(1.0))
    for options in (dict(), dict(rule=Sobol(), key=KEY)):
        found = initial_motion(ensemble, risk, **options)
        assert found.stationary == (layers is not None), (found, options)
        if layers is not None:
            assert found.vanishing == layers and f"w_{layers[-1]}" in str(found)
    still = Risk(Data(regression(16).x, ensemble.discretise(8)(regression(16).x)))
    assert not initial_motion(ensemble, still).stationary  # the loss cannot fall either


def test_limit_warns_of_a_stationary_start():
    with pytest.warns(StationaryStart, match=r"means that vanish: w_1, w_4.*non-zero means"):
        run = limit(independent(4, last=0.0), Risk(regression(16)), t1=0.5, nodes=64, rule=None)
    assert abs(run.energies[-1] - run.energies[0]) < 1e-12


def test_atoms_are_kept_when_one_rule_is_for_all_layers():
    ensemble = independent(5)
    assert ensemble.discretise(64, Sobol(), key=KEY).width == (64, 1, 1, 64)
    assert Atoms([[1.0], [3.0]]).mean == 2.0
