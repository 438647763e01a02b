"""Losses against their definitions in NumPy; power-law fits; plots."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from kept_results import coupling, trajectory
from scipy import special

from limits import CrossEntropyLoss, HuberLoss, LogisticLoss, SquaredLoss, fit_power_law

matplotlib.use("Agg")


def test_losses_are_their_definitions():
    rng = np.random.default_rng(0)
    p, y = rng.standard_normal((2, 6))
    q = special.softmax(y)
    huber = np.where(np.abs(p - y) < 0.5, (p - y) ** 2 / 2, 0.5 * np.abs(p - y) - 0.125).sum()
    s = np.sign(y)
    for loss, target, value in [
        (SquaredLoss(), y, ((p - y) ** 2).sum() / 2),
        (HuberLoss(0.5), y, huber),
        (LogisticLoss(), s, np.log1p(np.exp(-s * p)).sum()),
        (CrossEntropyLoss(), q, -(q * special.log_softmax(p)).sum()),
    ]:
        assert abs(float(loss(jnp.asarray(p), jnp.asarray(target))) - value) < 1e-13


def test_losses_have_finite_derivatives_far_from_the_target():
    far = jnp.array([1e4, -1e4])
    for loss in (HuberLoss(1.0), LogisticLoss(), CrossEntropyLoss()):
        assert jnp.isfinite(jax.grad(loss)(far, jnp.array([0.0, 1.0]))).all()


def test_a_fitted_rate_recovers_a_power_law_and_its_interval_covers():
    x = np.array([32.0, 64, 128, 256])
    assert abs(fit_power_law(x, 3 * x**-0.5).exponent + 0.5) < 1e-12
    assert abs(fit_power_law(x, 3 * x**-0.5).prefactor - 3) < 1e-10
    flat = fit_power_law(x, np.full(4, 3.0))
    assert flat.high - flat.low < 1e-12 and abs(flat.exponent) < 1e-12
    covered, control = 0, 0
    for k in range(200):
        noise = np.random.default_rng(k).lognormal(0, 0.4, (24, 4))
        rate = fit_power_law(x, x**-0.5 * noise)
        covered += rate.low <= -0.5 <= rate.high
        control += rate.low <= -0.3 <= rate.high
    assert covered >= 0.87 * 200 and control < 0.1 * 200


@pytest.mark.parametrize("seeds", [2, 3, 4, 8, 16, 32])
def test_intervals_of_rates_cover_at_their_level_with_few_seeds_too(seeds):
    """400 repeats of an exact law at three widths, with unequal noise and with skew noise."""
    x = np.array([32.0, 64, 128])
    rng = np.random.default_rng(seeds)
    covered = 0
    for repeat in range(400):
        if repeat % 2:
            noise = np.exp(rng.normal(0, [0.2, 0.3, 0.4], (seeds, 3)))
        else:
            noise = rng.chisquare(3, (seeds, 3)) ** 0.5
        rate = fit_power_law(x, x**-0.5 * noise)
        covered += rate.low <= -0.5 <= rate.high
    assert 0.93 * 400 <= covered <= 0.98 * 400


def test_seeds_may_be_missing_and_a_rate_is_a_function():
    x, y = np.array([1.0, 2, 4]), np.full((3, 3), 2.0) * np.array([1.0, 2, 4])
    y[2, 1] = np.nan
    rate = fit_power_law(x, y)
    assert abs(rate.exponent - 1) < 1e-12 and rate.low <= rate.exponent <= rate.high
    np.testing.assert_allclose(rate([8.0]), [16.0])
    assert str(rate).startswith("+1.000 [")


def test_every_result_has_a_labelled_plot():
    import matplotlib.pyplot as plt

    run, small_coupling = trajectory(), coupling()
    for ax in (
        run.plot(),
        small_coupling.plot(),
        small_coupling.plot_energies(),
        small_coupling.power_law().plot(small_coupling.smallest),
    ):
        assert isinstance(ax, plt.Axes) and ax.lines
    assert run.plot().get_xlabel() == "time $t$"
    assert small_coupling.plot().get_xlabel() == "width $N$"
    dotted = [line for line in small_coupling.plot().lines if line.get_linestyle() == ":"]
    floors = [small_coupling.error.max(1), small_coupling.rms_error.max(1)]
    for line, floor in zip(dotted, floors, strict=False):  # each in the colour of its distance
        np.testing.assert_allclose(line.get_ydata(), floor)
    assert len({line.get_color() for line in dotted[:4]}) == 4
    plt.close("all")


def test_a_coupling_prints_widths_seeds_and_the_error_of_its_limit():
    found = eqx.tree_at(lambda c: c.widths, coupling(), ((8,) * 4, (16, 24, 16, 16)))
    table = found.table()
    assert "16x24" in table and "[error of the limit]" in table and "layer 3" in table
    assert list(found.smallest) == [8, 16]
