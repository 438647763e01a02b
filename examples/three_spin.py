"""
The 3-spin function on the sphere
=================================

Rotskoff & Vanden-Eijnden (arXiv:1805.00915) train networks of n units on
f(x) = Σ a_ijk x_i x_j x_k / d, a rough function on the sphere of radius √d in R^d, and find errors
of order 1/n in every dimension: the law of large numbers at finite times, and, with batches that
grow like n, under stochastic gradient descent. Afterwards the error heals, in a quench with large
batches or exact gradients. Here all gradients of the first part are exact: the potentials of radial
units on the sphere are known.

Run it with ``python examples/three_spin.py``. It prints its tables and saves
``examples/figures/three_spin.png``.
"""

# %%
# The target and the units
# ------------------------
# In R^5, ‖f‖² is 5 in the mean over a. Units are c φ(x, y) = 32 c exp(−|x − y|²/2) with centres y
# on the sphere. Their potential F = c E[f φ] is Funk–Hecke's, K = c c' E[φ φ'] depends on ⟨y, y'⟩
# only: a polynomial through ``RBFKernel``. Charges c start as N(0, 1), centres uniformly.

import os

os.environ.setdefault("EQX_ON_ERROR", "off")  # so that compiled programs can be kept on disk

import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Affine, Gaussian, NeuronalEnsemble, Product, Sphere
from ensembles import particles, quadrature, shallow
from limits import SGD, Data, Interaction, RBFKernel, ReLUKernel, Risk, ThreeSpin
from limits import charged, fit_rate, train

jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
began = time.perf_counter()
D, SCALE, SEEDS, STEP = 5, 32.0, int(os.environ.get("SEEDS", 8)), 0.1


def say(text):
    print(f"{text} [{time.perf_counter() - began:.0f} s]", flush=True)


def population(d, nodes):
    f, space = ThreeSpin(jax.random.normal(jax.random.key(d), (d, d, d))), Sphere(d, d**0.5)
    return f, Data.from_space(space, f, nodes, key=jax.random.key(100 + d))


f, data = population(D, 2048)
cubic, linear = f.parts
say(f"d = {D}: ‖f‖² = {f.squared_norm:.4f} = {cubic:.4f} + {linear:.4f} (degrees 3 and 1)")


def centre(y):
    return jnp.sqrt(D / (y @ y)) * y


def unit(theta, x):
    return SCALE * theta[:1] * jnp.exp(x @ centre(theta[1:]) - D)


force = f.force(jnp.exp, nodes=32)
nodes = np.polynomial.chebyshev.chebpts1(16)
arc = np.sqrt(D) * np.stack([nodes, np.sqrt(1 - nodes**2), *[0 * nodes] * (D - 2)], 1)
rbf = RBFKernel(1.0, radius=D**0.5)
heights = [float(rbf(jnp.sqrt(1.0 * D) * jnp.eye(D)[0], jnp.asarray(y, float))) for y in arc]
power = np.polynomial.Chebyshev.fit(nodes, heights, 15, [-1, 1]).convert(kind=np.polynomial.Polynomial)
COEFFICIENTS = tuple(float(k) for k in power.coef[::-1])


def F(theta):
    return SCALE * theta[0] * force(jnp.append(centre(theta[1:]), -1.0 * D))


def K(theta, other):
    turn, value = centre(theta[1:]) @ centre(other[1:]) / D, 0.0
    for k in COEFFICIENTS:
        value = value * turn + k
    return SCALE**2 * theta[0] * other[0] * value


exact, risk = Interaction(F, K, f.squared_norm / 2), Risk(data)
start = Product(Gaussian(1), Sphere(D, D**0.5))

# %%
# Exact gradients
# ---------------
# Gradient descent with step 0.1. The limit is a network of 1024 Sobol nodes; ½‖f_n − f_∞‖² is of
# order 1/n at every time, and the constant falls: fluctuations heal. The loss itself falls faster
# than 1/n at late times, where small networks have not enough units.

WIDTHS, TIMES = [16, 32, 64, 128, 256], jnp.array([0.0, 1.0, 4.0, 16.0, 64.0, 256.0])
probes = data.x[:512]


def outputs(network):
    return shallow(unit, network.measure(0))(probes)[:, 0]


@eqx.filter_jit
def descend(network):
    run = train(network, exact, step=STEP, t1=TIMES[-1], times=TIMES, observe=outputs)
    return run.energies, run.observed


@eqx.filter_jit
def healing(n, keys):
    return jax.vmap(lambda key: descend(particles(start).sample(n, key=key)))(keys)


def keys(what, n, seeds=SEEDS):
    return jax.random.split(jax.random.fold_in(jax.random.key(what), n), seeds)


def quadratures(n, number):
    return particles(quadrature(start, n, key=jax.random.key(number)))


(limit_loss, limit_outputs), (_, other) = (descend(quadratures(n, n)) for n in (1024, 512))
error = ((limit_outputs - other) ** 2).mean(1) / 2
runs = [healing(n, keys(1, n)) for n in WIDTHS]
losses = np.stack([loss for loss, _ in runs], 2)  # seeds, times, widths
far = np.stack([((seen - limit_outputs) ** 2).mean(2) / 2 for _, seen in runs], 2)
say(f"\nexact gradients, n = {WIDTHS}, {SEEDS} seeds: exponents in n")
print("   t  loss of the limit  (of 512)    ½‖f_n − f_∞‖² at n = 64      exponent              of the loss")
healed = [fit_rate(WIDTHS, far[:, i]) for i in range(len(TIMES))]
for i, t in enumerate(TIMES):
    print(
        f"{t:5.0f}  {limit_loss[i]:.2e} (½‖difference‖² {error[i]:.0e})  {far[:, i, 2].mean():.2e}  "
        f"{healed[i]}  {fit_rate(WIDTHS, losses[:, i])}", flush=True,
    )  # fmt: skip

# %%
# Stochastic gradient descent
# ---------------------------
# Fresh samples, n/16 for each step: step/batch is proportional to 1/n, and so is the loss. With 4
# samples whatever n it stays where it is. From time 256 on a quench: batches n²/256, or exact
# gradients, up to time 320.

WIDE, TURN, END = [64, 128, 256, 512], 256.0, 320.0
theta = np.linspace(0, 2 * np.pi, 181)
circle = np.sqrt(D) * np.stack([np.sin(theta), np.cos(theta), *[0 * theta] * (D - 2)], 1)
circle = jnp.asarray(circle, data.x.dtype)


@eqx.filter_jit
def stochastic(n, keys):
    def one(key):
        first, second, third, fourth = jax.random.split(key, 4)
        network = shallow(unit, start).sample(n, key=first)
        few = train(network, risk, SGD(batch=4), step=STEP, t1=TURN, key=second)
        run = train(network, risk, SGD(batch=n // 16), step=STEP, t1=TURN, key=third)
        options = dict(t0=TURN, t1=END, step=STEP)
        large = train(run.final, risk, SGD(batch=n**2 // 256), key=fourth, **options)
        still = train(particles(run.final.measure(0)), exact, **options)
        ends = jnp.stack([r.energies[-1] for r in (few, run, large, still)])
        return ends, run.final(circle)[:, 0]

    return jax.vmap(one)(keys)


stages = [
    "batch 4, t = 256", "batch n/16, t = 256", "then n²/256, t = 320", "then exact, t = 320",
]  # fmt: skip
ends, slices = zip(*(stochastic(n, keys(2, n)) for n in WIDE), strict=True)
ends = np.stack(ends, 2)  # seeds, stages, widths
say(f"\nSGD, n = {WIDE}, {SEEDS} seeds: the loss (mean over seeds) and its exponent in n")
trained = [fit_rate(WIDE, ends[:, i]) for i in range(4)]
for name, loss, rate in zip(stages, ends.mean(0), trained, strict=True):
    print(f"{name:>22}  {'  '.join(f'{v:.2e}' for v in loss)}  {rate}", flush=True)

# %%
# A floor that units without biases cannot cross
# ----------------------------------------------
# relu(u) = u/2 + |u|/2 has no odd part but u/2, so bias-free ReLU networks see f_1 only, and their
# loss is above ½‖f_3‖². Gradient descent reaches it; with biases it goes below.

relu_force, relu = f.force(jax.nn.relu), charged(ReLUKernel(1, radius=D**0.5))
bias_free = Interaction(
    lambda t: t[0] * relu_force(jnp.append(t[1:], 0.0)), relu, f.squared_norm / 2
)
biased = NeuronalEnsemble(
    [Product(Gaussian(D), Gaussian(1), Gaussian(1))], [lambda c: c[:D], lambda c: c[D + 1 :]],
    [lambda c: c[D], None], layers=Affine(jax.nn.relu),
)  # fmt: skip
late, floor = jnp.array([0.0, 1, 2, 5, 10, 20, 50, 100, 200]), float(cubic) / 2


@eqx.filter_jit
def floors(keys):
    def one(key):
        bare, full = particles(Gaussian(D + 1)).sample(64, key=key), biased.sample(64, key=key)
        options = dict(step=STEP, t1=late[-1], times=late)
        return train(bare, bias_free, **options).energies, train(full, risk, **options).energies

    return jax.vmap(one)(keys)


bare, full = map(np.asarray, floors(keys(3, 64, 4)))
say(
    f"\nReLU, n = 64, 4 seeds: floor ½‖f_3‖² = {floor:.6f}; without biases the loss is above it by "
    f"{(bare[:, -1] - floor).min():.1e} to {(bare[:, -1] - floor).max():.1e} at t = {late[-1]:.0f} "
    f"(lowest ever {(bare - floor).min():.1e}); with biases the loss is {full[:, -1].mean():.3f}"
)

# %%
# Every dimension
# ---------------
# Units c tanh(⟨a, x⟩ + b) in d = 5, 10, 25, by SGD on n/4 fresh samples up to t = 20. The error is
# the distance from a network of 4096 units on batches of 1024.

NARROW, DIMS = [32, 64, 128, 256], [5, 10, 25]


def charged_tanh(d):
    space = Product(Gaussian(d, scale=d**-0.5), Gaussian(1), Gaussian(1, scale=3.0))
    return NeuronalEnsemble(
        [space], [lambda c: c[:d], lambda c: c[d + 1 :]], [lambda c: c[d], None],
        layers=Affine(jnp.tanh),
    )  # fmt: skip


@eqx.filter_jit
def learned(d, n, batch, keys, risk):
    def one(key):
        first, second = jax.random.split(key)
        network = charged_tanh(d).sample(n, key=first)
        run = train(network, risk, SGD(batch=batch), step=STEP, t1=20.0, key=second)
        return run.energies, run.final(risk.data.x)[:, 0]

    return jax.vmap(one)(keys)


across, across_rates = {}, {}
say(f"\ntanh units, n = {NARROW}, {SEEDS} seeds, t = 20: ½‖f_n − f_∞‖² and its exponent in n")
for d in DIMS:
    goal, sphere = population(d, 1024)
    wide, limit_d = learned(d, 4096, 1024, keys(4, d, 1), Risk(sphere))
    seen = [learned(d, n, n // 4, keys(5, n), Risk(sphere))[1] for n in NARROW]
    across[d] = np.stack([((s - limit_d) ** 2).mean(1) / 2 for s in seen], 1)
    across_rates[d] = fit_rate(NARROW, across[d])
    say(
        f"d = {d:2d}: {'  '.join(f'{v:.2e}' for v in across[d].mean(0))}  {across_rates[d]}; loss of "
        f"the limit {wide[0, 0]:.2f} at t = 0, {wide[0, 1]:.2f} now"
    )

# %%
# The figure
# ----------


def points(ax, widths, values, **style):
    mean, spread = values.mean(0), 2 * values.std(0, ddof=1) / np.sqrt(len(values))
    return ax.errorbar(widths, mean, np.minimum(spread, 0.9 * mean), fmt="o", ms=4, capsize=2, **style)


figure, panels = plt.subplots(2, 3, figsize=(14, 8), constrained_layout=True)
ax = panels[0, 0]
for i in range(len(TIMES)):
    points(ax, WIDTHS, far[:, i], color=f"C{i}", label=f"t = {TIMES[i]:.0f}: {healed[i].exponent:.2f}")
    healed[i].plot(WIDTHS, ax, color=f"C{i}")
ax.set(
    title="exact gradients: distance from the limit", xlabel="units n",
    ylabel="$\\frac{1}{2}\\Vert f_n - f_\\infty\\Vert^2$",
)  # fmt: skip
ax.legend(fontsize="small", title="time, exponent")
ax = panels[0, 1]
for i in range(4):
    points(ax, WIDE, ends[:, i], color=f"C{i}", label=f"{stages[i]}: {trained[i].exponent:.2f}")
    trained[i].plot(WIDE, ax, color=f"C{i}")
ax.set(title="stochastic gradients", xlabel="units n", ylabel="loss")
ax.legend(fontsize="small", title="batch, time, exponent")
ax = panels[0, 2]
for k, d in enumerate(DIMS):
    points(ax, NARROW, across[d], color=f"C{k}", label=f"d = {d}: {across_rates[d].exponent:.2f}")
    across_rates[d].plot(NARROW, ax, color=f"C{k}")
ax.set(
    title="tanh units, SGD, t = 20", xlabel="units n",
    ylabel="$\\frac{1}{2}\\Vert f_n - f_\\infty\\Vert^2$",
)  # fmt: skip
ax.legend(fontsize="small", title="dimension, exponent")
ax = panels[1, 0]
for w, n in enumerate(WIDTHS):
    points(ax, TIMES[1:], losses[:, 1:, w], color=f"C{w}", ls="-", label=f"n = {n}")
ax.plot(TIMES[1:], limit_loss[1:], "k--", label="limit")
ax.set(title="exact gradients: loss", xlabel="time t", ylabel="loss", xscale="log", yscale="log")
ax.legend(fontsize="small")
ax = panels[1, 1]
for curves, color, label in ((bare, "C0", "without biases"), (full, "C1", "with biases")):
    ax.plot(late, curves.T, color, lw=1, alpha=0.6)
    ax.plot(late, curves.mean(0), color, lw=2, label=label)
ax.axhline(floor, color="k", ls="--", lw=1, label="$\\frac{1}{2}\\Vert f_3\\Vert^2$")
ax.set(
    title="ReLU units (n = 64): the floor", xlabel="time t", ylabel="loss", xscale="symlog",
    yscale="log",
)  # fmt: skip
ax.legend(fontsize="small")
ax = panels[1, 2]
for color, w in (("C1", 0), ("C0", len(WIDE) - 1)):
    mean, spread = slices[w].mean(0), 2 * slices[w].std(0, ddof=1)
    ax.fill_between(theta, mean - spread, mean + spread, color=color, alpha=0.3, lw=0)
    ax.plot(theta, slices[w][0], color, lw=1, label=f"n = {WIDE[w]}, one run (band: ±2 sd over seeds)")
ax.plot(theta, jax.vmap(f)(circle)[:, 0], "k--", label="target")
ax.set(
    title="a slice after SGD, t = 256", xlabel="$\\theta$, $x = \\sqrt{d}\\,(\\sin\\theta, \\cos\\theta, 0, …)$",
    ylabel="$f(x)$",
)  # fmt: skip
ax.legend(fontsize="x-small")
folder = Path(__file__).parent / "figures"
folder.mkdir(exist_ok=True)
figure.savefig(folder / "three_spin.png", dpi=150)
say(f"\nfigure: {folder / 'three_spin.png'}")
