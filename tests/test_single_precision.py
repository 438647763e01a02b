"""The float32 leg: with x64 off, and float32 inputs with x64 on, everything stays float32."""

import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Measure, NeuronalEnsemble, Uniform, shallow
from limits import Data, GradientFlow, HuberLoss, Risk, coupling, flow, fluctuations, limit, train
from limits.references import sparse_relu


def _problem():
    dtype = jnp.float32
    low = jnp.asarray([-1.0], dtype)
    ensemble = NeuronalEnsemble(
        [Uniform(low, -low)] * 2,
        [
            lambda c: jnp.stack([jnp.sin(2 * c[0]), c[0]]),
            lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]),
            lambda c: jnp.cos(3 * c),
        ],
        [lambda c: c[0], lambda c: 0.5 * c[0], jnp.zeros(1, dtype)],
        layers=Affine(jnp.tanh),
    )
    x = jax.random.normal(jax.random.key(0), (16, 2), dtype)
    return ensemble, Risk(Data(x, jnp.sin(x[:, :1] * x[:, 1:])), HuberLoss(0.3))


def test_float32_in_gives_float32_out():
    ensemble, risk = _problem()
    network = ensemble.sample(8, key=jax.random.key(1))
    runs = [
        flow(network, risk, t1=1.0),
        train(network, risk, step=0.1, batch=4, t1=1.0, key=jax.random.key(2)),
        limit(ensemble, risk, t1=1.0),
    ]
    for run in runs:
        leaves = [run.times, run.energies, *jax.tree.leaves(run.final)]
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
        assert np.isfinite(run.energies).all()
    assert float(runs[-1].error) <= 1e-4


@pytest.mark.skipif(os.environ.get("JAX_ENABLE_X64") != "0", reason="runs with x64 off, below")
def test_coupling_in_float32():
    ensemble, risk = _problem()
    found = coupling(ensemble, risk, widths=[8], seeds=2, t1=0.5, nodes=8, key=jax.random.key(3))
    assert found.sup.dtype == np.float32 and np.isfinite(found.sup).all()


@pytest.mark.skipif(os.environ.get("JAX_ENABLE_X64") != "0", reason="runs with x64 off, below")
def test_fluctuations_in_float32():
    _, risk = _problem()
    low = jnp.asarray([-1.0], jnp.float32)
    ensemble = shallow(lambda c, x: c * jnp.tanh(c * x[:1]), Uniform(low, -low))

    def outputs(network):
        return network(risk.data.x[:2])[:, 0]

    found = fluctuations(ensemble, risk, outputs, t1=0.5, nodes=8)
    leaves = [found.mean, found.variance, found.resampling, *found.influence, *found.band(10)]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
    assert (found.variance > 0).all()


def test_checks_on_the_host_ask_for_no_precision_that_is_not_there():
    """JAX would warn that float64 is truncated."""
    x = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    with warnings.catch_warnings(), jax.enable_x64(False):
        warnings.simplefilter("error")
        assert sparse_relu(Data(x, x[:, :1]), 0.1).gap < 1e-4
        assert len(Measure(x, np.full(2, 0.5, np.float32)).aggregated(0.1, period=3.0).masses) == 2


def test_increments_keep_movements_below_the_resolution_of_weights():
    """A learning rate of 1e-9 moves weights of order 1 by less than float32 can add to them."""
    ensemble, risk = _problem()
    network = ensemble.sample(8, key=jax.random.key(1))
    slow = train(network, risk, GradientFlow(1e-9), step=0.1, t1=1.0).final
    fast = train(network, risk, GradientFlow(1e-3), step=0.1, t1=1.0).final
    w, v = slow.increment.weights[1], fast.increment.weights[1]
    np.testing.assert_allclose(w * 1e6, v, rtol=2e-2, atol=1e-7)
    assert (np.asarray(slow.weights[1]) == np.asarray(network.weights[1])).all()


@pytest.mark.skipif(os.environ.get("JAX_ENABLE_X64") == "0", reason="is this leg itself")
def test_this_file_passes_with_x64_off():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", __file__],
        env={**os.environ, "JAX_ENABLE_X64": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
