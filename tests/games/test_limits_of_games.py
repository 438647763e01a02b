"""Infinitely many players: their limit, who follows it, and how payoffs fluctuate."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
from models import largest
from played import A_X, B_XY, C_Y, GAUSSIAN, KEY, START

from ensembles import Network
from limits import GradientFlow, WassersteinFisherRao, coupling, fluctuations, limit, simulate

TIMES = jnp.array([0.0, 0.7, 1.5])


def moments_at(times, transport, rate):
    """Under WFR, s' = −2γas − αas² and m' = −(γ + αs)(am ± b m̄): Gaussians stay Gaussian."""

    def velocity(_, z):
        m, n, s, r = z
        return [
            -(transport + rate * s) * (A_X * m + B_XY * n),
            -(transport + rate * r) * (C_Y * n - B_XY * m),
            -2 * transport * A_X * s - rate * A_X * s**2,
            -2 * transport * C_Y * r - rate * C_Y * r**2,
        ]

    start = [0.8, -0.5, 0.36, 0.16]
    return scipy.integrate.solve_ivp(
        velocity, (0, 1.5), start, t_eval=np.asarray(times), rtol=1e-11, atol=1e-12
    ).y


@pytest.mark.slow
def test_the_limit_of_a_gaussian_game_is_its_closed_form():
    dynamics = WassersteinFisherRao(GradientFlow(0.5), rate=1.3)
    run = limit(Network.players(*START), GAUSSIAN, dynamics, t1=1.5, times=TIMES, tol=1e-7)
    m, n, s, r = moments_at(TIMES, 0.5, 1.3)
    payoff = A_X / 2 * (m**2 + s) + B_XY * m * n - C_Y / 2 * (n**2 + r)
    assert largest(run.energies, jnp.asarray(payoff)) < 1e-7 and float(run.error) <= 1e-7
    end = [run.final.measure(i) for i in range(2)]
    assert abs(float(end[0].mean[0]) - m[-1]) < 1e-6
    assert abs(float(end[1].covariance[0, 0]) - r[-1]) < 1e-6
    assert run.plot().get_ylabel() == "loss of player 1"
    plt.close("all")


@pytest.mark.slow
def test_players_follow_their_limit_as_one_over_the_root_of_their_number():
    """Particle by particle; with masses that move in `test_games_studies.py`."""
    found = coupling(
        Network.players(*START), GAUSSIAN, widths=[4, 8, 32], seeds=32, nodes=8, t1=1.0, key=KEY
    )
    assert found.rate("rms").low < -0.5 < found.rate("rms").high
    assert (found.error.max() <= 1e-4 * found.distance("sup").mean(0)).all()


@pytest.mark.slow
def test_the_payoff_fluctuates_as_predicted():
    """N Var = s (e^{K't} g)_1² + a²s² e^{−4at}/2 + the same of the other, g = ∂L/∂(means)."""
    t, width, seeds = 1.5, 60, 200
    found = fluctuations(Network.players(*START), GAUSSIAN, _payoff, t1=t, nodes=8)
    K = np.array([[-A_X, -B_XY], [B_XY, -C_Y]])
    m = scipy.linalg.expm(K * t) @ np.array([0.8, -0.5])
    g = scipy.linalg.expm(K * t).T @ [A_X * m[0] + B_XY * m[1], B_XY * m[0] - C_Y * m[1]]
    s = np.array([0.36, 0.16])
    wanted = s @ g**2 + (np.exp(-4 * t) * s**2 / 2).sum()
    assert abs(float(found.variance[-1]) / wanted - 1) < 1e-5
    seen = simulate(
        Network.players(*START), GAUSSIAN, _payoff, width=width, seeds=seeds, t1=t, key=KEY
    )
    low, high = seen.interval(0.999)
    assert low[-1] < wanted < high[-1]


def _payoff(network):
    return GAUSSIAN(network)
