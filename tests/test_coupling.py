"""Finite networks follow the limit label by label, at the rates of the theorem.

Keys are fixed; figures are printed (`pytest -s`). Source of the rates: Nguyen & Pham
(arXiv:2001.11443): sup over neurons and times of order sqrt(log N) (N^-1/2 + sqrt(step)).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth, tanh_edges

from ensembles import Elementwise
from limits import Adaptive, Risk, Steps, coupling, fit_rate, flow
from limits._solvers.seeds import map_over_seeds

WIDTHS = [32, 64, 128, 256, 512]
SEEDS = [96, 64, 48, 32, 24]


def assert_rate(rate, half_width):
    assert rate.low <= -0.5 <= rate.high
    assert max(rate.high - rate.exponent, rate.exponent - rate.low) < half_width


def report(name, result):
    print(f"\n{name}\n{result.table()}")
    for of in ("sup", "rms", "outputs", "energies"):
        print(f"  exponent of {of}: {result.rate(of)}")
    grows = fit_rate(result.smallest, result.distance("sup") / np.sqrt(np.log(result.smallest)))
    print(f"  exponent of sup / sqrt(log N): {grows}")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4, 5])
def test_distance_falls_as_the_square_root_of_width(depth):
    result = coupling(
        smooth(depth), Risk(regression()), widths=WIDTHS, seeds=SEEDS, t1=3.0, nodes=32,
        key=jax.random.key(depth),
    )  # fmt: skip
    report(f"depth {depth}", result)
    assert_rate(result.rate("sup"), 0.12)
    assert_rate(result.rate("rms"), 0.12)
    scaled = result.distance("sup") / np.sqrt(np.log(result.smallest) / result.smallest)
    assert fit_rate(result.smallest, scaled).low <= 0
    assert result.error.max() < 1e-2 * np.nanmin(result.distance("rms"))


@pytest.mark.slow
def test_distance_falls_with_width_in_a_short_run():
    result = coupling(
        smooth(3), Risk(regression()), widths=[32, 96, 288], seeds=[80, 60, 30], t1=3.0,
        nodes=32, key=jax.random.key(30),
    )  # fmt: skip
    report("depth 3, short", result)
    assert_rate(result.rate("sup"), 0.15)
    assert_rate(result.rate("rms"), 0.15)
    assert result.sup.shape == result.rms.shape == (80, 3, 3)
    assert np.isnan(result.sup[30:, 2]).all() and np.isfinite(result.sup[:30]).all()
    assert result.curves.shape == (80, 3, 11)


@pytest.mark.slow
def test_the_smallest_width_sets_the_distance():
    """N_1 = 1024, N_2 = 32, …, 512: distance × sqrt(min N) is constant within 1.5×."""
    result = coupling(
        smooth(3), Risk(regression()), widths=[(1024, n) for n in WIDTHS], seeds=SEEDS, t1=3.0,
        nodes=32, key=jax.random.key(31),
    )  # fmt: skip
    report("widths (1024, N)", result)
    for of in ("sup", "rms"):
        scaled = np.exp(np.nanmean(np.log(result.distance(of)), axis=0)) * np.sqrt(result.smallest)
        print(
            f"  {of} × sqrt(min N): {scaled}, largest / smallest {scaled.max() / scaled.min():.2f}"
        )
        assert scaled.max() / scaled.min() < 1.5


@pytest.mark.slow
def test_a_layer_that_is_not_linear_in_weights_has_the_same_rates():
    """φ(w, b, h) = tanh(w h + b) through flow and coupling, with biases."""
    result = coupling(
        smooth(3, Elementwise(tanh_edges), biases=True), Risk(regression(16)),
        widths=[32, 64, 128, 256], seeds=[96, 64, 48, 20], t1=3.0, nodes=16,
        key=jax.random.key(32),
    )  # fmt: skip
    report("elementwise", result)
    assert_rate(result.rate("sup"), 0.15)
    assert_rate(result.rate("rms"), 0.15)


def _independent_labels(ensemble, risk, width: int, key: jax.Array) -> jax.Array:
    """The sup distance between a finite network and the limit at labels drawn anew."""
    ours, theirs = jax.random.split(key)
    finite, other = (ensemble.sample(width, key=k) for k in (ours, theirs))
    reference = ensemble.discretise(16, tracers=other)
    run, limit = (
        flow(n, risk, t1=1.0, solver=Adaptive(rtol=1e-5, atol=1e-5)) for n in (finite, reference)
    )
    tracers = limit.final.neurons((slice(16, None),) * 2)
    return jnp.stack(
        [jnp.abs(a - b).max() for a, b in zip(run.final.weights, tracers.weights, strict=True)]
    ).max()


@pytest.mark.slow
def test_labels_drawn_independently_do_not_come_closer():
    """The negative control: without common labels the label-by-label distance does not fall."""
    widths, seeds, make = [32, 64, 128], 16, (smooth(3), Risk(regression()))
    distances = np.empty((seeds, len(widths)))
    for j, width in enumerate(widths):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(33), width), seeds)
        distances[:, j] = jax.jit(
            lambda keys, width=width: jax.lax.map(
                lambda k: _independent_labels(*make, width, k), keys
            )
        )(keys)
    rate = fit_rate(widths, distances)
    print("independent labels: exponent", rate)
    assert rate.low > -0.1


@pytest.mark.slow
def test_coupling_of_sgd_follows_the_limit_up_to_its_noise():
    """SGD at a fixed step: the distance has a floor of order sqrt(step) that width cannot lower."""
    options = dict(widths=[256], t1=1.0, nodes=16, seeds=6, times=jnp.linspace(0, 1, 3))
    risk = Risk(regression())
    coarse, fine = (
        coupling(smooth(3), risk, solver=Steps(s, batch=1), key=jax.random.key(34), **options)
        for s in (0.1, 0.00625)
    )
    assert coarse.solver.step == 0.1
    assert np.median(fine.outputs) < 0.6 * np.median(coarse.outputs)


def test_one_compilation_per_width_and_none_for_a_new_step_or_seed(compilations):
    ensemble, risk = smooth(3), Risk(regression())
    options = dict(nodes=8, seeds=2, t1=0.4, times=jnp.array([0.0, 0.4]))
    steps, other, key = Steps(0.1, batch=2), Steps(0.05, batch=2), jax.random.key(0)
    coupling(ensemble, risk, widths=[4], solver=steps, key=key, **options)
    with compilations() as count:
        coupling(ensemble, risk, widths=[4, 5, 6, 7], solver=steps, key=key, **options)
    assert count() == 3  # 4 was compiled before
    with compilations() as count:
        coupling(ensemble, risk, widths=[4, 6], solver=other, key=jax.random.key(1), **options)
    assert count() == 0


def test_batches_of_seeds_side_by_side_are_those_one_after_another():
    """Also where settings of JAX hold in one thread alone."""
    keys = jax.random.split(jax.random.key(0), 13)

    @jax.jit
    def drawn(keys):
        return jax.vmap(lambda key: jax.random.normal(key, (2,), float))(keys)

    whole, parts = np.asarray(drawn(keys)), map_over_seeds(drawn, keys, 3)
    assert (whole == parts).all() and parts.dtype == np.float64
    with jax.enable_x64(False):
        single = map_over_seeds(drawn, keys, 3)
        assert single.dtype == np.float32 and (single == np.asarray(drawn(keys))).all()
