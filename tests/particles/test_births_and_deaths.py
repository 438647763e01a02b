"""Particles that die and are cloned follow the masses that move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import ATTRACTION, DATA, KEY, X, sine, well
from models import largest, smooth

from ensembles import Gaussian, Measure, Network, particles
from limits import BirthDeath, GradientFlow, Risk, WassersteinFisherRao, fit_rate, limit, train
from limits._dynamics.birth_death import offspring


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
    still = BirthDeath(GradientFlow(0.0), rate=2.0)
    run = train(network, Risk(DATA), still, step=0.05, t1=2.0, key=KEY)
    rows = np.asarray(run.final.weights[0]).round(12)  # copies are equal up to rounding
    assert len(np.unique(rows, axis=0)) < 6
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
    update = BirthDeath(GradientFlow(0.0), rate=alpha)
    run = train(start, well(1.0), update, step=0.02, t1=t, key=jax.random.key(1))
    u, end = 1 + alpha * t, run.final.measure(0)
    assert abs(float(end.mean[0]) - 0.8 / u) < 4 * 2 * np.sqrt(1 / u / n)
    assert abs(float(end.covariance[0, 0]) - 1 / u) < 4 * 2 * np.sqrt(2 / n) / u
    assert abs(float(end.mean[0]) - 0.8) > 0.2  # it moved


def test_a_prior_gives_birth_where_there_are_no_particles():
    """All at 2, the well at 0: clones stay at 2, draws of the prior are elsewhere."""
    start = Network.particles(Measure(jnp.array([[2.0], [2.1], [2.2], [2.0]]), jnp.full(4, 0.25)))
    options = dict(step=0.05, t1=10.0, key=KEY)
    still = GradientFlow(0.0)
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
        observe=sine,
    )  # fmt: skip
    update = BirthDeath(rate=2.0)

    def end(n, key):
        start = particles(Gaussian(1, 0.5)).sample(n, key=jax.random.fold_in(key, 0))
        run = train(
            start, ATTRACTION, update, step=step, t1=1.0, observe=sine,
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
