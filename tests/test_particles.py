"""Particles under potentials: Wasserstein and Fisher–Rao flows, birth and death, Langevin."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.linalg
from models import largest, smooth

import limits._energies.pairs as pairs
from ensembles import (
    Atoms,
    Gaussian,
    Measure,
    Network,
    Product,
    Sphere,
    Torus,
    Uniform,
    particles,
    quadrature,
    shallow,
    wasserstein,
)
from limits import (
    SGD,
    BirthDeath,
    Data,
    FisherRao,
    GradientFlow,
    Interaction,
    Langevin,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
    coupling,
    fit_rate,
    flow,
    fluctuations,
    initial_motion,
    limit,
    mean_field_gradient,
    optimality_gap,
    train,
)
from limits._dynamics.birth_death import offspring
from limits.references import boltzmann, grid_flow, minimising_movement

KEY = jax.random.key(0)


def unit(theta, x):
    return theta[:1] * jnp.tanh(theta[1:] @ x)


X = jax.random.normal(jax.random.key(1), (20, 2))
DATA = Data(X, jnp.sin(X[:, :1] + X[:, 1:]))
SHALLOW = shallow(unit, Gaussian(3)).sample(12, key=KEY)
POTENTIALS = Interaction.from_data(unit, DATA)


def cloud(network):
    """The particles of a network."""
    return Network.particles(network.measure(0))


# Potentials and risks


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
    options = dict(t1=2.0, times=jnp.linspace(0.0, 2.0, 5), rtol=1e-11)
    one = flow(SHALLOW, Risk(DATA), dynamics, **options)
    other = flow(cloud(SHALLOW), POTENTIALS, dynamics, **options)
    assert largest(one.energies, other.energies) < 1e-9
    assert largest(one.final.points(0), other.final.points(0)) < 1e-9
    assert largest(one.final.masses, other.final.masses) < 1e-9


@pytest.mark.slow
def test_potentials_of_samples_are_unbiased():
    points = cloud(SHALLOW)
    keys = jax.random.split(KEY, 2000)
    found = jax.vmap(lambda k: POTENTIALS.draw(4, k).value_and_gradient(points))(keys)
    wanted = POTENTIALS.value_and_gradient(points)
    for many, one in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        values = np.asarray(many)
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        assert (np.abs(values.mean(0) - np.asarray(one)) <= 4 * error).all()


def test_pairs_summed_in_blocks_are_the_same(monkeypatch):
    points = cloud(SHALLOW)
    whole = POTENTIALS.value_and_gradient(points), POTENTIALS.first_variation(points)
    monkeypatch.setattr(pairs, "_CACHED", 40)
    monkeypatch.setattr(pairs, "_COLUMNS", 7)
    blocks = POTENTIALS.value_and_gradient(points), POTENTIALS.first_variation(points)
    assert largest(whole, blocks) < 1e-14
    slope = jax.grad(lambda p: POTENTIALS(points.weighed((p,))))(points.masses[0])
    assert largest(slope, blocks[1][0]) < 1e-14


def test_slopes_of_few_and_of_many_coordinates_are_the_same(monkeypatch):
    points = cloud(SHALLOW)
    forward = POTENTIALS.value_gradient_and_variation(points)
    monkeypatch.setattr(pairs, "_FEW", 0)
    assert largest(forward, POTENTIALS.value_gradient_and_variation(points)) < 1e-14
    assert largest(forward[2], POTENTIALS.first_variation(points)) < 1e-14


def test_a_penalty_is_an_average_over_neurons():
    penalty = PowerPenalty(0.3, 1.5, (0, 2))
    plain, penalised = Risk(DATA), Risk(DATA, penalty=penalty)
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
    ridge, decay = Risk(DATA, penalty=PowerPenalty(0.05)), GradientFlow(weight_decay=0.1)
    one = flow(SHALLOW, ridge, t1=1.0, rtol=1e-10)
    other = flow(SHALLOW, Risk(DATA), decay, t1=1.0, rtol=1e-10)
    assert largest(one.final.points(0), other.final.points(0)) < 1e-9


# Exact answers


def well(k):
    """∫ k θ²/2 dμ, without interaction."""
    return Interaction(lambda t: -k * (t @ t) / 2, lambda t, u: jnp.zeros((), t.dtype))


@pytest.mark.parametrize("transport", [1.0, 0.0])
def test_a_gaussian_in_a_well_stays_gaussian(transport):
    """u = σ⁻² solves u' = 2γk u + αk, and the mean is m_0 u_0 exp(γkt)/u."""
    k, alpha, t, m, s = 0.7, 1.3, 1.5, 0.8, 0.6
    start = Network.particles(quadrature(Gaussian(1, m, s), 41))
    dynamics = WassersteinFisherRao(GradientFlow(transport), rate=alpha)
    end = flow(start, well(k), dynamics, t1=t, rtol=1e-11).final.measure(0)
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
    run = flow(start, well(1.0), FisherRao(alpha), t1=10.0, times=times, rtol=1e-10)
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
        cloud(SHALLOW), POTENTIALS, WassersteinFisherRao(rate=alpha), t1=1.0, times=times,
        observe=dissipated, rtol=1e-11,
    )  # fmt: skip
    lost = scipy.integrate.simpson(np.asarray(run.observed), x=times)
    assert abs(run.energies[0] - run.energies[-1] - lost) < 1e-6


@pytest.mark.slow
def test_coupling_follows_particles_one_by_one_growth_included():
    found = coupling(
        particles(Gaussian(1, 0.5)), ATTRACTION, WassersteinFisherRao(), widths=[16, 64, 256],
        seeds=16, nodes=31, t1=1.0, key=KEY,
    )  # fmt: skip
    for what in ("sup", "growth"):
        rate = found.rate(what)
        rate = rate[0] if isinstance(rate, tuple) else rate
        assert rate.low < -0.5 + 0.1 and rate.high > -0.5 - 0.1
    assert (found.error <= 0.1 * found.sup.mean(0)).all()


ATTRACTION = Interaction(lambda t: jnp.sin(t[0]), lambda t, u: jnp.cos(t[0] - u[0]))


@pytest.mark.slow
def test_minimising_movements_tend_to_the_flow_with_the_first_power_of_their_step():
    start = particles(Gaussian(2)).sample(8, key=KEY)
    energy = Interaction(
        lambda t: jnp.sin(t[0]) - (t @ t) / 4, lambda t, u: jnp.exp(-((t - u) @ (t - u)) / 2)
    )
    end = flow(start, energy, t1=1.0, rtol=1e-9).final.points(0)
    far = []
    for step in (0.25, 0.125):
        run = minimising_movement(start, energy, step=step, t1=1.0)
        assert (np.diff(run.energies) < 0).all()
        far.append(largest(run.final.points(0), end))
    assert 1.6 < far[0] / far[1] < 2.4


# Optimality


def test_the_gap_bounds_the_distance_from_the_infimum():
    """One datum: R = (c − 1)²/2 + λ c has its minimum λ − λ²/2 at c = 1 − λ."""
    lam, space = 0.2, Product(Uniform(-2.0, 2.0), Torus(1))

    def wave(theta, x):
        return theta[:1] * jnp.cos(2 * jnp.pi * theta[1:] - x)

    risk = Risk(Data(jnp.zeros((1, 1)), jnp.ones((1, 1))), penalty=PowerPenalty(lam, 1.0, (0,)))
    best = lam - lam**2 / 2
    for charge, turn in ((1 - lam, 0.0), (1.0, 0.0), (0.5, 0.1), (-1.0, 0.3)):
        network = Network.shallow(wave, Measure(jnp.array([[charge, turn]]), jnp.ones(1)))
        found = optimality_gap(network, risk, space=space, key=KEY, starts=32)
        above = float(risk(network)) - best
        assert above <= found.gap + 1e-9
        assert (found.gap < 1e-8) == (abs(above) < 1e-12)
    assert "starts" in str(found) and found.support_excess >= found.gap - 1e-12


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


# Births and deaths


def test_numbers_of_particles_are_kept_and_tracers_left_alone():
    alive = jnp.array([True] * 30 + [False] * 10)
    for scale in (0.1, 1.0, 30.0):
        for seed in range(10):
            events = scale * jax.random.normal(jax.random.fold_in(KEY, seed), (40,))
            parents, vacant = offspring(events, alive, jax.random.key(seed))
            assert (parents[30:] == jnp.arange(30, 40)).all() and not vacant[30:].any()
            assert alive[parents[:30]].all()


def test_copies_of_neurons_at_depth_are_neurons_of_more_mass():
    """Three hidden layers: the network after births and deaths is the one of masses k/n."""
    network = smooth(4).sample(6, key=KEY)
    parents = [jax.random.randint(jax.random.fold_in(KEY, i), (6,), 0, 6) for i in range(3)]
    copied = network.map_neurons(lambda i, a, axis: jnp.take(a, parents[i], axis), network.masses)
    weighed = network.weighed(tuple(jnp.bincount(p, length=6) / 6 for p in parents))
    assert largest(copied(X), weighed(X)) < 1e-14
    still = BirthDeath(SGD(GradientFlow(0.0)), rate=2.0)
    run = train(network, Risk(DATA), still, step=0.05, t1=2.0, key=KEY)
    assert len(np.unique(np.asarray(run.final.weights[0]), axis=0)) < 6
    assert run.energies[-1] < run.energies[0]


def test_offspring_have_the_numbers_of_the_reaction():
    """E[copies of i] = 1 − events_i to first order; with another sign it is not."""
    n = 50
    events = 0.02 * jax.random.normal(KEY, (n,))
    events = events - events.mean()
    keys = jax.random.split(jax.random.key(1), 20_000)
    parents = jax.vmap(lambda k: offspring(events, jnp.ones(n, bool), k)[0])(keys)
    copies = np.asarray(jax.vmap(lambda p: jnp.bincount(p, length=n))(parents))
    mean, error = copies.mean(0), copies.std(0, ddof=1) / np.sqrt(len(copies))
    error = np.maximum(error, 1 / len(copies))
    chi = (((mean - (1 - np.asarray(events))) / error) ** 2).sum()
    wrong = (((mean - (1 + np.asarray(events))) / error) ** 2).sum()
    assert chi < n + 5 * np.sqrt(2 * n) < wrong


def test_particles_that_die_and_are_cloned_follow_the_masses_that_move():
    """A Gaussian in a well, without transport: mean and variance within four standard errors."""
    n, alpha, t = 4000, 1.0, 1.0
    start = particles(Gaussian(1, 0.8)).sample(n, key=KEY)
    update = BirthDeath(SGD(GradientFlow(0.0)), rate=alpha)
    run = train(start, well(1.0), update, step=0.02, t1=t, key=jax.random.key(1))
    u, end = 1 + alpha * t, run.final.measure(0)
    assert abs(float(end.mean[0]) - 0.8 / u) < 4 * 2 * np.sqrt(1 / u / n)
    assert abs(float(end.covariance[0, 0]) - 1 / u) < 4 * 2 * np.sqrt(2 / n) / u
    assert abs(float(end.mean[0]) - 0.8) > 0.2  # it moved


def test_a_prior_gives_birth_where_there_are_no_particles():
    """All at 2, the well at 0: clones stay at 2, draws of the prior are elsewhere."""
    start = Network.particles(Measure(jnp.array([[2.0], [2.1], [2.2], [2.0]]), jnp.full(4, 0.25)))
    options = dict(step=0.05, t1=10.0, key=KEY)
    still = SGD(GradientFlow(0.0))
    cloned = train(start, well(1.0), BirthDeath(still, 2.0), **options).final.points(0)
    born = train(start, well(1.0), BirthDeath(still, 2.0, Gaussian(1)), **options).final.points(0)
    assert set(np.asarray(cloned).ravel()) <= {2.0, 2.1, 2.2}
    assert (np.abs(np.asarray(born)) < 2).any()


@pytest.mark.slow
def test_births_and_deaths_converge_to_masses_that_move_as_one_over_root_n():
    """Root mean square over seeds of the error of ∫ sin dμ, against the WFR limit."""
    widths, seeds, step = [100, 400, 1600, 6400], 48, 0.01
    exact = limit(
        particles(Gaussian(1, 0.5)), ATTRACTION, WassersteinFisherRao(rate=2.0), t1=1.0, tol=1e-7,
        observe=_sine,
    )  # fmt: skip
    update = BirthDeath(rate=2.0)

    def end(n, key):
        start = particles(Gaussian(1, 0.5)).sample(n, key=jax.random.fold_in(key, 0))
        run = train(
            start, ATTRACTION, update, step=step, t1=1.0, observe=_sine,
            key=jax.random.fold_in(key, 1),
        )  # fmt: skip
        return run.observed[-1]

    far = np.zeros((seeds, len(widths)))
    for w, n in enumerate(widths):
        for s in range(seeds):
            far[s, w] = end(n, jax.random.key(1000 * w + s)) - exact.observed[-1]
    rms = np.sqrt((far**2).mean(0))
    rate = fit_rate(np.array(widths), np.abs(far))
    print(f"\nrms {rms}, exponent {rate}, bias {far.mean(0)}")
    assert rate.low <= -0.5 <= rate.high


def _sine(network):
    return network.masses[0] @ jnp.sin(network.points(0)[:, 0])


# Langevin


COVARIANCE, TEACHER, RIDGE, TAU = (
    jnp.array([[1.0, 0.3], [0.3, 0.5]]), jnp.array([1.0, -1.0]), 0.5, 0.25,
)  # fmt: skip
LINEAR = Interaction(
    lambda t: t @ COVARIANCE @ TEACHER - RIDGE / 2 * (t @ t), lambda t, u: t @ COVARIANCE @ u
)


def linear_law(t, mean, variance):
    """m' = −(Σ + λ) m + Σ w, C' = −2 λ C + 2 τ: the interaction acts on the mean only."""
    slope = np.asarray(COVARIANCE) + RIDGE * np.eye(2)
    rest = np.linalg.solve(slope, np.asarray(COVARIANCE @ TEACHER))
    fade = np.exp(-2 * RIDGE * t)
    mean = rest + scipy.linalg.expm(-slope * t) @ (mean - rest)
    return mean, fade * variance + (1 - fade) * TAU / RIDGE


def noisy_runs():
    start = particles(Gaussian(2, 0.0, 0.5)).sample(4000, key=KEY)
    warm, key = Langevin(temperature=TAU), jax.random.key(1)
    return {
        "Euler–Maruyama": lambda t: train(start, LINEAR, SGD(warm), step=0.01, t1=t, key=key),
        "adaptive steps": lambda t: flow(start, LINEAR, warm, t1=t, key=key, rtol=1e-2),
        "constant steps": lambda t: flow(
            start, LINEAR, warm, t1=t, key=key, step=0.05, solver=diffrax.EulerHeun()
        ),
    }


@pytest.mark.parametrize("way", noisy_runs())
def test_a_noisy_linear_unit_has_its_gaussian_law(way):
    """Means and variances within four standard errors of n independent particles."""
    start = particles(Gaussian(2, 0.0, 0.5)).sample(4000, key=KEY).measure(0)
    law = noisy_runs()[way](1.3).final.measure(0)
    mean, variance = linear_law(1.3, np.asarray(start.mean), 0.25)
    assert (np.abs(np.asarray(law.mean) - mean) < 4 * np.sqrt(variance / 4000)).all()
    spread = np.diag(np.asarray(law.covariance))
    assert (np.abs(spread - variance) < 4 * variance * np.sqrt(2 / 4000)).all()


def test_frozen_neurons_get_no_noise_and_an_annealed_one_comes_to_rest():
    start = particles(Gaussian(2)).sample(8, key=KEY)
    cold = Langevin(GradientFlow(0.0), temperature=1.0)
    run = train(start, LINEAR, SGD(cold), step=0.1, t1=1.0, key=KEY)
    assert largest(run.final.points(0), start.points(0)) == 0
    annealed = SGD(Langevin(temperature=_cooling))
    run = train(start, LINEAR, annealed, step=0.05, t1=40.0, key=KEY)
    rest = np.linalg.solve(
        np.asarray(COVARIANCE) + RIDGE * np.eye(2), np.asarray(COVARIANCE @ TEACHER)
    )
    assert largest(run.final.measure(0).mean, rest) < 1e-3
    assert np.sqrt(float(run.final.measure(0).covariance.trace())) < 1e-2


def _cooling(t):
    return jnp.where(t < 10, 0.1, 0.0)


def test_a_noisy_run_that_goes_on_has_fresh_noise():
    """Free diffusion: the variance after two runs is the sum of theirs, as after one."""
    free = Interaction(lambda t: 0.0 * t[0], lambda t, u: 0.0 * t[0] * u[0])
    n, warm = 2000, Langevin(temperature=0.5)
    start = Network.particles(Measure(jnp.zeros((n, 1)), jnp.full(n, 1 / n)))
    half = flow(start, free, warm, t1=1.0, key=KEY).final
    rest = flow(half, free, warm, t0=1.0, t1=2.0, key=KEY).final.points(0)[:, 0]
    assert abs(float(rest.var()) - 2.0) < 4 * 2.0 * np.sqrt(2 / n)
    both = np.corrcoef(np.asarray(half.points(0)[:, 0]), np.asarray(rest - half.points(0)[:, 0]))
    assert abs(both[0, 1]) < 4 / np.sqrt(n)


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


# Distances


def test_distances_are_those_of_sorted_points_on_the_line():
    a, b = Gaussian(1).sample(30, key=KEY), Gaussian(1, 1.0).sample(30, key=jax.random.key(2))
    apart = np.abs(np.sort(a.points[:, 0]) - np.sort(b.points[:, 0]))
    assert abs(wasserstein(a, b) - np.sqrt((apart**2).mean())) < 1e-14
    assert abs(wasserstein(a, b, 1.0) - apart.mean()) < 1e-14
    assert wasserstein(a, a) == 0


def test_unequal_masses_are_transported_exactly():
    """Quantile functions on the line; a point of mass 0 does not count."""
    a = Measure(jnp.array([[0.0], [1.0], [9.0]]), jnp.array([0.25, 0.75, 0.0]))
    b = Measure(jnp.array([[0.0], [2.0]]), jnp.array([0.5, 0.5]))
    assert abs(wasserstein(a, b) ** 2 - (0.25 * 1 + 0.5 * 1)) < 1e-12
    both = Measure.mixture([a, b], jnp.array([0.5, 0.5]))
    assert abs(float(both.mean[0]) - 0.5 * (0.75 + 1.0)) < 1e-15


def test_distances_are_exact_at_every_scale():
    """Against quantile functions on the line, unequal masses."""
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1.0, 1e6):
        x, y = scale * rng.normal(size=30), scale * (rng.normal(size=25) + 0.3)
        p, q = rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(25))
        i, j = np.argsort(x), np.argsort(y)
        ends = np.unique(np.concatenate([[0.0], np.cumsum(p[i]), np.cumsum(q[j])]))
        middle = (ends[1:] + ends[:-1]) / 2
        a = x[i][np.searchsorted(np.cumsum(p[i]), middle).clip(0, 29)]
        b = y[j][np.searchsorted(np.cumsum(q[j]), middle).clip(0, 24)]
        for order in (1.0, 2.0, 4.0):
            exact = (np.diff(ends) @ np.abs(a - b) ** order) ** (1 / order)
            found = wasserstein(Measure(x[:, None], p), Measure(y[:, None], q), order)
            assert abs(found / exact - 1) < 1e-9
    nearly = Measure(jnp.array([[0.0], [1e6]]), jnp.array([0.5 + 2e-7, 0.5 - 2e-7]))
    half = Measure(nearly.points, jnp.array([0.5, 0.5]))
    assert abs(wasserstein(nearly, half) / np.sqrt(2e-7 * 1e12) - 1) < 1e-6


def test_steps_that_leave_a_space_are_brought_back():
    out = jnp.array([[3.0, 4.0], [-0.25, 0.5]])
    found = [
        (Sphere(2), [[0.6, 0.8], [-0.2 * 5**0.5, 0.4 * 5**0.5]]),
        (Uniform(jnp.array([0.0, 0.0]), 1.0), [[1.0, 1.0], [0.0, 0.5]]),
        (Torus(2), [[3.0, 4.0], [-0.25, 0.5]]),
        (Product(Gaussian(1), Uniform()), [[3.0, 1.0], [-0.25, 0.5]]),
        (Atoms([[0.0, 0.0], [3.0, 3.0]]), [[3.0, 3.0], [0.0, 0.0]]),
    ]
    for space, near in found:
        assert np.abs(np.asarray(space.project(out)) - np.array(near)).max() < 1e-15


# Wrong calls

START = particles(Gaussian(2)).sample(4, key=KEY)
FLAT = Interaction(lambda t: t[0], lambda t, u: t @ u)
WRONG = {
    "no key of noise": (lambda: flow(START, LINEAR, Langevin(), t1=1.0), "key is required"),
    "a limit of noise": (
        lambda: limit(particles(Gaussian(2)), LINEAR, Langevin(), t1=1.0), "dynamics must be",
    ),
    "fluctuations of noise": (
        lambda: fluctuations(
            particles(Gaussian(1)), ATTRACTION, _sine, dynamics=Langevin(), nodes=4, t1=1.0
        ),
        "dynamics must be",
    ),
    "births too often": (
        lambda: train(START, LINEAR, BirthDeath(rate=1e3), step=0.1, t1=1.0, key=KEY),
        "rate times step must be small",
    ),
    "unequal masses": (
        lambda: train(
            START.weighed((jnp.array([0.1, 0.2, 0.3, 0.4]),)), LINEAR, BirthDeath(), step=0.1,
            t1=1.0, key=KEY,
        ),
        r"masses\[0\] must be equal",
    ),
    "masses that move beside births": (
        lambda: train(
            START, LINEAR, BirthDeath(SGD(WassersteinFisherRao())), step=0.1, t1=1.0, key=KEY
        ),
        "update must not move masses",
    ),
    "a prior of another dimension": (
        lambda: train(START, LINEAR, BirthDeath(prior=Gaussian(3)), step=0.1, t1=1.0, key=KEY),
        "prior must be",
    ),
    "derivatives through births": (
        lambda: jax.grad(
            lambda r: train(
                START, LINEAR, BirthDeath(SGD(GradientFlow(r))), step=0.1, t1=0.2, key=KEY
            ).energies[-1]
        )(1.0),
        "jumps, whose derivatives",
    ),
    "a gap of a loss that is not convex": (
        lambda: optimality_gap(
            SHALLOW, Risk(DATA, lambda a, b: jnp.cos(a - b).sum()), space=Gaussian(3), key=KEY
        ),
        "loss must be convex",
    ),
    "a gap of repulsion": (
        lambda: optimality_gap(
            START, Interaction(lambda t: t[0], lambda t, u: -t @ u), space=Gaussian(2), key=KEY
        ),
        "K must be positive",
    ),
    "a gap of a little repulsion": (
        lambda: optimality_gap(
            particles(Uniform(-jnp.ones(2), jnp.ones(2))).sample(40, key=KEY),
            Interaction(lambda t: t[0], lambda t, u: 1e4 * t[0] * u[0] - (t[1] * u[1]) ** 2 / 2),
            space=Uniform(-jnp.ones(2), jnp.ones(2)), key=KEY,
        ),
        "K must be positive",
    ),
    "a gap beside an output bias": (
        lambda: optimality_gap(
            smooth(2, biases=True).sample(4, key=KEY), Risk(DATA), space=Gaussian(4), key=KEY
        ),
        "network must have no output bias",
    ),
    "movements of tracers": (
        lambda: minimising_movement(
            START.weighed((jnp.array([0.5, 0.5, 0.0, 0.0]),)), LINEAR, step=0.1, t1=0.1
        ),
        "masses must be positive",
    ),
    "a mixture of different spaces": (
        lambda: Measure.mixture([START.measure(0), SHALLOW.measure(0)]), "measures must live",
    ),
    "a gap in another space": (
        lambda: optimality_gap(START, FLAT, space=Gaussian(3), key=KEY), "space must have",
    ),
    "a gap of neurons outside": (
        lambda: optimality_gap(START, FLAT, space=Uniform(-jnp.ones(2) / 9, 1 / 9), key=KEY),
        r"neurons must be in the space Uniform\(2\).*with_points\(space\.project",
    ),
    "a gap under jit": (
        lambda: jax.jit(lambda n: optimality_gap(n, FLAT, space=Gaussian(2), key=KEY).gap)(START),
        "optimality_gap runs on the host",
    ),
    "K without symmetry": (
        lambda: flow(START, Interaction(lambda t: t[0], lambda t, u: t[0] * u[1]), t1=1.0),
        "K must be symmetric",
    ),
    "F of vectors": (
        lambda: flow(START, Interaction(lambda t: t, lambda t, u: t @ u), t1=1.0),
        "F must return a scalar",
    ),
    "no function": (lambda: Interaction(1.0, lambda t, u: t @ u), "F must be a function"),
    "batches of exact potentials": (
        lambda: train(START, FLAT, SGD(batch=3), step=0.1, t1=1.0, key=KEY), "batch must be None",
    ),
    "power below one": (lambda: PowerPenalty(0.1, 0.5), "power must be"),
    "a negative penalty": (lambda: PowerPenalty(-0.1), "strength must be"),
    "a penalty that is a number": (lambda: Risk(DATA, penalty=0.1), "penalty must be a function"),
    "measures of different spaces": (
        lambda: wasserstein(START.measure(0), SHALLOW.measure(0)), "nu must live",
    ),
    "entries beyond the neuron": (
        lambda: flow(SHALLOW, Risk(DATA, penalty=PowerPenalty(0.1, 1.0, (3,))), t1=1.0),
        r"entries must be of neurons of dimension 3, got \(3,\)",
    ),
    "an entry that is no tuple": (lambda: PowerPenalty(0.1, 1.0, 0), "entries must be a tuple"),
    "an entry twice": (lambda: PowerPenalty(0.1, 1.0, (0, 0)), "entries must be a tuple of diff"),
    "half an entry": (lambda: PowerPenalty(0.1, 1.0, (0.5,)), "entries must be a tuple of diff"),
    "a grid of one dimension for two": (
        lambda: boltzmann(
            Interaction(lambda t: t[1], lambda t, u: t @ u), low=-4.0, high=4.0, cells=8,
            temperature=1.0,
        ),
        r"F must fit the grid, .* index 1 .* low and high have dimension 1; write low=\[-4",
    ),
    "a grid of two dimensions for data of one": (
        lambda: grid_flow(
            POTENTIALS, jnp.ones((4, 4)), low=[-1.0, -1.0], high=[1.0, 1.0], cells=4, t1=1.0
        ),
        "F must fit particles of dimension 2, got an error in it",
    ),
    "entries that particles do not have": (
        lambda: flow(START, Interaction(lambda t: t[2], lambda t, u: t @ u), t1=1.0),
        "F must fit particles of dimension 2, got an error in it: index 2",
    ),
    "data of particles": (lambda: flow(START, Risk(DATA), t1=1.0), "network must have outputs"),
    "data of other inputs": (
        lambda: flow(SHALLOW, Risk(Data(X[:, :1], DATA.y)), t1=1.0),
        r"x must fit the first layer Unit\(unit\) .*got inputs of shape \(1,\)",
    ),
    "inputs of another dimension": (lambda: SHALLOW(jnp.ones((4, 3))), "x must fit the first lay"),
    "a constant that is NaN": (
        lambda: Interaction(FLAT.F, FLAT.K, jnp.nan), "constant must be a finite number",
    ),
    "two constants": (lambda: Interaction(FLAT.F, FLAT.K, [1.0, 2.0]), "constant must be a fin"),
    "F of two": (lambda: Interaction(FLAT.K, FLAT.K), "F must take 1 argument, a particle"),
    "K of one": (lambda: Interaction(FLAT.F, FLAT.F), "K must take 2 arguments, two particles"),
    "a penalty as a loss": (
        lambda: Risk(DATA, PowerPenalty(0.1)), r"loss must take 2 arguments.*penalty=PowerPenalty",
    ),
    "a loss as a penalty": (lambda: Risk(DATA, penalty=FLAT.K), "penalty must take 1 argument"),
    "points that are NaN": (
        lambda: START.with_points(jnp.full((4, 2), jnp.nan)), "points has 8 NaN or infinite",
    ),
    "points in words": (lambda: START.with_points("a"), "points must be an array of numbers, got"),
    "points of another shape": (
        lambda: START.with_points([[1.0, 2.0]]), r"points must have shape \(4, 2\) and dtype fl",
    ),
    "a measure by a name": (lambda: START.measure("0"), "i must be one of the hidden layers"),
    "a rate as a transport": (lambda: WassersteinFisherRao(2.0), "and rate= for the rate"),
    "a temperature as a transport": (lambda: Langevin(0.1), "and temperature= for the temp"),
    "a training by noise": (
        lambda: train(START, FLAT, Langevin(), step=0.1, t1=1.0),
        r"write SGD\(Langevin\(\.\.\.\)\)",
    ),
    "a distance under jit": (
        lambda: jax.jit(lambda m: wasserstein(m, m))(START.measure(0)), "wasserstein runs on the",
    ),
    "a negative temperature": (
        lambda: Langevin(temperature=-1.0), "temperature must be .*0 is a descent without noise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_single_precision_is_kept():
    small = eqx.tree_at(lambda n: n, START, jax.tree.map(lambda a: a.astype(jnp.float32), START))
    held = Interaction(lambda t: t[0] - t @ t, lambda t, u: t @ u)
    for run in (
        train(small, held, BirthDeath(SGD(Langevin())), step=0.01, t1=0.1, key=KEY),
        flow(small, held, WassersteinFisherRao(), t1=0.1),
    ):
        assert {a.dtype for a in jax.tree.leaves(run.final)} == {jnp.dtype(jnp.float32)}
    assert initial_motion(particles(Gaussian(1)), ATTRACTION).speed > 0
