"""Residual networks of any depth: the order of their error in depth, and error bars against true
errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from residual_problems import (
    NETWORKS,
    Outputs,
    in_waves,
    perceptrons,
    regression_of,
    waves,
    with_one,
)

from ensembles import Uniform, residual
from ensembles.blocks import GatedPerceptron, Perceptron
from limits import Adaptive, fit_power_law, flow, limit

pytestmark = pytest.mark.slow

DEPTHS, FINE = (4, 8, 16, 32, 64), Adaptive(rtol=1e-8)


def on_nodes(made, risk, depth, nodes, t1):
    """Energies (T,) and outputs (T, data)."""
    network, times = made.discretise(nodes, depth=depth), np.linspace(0, t1, 5)
    run = flow(network, risk, t1=t1, times=times, solver=FINE, observe=Outputs(risk.data.x))
    return run.energies, run.observed


def apart(a, b):
    """The largest over times, of energies and root mean squares of outputs."""
    outputs = np.sqrt(((np.asarray(a[1]) - np.asarray(b[1])) ** 2).mean(1))
    return max(float(np.abs(np.asarray(a[0]) - np.asarray(b[0])).max()), float(outputs.max()))


def distances(made, risk):
    """Those of depths from twice as many."""
    runs = [on_nodes(made, risk, depth, 16, 2.0) for depth in DEPTHS]
    return np.array([apart(a, b) for a, b in itertools.pairwise(runs)])


JUMPS = (0.21, 0.3, 0.45, 0.62, 0.71, 0.86)  # none a multiple of 1/128


def jumping(place):
    return perceptrons(Perceptron(jnp.tanh), in_waves(place))


def check_orders(key):
    risk = regression_of(key)
    smooth = distances(NETWORKS, risk)
    law = fit_power_law(DEPTHS[:-1], smooth)
    print(f"\nsmooth in depth: {smooth}, exponent {law}")
    rough = np.array([distances(jumping(place), risk) for place in JUMPS])
    laws = [fit_power_law(DEPTHS[:-1], row) for row in rough]
    for place, row, own in zip(JUMPS, rough, laws, strict=True):
        print(f"jump at {place}: {row}, ratios {(row[:-1] / row[1:]).round(1)}, exponent {own}")
    pooled = fit_power_law(DEPTHS[:-1], rough)
    print(f"all jumps: exponent {pooled}")
    assert abs(law.exponent + 2) < 0.1
    assert pooled.low < -1 < pooled.high and pooled.low > -1.7


def test_distances_fall_as_the_square_of_depth_and_as_depth_where_weights_jump():
    """Midpoint steps of depths 4, 8, … against twice as many: exponent −2 for weights smooth in
    depth. The control: weights that jump in depth, −1 on average over places, one by one erratic,
    since a place may happen to be near a multiple of 1/L."""
    check_orders(jax.random.key(31))


def check_jumps(key):
    risk, ratios = regression_of(key), []
    for place in JUMPS:
        made = jumping(place)
        run = limit(made, risk, t1=2.0, times=np.linspace(0, 2.0, 5), observe=Outputs(risk.data.x))
        other = exactly(made, place, risk)
        error = apart((run.energies, run.observed), other)
        ratios.append(error / float(run.error))
        print(f"jump at {place}: off by {error:.1e}, told {float(run.error):.1e} at depth "
              f"{run.stats['depth']}, result {run.result}")  # fmt: skip
    assert max(ratios) < 1
    return ratios


def exactly(made, place, risk):
    """At a depth of which `place` is a multiple: 100 blocks."""
    return on_nodes(made, risk, 100, 16, 2.0)


def test_bars_cover_weights_that_jump_in_depth():
    check_jumps(jax.random.key(32))


UNITS = {
    "tanh": (Perceptron(jnp.tanh), (7,)),
    "relu": (Perceptron(jax.nn.relu), (7,)),
    "gated": (GatedPerceptron(jax.nn.silu), (9,)),
}
CASES = 20


def case(unit, number, base):
    """Networks (depth 3 for one in four), their risk, t1 and tolerance."""
    key = jax.random.fold_in(jax.random.key(base), number)
    ours, theirs = jax.random.split(key)
    rng = np.random.default_rng([base, number])
    sigma, shape = UNITS[unit]
    start = waves(ours, shape, size=rng.uniform(0.5, 1.5), k=2.0, w=rng.uniform(0.5, 4.0))
    made = perceptrons(sigma, start)
    return made, number % 4 == 3, regression_of(theirs), rng.uniform(0.5, 2.0), rng.choice(
        np.array([None, 1e-2, 1e-3])
    )  # fmt: skip


def true_and_told(unit, number, base):
    """True error, what is not known of it, and the bar."""
    made, shallow, risk, t1, tol = case(unit, number, base)
    times, observe = np.linspace(0, t1, 5), Outputs(risk.data.x)
    given = dict(t1=t1, times=times, tol=tol, observe=observe, throw=False)
    if shallow:
        made = made.of_depth(3)
        fine = [flow(made.discretise(n), risk, t1=t1, times=times, solver=FINE, observe=observe)
                for n in (64, 96)]  # fmt: skip
        coarse, best = ((run.energies, run.observed) for run in fine)
    else:
        coarse, best = (on_nodes(made, risk, d, n, t1) for d, n in ((48, 64), (96, 96)))
    run = limit(made, risk, **given)
    return apart((run.energies, run.observed), best), apart(coarse, best) / 3, float(run.error)


def check_bars(unit, base):
    true, unknown, bar = np.array([true_and_told(unit, n, base) for n in range(CASES)]).T
    known = unknown < bar / 4
    ratios = (true / bar)[known]
    quantiles = np.quantile(ratios, [0, 0.25, 0.5, 0.75, 0.95, 1])
    print(f"\n{unit}: {known.sum()} of {CASES} known well enough; true error over bar, "
          f"quantiles 0 .25 .5 .75 .95 1: {quantiles.round(3)}; "
          f"bars {bar.min():.0e} to {bar.max():.0e}")  # fmt: skip
    assert known.sum() >= 0.8 * CASES
    assert (ratios > 3).sum() == 0 and (ratios > 1).mean() <= 0.2


@pytest.mark.parametrize("unit", UNITS)
def test_bars_of_random_residual_networks_cover_their_errors(unit):
    """Three in four of any depth, one of depth 3, against 96 blocks (3) of 96 nodes."""
    check_bars(unit, 33)


def test_a_bar_of_width_alone_does_not_know_of_depth():
    """The control: the limit in width at depth 4, its error bar taken for that in depth too."""
    made, _, risk, t1, _ = case("tanh", 0, 33)
    run = limit(made.of_depth(4, midpoint=True), risk, t1=t1, times=np.linspace(0, t1, 5),
                tol=1e-4, observe=Outputs(risk.data.x))  # fmt: skip
    best = on_nodes(made, risk, 96, 32, t1)
    ratio = apart((run.energies, run.observed), best) / float(run.error)
    print(f"\ndepth 4: {ratio:.0f} times the bar of width")
    assert ratio > 3


def test_blocks_of_one_kind_are_refined_together():
    """Beyond 72 nodes, where layers are refined one by one: a trained readout is a layer of its
    own, and equal blocks have as many nodes each."""
    space = Uniform([-1.0, -1.0], [1.0, 1.0])
    made = residual(
        Perceptron(jnp.tanh), space, _of_two, depth=5, embed=with_one,
        readout=(_read, Uniform(-1.0, 1.0), lambda c: c),
    )  # fmt: skip
    run = limit(made, regression_of(jax.random.key(34)), t1=1.0, tol=1e-6)
    *blocks, last = run.stats["nodes"]
    print(f"\nnodes {run.stats['nodes']}, levels {len(run.stats['levels'])}")
    assert len(set(blocks)) == 1 and blocks[0] > 72 != last


def _read(theta, h):
    return theta * h[:1]


def _of_two(s, c):
    return jnp.sin(jnp.arange(1.0, 8.0) * c[0] + 3 * s + c[1])
