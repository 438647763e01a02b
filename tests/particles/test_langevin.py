"""Particles under noise have the laws of their diffusion."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from clouds import COVARIANCE, KEY, LINEAR, RIDGE, TAU, TEACHER
from models import largest

from ensembles import Gaussian, Measure, Network, particles
from limits import Adaptive, GradientFlow, Interaction, Langevin, flow, train


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
        "Euler–Maruyama": lambda t: train(start, LINEAR, warm, step=0.01, t1=t, key=key),
        "adaptive steps": lambda t: flow(
            start, LINEAR, warm, t1=t, key=key, solver=Adaptive(rtol=1e-2)
        ),
        "constant steps": lambda t: flow(
            start,
            LINEAR,
            warm,
            t1=t,
            key=key,
            solver=Adaptive(step=0.05, method=diffrax.EulerHeun()),
        ),
    }


@pytest.mark.parametrize(
    "way",
    [
        "Euler–Maruyama",
        *(pytest.param(f"{one} steps", marks=pytest.mark.slow) for one in ("adaptive", "constant")),
    ],
)
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
    run = train(start, LINEAR, cold, step=0.1, t1=1.0, key=KEY)
    assert largest(run.final.points(0), start.points(0)) == 0
    annealed = Langevin(temperature=_cooling)
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
