"""How fast ‖f_n(t) − f_0(t)‖² falls with n, at fixed times and along times a_n that grow with n.

Rotskoff & Vanden-Eijnden (arXiv:1805.00915) state n^ξ (f_n(a_n) − f_0(a_n)) → 0 for all ξ < 1 as
soon as a_n/log n → ∞: squared errors of order 1/n at fixed times, and nearly 1/n² then. Here f_n
are n units of frozen places y_i, uniform on the circle, whose charges c_i ~ N(0, 1) descend: a
linear flow, of which the first order in 1/n is known at every time (`predicted`). Mode k of the
circle has the rate λ_k. With finitely many modes there is a slowest rate, errors decay
exponentially, and the theorem holds, with errors below any power of n. With infinitely many, as
smooth units have, modes of rate λ_k < 1/t have not begun to heal at time t, and as λ_k = r^{2|k|},

    n E‖f_n(t) − f_0(t)‖² → Σ_k λ_k e^{−2λ_k t} + … ~ C/t:

along a_n = c log² n squared errors are of order 1/(n log² n), with an exponent −1 − 2/log n that
looks like −1.4 at n = 200 and ends at −1. Squared errors n^{−2ξ} take times n^{2ξ − 1}.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, NeuronalEnsemble, Product, Sphere
from limits import Adaptive, Data, GradientFlow, Risk, fit_power_law, flow

WIDTHS, SEEDS, R, M = [64, 128, 256, 512], 48, 0.5, 32
ANGLES = 2 * np.pi * np.arange(M) / M
X = jnp.asarray(np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1))
RISK = Risk(Data(X, jnp.asarray(np.cos(ANGLES) + np.sin(2 * ANGLES))[:, None]))
K = np.arange(-40, 41)
RATES = R ** (2.0 * abs(K))  # λ_k
TARGET = np.where((abs(K) == 1) | (abs(K) == 2), 0.25, 0.0)  # |f_k|²
ALONG = {
    "1": lambda n: 1.0,
    "log² n": lambda n: np.log(n) ** 2,
    "3 log² n": lambda n: 3 * np.log(n) ** 2,
    "n": lambda n: 1.0 * n,
}


def poisson(u):
    """Σ_k r^|k| cos(k (x − y)), the Poisson kernel, of u = cos(x − y)."""
    return (1 - R**2) / (1 - 2 * R * u + R**2)


def five_modes(u):
    """Its terms of |k| ≤ 2."""
    return 1 + 2 * R * u + 2 * R**2 * (2 * u**2 - 1)


def predicted(t):
    """lim n E ½‖f_n(t) − f_0(t)‖²: half of what the start leaves, Σ_k λ_k e^{−2λ_k t}, and of what
    the kernel's fluctuations do, Σ_{k ≠ l} λ_k λ_l |f_l|² ((e^{−λ_l t} − e^{−λ_k t})/(λ_k − λ_l))².

    With residuals g' = −K_n g and K_n = K + δK, δg(t) = e^{−Kt} δg(0) − ∫ e^{−K(t − s)} δK e^{−Ks}
    f ds, and E |δK_kl|² = λ_k λ_l/n off the diagonal, on which it is 0."""
    decay, a, b = np.exp(-RATES * t), RATES[:, None], RATES[None]
    same = a == b
    mixed = np.where(same, t * decay, (decay - decay[:, None]) / np.where(same, 1.0, a - b))
    healed = a * b * TARGET * mixed**2
    np.fill_diagonal(healed, 0.0)
    return ((RATES * decay**2).sum() + healed.sum()) / 2


def limit(t):
    """f_0(t) at the data: the modes of the target times 1 − e^{−λ_k t}."""
    first, second = 1 - np.exp(-(R**2) * t), 1 - np.exp(-(R**4) * t)
    return first * np.cos(ANGLES) + second * np.sin(2 * ANGLES)


def errors(activation):
    """½‖f_n − f_0‖² along the times, each (seeds, widths)."""
    ensemble = NeuronalEnsemble(
        [Product(Sphere(2), Gaussian(1))], [lambda c: c[:2], lambda c: c[2:]],
        layers=Affine(activation),
    )  # fmt: skip
    only_charges, solver = GradientFlow(learning_rates=(0.0, 1.0)), Adaptive(rtol=1e-7, atol=1e-9)

    def outputs(network):
        return network(X)[:, 0]

    @jax.jit
    def run(network, times):
        options = dict(times=times, solver=solver, observe=outputs)
        return flow(network, RISK, only_charges, t1=times[-1], **options).observed

    found = {name: [] for name in ALONG}
    for n in WIDTHS:
        when = {name: along(n) for name, along in ALONG.items()}
        order = sorted(when, key=when.__getitem__)
        times = jnp.array([0.0, *(when[name] for name in order)])
        keys = jax.random.split(jax.random.fold_in(jax.random.key(6), n), SEEDS)
        seen = np.stack([run(ensemble.sample(n, key=key), times) for key in keys])
        for i, name in enumerate(order, 1):
            found[name].append(((seen[:, i] - limit(when[name])) ** 2).mean(1) / 2)
    return {name: np.stack(many, 1) for name, many in found.items()}


def test_orders_of_the_prediction_far_out():
    """Exponents of predicted(a_n)/n from n to 10 n: −1 along c log² n in the end, −1 − α along
    n^α."""

    def exponent(along, n):
        return np.log10(predicted(along(10 * n)) / predicted(along(n))) - 1

    assert abs(exponent(ALONG["1"], 100) + 1) < 1e-12
    for name in ("log² n", "3 log² n"):
        late = [exponent(ALONG[name], n) for n in (1e2, 1e6, 1e12, 1e24)]
        assert late[0] < -1 and (np.diff(late) > 0).all() and -1.05 < late[-1] < -1
        assert (np.abs(np.array(late[1:]) + 1) < 3 / np.log(10) / np.array([6, 12, 24])).all()
    for alpha in (0.5, 1.0):
        late = np.log(predicted(1e10**alpha) / predicted(1e4**alpha)) / np.log(1e6) - 1
        assert abs(late + 1 + alpha) < 0.02


@pytest.mark.slow
def test_errors_are_those_of_the_prediction_and_below_any_power_with_a_slowest_rate():
    """Infinitely many modes follow the prediction: orders between −1 and −2 along c log² n, and −2
    only along a_n = n. The control with five modes is below 1/n² along 3 log² n."""
    smooth, finite = errors(poisson), errors(five_modes)
    print(f"\n½‖f_n − f_0‖², n = {WIDTHS}, {SEEDS} seeds: over the prediction, exponents")
    for name, e in smooth.items():
        wanted = np.array([predicted(ALONG[name](n)) / n for n in WIDTHS])
        ratio, error = e.mean(0) / wanted, e.std(0, ddof=1) / SEEDS**0.5 / wanted
        found, law = fit_power_law(WIDTHS, e), fit_power_law(WIDTHS, wanted).exponent
        five = fit_power_law(WIDTHS, finite[name])
        print(
            f"a_n = {name:>8}: {ratio.round(2)} ± {(2 * error).round(2)}; {found}, predicted "
            f"{law:.3f}; with five modes {five}"
        )
        assert (np.abs(ratio - 1) < 3 * error + 30 / np.array(WIDTHS)).all()  # next order: C/n
        assert abs(found.exponent - law) < 0.25
        if name in ("log² n", "3 log² n"):
            assert found.low > -2 and found.high < -1.05
        if name in ("3 log² n", "n"):
            assert five.high < -2.5
    assert fit_power_law(WIDTHS, smooth["n"]).high < -1.8
