"""
The 3-spin function on the sphere
=================================

Rotskoff & Vanden-Eijnden (arXiv:1805.00915) train networks of n units on
f(x) = Σ a_ijk x_i x_j x_k / d, a rough function on the sphere of radius √d in R^d, and find errors
of order 1/n in every dimension: the law of large numbers at finite times, and, with batches that
grow like n, under stochastic gradient descent; later, at times that grow with n, errors are of
higher order. What becomes of the error under noise is in ``three_spin_quench.py``.

Run it with ``python examples/three_spin.py``. It prints its tables and saves
``examples/figures/three_spin.png``.
"""

# %%
# The target and the units
# ------------------------
# In the mean over a ‖f‖² is d, 5 here. Units are c φ(x, y) = 32 c exp(−|x − y|²/2) with centres y
# on the sphere. Their potential F = c E[f φ] is Funk–Hecke's, K = c c' E[φ φ'] depends on ⟨y, y'⟩
# only: a polynomial through ``RBFKernel``. Charges c start as N(0, 1), centres uniformly.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import (
    Affine,
    Gaussian,
    Network,
    NeuronalEnsemble,
    Product,
    Sphere,
    particles,
    quadrature,
    shallow,
)
from limits import Data, Interaction, Risk, fit_power_law, train
from limits.kernels import RBFKernel
from limits.references import ThreeSpin

D, SCALE, SEEDS, STEP = 5, 32.0, 8, 0.1


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
power = np.polynomial.Chebyshev.fit(nodes, heights, 15, [-1, 1]).convert(
    kind=np.polynomial.Polynomial
)
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
# Gradient descent with step 0.1. At a fixed time ½‖f_n − f_∞‖² is of order 1/n for large n, and n
# times it falls with time: fluctuations heal. So the n from which on it is 1/n grows with time. The
# limit is a network of 2048 Sobol nodes, its error the distance from one of 1024. At times a_n that
# grow faster than log n the source has squared errors up to n^−2: a_n = 2 log² n here.

WIDTHS, TIMES = [64, 128, 256, 512], jnp.array([0.0, 1.0, 4.0, 16.0])
LATE = [float(np.round(2 * np.log(n) ** 2, 1)) for n in WIDTHS]
EVERY = jnp.array([*TIMES, *LATE])
probes = data.x[:512]


def outputs(network):
    return Network.shallow(unit, network.measure(0))(probes)[:, 0]


@eqx.filter_jit
def descend(network, times):
    run = train(network, exact, step=STEP, t1=times[-1], times=times, observe=outputs)
    return run.energies, run.observed


@eqx.filter_jit
def descents(n, keys, times):
    return jax.vmap(lambda key: descend(particles(start).sample(n, key=key), times))(keys)


def keys(what, n, seeds=SEEDS):
    return jax.random.split(jax.random.fold_in(jax.random.key(what), n), seeds)


def quadratures(n, number):
    return Network.particles(quadrature(start, n, key=jax.random.key(number)))


(limit_loss, limit), (_, other) = (descend(quadratures(n, n), EVERY) for n in (2048, 1024))
error = ((limit - other) ** 2).mean(1) / 2
say(f"the limit's loss at t = {EVERY[-1]:.0f} is {limit_loss[-1]:.1e}")
runs = [descents(n, keys(1, n), jnp.array([*TIMES, t])) for n, t in zip(WIDTHS, LATE, strict=True)]
early, late_limit = slice(len(TIMES)), limit[len(TIMES) :]
seen = [outputs for _, outputs in runs]
far = np.stack([((s[:, early] - limit[early]) ** 2).mean(2) / 2 for s in seen], 2)
healing = [fit_power_law(WIDTHS, far[:, i]) for i in range(len(TIMES))]
say(f"\nexact gradients, n = {WIDTHS}, {SEEDS} seeds: e = ½‖f_n − f_∞‖²")
print("   t  loss of the limit  error of e   512 e at n = 512   exponent of e in n")
for i, t in enumerate(TIMES):
    print(
        f"{t:4.0f}  {limit_loss[i]:17.2e}  {error[i]:10.0e}  {512 * far[:, i, -1].mean():17.3f}   "
        f"{healing[i]}", flush=True,
    )  # fmt: skip

late = {  # seeds, widths
    "½‖f_n − f_∞‖²": np.stack([((s[:, -1] - f_t) ** 2).mean(1) / 2 for s, f_t in
                               zip(seen, late_limit, strict=True)], 1),
    "½‖f_n − f‖²": np.stack([losses[:, -1] for losses, _ in runs], 1),
}  # fmt: skip
late_rates = {name: fit_power_law(WIDTHS, values) for name, values in late.items()}
say(f"\nat a_n = 2 log² n = {LATE}, limit's loss {limit_loss[len(TIMES):]}, error of e "
    f"{error[len(TIMES):]}")  # fmt: skip
for name, values in late.items():
    print(f"{name:>14}: {'  '.join(f'{v:.2e}' for v in values.mean(0))}  {late_rates[name]}")
assert late_rates["½‖f_n − f_∞‖²"].high < -1.4

# %%
# Stochastic gradient descent
# ---------------------------
# On n/8 fresh samples for each step, step/batch is proportional to 1/n, and at finite times so is
# the distance from the limit. On 8 samples whatever n it is not.


@eqx.filter_jit
def sampled(n, batch, keys):
    def one(key):
        first, second = jax.random.split(key)
        network = shallow(unit, start).sample(n, key=first)
        run = train(
            network,
            risk,
            step=STEP,
            batch=batch,
            t1=TIMES[-1],
            times=TIMES,
            key=second,
            observe=outputs,
        )
        return run.observed

    return jax.vmap(one)(keys)


def distances(batches):
    found = [sampled(n, b, keys(7, n)) for n, b in zip(WIDTHS, batches, strict=True)]
    return np.stack([((s - limit[early]) ** 2).mean(2) / 2 for s in found], 2)


noisy = {"n/8": distances([n // 8 for n in WIDTHS]), "8": distances([8] * len(WIDTHS))}
say(f"\nSGD, n = {WIDTHS}, {SEEDS} seeds: e = ½‖f_n − f_∞‖² (mean over seeds), its exponent in n")
noisy_rates = {
    b: [fit_power_law(WIDTHS, e[:, i]) for i in range(len(TIMES))] for b, e in noisy.items()
}
for batch, e in noisy.items():
    for i in range(1, len(TIMES)):
        several = "  ".join(f"{v:.2e}" for v in e[:, i].mean(0))
        print(
            f"batch {batch:>3}, t = {TIMES[i]:2.0f}  {several}  {noisy_rates[batch][i]}", flush=True
        )

# %%
# Every dimension
# ---------------
# Units c tanh(⟨a, x⟩ + b) in d = 5, 10, 25, by SGD with step 0.025 on n fresh samples, to t = 2.5.
# The limit is the mean of eight networks of 1024 units on batches of 1024.

DIMS, MORE, EARLY = [5, 10, 25], 16, 2.5


def tanh_network(d):
    space = Product(Gaussian(d, scale=d**-0.5), Gaussian(1), Gaussian(1))
    return NeuronalEnsemble(
        [space], [lambda c: c[:d], lambda c: c[d + 1 :]], [lambda c: c[d], None],
        layers=Affine(jnp.tanh),
    )  # fmt: skip


@eqx.filter_jit
def learned(d, n, keys, risk):
    def one(key):
        first, second = jax.random.split(key)
        network = tanh_network(d).sample(n, key=first)
        run = train(network, risk, step=0.025, batch=n, t1=EARLY, key=second)
        return run.energies, run.final(risk.data.x)[:, 0]

    return jax.vmap(one)(keys)


across, across_rates = {}, {}
say(f"\ntanh units, n = {WIDTHS}, {MORE} seeds, t = {EARLY}: ½‖f_n − f_∞‖², its exponent in n")
for d in DIMS:
    goal, sphere = population(d, 1024)
    wide, reference = (a.mean(0) for a in learned(d, 1024, keys(5, d), Risk(sphere)))
    seen = [learned(d, n, keys(6, n, MORE), Risk(sphere))[1] for n in WIDTHS]
    across[d] = np.stack([((s - reference) ** 2).mean(1) / 2 for s in seen], 1)
    across_rates[d] = fit_power_law(WIDTHS, across[d])
    say(
        f"d = {d:2d}: {'  '.join(f'{v:.2e}' for v in across[d].mean(0))}  {across_rates[d]}; loss "
        f"of the limit from {wide[0]:.2f} to {wide[1]:.2f}"
    )

# %%
# The figure
# ----------
# Means over seeds with two standard errors, and fitted laws (dashed); in the second panel, where
# the loss is the limit's own but for small n, powers −1 and −2 (grey).

figure, panels = plt.subplots(2, 2, figsize=(11, 9), constrained_layout=True)
panels = panels.ravel()


def points(ax, values, rate, color, label):
    mean, spread = values.mean(0), 2 * values.std(0, ddof=1) / np.sqrt(len(values))
    label = f"{label}: {rate.exponent:.2f} [{rate.low:.2f}, {rate.high:.2f}]"
    ax.errorbar(WIDTHS, mean, np.minimum(spread, 0.9 * mean), fmt="o", ms=4, capsize=2,
                color=color, label=label)  # fmt: skip
    rate.plot(WIDTHS, ax, color=color)


for i, rate in enumerate(healing):
    points(panels[0], far[:, i], rate, f"C{i}", f"t = {TIMES[i]:.0f}")
labels = "$\\Vert f_n - f_\\infty\\Vert^2/2$", "the loss $\\Vert f_n - f\\Vert^2/2$"
for k, (name, label) in enumerate(zip(late, labels, strict=True)):
    points(panels[1], late[name], late_rates[name], f"C{k}", label)
    guide = late[name].mean(0)[0] * (np.array(WIDTHS) / WIDTHS[0]) ** (k - 2.0) * 1.6
    panels[1].plot(WIDTHS, guide, color="0.6", lw=1, ls=":-"[k], label=f"slope −{2 - k}")
for batch, i, color in (("n/8", 1, "C1"), ("n/8", 2, "C2"), ("n/8", 3, "C3"), ("8", 1, "0.5")):
    label = f"{batch}, t = {TIMES[i]:.0f}"
    points(panels[2], noisy[batch][:, i], noisy_rates[batch][i], color, label)
for k, d in enumerate(DIMS):
    points(panels[3], across[d], across_rates[d], f"C{k}", f"d = {d}")
for ax, title, legend in zip(
    panels,
    (
        "exact gradients",
        "exact gradients, $t = 2\\log^2 n$",
        "SGD",
        f"SGD in every dimension, tanh units, t = {EARLY}",
    ),
    ("time: exponent", "exponent", "batch, time: exponent", "dimension: exponent"),
    strict=True,
):
    ax.set(title=title, xlabel="units n", ylabel="$\\frac{1}{2}\\Vert f_n - f_\\infty\\Vert^2$")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 8)  # room for the legend
    ax.legend(fontsize="small", title=legend, loc="lower left")
    ax.set_xticks(WIDTHS, [str(n) for n in WIDTHS])
    ax.xaxis.minorticks_off()
panels[1].set_ylabel("half the squared distance")
save(figure, "three_spin")
