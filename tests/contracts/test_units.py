"""What neurons of blocks keep, and what attention and normalisation are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contracts.common import every
from contracts.units import HEAD, UNITS
from ensembles.blocks import attention, causal_attention, layer_norm, linear_attention, rms_norm

MASSES = jnp.array([0.5, 0.0, 0.3, 0.2])


def _some(shape, dtype=float):
    rng = np.random.default_rng(1)
    neurons, streams, d = (4, *shape), (5, 3, 4), (5, 3, 4)
    return [jnp.asarray(rng.standard_normal(s), dtype) for s in (neurons, streams, d)]


@every(UNITS)
def test_sums_and_derivatives_are_those_term_by_term(name):
    """Per unit mass in every neuron, those of mass 0 too; by masses in the stream."""
    unit, shape, one = UNITS[name]
    theta, h, d = _some(shape)

    def terms(theta, h):
        return jax.vmap(lambda h: jax.vmap(one, (0, None))(theta, h))(h)

    assert jnp.allclose(
        unit.average(theta, MASSES, h),
        jnp.einsum("k,xk...->x...", MASSES, terms(theta, h)),
        rtol=1e-13, atol=1e-13,
    )  # fmt: skip
    dtheta, dh = unit.pullback(theta, MASSES, h, d)
    wanted = jax.vjp(lambda t: terms(t, h).sum(1), theta)[1](d)[0]
    assert jnp.allclose(dtheta, wanted, rtol=1e-12, atol=1e-13)
    along = jax.vjp(lambda h: jnp.einsum("k,xk...->x...", MASSES, terms(theta, h)), h)[1](d)[0]
    assert jnp.allclose(dh, along, rtol=1e-12, atol=1e-13)


@every(UNITS)
def test_units_keep_single_precision(name):
    unit, shape, _ = UNITS[name]
    theta, h, d = _some(shape, jnp.float32)
    masses = MASSES.astype(jnp.float32)
    found = (unit.average(theta, masses, h), *unit.pullback(theta, masses, h, d))
    assert {a.dtype for a in found} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("head", [attention, causal_attention, linear_attention])
def test_heads_are_sums_over_tokens(head):
    """By loops over pairs of tokens in NumPy."""
    rng = np.random.default_rng(2)
    q, k, v, o = theta = rng.standard_normal(HEAD)
    h = rng.standard_normal((3, 4))
    wanted = np.zeros((3, 4))
    for i in range(3):
        seen = range(i + 1) if head is causal_attention else range(3)
        score = np.array([(q @ h[i]) @ (k @ h[j]) for j in seen])
        weights = np.exp(score / np.sqrt(2))
        weights = score / 3 if head is linear_attention else weights / weights.sum()
        for w, j in zip(weights, seen, strict=True):
            wanted[i] += w * (v @ h[j]) @ o
    assert np.allclose(head(jnp.asarray(theta), jnp.asarray(h)), wanted, rtol=1e-12, atol=0)


def test_normalised_streams_have_mean_square_one():
    """Up to 1e-6 beside it; layer norm takes the mean off."""
    h = 3 + 2 * jax.random.normal(jax.random.key(0), (5, 64))
    assert jnp.allclose((rms_norm(h) ** 2).mean(-1), 1, atol=1e-6)
    assert jnp.allclose(layer_norm(h).mean(-1), 0, atol=1e-14)
    assert jnp.allclose((layer_norm(h) ** 2).mean(-1), 1, atol=1e-6)
