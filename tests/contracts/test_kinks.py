"""Derivatives of flows whose velocity jumps: what crossings add, against differences of solves and
solutions with events."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ensembles import Affine, Gaussian, Measure, Network, iid
from limits import Adaptive, Data, GradientFlow, Risk, flow
from limits._solvers import crossings

DATA = Data(jnp.array([[1.0, 0.0], [1.0, -1.0]]), jnp.array([[3.0], [2.0]]))
START = jnp.array([0.5, 1.0])
SLOPE = 0.01


def kinked(write):
    return lambda z, x: write(z @ x)[None]


WAYS = {
    "relu": kinked(jax.nn.relu),
    "maximum": kinked(lambda h: jnp.maximum(h, 0.0)),
    "minimum": kinked(lambda h: -jnp.minimum(0.0, -h)),
    "where": kinked(lambda h: jnp.where(h > 0, h, 0.0)),
    "and": kinked(lambda h: jnp.where((h > 0) & (h < 50), h, 0.0)),
    "abs": kinked(lambda h: (h + jnp.abs(h)) / 2),
    "sign": kinked(lambda h: h * (1 + jnp.sign(h)) / 2),
    "clip": kinked(lambda h: jnp.clip(h, 0.0, 50.0)),
}
LEAKY = kinked(jax.nn.leaky_relu)


def output(start, unit, adjoint=None):
    network = Network.shallow(unit, Measure(start[None], jnp.ones(1)))
    run = flow(network, Risk(DATA), t1=1.5, solver=Adaptive(rtol=1e-9), adjoint=adjoint)
    return run.final(DATA.x[:1])[0, 0]


@eqx.filter_jit
def forward(start, unit):
    return jax.jacfwd(lambda s: output(s, unit, diffrax.ForwardMode()))(start)


def with_an_event(start, slope):
    """The same output by SciPy, the time of the crossing found as an event."""
    x, y = np.asarray(DATA.x), np.asarray(DATA.y)[:, 0]

    def velocity(on):
        def v(t, z):
            h = x @ z
            side = np.where([True, on], 1.0, slope)
            return (y - side * h) * side / 2 @ x

        return v

    def crosses(t, z):
        return x[1] @ z

    crosses.terminal = True
    tight = dict(method="DOP853", rtol=1e-12, atol=1e-13)
    before = solve_ivp(velocity(False), (0, 1.5), start, events=crosses, **tight)
    end = before.t[-1], before.y[:, -1]
    return solve_ivp(velocity(True), (end[0], 1.5), end[1], **tight).y[0, -1]


def differences(start, slope, size=1e-5):
    ends = [
        [with_an_event(np.asarray(start) + s * size * e, slope) for s in (1, -1)] for e in np.eye(2)
    ]
    return np.array([(a - b) / (2 * size) for a, b in ends])


@pytest.mark.parametrize("way", WAYS)
def test_a_neuron_that_crosses_a_datum(way):
    """However its kink is written."""
    np.testing.assert_allclose(forward(START, WAYS[way]), differences(START, 0.0), atol=1e-6)


def test_a_leaky_neuron_and_reverse_mode():
    found = forward(START, LEAKY)
    np.testing.assert_allclose(found, differences(START, SLOPE), atol=1e-6)
    reverse = jax.jit(jax.grad(lambda s: output(s, LEAKY)))(START)
    np.testing.assert_allclose(reverse, found, rtol=1e-10)


def test_without_the_jumps_the_derivative_is_another(monkeypatch):
    still = lambda self, *args: jax.tree.map(jnp.zeros_like, args[1].state)  # noqa: E731
    monkeypatch.setattr(crossings.Crossings, "missing", still)
    jax.clear_caches()
    plain = forward(START, WAYS["relu"])
    jax.clear_caches()
    assert abs(plain[0] - 0.3265) < 1e-3
    assert abs(differences(START, 0.0)[0] - 0.4506) < 1e-3
