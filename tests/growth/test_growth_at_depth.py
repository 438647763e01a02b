"""Births and deaths in deep networks: no mass moves in a collapsed layer.

The first variation Ψ_i(c) = E_x Σ_c' p(c') D(x, c') w_{i+1}(c, c') σ(H_i(x, c)) is the same for all
neurons c where they are equal, so that masses stand still (`WassersteinFisherRao`, whatever the
rate); i.i.d. starts collapse as they do under gradient flow (Nguyen & Pham, arXiv:2001.11443).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Atoms, Gaussian, Sobol, diverse, iid
from limits import Adaptive, Data, Risk, Steps, WassersteinFisherRao, collapse, fit_rate, flow

KEY = jax.random.key(0)
U = jax.random.normal(jax.random.key(1), (24, 2))
X = jnp.concatenate([U, jnp.ones((24, 1))], axis=1)
RISK = Risk(Data(X, jnp.stack([jnp.sin(2 * U[:, 0]), U[:, 0] * U[:, 1]], axis=1)))
SAME = dict(dim=3, first=Gaussian(1), last=Gaussian(2, 0.5), layers=Affine(jnp.tanh))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [pytest.param(4, marks=pytest.mark.slow), 5])
def test_masses_stand_still_where_neurons_are_equal(depth):
    """Equal hidden weights: layers 2, …, L − 2 are single neurons, many times over."""
    start = iid(depth=depth, hidden=Atoms([[1.0]]), **SAME).sample(12, key=KEY)
    run = flow(start, RISK, WassersteinFisherRao(rate=3.0), t1=5.0, solver=Adaptive(rtol=1e-5))
    growth = [float(jnp.abs(g - g.mean()).max()) for g in run.final.increment.growth]
    assert max(growth[1:-1]) < 1e-11 and min(growth[0], growth[-1]) > 0.1
    other = diverse(depth=depth, modes=4, **SAME).sample(12, key=KEY)
    run = flow(other, RISK, WassersteinFisherRao(rate=3.0), t1=5.0, solver=Adaptive(rtol=1e-5))
    assert min(float(jnp.abs(g - g.mean()).max()) for g in run.final.increment.growth) > 0.01


@pytest.mark.slow
def test_births_and_deaths_do_not_undo_the_collapse_of_iid_starts():
    """Spreads fall as N^(−1/2), in layer 3 faster as long as H_2, whose limit is small here, is
    itself mostly what N leaves of it."""
    widths, middle = [48, 192], (2, 3)
    options = dict(
        widths=widths, seeds=[12, 8], t1=2.0, times=np.linspace(0.0, 2.0, 3),
        solver=Steps(0.1), limit_solver=Adaptive(rtol=1e-4), key=KEY,
    )  # fmt: skip
    independent = iid(depth=5, hidden=Gaussian(1, 1.0, 0.5), **SAME)
    found = collapse(independent, RISK, WassersteinFisherRao(), nodes=[64, 1, 1, 32], **options)
    growth = found.coupling.growth
    ours = [float(jnp.abs(g).max()) for g in found.coupling.limit.final.increment.growth]
    print(f"\n{found.table()}\nlargest |growth| of the limit, by layers: {ours}")
    for layer in middle:
        spread, moved = (
            found.rate("preactivations", layer),
            fit_rate(widths, growth[..., layer - 1]),
        )
        print(f"layer {layer}: exponents of the spread {spread}, of growth {moved}")
        assert spread.low <= -0.5 and spread.high < -0.4 and moved.high < 0
    assert max(ours[1:3]) == 0 and min(ours[0], ours[3]) > 0.05
    assert max(float(found.limit.preactivations[:, i].max()) for i in (1, 2)) < 1e-12

    correlated = diverse(depth=5, modes=8, scale=2.0, **SAME)
    apart = collapse(
        correlated, RISK, WassersteinFisherRao(), nodes=64, rule=Sobol(), **options
    )  # fmt: skip
    for layer in middle:
        spread = apart.rate("preactivations", layer)
        print(f"diverse, layer {layer}: exponent of the spread {spread}")
        assert spread.low > -0.25
