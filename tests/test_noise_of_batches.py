"""The noise of stochastic gradient descent: its covariance, its drift of second order, and how the
error falls when batches grow like n².

Rotskoff & Vanden-Eijnden (arXiv:1805.00915): a step Δt on batches of P moves the particles
(c, y) of units c φ(x, y) by their velocity and a noise of covariance R/P. With r = f_n − f,

    A_0 = Cov(r φ, r φ'), A_1 = Cov(r φ, r ∇φ'), A_2 = Cov(r ∇φ, r ∇φ')

over x, R has the blocks A_0 (charges), c' A_1 (a charge and a place) and c c' A_2 (places). To the
density ρ_n of particles this adds the drift ½θ ∇∇:(ρ c² A_2) + ½θ ∂_c² (ρ A_0) + θ ∂_c ∇·(ρ c A_1),
θ = Δt/P, and a noise that all particles share, so that it does not fall with n.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_three_spin import EXACT, PROBES, START, STEP, TARGET, D, unit

from ensembles import Gaussian, Network, Product, Sphere, shallow
from limits import Data, Risk, fit_power_law, train

DT, P, DRAWS = 1.0, 2, 20_000
INPUTS = Gaussian(2).draw(40, jax.random.key(0))
RISK = Risk(Data(INPUTS, jnp.sin(2 * INPUTS[:, :1])))


def bump(theta, x):
    """c exp(−|x − y|²/2), θ = (c, y)."""
    return theta[:1] * jnp.exp(-((x - theta[1:]) ** 2).sum() / 2)


def moments(network):
    """∫ c² dρ, ∫ c y_1 dρ and ∫ |y|² dρ, and ∫ c dρ."""
    c, y = network.points(0)[:, 0], network.points(0)[:, 1:]
    return jnp.stack([(c**2).mean(), (c * y[:, 0]).mean(), (y**2).sum(1).mean(), c.mean()])


def covariance(network):
    """R between all coordinates (n, 3, n, 3) from A_0, A_1 and A_2, by sums over the data, and the
    second moments E[·] in place of covariances."""
    theta = np.asarray(network.points(0))
    r = np.asarray(network(INPUTS)[:, 0] - RISK.data.y[:, 0])
    away = np.asarray(INPUTS)[:, None] - theta[None, :, 1:]
    phi = np.exp(-(away**2).sum(2) / 2)
    felt = (
        np.concatenate([phi[..., None], theta[:, :1] * away * phi[..., None]], 2) * r[:, None, None]
    )
    plain = np.einsum("xia,xjb->iajb", felt, felt) / len(r)
    mean = felt.mean(0)
    return plain - np.einsum("ia,jb->iajb", mean, mean), plain


@pytest.mark.slow
def test_the_noise_has_the_covariance_and_adds_the_drift_of_the_source():
    """One step on 20,000 batches of 2: covariances of all coordinates, the means of ∫ c², ∫ c y_1,
    ∫ |y|² and the variance of ∫ c. Controls: second moments instead of covariances, and noises of
    each particle alone."""
    n = 6
    start = shallow(bump, Product(Gaussian(1), Gaussian(2))).sample(n, key=jax.random.key(1))

    @jax.jit
    def step(key):
        end = train(start, RISK, step=DT, batch=P, t1=DT, key=key).final
        return end.points(0), moments(end)

    points, seen = map(np.asarray, jax.vmap(step)(jax.random.split(jax.random.key(12), DRAWS)))
    points = points - points.mean(0)
    mean_step = moments(train(start, RISK, step=DT, t1=DT).final)
    R, plain = (a * DT**2 / P for a in covariance(start))

    products = np.einsum("sia,sjb->siajb", points, points).reshape(DRAWS, -1)
    error = products.std(0, ddof=1) / DRAWS**0.5
    off = np.abs(products.mean(0) - R.ravel()) / error
    wrong = np.abs(products.mean(0) - plain.ravel()) / error
    print(f"\nR/P: {off.size} entries, furthest {off.max():.2f} standard errors, root mean square "
          f"{(off**2).mean() ** 0.5:.2f}; with second moments {wrong.max():.1f}")  # fmt: skip
    assert off.max() < 5 and wrong.max() > 20

    own = np.einsum("iaib->ab", R) / n
    drift = np.array([own[0, 0], own[0, 1], own[1, 1] + own[2, 2]])
    found, error = seen.mean(0) - np.asarray(mean_step), seen.std(0, ddof=1) / DRAWS**0.5
    for name, a, b, e in zip(("A_0", "A_1", "A_2"), found, drift, error, strict=False):
        print(f"{name}: second-order drift {a:.6f} ± {2 * e:.6f}, predicted {b:.6f}")
        assert abs(a - b) < 4 * e and abs(b) > 5 * e  # which is not 0

    shared, alone = R[:, 0, :, 0].mean(), np.einsum("ii->", R[:, 0, :, 0]) / n**2
    squares = (seen[:, 3] - seen[:, 3].mean()) ** 2
    variance, error = squares.mean(), squares.std(ddof=1) / DRAWS**0.5
    print(
        f"Var ∫ c dρ: {variance:.3e} ± {2 * error:.0e}, predicted {shared:.3e}, with a noise of "
        f"each alone {alone:.3e}"
    )
    assert abs(variance / shared - 1) < 0.06 < abs(alone / shared - 1)


WIDTHS, SEEDS, TURN, END = [16, 32, 64, 128], 8, 32.0, 40.0


@eqx.filter_jit
def quenched(n, keys, risk):
    """Losses at the turn, and after a quench on batches of 16, n, n² and with exact gradients;
    squared distances ½‖·‖² of the first three from the last."""

    def one(key):
        first, second, third = jax.random.split(key, 3)
        network = shallow(unit, START).sample(n, key=first)
        turn = train(network, risk, step=STEP, batch=n, t1=TURN, key=second).final
        options = dict(step=STEP, t0=TURN, t1=END)
        still = train(Network.particles(turn.measure(0)), EXACT, **options)
        runs = [train(turn, risk, batch=b, key=third, **options).final for b in (16, n, n**2)]
        exact = Network.shallow(unit, still.final.measure(0))(PROBES)
        losses = [EXACT(Network.particles(now.measure(0))) for now in (turn, *runs)]
        apart = [((now(PROBES) - exact) ** 2).mean() / 2 for now in runs]
        return jnp.stack([*losses, still.energies[-1], *apart])

    return jax.vmap(one)(keys)


@pytest.mark.slow
def test_a_quench_on_batches_of_n_squared_costs_less_than_the_square_of_one_over_n():
    """3-spin function, d = 5: SGD on batches of n up to t = 32, then to t = 40 on batches of n², of
    n, of 16 (the control), or exact. The target has no noise, so that the noise of batches is θ
    times what is left to learn, and falls faster than θ = Δt/P: batches of n add less than the
    square of 1/n too, those of n² less by about one more power, and those of a fixed size more. The
    loss after batches of n² is that of exact gradients and what they add, ½‖n² − exact‖², within
    its error: the noise has no mean to first order. That is a few hundredths of it at most."""
    risk = Risk(Data.from_space(Sphere(D, D**0.5), TARGET, 256, key=jax.random.key(6)))
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(21), n), SEEDS) for n in WIDTHS]
    found = np.stack([quenched(n, k, risk) for n, k in zip(WIDTHS, keys, strict=True)], 2)
    names = ("loss at the turn", "on batches of 16", "on batches of n", "on batches of n²", "exact",
             "½‖16 − exact‖²", "½‖n − exact‖²", "½‖n² − exact‖²")  # fmt: skip
    rates = [fit_power_law(WIDTHS, found[:, i]) for i in range(8)]
    print(f"\nn = {WIDTHS}, {SEEDS} seeds: mean, exponent")
    for i, name in enumerate(names):
        print(f"{name:>18}: {'  '.join(f'{v:.2e}' for v in found[:, i].mean(0))}  {rates[i]}")
    fixed, like_n, like_squares = rates[5:]
    assert like_squares.high < -2 < fixed.low and like_squares.high < like_n.low
    assert like_n.high < fixed.low
    exact, after = found[:, 4].mean(0), found[:, 3].mean(0)
    more = found[:, 3] - found[:, 4] - found[:, 7]
    error = more.std(0, ddof=1) / SEEDS**0.5
    print(f"loss on batches of n² over exact {(after / exact).round(4)}; their difference less "
          f"½‖n² − exact‖²: {more.mean(0)} ± {error}")  # fmt: skip
    assert (np.abs(more.mean(0)) < 4 * error).all() and (after < 1.03 * exact).all()
    assert found[:, 1, -1].mean() > 2 * exact[-1]
