"""Finite residual networks against their limit of infinite depth and width: distances, their two
parts, and the scatter that one derivative predicts.

Neurons of all blocks average together (Chizat, arXiv:2509.10167): outputs of L blocks of N neurons
are off by O(1/L + 1/√(L N)), E |f_{L,N} − f|² ≈ (a/L)² + b²/(L N). The first part is that of
Euler's steps along the stream, with blocks of infinite width; the second the scatter over draws.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from residual_problems import LABELS, NETWORKS, Outputs, regression_of, waves
from scipy import stats

from ensembles import residual
from ensembles.blocks import attention
from limits import (
    Adaptive,
    Data,
    Risk,
    fit_power_law,
    flow,
    fluctuations,
    limit,
    simulate,
)

pytestmark = pytest.mark.slow

DEPTHS, WIDTHS, SEEDS, T1 = (4, 8, 16, 32, 64), (4, 8, 16, 32, 64), 24, 2.0
SOLVER = Adaptive(rtol=1e-5)
NODES = 24


def rms(a, axes=(-1, -2)):
    return np.sqrt((np.asarray(a) ** 2).mean(axes))


def solved(network, risk):
    """Outputs at the data when training ends."""
    run = flow(network, risk, t1=T1, solver=SOLVER, observe=Outputs(risk.data.x))
    return run.observed[-1]


def drawn(ensemble, risk, key):
    """Outputs (widths, seeds, data) of networks that are drawn independently: of ΣN neurons a
    block, the first 4 have mass 1/4, then the next 8 have 1/8, and so on."""
    ends = np.cumsum((0, *WIDTHS))
    who = np.arange(ends[-1])
    masses = [(a <= who) & (who < b) for a, b in itertools.pairwise(ends)]
    masses = jnp.asarray(np.array(masses) / np.array(WIDTHS)[:, None])

    @eqx.filter_jit
    def all_widths(key):
        network = ensemble.sample(len(who), key=key)
        blocks = len(network.masses)
        return jax.vmap(lambda p: solved(network.weighed((p,) * blocks), risk))(masses)

    return np.stack([np.asarray(all_widths(k)) for k in jax.random.split(key, SEEDS)], axis=1)


def exponents(values):
    """Those of `values` (depths, widths) in depth and in width, by least squares on logarithms,
    with the halves of Student's intervals of 95 %."""
    l, n = (g.ravel() for g in np.meshgrid(np.log(DEPTHS), np.log(WIDTHS), indexing="ij"))
    x, y = np.stack([np.ones_like(l), l, n], 1), np.log(values).ravel()
    found, (off,), *_ = np.linalg.lstsq(x, y, rcond=None)
    free = y.size - x.shape[1]
    half = stats.t.ppf(0.975, free) * np.sqrt(off / free * np.diag(np.linalg.inv(x.T @ x)))
    return found[1:], half[1:]


def grid(title, values):
    print(f"\n{title}\n{'L':>4}" + "".join(f"{f'N={n}':>9}" for n in WIDTHS))
    for depth, row in zip(DEPTHS, values, strict=True):
        print(f"{depth:4d}" + "".join(f"{v:9.4f}" for v in row))


def two_parts(squared, terms):
    """Weights of `terms` (depths, widths) in `squared`, by least squares of relative errors."""
    x = np.stack([(t / squared).ravel() for t in terms], 1)
    weights, *_ = np.linalg.lstsq(x, np.ones(len(x)), rcond=None)
    return weights, np.tensordot(weights, terms, 1)


def finite_networks(key):
    """Outputs of the limit (data,), of blocks of infinite width (depths, data), and of networks
    (depths, widths, seeds, data); the limit's own error."""
    risk = regression_of(key)
    best = limit(NETWORKS, risk, t1=T1, tol=5e-4, observe=Outputs(risk.data.x))
    wide, finite = [], []
    for depth in DEPTHS:
        ensemble = NETWORKS.of_depth(depth)
        wide.append(solved(ensemble.discretise(NODES), risk))
        finite.append(drawn(ensemble, risk, jax.random.fold_in(key, depth)))
    return np.asarray(best.observed[-1]), np.array(wide), np.array(finite), float(best.error)


def check_both_parts(f, wide, finite, error):
    scatter = np.sqrt(finite.var(2, ddof=1).mean(-1))
    far, bias = rms(finite - f), rms(wide - f, -1)
    pairs = rms(finite[:, :, ::2] - finite[:, :, 1::2]) / np.sqrt(2)
    grid(f"distance to the limit, which is known to {error:.0e}", far)
    grid("scatter over draws", scatter)
    away = (wide - f) / bias[:, None] / f.size  # averages along the direction of the bias
    along = np.einsum("lsx,lx->ls", finite[:, -1] - f, away)
    mean, se = along.mean(1), along.std(1, ddof=1) / np.sqrt(SEEDS)
    law = fit_power_law(DEPTHS[2:], bias[2:])
    steep = fit_power_law(DEPTHS, rms(finite[:, -1] - f, -1).T)
    of_scatter, halves = exponents(scatter)
    of_pairs, pair_halves = exponents(pairs)
    l, n = np.meshgrid(DEPTHS, WIDTHS, indexing="ij")
    deep, many = 1.0 / l**2, 1.0 / (l * n)
    (a, b), ratio = parts(far, deep, many)
    spans = [np.exp(np.ptp(np.log(parts(far, one)[1]))) for one in (deep, many)]
    print(f"\nbias of wide blocks    {bias.round(5)}, exponent in L {law}")
    print(f"bias of the draws' mean {mean.round(5)}, N = {WIDTHS[-1]}; ± {se.round(5)}")
    print(f"scatter: in L {of_scatter[0]:+.3f} ± {halves[0]:.3f}, N {of_scatter[1]:+.3f} ± "
          f"{halves[1]:.3f}; of two networks in L {of_pairs[0]:+.3f} ± {pair_halves[0]:.3f}, "
          f"N {of_pairs[1]:+.3f} ± {pair_halves[1]:.3f}")  # fmt: skip
    print(f"distance at N = {WIDTHS[-1]} in L {steep}")
    print(f"a = {a:.3f} (of wide blocks {DEPTHS[-1] * bias[-1]:.3f}), b = {b:.3f}: distance over "
          f"√(a²/L² + b²/LN) {ratio.min():.2f} to {ratio.max():.2f}; with one part alone it varies "
          f"{spans[0]:.1f}-, {spans[1]:.1f}-fold")  # fmt: skip
    assert error < bias[-1] / 4
    assert abs(law.exponent + 1) < 0.05
    assert (np.abs(mean - bias) < 4 * se + error).all() and (mean > 4 * se)[:2].all()
    assert (np.abs(of_scatter + 0.5) < 2 * halves).all() and halves.max() < 0.15
    assert steep.high < -0.5 and of_pairs[0] + 2 * pair_halves[0] > -0.5
    assert ratio.min() > 0.7 and ratio.max() < 1.4 and min(spans) > 2


def parts(far, *terms):
    """Roots of the weights of `terms` in the squares of `far`, by least squares of relative
    errors, and `far` over what they make."""
    x = np.stack([(t / far**2).ravel() for t in terms], 1)
    weights, *_ = np.linalg.lstsq(x, np.ones(len(x)), rcond=None)
    return np.sqrt(weights), far / np.sqrt(np.tensordot(weights, terms, 1))


def test_distances_have_a_part_of_one_over_depth_and_one_of_all_neurons():
    """Exponents −1 in L of the bias, −1/2 in L and in N of the scatter. What does not see the
    first part: two networks of one size, whose distance falls as L^(−1/2)."""
    check_both_parts(*finite_networks(jax.random.key(27)))


SCATTERING, FINE = 400, Adaptive(rtol=1e-5)
TIMES = jnp.array([0.5, 1.0])


def on_tokens(x):
    return x.reshape(4, 3)


def last_token(h):
    return h[-1, :1]


def heads():
    """Three blocks of attention, heads of rank 2 on four tokens in R³."""
    start = waves(jax.random.key(5), (4, 2, 3), size=1.0, k=1.5, w=2.0)
    return residual(attention, LABELS, start, embed=on_tokens, readout=last_token, depth=3)


def sequences(key):
    x = jax.random.normal(key, (6, 12))
    return Risk(Data(x, jnp.sin(x[:, 9:10] * x[:, :1]) + 0.5 * x[:, 3:4]))


@pytest.mark.parametrize("blocks", ["perceptrons", "attention"])
def test_neurons_of_all_blocks_scatter_independently_as_predicted(blocks):
    """L N Var of outputs = L Σ_l E IF_l², blocks of N neurons each: intervals of 400 networks hold
    it. They would not, had all blocks the same labels: L E (Σ_l IF_l)²."""
    ensemble, risk, width = {
        "perceptrons": lambda: (NETWORKS.of_depth(8), regression_of(jax.random.key(28)), 32),
        "attention": lambda: (heads(), sequences(jax.random.key(29)), 32),
    }[blocks]()
    check_scatter(ensemble, risk, width, jax.random.key(30))


def check_scatter(ensemble, risk, width, key):
    observe, blocks = Outputs(risk.data.x[:4]), ensemble.depth - 1
    given = dict(t1=TIMES[-1], times=TIMES, solver=FINE)
    found = fluctuations(ensemble, risk, observe, nodes=NODES, **given)
    seen = simulate(ensemble, risk, observe, width=width, seeds=SCATTERING, key=key, **given)
    low, high = seen.interval(1 - 0.01 / found.variance.size)
    told, error = np.asarray(found.variance), np.asarray(found.variance_error)
    masses = np.asarray(found.nodes[0].masses)
    same = np.sum(masses * sum(map(np.asarray, found.influence)) ** 2, axis=-1)
    z = (seen.variance / told - 1) / np.sqrt(2 / (SCATTERING - 1))
    print(f"\nL N Var, L = {blocks}, N = {width}: told, of {SCATTERING} networks, z; one label for "
          "all blocks")  # fmt: skip
    for row in zip(told, seen.variance, z, same, strict=True):
        print("  ".join(np.array2string(blocks * v, precision=4) for v in row[:2]), end="  ")
        print(row[2].round(1), (blocks * row[3]).round(4))
    print(f"mean ratio {(seen.variance / told).mean():.3f}, χ² of z {np.sum(z**2):.1f} of {z.size}")
    assert (error < told / 50).all()
    assert ((low < told) & (told < high)).all()
    assert ((same < low) | (same > high)).all()
