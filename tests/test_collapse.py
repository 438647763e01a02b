"""What i.i.d. starts do to the middle layers, at finite width and in the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression

from ensembles import Affine, Gaussian, Uniform, iid
from limits import Data, Risk, Steps, collapse

TANH = Affine(jnp.tanh)


def start(depth, dim=2, biases=None):
    return iid(
        dim=dim, depth=depth, first=Gaussian(1), hidden=Gaussian(1, 1.0, 0.5),
        last=Gaussian(1, 0.7, 0.5), biases=biases, layers=TANH,
    )  # fmt: skip


def five_inputs():
    """20 points in R⁵ with targets that move all layers."""
    x = jax.random.normal(jax.random.key(2), (20, 5))
    return Risk(Data(x, jnp.sin(x[:, :1] + x[:, 1:2] * x[:, 2:3])))


def _without_noise(moves, start):
    """What is left of increments when the share of the start's noise is taken off."""
    u = start - start.mean()
    return moves - (moves * u).mean() / (u**2).mean() * u


@pytest.mark.slow
def test_spreads_are_those_of_the_networks_and_vanish_in_the_limit():
    """Six layers: against plain NumPy on one finite network; the limit is exactly collapsed."""
    n, ensemble, risk = (5, 6, 7, 5, 6), start(6), Risk(regression(8))
    key, times = jax.random.key(0), jnp.array([0.0, 0.5])
    result = collapse(
        ensemble, risk, widths=[n], seeds=2, t1=0.5, solver=Steps(0.1), nodes=[16, 1, 1, 1, 8],
        times=times, key=key,
    )  # fmt: skip
    labels = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 0), 1))[0]
    w = [np.asarray(a) for a in ensemble.sample(n, key=labels).weights]
    moves, h, q = _descend(w, risk, n, steps=5, step=0.1)
    ours = jax.tree.map(lambda a: a[1, 0, 1], result.finite)
    ends = [np.sqrt(((m - m.mean(0)) ** 2).sum(1).mean()) for m in (moves[0], moves[-1])]
    middle = zip(moves[1:-1], w[1:-1], strict=True)
    known = [ends[0], *(_without_noise(m, u).std() for m, u in middle), ends[1]]
    np.testing.assert_allclose(ours.increments, known, rtol=1e-9)
    np.testing.assert_allclose(ours.translations, [m.mean() for m in moves[1:-1]], rtol=1e-9)
    known = [np.sqrt((q * one.var(1)).sum()) for one in h[:-1]]
    np.testing.assert_allclose(ours.preactivations, known, rtol=1e-9)
    now = [a + m for a, m in zip(w, moves, strict=True)]
    known = [(a.mean(0).var() + a.mean(1).var()) / a.var() for a in now[1:-1]]
    np.testing.assert_allclose(ours.dependence, known, rtol=1e-9)

    limit = jax.tree.map(lambda a: np.asarray(a[-1]), result.limit)
    assert (limit.increments[2:4] == 0).all() and (limit.preactivations[1:4] == 0).all()
    assert (limit.increments[[0, 1, 4, 5]] > 1e-7).all() and limit.preactivations[4] > 1e-4
    assert (np.abs(limit.translations) > 1e-7).all()
    assert result.finite.increments.shape == (2, 1, 2, 6) and "increments" in result.table()
    with pytest.raises(ValueError, match=r"layer must be in 2, …, 5 for dependence, got 1"):
        result.power_law("dependence", 1)


def _descend(w, risk, n, steps, step):
    """Full-batch gradient descent without biases in NumPy: increments, preactivations, masses."""
    x, y, q = (np.asarray(a) for a in (risk.data.x, risk.data.y, risk.data.masses))
    now, depth = [a.copy() for a in w], len(w)

    def forward():
        h = [x @ now[0].T]
        for i in range(1, depth):
            h.append(np.tanh(h[-1]) @ now[i] / n[i - 1])
        return h

    for _ in range(steps):
        h, old = forward(), [a.copy() for a in now]
        d = q[:, None] * (h[-1] - y)
        for i in range(depth - 1, 0, -1):
            now[i] = old[i] - step * np.tanh(h[i - 1]).T @ d
            d = (1 - np.tanh(h[i - 1]) ** 2) * (d @ old[i].T) / (1 if i == depth - 1 else n[i])
        now[0] = old[0] - step * d.T @ x
    return [a - b for a, b in zip(now, w, strict=True)], forward(), q


@pytest.mark.slow
def test_middle_layers_of_five_layers_collapse_and_the_last_hidden_one_does_not():
    """Width 32 … 512, the setting: 20 points in R⁵, step 0.05 to t = 20, means 1, 1, 1, 0.7."""
    result = collapse(
        start(5, dim=5), five_inputs(), widths=[32, 64, 128, 256, 512],
        seeds=[32, 24, 16, 12, 8], t1=20.0, solver=Steps(0.05), times=jnp.linspace(0, 20, 6),
        nodes=[1024, 1, 1, 32], key=jax.random.key(3),
    )  # fmt: skip
    print(f"\n{result.table()}")
    for of, layer in (("increments", 3), ("preactivations", 2), ("preactivations", 3)):
        rate = result.power_law(of, layer)
        assert rate.low <= -0.5 <= rate.high or abs(rate.exponent + 0.5) < 0.05, (of, layer, rate)
    assert result.power_law("preactivations", 4).high > -0.05
    assert result.power_law("dependence", 3).high < -0.9
    shift = np.asarray(result.finite.translations)[:8, -1, -1, 1]
    off = shift.mean() - float(result.limit.translations[-1, 1])
    assert abs(off) < 4 * shift.std() / np.sqrt(8)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
def test_three_layers_do_not_collapse_and_of_four_only_the_second(depth):
    """On the setting of the five layers, where the limit's own spreads are far above 512^-1/2."""
    result = collapse(
        start(depth, dim=5), five_inputs(), widths=[32, 128, 512], seeds=[24, 16, 8], t1=20.0,
        solver=Steps(0.05), times=jnp.linspace(0, 20, 6), nodes=[1024, *[1] * (depth - 3), 32],
        key=jax.random.key(depth),
    )  # fmt: skip
    print(f"\n{depth} layers\n{result.table()}")
    if depth == 4:
        rate = result.power_law("preactivations", 2)
        assert rate.low <= -0.5 <= rate.high
    assert result.power_law("preactivations", depth - 1).high > -0.05
    assert all(result.power_law("increments", i).high > -0.1 for i in range(1, depth + 1))


@pytest.mark.slow
def test_with_random_biases_increments_are_functions_of_the_biases():
    """Their spread stays, what the limit's function of (b_2, b_3) leaves of it falls."""
    result = collapse(
        start(5, biases=[None, Uniform(-1.0, 1.0), Uniform(-1.0, 1.0), None, None]),
        Risk(regression(8)), widths=[32, 96], seeds=[12, 8], t1=4.0, solver=Steps(0.1),
        times=jnp.array([0.0, 4.0]), nodes=[256, 8, 8, 16], key=jax.random.key(6),
    )  # fmt: skip
    print(f"\n{result.table()}")
    spread, rest = result.largest("increments", 3), result.largest("residuals", 3)
    assert np.nanmedian(spread[:, 1]) > 0.8 * np.nanmedian(spread[:, 0])
    assert np.nanmedian(rest[:, 1]) < 0.75 * np.nanmedian(rest[:, 0])
