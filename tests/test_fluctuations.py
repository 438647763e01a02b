"""Predicted fluctuations against closed forms, other derivatives and small simulations."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth
from scipy import stats

from ensembles import (
    Affine,
    Atoms,
    Gauss,
    Gaussian,
    NeuronalEnsemble,
    Product,
    Uniform,
    iid,
    shallow,
)
from limits import (
    Adaptive,
    Data,
    GradientFlow,
    Risk,
    flow,
    fluctuations,
    sgd_noise,
    simulate,
    train,
)
from limits._studies.influence import jacobian

X = regression(16).x[:5]
TIMES = jnp.array([0.0, 0.5, 1.5, 3.0])
PRECISE = Adaptive(rtol=1e-8)
CENTRES = 0.7 * jax.random.normal(jax.random.key(4), (6, 2))
TARGETS = jnp.sin(2 * CENTRES[:, :1])


def outputs(network):
    return network(X)[:, 0]


def at_centres(network):
    return network(CENTRES)[:, 0]


@pytest.fixture(scope="module")
def three():
    """Fluctuations of a three-layer network with unequal layers."""
    return fluctuations(
        smooth(3), Risk(regression(16)), outputs, t1=3.0, times=TIMES, nodes=32, ratios=(1, 2),
        solver=PRECISE,
    )  # fmt: skip


def cosines():
    """√2 cos(w · x + b) with frozen (w, b), E φ(x) φ(x') = exp(−|x − x'|² / 2); w_2 from 0.

    Five phases b are as good as all: they average products of four cosines exactly.
    """
    phases = 2 * jnp.pi * jnp.arange(5.0) / 5
    return NeuronalEnsemble(
        [Product(Gaussian(2), Atoms(phases[:, None]))],
        [lambda c: c[:2], lambda c: jnp.zeros(1)],
        [lambda c: c[2], None],
        layers=Affine(lambda z: math.sqrt(2) * jnp.cos(z)),
    )


def kernel():
    x = np.asarray(CENTRES)
    return np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 2)


FROZEN = GradientFlow((0.0, 1.0))
LINEAR = Risk(Data(CENTRES, TARGETS))


@pytest.mark.slow
def test_at_time_0_it_is_the_monte_carlo_variance_in_closed_form():
    """N E‖f_N − f‖² = ∫U(θ, θ) dμ − ∬U dμ dμ, U(θ, θ') = E_x σ(θ, x) σ(θ', x), for
    σ = a cos(w · x), a of law N(m, s²), w of law N(0, I)."""
    mean, scale = 0.5, 1.5
    space = Product(Gaussian(1, mean=mean, scale=scale), Gaussian(2))
    ensemble = shallow(lambda c, x: c[:1] * jnp.cos(jnp.dot(c[1:], x)), space)
    found = fluctuations(
        ensemble, LINEAR, at_centres, t1=0.1, times=jnp.zeros(1), nodes=20**3, rule=Gauss()
    )
    squares = np.asarray((CENTRES**2).sum(1))
    diagonal = (mean**2 + scale**2) * (1 + np.exp(-2 * squares)) / 2
    exact = (diagonal - mean**2 * np.exp(-squares)).mean()
    assert abs(float(found.variance[0].mean()) - exact) < 1e-10
    assert largest(found.variance, found.resampling) < 1e-12


@pytest.mark.slow
def test_frozen_features_have_their_closed_form_at_all_times():
    """f_t = (1 − e^{−tK}) y, √N (f_t^N − f_t) → ∫ e^{−(t−s)K} G e^{−sK} y ds, K the kernel on the
    data and G the Gaussian limit of √N (K_N − K)."""
    times = jnp.array([0.5, 4.0, 40.0, 400.0])
    found = fluctuations(
        cosines(), LINEAR, at_centres, t1=400.0, times=times, nodes=5 * 18**2, dynamics=FROZEN,
        solver=Adaptive(rtol=1e-9),
    )  # fmt: skip
    k, n = kernel(), len(CENTRES)
    x = np.asarray(CENTRES)

    def fourth(*signs):
        terms = [
            s * x[(None,) * i + (slice(None),) + (None,) * (3 - i)] for i, s in enumerate(signs)
        ]
        return np.exp(-(sum(terms) ** 2).sum(-1) / 2)

    moments = (fourth(1, 1, -1, -1) + fourth(1, -1, 1, -1) + fourth(1, -1, -1, 1)) / 2
    spread = moments - k[:, :, None, None] * k[None, None]
    values, vectors = np.linalg.eigh(k / n)
    turned = np.einsum("ijkl,ia,jb,kc,ld->abcd", spread, *[vectors] * 4) / n**2
    start = vectors.T @ np.asarray(TARGETS)[:, 0]
    for j, t in enumerate(np.asarray(times)):
        decay = np.exp(-values * t)
        gap = values[:, None] - values[None] + np.eye(n)
        passed = (decay[None] - decay[:, None]) / gap + np.diag(t * decay)
        g = passed * start[None]
        covariance = np.einsum("abcd,ab,cd->ac", turned, g, g)
        exact = np.einsum("ia,jc,ac->ij", vectors, vectors, covariance)
        assert largest(found.covariance[j, :, j], exact) < 1e-6
        assert largest(found.mean[j], vectors @ ((1 - decay) * start)) < 1e-8


def test_influence_functions_are_finite_differences_in_masses(three):
    network = smooth(3).discretise(32)
    towards = jnp.zeros(32).at[5].set(1.0) - network.masses[1]

    def moved(size):
        masses = (network.masses[0], network.masses[1] + size * towards)
        there = network.weighed(masses)
        run = flow(
            there,
            Risk(regression(16)),
            t1=3.0,
            times=TIMES,
            observe=outputs,
            solver=Adaptive(rtol=1e-10, atol=1e-10),
        )
        return np.asarray(run.observed)

    size = 1e-5
    slope = (moved(size) - moved(-size)) / (2 * size)
    assert largest(three.influence[1][..., 5], slope) < 1e-6


@pytest.mark.slow
def test_reverse_and_forward_mode_and_blocks_agree():
    """Few values are differentiated backward, the same values many times over forward."""
    network, risk = smooth(3).discretise(8), Risk(regression(8))

    def run(masses, adjoint, copies=1):
        there = network.weighed((masses, network.masses[1]))
        found = flow(
            there, risk, t1=1.0, observe=outputs, solver=Adaptive(step=0.1), adjoint=adjoint
        )
        return jnp.tile(found.observed[1, :1], copies), found.times

    few, backward, times = eqx.filter_jit(jacobian)(run, network.masses[0], values=1, entries=2**17)
    many, forward, _ = eqx.filter_jit(jacobian)(
        eqx.Partial(run, copies=100), network.masses[0], values=100, entries=2**30
    )
    assert largest(times, jnp.array([0.0, 1.0])) == 0
    assert few.shape == (1,) and many.shape == (100,) and forward.shape == (100, 8)
    assert largest(many, jnp.tile(few, 100)) == 0
    assert largest(forward, jnp.tile(backward, (100, 1))) < 1e-12


def test_shares_band_and_width_follow_from_the_influence_functions(three):
    assert largest(three.shares.sum(0), three.variance) == 0
    flat = three.covariance.reshape(20, 20)
    assert largest(jnp.diag(flat), three.variance.ravel()) < 1e-15
    assert float(jnp.linalg.eigvalsh(flat).min()) > -1e-12
    for f, nodes in zip(three.influence, three.nodes, strict=True):
        assert float(jnp.abs(f @ nodes.masses).max()) < 1e-12
    equal = fluctuations(
        smooth(3), Risk(regression(16)), outputs, t1=3.0, times=TIMES, nodes=32, solver=PRECISE
    )
    assert largest(equal.shares / jnp.array([1.0, 2.0])[:, None, None], three.shares) < 1e-15
    low, high = three.band(100, level=0.9)
    scale = np.sqrt(np.asarray(three.variance + three.variance_error) / 100)
    folded = stats.foldnorm.ppf(0.9, np.asarray(three.mean_error) / scale, scale=scale)
    assert largest((high - low) / 2, folded) < 1e-10
    width = three.width(0.01, level=0.9)
    reach = [float((three.band(n, level=0.9)[1] - three.mean).max()) for n in (width, width - 1)]
    assert reach[0] <= 0.01 < reach[1]
    assert three.plot().get_ylabel()


@pytest.mark.slow
def test_the_error_estimates_cover_the_errors(three):
    fine = fluctuations(
        smooth(3), Risk(regression(16)), outputs, t1=3.0, times=TIMES, nodes=16, ratios=(1, 2),
        solver=PRECISE,
    )  # fmt: skip
    assert (jnp.abs(fine.variance - three.variance) <= fine.variance_error + 1e-7).all()
    assert (jnp.abs(fine.mean - three.mean) <= fine.mean_error + 1e-7).all()


@pytest.mark.slow
def test_simulation_is_what_single_runs_give_and_near_the_prediction(three):
    risk, key = Risk(regression(16)), jax.random.key(21)
    found = simulate(
        smooth(3), risk, outputs, width=64, seeds=400, t1=3.0, times=TIMES, ratios=(1, 2), key=key
    )
    assert found.widths == (64, 128)
    for seed in (0, 399):
        labels, _ = jax.random.split(jax.random.fold_in(key, seed))
        network = smooth(3).sample((64, 128), key=labels)
        alone = flow(
            network,
            risk,
            t1=3.0,
            times=TIMES,
            observe=outputs,
            solver=Adaptive(rtol=1e-9, atol=1e-9),
        )
        assert largest(found.values[seed], alone.observed) < 1e-5
    low, high = found.interval(0.9999)
    assert ((low < three.variance) & (three.variance < high)).mean() > 0.9
    assert largest(np.diag(found.covariance.reshape(20, 20)), found.variance.ravel()) < 1e-12
    low, high = map(np.asarray, three.band(64, level=0.9))
    inside = ((low < found.values) & (found.values < high)).mean()
    assert 0.87 < inside < 0.93


def test_a_single_neuron_fluctuates_by_the_noise_of_its_edges_besides():
    """N_1 Var H_2(x, c) → Var(m σ(w · x)) + s² E σ(w · x)² at time 0; without the second term,
    which edges of variance s² add, it is far off. Outputs have no such term."""
    mean, scale, seeds, n = 0.5, 1.5, 4000, 64
    ensemble = iid(
        dim=2, depth=3, first=Gaussian(1), hidden=Gaussian(1, mean=mean, scale=scale),
        last=Gaussian(1), layers=Affine(jnp.tanh),
    )  # fmt: skip
    x = jnp.array([[1.0, 0.5]])

    @jax.jit
    def neuron(key):
        return ensemble.sample((n, 1), key=key).preactivations(x)[1][0, 0]

    values = jax.lax.map(neuron, jax.random.split(jax.random.key(41), seeds), batch_size=500)
    found = n * np.asarray(values).var(ddof=1)
    first = np.polynomial.hermite_e.hermegauss(60)
    square = first[1] @ np.tanh(np.sqrt(1.25) * first[0]) ** 2 / first[1].sum()
    labels, edges = mean**2 * square, scale**2 * square
    assert abs(found / (labels + edges) - 1) < 4 * np.sqrt(2 / seeds)
    assert abs(found / labels - 1) > 1


@pytest.mark.slow
def test_sgd_noise_of_frozen_features_has_its_closed_form():
    """Var f_t = (ε/b) ∫ Var_k[(e^{−(t−s)K/n} K_k)(f_s(k) − y_k)] ds, here by quadrature."""
    times = jnp.array([0.0, 1.0, 3.0])
    found = sgd_noise(
        cosines(), LINEAR, at_centres, t1=3.0, times=times, nodes=5 * 12**2, intervals=48,
        dynamics=FROZEN, solver=PRECISE,
    )  # fmt: skip
    k, y = kernel(), np.asarray(TARGETS)[:, 0]
    values, vectors = np.linalg.eigh(k / len(y))
    nodes, masses = np.polynomial.legendre.leggauss(40)

    def exponential(t):
        return (vectors * np.exp(-values * t)) @ vectors.T

    for j, t in enumerate(np.asarray(times)):
        exact = np.zeros(len(y))
        for s, mass in zip((nodes + 1) * t / 2, masses * t / 2, strict=True):
            h = exponential(t - s) @ k * -(exponential(s) @ y)[None]
            exact += mass * h.var(1)
        assert largest(found.per_ratio[j], exact) < 2e-4 * max(1, exact.max())
        assert (np.abs(found.per_ratio[j] - exact) <= found.error[j] + 1e-9).all()
    assert largest(found.variance(0.1, 5), 0.02 * found.per_ratio) < 1e-15
    flat = found.covariance(0.1, 5).reshape(18, 18)
    assert largest(jnp.diag(flat), found.variance(0.1, 5).ravel()) < 1e-15


@pytest.mark.slow
def test_sgd_noise_is_that_of_simulated_batches():
    """3,000 runs of the limit itself, steps of 0.01 on batches of 2."""
    risk, step, batch, seeds = Risk(regression(16)), 0.01, 2, 3000
    network = smooth(3).discretise(12)
    predicted = sgd_noise(
        smooth(3), risk, outputs, t1=3.0, times=TIMES[1:], nodes=12, intervals=48
    ).variance(step, batch)

    @eqx.filter_jit
    def runs(keys):
        def one(key):
            return train(
                network,
                risk,
                step=step,
                batch=batch,
                t1=3.0,
                times=TIMES[1:],
                observe=outputs,
                key=key,
                throw=False,
            ).observed

        return jax.lax.map(one, keys, batch_size=500)

    values = np.asarray(runs(jax.random.split(jax.random.key(31), seeds)))
    z = (values.var(0, ddof=1) / np.asarray(predicted) - 1) / np.sqrt(2 / seeds)
    print(f"\n  deviations in standard errors: {np.round(z, 1).tolist()}")
    assert np.abs(z).max() < 4


def test_networks_of_equal_neurons_do_not_fluctuate():
    equal = NeuronalEnsemble(
        [Atoms(jnp.arange(3.0)[:, None])],
        [lambda c: jnp.ones(2), lambda c: jnp.zeros(1)],
        layers=Affine(jnp.tanh),
    )
    found = fluctuations(equal, Risk(regression(16)), outputs, t1=0.5, nodes=3)
    assert jnp.abs(found.variance).max() < 1e-25 and jnp.abs(found.mean).max() > 0.01


@pytest.mark.slow
def test_errors_hold_what_nodes_miss_of_weights_that_jump():
    """Against the law of three atoms that the weights really have: within 1.5 errors, as nineteen
    in twenty of such ensembles; one other set of nodes agreed by chance to 2.3 times less."""

    def first(c):
        return jnp.where(c[0] < 0.137, 1.5, -0.4)[None]

    def last(c):
        return jnp.where(c[0] > -0.61, 1.0, 3.0)[None]

    x, y = jnp.array([[0.5], [-1.2]]), jnp.array([[1.0], [0.3]])
    atoms = Atoms(jnp.array([[-0.8], [-0.2], [0.5]]), jnp.array([0.195, 0.3735, 0.4315]))
    found, exact = (
        fluctuations(
            NeuronalEnsemble([space], [first, last], layers=Affine(jnp.tanh)),
            Risk(Data(x, y)),
            lambda network: network(x)[0],
            t1=2.0,
            nodes=nodes,
        )
        for space, nodes in ((Uniform(-1.0, 1.0), 64), (atoms, 3))
    )
    off = jnp.abs(found.variance - exact.variance)
    assert (off <= 1.5 * found.variance_error).all()
