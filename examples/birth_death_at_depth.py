"""
Birth and death of neurons at depth
===================================

Under the Wasserstein–Fisher–Rao flow neurons of every hidden layer move, and gain or lose mass. For
one hidden layer this frees networks from where gradient flow is slow (Rotskoff, Jelassi, Bruna &
Vanden-Eijnden, arXiv:1902.01843). Does it free deep networks from the collapse of i.i.d. starts
(Nguyen & Pham, arXiv:2001.11443)?

It cannot. Let the neurons of layer i be equal: with ⟨p_i, w_{i+1}(·, c')⟩ = w_{i+1}(c, c') + noise
that is independent over c', their first variation is

    Ψ_i(c) = E_x Σ_c' p_{i+1}(c') D(x, c') w_{i+1}(c, c') σ(H_i(x, c)),   D = ∂R/∂H_{i+1} per mass,

in which H_i(x, c) is the same for all c, and so is ∫ D(x, c') w_{i+1}(c, c') dP(c') as the noise
averages out. So Ψ_i − ⟨Ψ_i⟩ = 0: in a collapsed layer no mass moves, for all times, whatever the
rate; in a finite network it moves by O(N^(-1/2)), as far as neurons differ. Masses do move in the
first layer and in the last hidden one, whose neurons differ.

Run it with ``python examples/birth_death_at_depth.py``. It prints its tables and saves
``examples/figures/birth_death_at_depth.png``.
"""

# %%
# One task, two starts, two dynamics
# ----------------------------------
# Twenty-four points in the plane with a constant input appended, a target in R^2, time 20. An
# i.i.d. start with non-zero means, so that its limit moves, and a diverse one of eight modes.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Affine, Atoms, Gaussian, Sobol, diverse, iid
from limits import (
    Data,
    GradientFlow,
    Risk,
    WassersteinFisherRao,
    diversity,
    fit_power_law,
    limit,
    train,
)

u = jax.random.normal(jax.random.key(1), (24, 2))
x = jnp.concatenate([u, jnp.ones((24, 1))], axis=1)
risk = Risk(Data(x, jnp.stack([jnp.sin(2 * u[:, 0]), u[:, 0] * u[:, 1]], axis=1)))
T1, WIDTHS, SEEDS = 10.0, [16, 48, 144], 12
TIMES = jnp.linspace(0.0, T1, 11)
TANH = Affine(jnp.tanh)
DYNAMICS = {"gradient flow": GradientFlow(), "births and deaths": WassersteinFisherRao()}


def start(kind, depth, deviation=0.5):
    same = dict(dim=3, depth=depth, first=Gaussian(1), last=Gaussian(2, 0.5), layers=TANH)
    if kind == "diverse":
        return diverse(modes=8, scale=2.0, **same)
    return iid(hidden=Gaussian(1, 1.0, deviation) if deviation else Atoms([[1.0]]), **same)


def nodes(kind, depth):
    """In the limit of an i.i.d. start a middle layer has one label."""
    if kind == "diverse":
        return dict(nodes=128, rule=Sobol())
    return dict(nodes=[2048] if depth == 2 else [512, *[1] * (depth - 3), 128])


# %%
# Finite networks and their limits
# --------------------------------
# The limit's risk comes with its error, that of finite networks with the standard deviation over
# seeds. The spread is the standard deviation of H_2 over the neurons of layer 2; its exponent, in
# the width N, has a 95 % interval over seeds, early and at the end. The rank is that of what comes
# in to the neurons of layer 2 in the limit, at the end; one neuron has none. With one hidden layer
# the two starts are the same.


def deviation(p, values):
    """Over neurons of masses p, the last axis."""
    return jnp.sqrt((values - (values @ p)[..., None]) ** 2 @ p)


def look(network):
    """The spread of H_2 over neurons, and that of the growth of every hidden layer."""
    p, q = network.masses, network.initial_masses
    growth = jnp.stack([deviation(b, jnp.log(a / b)) for a, b in zip(p, q, strict=True)])
    if network.depth == 2:
        return jnp.zeros(()), growth
    spread = deviation(p[1], network.preactivations(x)[1])
    return jnp.sqrt((spread**2).mean()), growth


@eqx.filter_jit
def trained(ensemble, dynamics, n, keys):
    def one(key):
        run = train(
            ensemble.sample(n, key=key), risk, dynamics, step=0.05, t1=T1, times=TIMES,
            observe=look,
        )  # fmt: skip
        return run.energies, *run.observed

    return jax.vmap(one)(keys)


def rank(network):
    if network.width[1] == 1:
        return 0.0
    return float(diversity(network, risk.data, key=jax.random.key(5)).rank[1, 0])


runs, limits = {}, {}
EARLY = 2
print(
    f"{SEEDS} seeds\n{'depth':>5}{'start':>9}{'dynamics':>19}{f'limit, t = {T1:.0f}':>17}"
    f"{f'N = {WIDTHS[-1]}':>17}{'spread of H_2':>15}{f'exponent, t = {EARLY}':>25}"
    f"{f'exponent, t = {T1:.0f}':>25}{'rank':>6}"
)
for depth in (2, 3, 4):
    for kind in ("i.i.d.", "diverse")[: 1 if depth == 2 else 2]:
        ensemble = start(kind, depth)
        for name, dynamics in DYNAMICS.items():
            exact = limit(
                ensemble, risk, dynamics, t1=T1, times=TIMES, key=jax.random.key(2),
                **nodes(kind, depth),
            )  # fmt: skip
            keys = jax.random.split(jax.random.key(depth), SEEDS)
            each = [trained(ensemble, dynamics, n, keys) for n in WIDTHS]
            # energies and spreads (seeds, widths, times), growth (seeds, widths, times, layers)
            found = [np.stack(values, axis=1) for values in zip(*each, strict=True)]
            energies, spread, _ = runs[depth, kind, name] = found
            limits[depth, kind, name] = exact
            ends, cells = energies[:, -1, -1], ""
            if depth > 2:
                rates = [fit_power_law(WIDTHS, spread[..., i]) for i in (EARLY, -1)]
                cells = f"{spread[:, -1, -1].mean():>15.3f}" + "".join(f"{r!s:>25}" for r in rates)
                cells += f"{rank(exact.final):>6.1f}"
            say(
                f"{depth:>5}{kind:>9}{name:>19}{exact.energies[-1]:>8.4f} ± {exact.error:.4f}"
                f"{ends.mean():>8.4f} ± {ends.std(ddof=1):.4f}{cells}"
            )

# %%
# Where masses move
# -----------------
# Growth is the log of a neuron's mass over its mass at the start; here its standard deviation over
# neurons. In 4 layers layer 2 collapses: in the limit its masses stand still, and in finite
# networks they move less the wider these are, as long as neurons are alike. With hidden weights
# that all start at 1 the neurons of layer 2 are equal in finite networks already, and their masses
# do not move, while those of layers 1 and 3 do.

print(f"\nspread of growth over neurons in 4 layers, mean over {SEEDS} seeds")
print(
    f"{'start':>24}{'layer':>7}"
    + "".join(f"{f't = {EARLY}, N = {n}':>17}" for n in WIDTHS)
    + f"{f'exponent, t = {EARLY}':>25}{f'N = {WIDTHS[-1]}, t = {T1:.0f}':>17}"
)
same = [trained(start("i.i.d.", 4, 0.0), DYNAMICS["births and deaths"], n, keys)[2] for n in WIDTHS]
growths = {
    "i.i.d.": runs[4, "i.i.d.", "births and deaths"][2],
    "diverse": runs[4, "diverse", "births and deaths"][2],
    "all hidden weights equal": np.stack(same, axis=1),
}
for kind, growth in growths.items():
    for layer in (1, 2, 3):
        g = growth[..., layer - 1]
        cells = "".join(f"{value:>17.1e}" for value in g[..., EARLY].mean(0))
        moved = g[..., EARLY].min() > 0
        rate = str(fit_power_law(WIDTHS, g[..., EARLY])) if moved else "(none)"
        print(f"{kind:>24}{layer:>7}{cells}{rate:>25}{g[:, -1, -1].mean():>17.1e}")

# %%
# The figure
# ----------

COLORS = {"i.i.d.": "C0", "diverse": "C1"}
STYLES = dict(zip(DYNAMICS, ("-", "--"), strict=True))
figure, panels = plt.subplots(2, 3, figsize=(12, 6.5), constrained_layout=True)
for (depth, kind, name), (energies, spread, _) in runs.items():
    style = dict(color=COLORS[kind], ls=STYLES[name])
    panel, label = panels[0, depth - 2], f"{kind}, {name}"
    low, high = energies[:, -1].min(0), energies[:, -1].max(0)
    panel.fill_between(TIMES, low, high, color=COLORS[kind], alpha=0.12, lw=0)
    limits[depth, kind, name].plot(panel, label=label, **style)
    panel.set(title=f"depth {depth}", ylabel="", yscale="log")
    if depth > 2:
        panel = panels[1, depth - 2]
        for time_index, marker in ((EARLY, "o"), (-1, "s")):
            mean, error = (f(spread[..., time_index], axis=0) for f in (np.mean, np.std))
            panel.errorbar(
                WIDTHS, mean, error, marker=marker, ms=4, capsize=2,
                alpha=1 if marker == "o" else 0.5, **style,
            )  # fmt: skip
        panel.set(title=f"depth {depth}: ● $t = {EARLY}$, ■ $t = {T1:.0f}$")
for kind, color in zip(growths, ("C0", "C1", "C2"), strict=True):
    for layer, line in ((1, ":"), (2, "-")):
        g = growths[kind][..., EARLY, layer - 1]
        if g.max() > 1e-4:
            panels[1, 0].errorbar(
                WIDTHS, g.mean(0), g.std(0), ls=line, marker="o", ms=4, capsize=2, color=color,
                label=f"{kind}, layer {layer}",
            )  # fmt: skip
panels[1, 0].set(title=rf"depth 4: growth at $t = {EARLY}$", ylabel="spread of growth over neurons")
for panel in panels[1]:
    panel.set(xscale="log", yscale="log", xlabel="width $N$")
    panel.set_xticks(WIDTHS, WIDTHS)
    panel.set_xticks([], minor=True)
panels[0, 0].set_ylabel(f"risk (limit ± its error; pale: N = {WIDTHS[-1]})")
panels[0, 2].legend(fontsize="x-small")
panels[1, 0].set_ylim(top=2)
panels[1, 0].legend(fontsize="x-small", ncols=2, loc="upper center")
panels[1, 1].set_ylabel("spread of $H_2$ over neurons")
save(figure, "birth_death_at_depth")
