"""Players under noise, and the regularised equilibria where they come to rest."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from played import A_X, B_XY, C_Y, CIRCLING, FOURIER, GAUSSIAN, KEY, TAU, fourier_payoff, keys

from ensembles import Atoms, Gaussian, Torus, Uniform, players
from limits import Game, Langevin, nikaido_isoda, train
from limits.references import boltzmann_game, matrix_game


def test_noisy_players_of_a_gaussian_game_have_its_law_and_means_of_variance_one_over_n():
    """n particles in steps h: m' = M m with M = 1 + h K, and |M v|² = ((1 − ah)² + (bh)²)|v|² for
    a = c, so n Var(mean) → τ/(a − h (a² + b²)/2), and Var within → 2τh (1 − 1/n)/(1 − (1 − ah)²).
    At 4 standard errors over 400 seeds."""
    h, t, sizes, seeds = 0.1, 6.0, (2, 5, 16), 400
    update = Langevin(temperature=TAU)
    like = players(Gaussian(1), Gaussian(1)).sample(16, key=KEY)
    masses = jnp.stack([jnp.where(jnp.arange(16) < n, 1 / n, 0.0) for n in sizes])

    @eqx.filter_jit
    def runs(masses, keys):
        def one(p, key):
            start = like.with_points(jnp.full((16, 1), 2.0)).with_points(jnp.ones((16, 1)), 1)
            run = train(
                start.weighed((p, p)), GAUSSIAN, update, step=h, t1=t, times=[0.0, 0.5, t],
                observe=_moments, key=key,
            )  # fmt: skip
            return run.observed

        return jax.vmap(lambda p: jax.vmap(lambda k: one(p, k))(keys))(masses)

    means, variances = (np.asarray(a)[..., 0] for a in runs(masses, keys(seeds)))
    M = np.eye(2) + h * np.array([[-A_X, -B_XY], [B_XY, -C_Y]])
    for n, mean, variance in zip(sizes, means, variances, strict=True):
        for k, steps in ((1, 5), (2, 60)):
            wanted = np.linalg.matrix_power(M, steps) @ np.array([2.0, 1.0])
            error = mean[:, k].std(0) / np.sqrt(seeds)
            assert (np.abs(mean[:, k].mean(0) - wanted) < 4 * error).all()
        law = TAU / (A_X - h * (A_X**2 + B_XY**2) / 2)
        assert (np.abs(n * mean[:, 2].var(0) / law - 1) < 4 * np.sqrt(2 / seeds)).all()
        within = 2 * TAU * h * (1 - 1 / n) / (1 - (1 - A_X * h) ** 2)
        error = variance[:, 2].std(0) / np.sqrt(seeds)
        assert (np.abs(variance[:, 2].mean(0) - within) < 4 * error).all()


def _moments(network):
    laws = network.measure(0), network.measure(1)
    return jnp.stack([m.mean for m in laws]), jnp.stack([m.covariance[0] for m in laws])


@pytest.mark.slow
def test_regularised_players_of_a_gaussian_game_are_gaussian():
    found = boltzmann_game(GAUSSIAN, low=-4.0, high=4.0, cells=160, temperature=TAU)
    for i, curvature in enumerate((A_X, C_Y)):
        law = found.measure(i)
        assert abs(float(law.mean[0])) < 1e-9
        assert abs(float(law.covariance[0, 0]) - TAU / curvature) < 1e-9


@pytest.mark.slow
def test_regularised_players_answer_each_other_and_gain_little_when_it_is_cold():
    """Own residuals; and as L is within τ log(cells) of the regularised one for each player, gains
    are at most τ log(cells) each."""
    for tau in (5.0, 0.3, 0.02):
        found = boltzmann_game(FOURIER, low=0.0, high=1.0, cells=80, temperature=tau)
        for psi, p in zip(FOURIER.first_variation(found), found.masses, strict=True):
            answer = np.exp(-(np.asarray(psi) - np.asarray(psi).min()) / tau)
            assert np.abs(answer / answer.sum() - np.asarray(p)).sum() < 4e-8
        atoms = tuple(Atoms(found.points(i)) for i in range(2))
        gain = nikaido_isoda(found, FOURIER, spaces=atoms, key=KEY).value
        assert 0 < gain < 2 * tau * np.log(80)
    payoffs = jax.vmap(lambda x: jax.vmap(lambda y: fourier_payoff(x, y))(found.points(1)))(
        found.points(0)
    )
    assert abs(matrix_game(payoffs).value - FOURIER(found)) < 0.02 * np.log(80)


@pytest.mark.slow
def test_regularised_players_may_live_in_boxes_of_their_own():
    spaces = Uniform(-1.0, 1.0), Uniform([0.0, -1.0], [2.0, 1.0])
    game = Game(lambda x, y: x[0] * (y[0] + y[1] ** 2) + (x[0] - 0.2) ** 2, spaces=spaces)
    found = boltzmann_game(
        game, low=[[-1.0], [0.0, -1.0]], high=[[1.0], [2.0, 1.0]], cells=[[30], [8, 10]],
        temperature=0.2,
    )  # fmt: skip
    assert found.width == (30, 80)
    psi, q = np.asarray(game.first_variation(found)[1]), np.asarray(found.masses[1])
    assert np.ptp(np.log(q) + psi / 0.2) < 1e-8


@pytest.mark.slow
def test_noisy_players_come_to_rest_near_the_regularised_equilibrium():
    tau = 0.5
    law = boltzmann_game(CIRCLING, low=0.0, high=1.0, cells=128, temperature=tau)
    start = players(Torus(1), Torus(1)).sample(60, key=KEY)
    run = train(
        start, CIRCLING, Langevin(temperature=tau), step=0.001, t1=3.0,
        times=np.linspace(0.0, 3.0, 301), observe=_waves, key=KEY,
    )  # fmt: skip
    found, wanted = np.asarray(run.observed)[50:].mean(0), np.asarray(_waves(law))
    assert np.abs(wanted).max() > 0.5 and np.abs(found - wanted).max() < 0.06


def _waves(network):
    parts = []
    for i in range(2):
        angle = 4 * jnp.pi * network.points(i)[:, 0]
        parts += [network.masses[i] @ jnp.cos(angle), network.masses[i] @ jnp.sin(angle)]
    return jnp.stack(parts)


def test_a_fixed_point_that_was_not_found_is_no_answer():
    with pytest.raises(RuntimeError, match="fixed point was not found"):
        boltzmann_game(FOURIER, low=0.0, high=1.0, cells=80, temperature=0.02, max_steps=3)
