"""
A game where explicit steps diverge
===================================

Gradient descent–ascent on a zero-sum game circles around its equilibrium, and each explicit step
leads a little outward. Mirror prox looks one step ahead and comes in. On a game whose equilibrium
is known (Example 4.1 of Wang & Chizat, arXiv:2211.01280) both rates follow from linearisation, and
are compared with runs.

Run it with ``python examples/explicit_steps.py``. It prints its table and saves
``examples/figures/explicit_steps.png``.
"""

# %%
# The game
# --------
# f = sin 4πx + sin 4πy + 2 cos 2π(x + y) on two circles, with the equilibrium
# (δ_{3/8} + δ_{7/8})/2, (δ_{1/8} + δ_{5/8})/2. Masses move at rate 1, positions at 1/40 of it. At
# the equilibrium positions contract, and differences of masses (s, r) turn with angular velocity 2
# and without damping, (s, r)' = 2 (r, −s): an explicit step η multiplies them by (1 + 4η²)^½,
# mirror prox by (1 − 4η² + 16η⁴)^½. |s| and |r| are the first Fourier moments.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Measure, Network, Torus
from limits import Game, GradientFlow, MirrorProx, WassersteinFisherRao, fit_rate, train

jax.config.update("jax_enable_x64", True)
TURN = 2 * jnp.pi


def payoff(x, y):
    return jnp.sin(2 * TURN * x[0]) + jnp.sin(2 * TURN * y[0]) + 2 * jnp.cos(TURN * (x[0] + y[0]))


def moments(network):
    """First and second Fourier moments of both players, (players, 2)."""

    def waves(z):
        return jnp.exp(1j * TURN * z[0] * jnp.array([1, 2]))

    return jnp.stack([network.measure(i).expectation(waves) for i in (0, 1)])


game = Game(payoff, spaces=(Torus(1), Torus(1)))
wfr = WassersteinFisherRao(GradientFlow(1 / 40))
METHODS = {
    "explicit": (wfr, lambda e: np.log(1 + 4 * e**2) / 2),
    "mirror prox": (MirrorProx(wfr), lambda e: np.log(1 - 4 * e**2 + 16 * e**4) / 2),
}
STEPS, KEYS = np.array([0.04, 0.02, 0.01]), jax.random.split(jax.random.key(2), 8)

# %%
# Near the equilibrium
# --------------------
# Eight starts of 2 + 2 atoms near it, between times 16 and 32: the factor per step.


@eqx.filter_jit
def near(method, step, times):
    """√(s² + r²) (seeds, times) from perturbed atoms of the equilibrium."""

    def one(key):
        z, g = jax.random.normal(key, (2, 2, 2))
        places = jnp.array([[3 / 8, 7 / 8], [1 / 8, 5 / 8]]) + 1e-3 * z
        laws = [
            Measure(p[:, None], jax.nn.softmax(1e-2 * w)) for p, w in zip(places, g, strict=True)
        ]
        run = train(
            Network.players(*laws),
            game,
            method,
            step=step,
            t1=times[-1],
            times=times,
            observe=moments,
        )
        return jnp.linalg.norm(jnp.abs(run.observed[:, :, 0]), axis=1)

    return jax.vmap(one)(KEYS)


looks = jnp.linspace(16, 32, 17)
print("log of the factor per step, mean (standard deviation over 8 starts), and as predicted")
for name, (method, factor) in METHODS.items():
    found = np.zeros((len(KEYS), len(STEPS)))
    for j, step in enumerate(STEPS):
        values = np.log(near(method, jnp.asarray(step), looks))
        found[:, j] = np.polyfit(np.asarray(looks) / step, values.T, 1)[0]
        mean, deviation = found[:, j].mean(), found[:, j].std(ddof=1)
        say(f"{name:>12}, step {step}: {mean:+.4e} ({deviation:.0e}), {factor(step):+.4e}")
    print(f"{name:>12}: the step to the power {fit_rate(STEPS, np.abs(found))}")

# %%
# From far away
# -------------
# Eight starts of 15 + 15 particles on shifted grids. The Nikaidô–Isoda error is what both players
# together could gain alone. It needs first and second moments only, here on 10,000 points each.


@eqx.filter_jit
def shifted(method, times):
    """Errors (seeds, times) from shifted grids."""
    place = TURN * jnp.arange(10_000) / 10_000

    def error(seen):
        (m, m2), (n, n2) = seen
        first = jnp.sin(2 * place) + n2.imag + 2 * (jnp.exp(1j * place) * n).real
        second = jnp.sin(2 * place) + m2.imag + 2 * (jnp.exp(1j * place) * m).real
        return second.max() - first.min()

    def one(key):
        points = (jnp.arange(15) / 15 + jax.random.uniform(key, (2, 1))) % 1
        laws = [Measure(z[:, None], jnp.full(15, 1 / 15)) for z in points]
        run = train(
            Network.players(*laws),
            game,
            method,
            step=STEPS[0],
            t1=times[-1],
            times=times,
            observe=moments,
        )
        return jax.vmap(error)(run.observed)

    return jax.vmap(one)(KEYS)


times = STEPS[0] * np.arange(0, 3001, 50)
curves = {name: np.asarray(shifted(method, times)) for name, (method, _) in METHODS.items()}
for name, values in curves.items():
    low, middle, high = np.quantile(values[:, -1], [0.25, 0.5, 0.75])
    say(f"{name:>12}: NI error after 3000 steps {middle:.2g} [{low:.2g}, {high:.2g}]")

# %%
# The figure
# ----------

figure, ax = plt.subplots(figsize=(7, 4.8), constrained_layout=True)
steps = times / STEPS[0]
for i, (name, values) in enumerate(curves.items()):
    ax.semilogy(steps, values.T, color=f"C{i}", lw=0.7, alpha=0.6)
    ax.plot([], [], color=f"C{i}", label=f"{name} (8 starts)")
    begin, until = (2, 21) if i == 0 else (10, len(steps))
    level = np.median(values[:, begin : begin + 12])
    slope = np.exp(METHODS[name][1](STEPS[0]) * (steps[begin:until] - steps[begin + 6]))
    ax.semilogy(steps[begin:until], level * slope, "k--")
ax.plot([], [], "k--", label="slopes by linearisation")
ax.set(xlabel=f"steps of {STEPS[0]}", ylabel="Nikaidô–Isoda error")
ax.set_title("15 + 15 particles from shifted grids")
ax.legend()
save(figure, "explicit_steps")
