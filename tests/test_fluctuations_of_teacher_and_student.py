"""Fluctuations of ReLU students of a ReLU teacher, without and with a penalty (the figure of Chen,
Rotskoff, Bruna & Vanden-Eijnden, arXiv:2008.09623, as told in J. Bruna's lectures); none in the end
where the minimiser is sparse (Chizat, arXiv:1907.10300).

The Monte-Carlo scale is N Var of the average over neurons drawn anew from the law at that time.

N Var of the limit is predicted until t = 4. Later neurons slide along kinks, in steps of one size
across them and back, and derivatives in the initial masses may grow with each (to 10^76 by t = 64
on other seeds, as their error bar, equally large, says): there N Var is that of simulations alone.
"""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, iid
from limits import Adaptive, Data, GradientFlow, PowerPenalty, Risk, fluctuations, simulate
from limits.references import sparse_relu

pytestmark = pytest.mark.slow

KEYS = 2, 3  # of nodes, of networks
WIDTH, SEEDS, NODES = 128, 100, 512
TIMES = jnp.array([0.0, 1.0, 4.0, 16.0, 64.0])
EARLY = np.asarray(TIMES) <= 4
ANGLES = jnp.linspace(0.3, 0.3 + 2 * jnp.pi, 8, endpoint=False)
X = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], 1)
TEACHER = jnp.array([[0.8, 0.6], [-0.6, 0.8]])
DATA = Data(X, jax.nn.relu(X @ TEACHER.T) @ jnp.array([[1.0], [-1.0]]))
STUDENT = iid(dim=2, depth=2, first=Gaussian(1), last=Gaussian(1), layers=Affine(jax.nn.relu))
OPTIONS = dict(t1=TIMES[-1], times=TIMES, solver=Adaptive(step=0.1, method=diffrax.Heun()))


def outputs(network):
    return network(X)[:, 0]


def ridge(strength):
    return Risk(DATA) + PowerPenalty(strength / 2)


def simulated(strength, dynamics):
    """N Var of students, its mean over inputs, with its standard error; their mean outputs."""
    run = simulate(STUDENT, ridge(strength), outputs, width=WIDTH, seeds=SEEDS, dynamics=dynamics,
                   key=jax.random.key(KEYS[1]), **OPTIONS)  # fmt: skip
    squares = WIDTH * ((run.values - run.values.mean(0)) ** 2).mean(-1) * SEEDS / (SEEDS - 1)
    return np.asarray(squares.mean(0)), np.asarray(squares.std(0)) / SEEDS**0.5


def predicted(strength):
    """N Var in the limit, its error and the Monte-Carlo scale; the limit's risk at the end."""
    run = fluctuations(STUDENT, ridge(strength), outputs, nodes=NODES, key=jax.random.key(KEYS[0]),
                       **OPTIONS)  # fmt: skip
    means = (np.asarray(v).mean(-1) for v in (run.variance, run.variance_error, run.resampling))
    return *means, float(((run.mean[-1] - DATA.y[:, 0]) ** 2).mean()) / 2


def test_students_fluctuate_below_the_monte_carlo_scale_and_in_the_end_not_at_all():
    """Eight inputs on the circle, a teacher of two neurons. At λ = 0, where training interpolates,
    and at λ = 0.1, where the minimiser is sparse and has a risk (that of a certified program),
    N Var stays below the Monte-Carlo scale, which stays, and falls to zero. Control: students whose
    features are frozen keep what was drawn, under the same penalty."""
    frozen, bar = simulated(0.1, GradientFlow(learning_rates=(0.0, 1.0)))
    for strength in (0.0, 0.1):
        variance, error, scale, risk = predicted(strength)
        found, spread = simulated(strength, GradientFlow())
        print(f"\nλ = {strength}: N Var, mean over inputs; risk of the limit at the end {risk:.1e}")
        print("    time  Monte Carlo  predicted    ± error    N = 128     ± s.e.")
        for row in zip(TIMES, scale, variance, error, found, spread, strict=True):
            print("{:8.1f}{:13.5f}{:11.2g}{:11.2g}{:11.5f}{:11.5f}".format(*map(float, row)))
        assert (np.abs(found - variance) < error + 4 * spread + 0.1 * variance)[EARLY].all()
        assert (variance < 1.001 * scale)[EARLY].all() and (found + 3 * spread < scale)[1:].all()
        assert found[-1] < 0.01 * found[0] and scale[-1] > 0.2 * scale[0]
        assert frozen[-1] - 4 * bar[-1] > 10 * found[-1]
        if strength:
            best = sparse_relu(DATA, strength)
            least = best.value - strength * float(np.abs(best.charges).sum())
            print(f"sparse minimiser: {best.charges.size} atoms, risk {least:.4f}")
            assert abs(risk / least - 1) < 0.02
        else:
            assert risk < 1e-3
    print(f"λ = 0.1, frozen features: N Var {frozen.round(4)} ± {bar.round(4)}")
