"""What batches add to the variance, however long the run, against a closed form.

Units θ x have the output m x, m = ∫ θ dμ, dm/dt = b − A m, A = E x², b = E xy; a datum k at time s
does h_t(s, k) = −e^{−A(t−s)} x_k (x_k m(s) − y_k) to m(t). From m(0) = 0 the integral of its
variance over the data is a sum of exponentials.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Uniform, shallow
from limits import Adaptive, Data, PowerPenalty, Risk, sgd_noise

X, Y = np.array([1.5, -1.0, 2.0]), np.array([1.0, 1.0, -0.5])


def unit(theta, x):
    return theta * x


def mean(network):
    return network.masses[0] @ network.points(0)[:, 0]


def exact(t, x=X, y=Y, relaxing=0.0):
    """Var_k[x_k (x_k m − y_k)] is a quadratic polynomial in m = (1 − e^{−As}) b/A; A is larger by
    what else relaxes m."""
    a, b = (x**2).mean(), (x * y).mean()
    square, line, least = (
        (x**4).mean() - a**2, -2 * ((x**3 * y).mean() - a * b), ((x * y) ** 2).mean() - b**2
    )  # fmt: skip
    a += relaxing
    m = b / a
    t = np.asarray(t, float)
    fade, once = np.exp(-2 * a * t), np.exp(-a * t)
    # ∫ e^{−2A(t−s)} times 1, e^{−As}, e^{−2As}
    whole, first, second = (1 - fade) / (2 * a), (once - fade) / a, t * fade
    return (
        least * whole + line * m * (whole - first)
        + square * m**2 * (whole - 2 * first + second)
    )  # fmt: skip


RISK = Risk(Data(jnp.asarray(X)[:, None], jnp.asarray(Y)[:, None]))


def told(t1, times=None, energy=RISK, **options):
    return sgd_noise(
        shallow(unit, Uniform(-1.0, 1.0)), energy, mean, t1=t1, times=times, nodes=4, **options
    )


def test_noise_of_batches_stays_what_it_is_however_long_the_run():
    """The noise of the last 1/A, of 1,000: even intervals saw a tenth of it."""
    times = jnp.array([0.0, 20.0, 1000.0])
    found = told(1000.0, times)
    off = np.abs(found.per_ratio - exact(times))
    assert (off <= found.error).all() and found.error.max() < 0.02 * exact(1000.0)
    assert jnp.ptp(jnp.diff(found.grid)) > 100  # the control: intervals are far from even


@pytest.mark.slow
def test_penalties_move_the_flow_and_have_no_noise_of_their_own():
    """λ ∫ θ² dμ adds 2λ to the rate A at which m relaxes, and nothing to the noise."""
    found = told(1.0, energy=RISK + PowerPenalty(0.25), intervals=16)
    off = np.abs(found.per_ratio - exact(found.times, relaxing=0.5))
    assert (off <= found.error).all() and found.error[-1] < 0.02 * found.per_ratio[-1]
    other = np.abs(found.per_ratio - exact(found.times))
    assert other[-1] > 10 * found.error[-1]  # the control: without the penalty


@pytest.mark.slow
def test_bars_of_the_noise_of_batches_hold_on_any_intervals_over_any_time():
    rows = []
    for intervals in (4, 8, 16, 64):
        for t1 in (0.01, 0.5, 5.0, 50.0, 1e3, 1e4):
            found = told(t1, intervals=intervals, solver=Adaptive(max_steps=10**5))
            off = np.abs(found.per_ratio[-1] - exact(t1))
            rows.append((intervals, t1, exact(t1), off, float(found.error[-1])))
    print("\n intervals     t1   variance        off        bar")
    for row in rows:
        print("  {:8d} {:6g} {:10.4g} {:10.2g} {:10.2g}".format(*row))
    assert all(off <= 1.1 * bar for *_, off, bar in rows)
    assert all(bar < 0.02 * own for n, _, own, _, bar in rows if n == 64)


@pytest.mark.slow
def test_noise_of_batches_holds_in_single_precision_too():
    with jax.enable_x64(False):
        found = sgd_noise(
            shallow(unit, Uniform(-1.0, 1.0)),
            Risk(Data(jnp.asarray(X, "f4")[:, None], jnp.asarray(Y, "f4")[:, None])),
            mean, t1=1000.0, nodes=4,
        )  # fmt: skip
        assert found.per_ratio.dtype == found.grid.dtype == jnp.float32
        off = np.abs(found.per_ratio[-1] - exact(1000.0))
        assert off <= found.error[-1] < 0.05 * exact(1000.0)
