"""Linear attention that regresses in context, in the limit of infinitely many heads.

Prompts are n pairs (x_i, w · x_i) and a query x in R^d, all Gaussian. A head (v, q, k) reads
v (q · x)(k · u), u = (1/n) Σ y_i x_i = S w, so that with M = Σ p v q kᵀ

    E(ŷ − y)²/2 = (c |M|² − 2 tr M + d)/2,    c = 1 + (d+1)/n,

by E S = I, E S² = c I: least at M = I/c, d(d+1)/(2(n+d+1)) (von Oswald et al., arXiv:2212.07677;
Zhang, Frei & Bartlett, arXiv:2306.09927). As an `Interaction`, F = v q · k and
K = c v v' (q · q')(k · k'), the population is exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Gaussian, Sobol, shallow
from ensembles.blocks import linear_attention
from limits import Data, Interaction, Risk, limit

D, EXAMPLES, END = 3, 8, 3.0


def spread(examples):
    return 1 + (D + 1) / examples


def parts(theta):
    return theta[0], theta[1 : 1 + D], theta[1 + D :]


def head(theta, prompt):
    """`linear_attention` on tokens (x_i, y_i), (x, 0), whose mean counts the query's."""
    v, q, k = parts(theta)
    zero = jnp.zeros(1)
    value = jnp.zeros(D + 1).at[-1].set(1)
    query, key = (jnp.concatenate([a, zero]) for a in (q, k))
    out = v * (EXAMPLES + 1) / EXAMPLES * value
    return linear_attention(jnp.stack([query, key, value, out])[:, None], prompt)[-1, -1:]


HEADS = shallow(head, Gaussian(1 + 2 * D))


def population(examples):
    def force(t):
        v, q, k = parts(t)
        return v * (q @ k)

    def pair(t, u):
        (v, q, k), (w, r, l) = parts(t), parts(u)
        return spread(examples) * v * w * (q @ r) * (k @ l)

    return Interaction(force, pair, D / 2)


def drawn(n, key):
    inputs, tasks = jax.random.split(key)
    x = jax.random.normal(inputs, (n, EXAMPLES + 1, D))
    y = x @ jax.random.normal(tasks, (n, D, 1))
    return Data(jnp.concatenate([x, y.at[:, -1].set(0)], -1), y[:, -1])


@pytest.mark.slow
def test_linear_attention_reaches_the_least_error_in_the_limit():
    """To six digits; with other numbers of examples it is elsewhere."""
    run = limit(
        HEADS,
        population(EXAMPLES),
        t1=END,
        nodes=512,
        rule=Sobol(reflect=(0,)),
        key=jax.random.key(0),
    )
    least = D * (D + 1) / (EXAMPLES + D + 1) / 2
    (v, q, k), p = parts(run.final.points(0).T), run.final.masses[0]
    product = jnp.einsum("n,n,in,jn->ij", p, v, q, k)
    off, apart = float(run.energies[-1] - least), jnp.abs(product - jnp.eye(D) / spread(EXAMPLES))
    other = D * (D + 1) / (EXAMPLES + 1 + D + 1) / 2
    print(f"\n  risk {run.energies[-1]:.9f} ± {run.error:.1e}, least {least:.9f}, M off by "
          f"{apart.max():.1e}; with one example more {other:.4f}")  # fmt: skip
    assert abs(off) < 1e-6 and apart.max() < 1e-3
    assert abs(float(run.energies[-1]) - other) > 1e-2


@pytest.mark.slow
def test_the_population_of_prompts_is_that_of_its_potentials():
    """Risks of 8 heads on 40,000 prompts, read by `linear_attention`, within four standard errors;
    potentials of half the examples are the control."""
    network, data = HEADS.sample(8, key=jax.random.key(1)), drawn(40_000, jax.random.key(2))
    squares = np.asarray(Risk(data).outputs(network) - data.y)[:, 0] ** 2 / 2
    error = squares.std() / len(squares) ** 0.5
    z, control = (
        (squares.mean() - float(population(n)(network))) / error for n in (EXAMPLES, EXAMPLES // 2)
    )
    print(f"\n  risk {squares.mean():.4f} ± {error:.4f}: z = {z:.1f}, control {control:.1f}")
    assert abs(z) < 4 < abs(control)
