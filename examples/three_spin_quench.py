"""
The 3-spin function: late losses and a quench
=============================================

Stochastic gradient descent of networks of n units on a rough function on the sphere
(Rotskoff & Vanden-Eijnden, arXiv:1805.00915; see ``three_spin.py``) ends at a loss that sampling
makes. A quench, some time with large batches or exact gradients, removes it: what is left are modes
that decay slowly. The target has no noise, so that sampling noise is proportional to what is left
to learn, and late losses are no power of n.

Run it with ``python examples/three_spin_quench.py``. It prints its tables and saves
``examples/figures/three_spin_quench.png``.
"""

# %%
# The target and the units
# ------------------------
# As there: f(x) = Σ a_ijk x_i x_j x_k / d in d = 5, units 32 c exp(−|x − y|²/2) with centres y on
# the sphere, whose potentials are known, so that gradients can be exact.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Gaussian, Network, Product, Sphere, particles, quadrature, shallow
from limits import Data, Interaction, Risk, fit_power_law, train
from limits.kernels import RBFKernel
from limits.references import ThreeSpin

D, SCALE, SEEDS, STEP = 5, 32.0, 8, 0.1
f = ThreeSpin(jax.random.normal(jax.random.key(D), (D, D, D)))
data = Data.from_space(Sphere(D, D**0.5), f, 2048, key=jax.random.key(100 + D))


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
# The loss of few units goes on to fall after that of the limit (512 Sobol nodes) is small, and
# faster than 1/n.

FEW, LATE = [16, 32, 64, 128], jnp.array([1.0, 4.0, 16.0, 64.0, 256.0])


@eqx.filter_jit
def descend(network):
    return train(network, exact, step=STEP, t1=LATE[-1], times=LATE).energies


@eqx.filter_jit
def descents(n, keys):
    return jax.vmap(lambda key: descend(particles(start).sample(n, key=key)))(keys)


def keys(what, n, seeds=SEEDS):
    return jax.random.split(jax.random.fold_in(jax.random.key(what), n), seeds)


late_limit = descend(Network.particles(quadrature(start, 512, key=jax.random.key(512))))
say(f"the limit's loss at t = {LATE[-1]:.0f} is {late_limit[-1]:.1e}")
losses = np.stack([descents(n, keys(1, n)) for n in FEW], 2)  # seeds, times, widths
say(f"exact gradients, n = {FEW}, {SEEDS} seeds: the loss (mean over seeds), its exponent in n")
for i, t in enumerate(LATE):
    several = "  ".join(f"{v:.2e}" for v in losses[:, i].mean(0))
    print(
        f"{t:4.0f}  {several}  limit {late_limit[i]:.2e}  {fit_power_law(FEW, losses[:, i])}",
        flush=True,
    )

# %%
# Batches, and a quench
# ---------------------
# Batches of n/32 up to time 256, then up to 320 batches of n²/1024, or exact gradients. Late losses
# fall from n to 2n by powers that change with n. What sampling costs in the quench, the difference
# from exact gradients, falls fast.

WIDE, QUENCHED, TURN, END = [128, 256, 512, 1024], [128, 256, 512], 256.0, 320.0
theta = np.linspace(0, 2 * np.pi, 181)
circle = np.sqrt(D) * np.stack([np.sin(theta), np.cos(theta), *[0 * theta] * (D - 2)], 1)
circle = jnp.asarray(circle, data.x.dtype)


@eqx.filter_jit
def stochastic(n, batch, keys):
    def one(key):
        first, second = jax.random.split(key)
        network = shallow(unit, start).sample(n, key=first)
        return train(network, risk, step=STEP, batch=batch, t1=TURN, key=second)

    return jax.vmap(one)(keys)


@eqx.filter_jit
def quench(networks, batch, keys):
    def one(network, key):
        options = dict(t0=TURN, t1=END, step=STEP)
        large = train(network, risk, batch=batch, key=key, **options)
        still = train(Network.particles(network.measure(0)), exact, **options)
        return jnp.stack([large.energies[-1], still.energies[-1]], 0)

    return jax.vmap(one)(networks, keys)


few, many, runs = [], [], {}
for n in WIDE:
    few.append(np.asarray(stochastic(n, 4, keys(2, n)).energies[:, -1]))
    runs[n] = stochastic(n, n // 32, keys(2, n))
    many.append(np.asarray(runs[n].energies[:, -1]))
    say(f"{n} units: loss {few[-1].mean():.1e} on batches of 4, {many[-1].mean():.1e} of n/32")
few, many = np.stack(few, 1), np.stack(many, 1)
large, still = np.stack(
    [quench(runs[n].final, n**2 // 1024, keys(3, n)) for n in QUENCHED], 2
).swapaxes(0, 1)
slices = {n: jax.vmap(lambda network: network(circle)[:, 0])(runs[n].final) for n in (128, 1024)}
stages = {
    "batch 4, t = 256": (WIDE, few),
    "batch n/32, t = 256": (WIDE, many),
    "then n²/1024, t = 320": (QUENCHED, large),
    "then exact, t = 320": (QUENCHED, still),
}
say(f"\nSGD, n = {WIDE}, {SEEDS} seeds: the loss (mean over seeds), its exponent in n")
trained = {name: fit_power_law(*stage) for name, stage in stages.items()}
for name, (_, loss) in stages.items():
    means = loss.mean(0)
    several, local = "  ".join(f"{v:.2e}" for v in means), np.diff(np.log2(means))
    print(
        f"{name:>22}  {several:<38}  {trained[name]}, from n to 2n {np.round(local, 2)}", flush=True
    )
cost = large - still
several = (
    f"{m:.1e} ± {2 * v:.0e}"
    for m, v in zip(cost.mean(0), cost.std(0, ddof=1) / SEEDS**0.5, strict=True)
)
print(
    f"n²/1024 minus exact, n = {QUENCHED}: {', '.join(several)} (two standard errors)", flush=True
)

# %%
# The figure
# ----------
# Means over seeds with two standard errors, and fitted laws (dashed).


def points(ax, x, values, **style):
    mean, spread = values.mean(0), 2 * values.std(0, ddof=1) / np.sqrt(len(values))
    ax.errorbar(x, mean, np.minimum(spread, 0.9 * mean), fmt="o", ms=4, capsize=2, **style)


figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
for w, n in enumerate(FEW):
    points(left, LATE, losses[:, :, w], color=f"C{w}", ls="-", label=f"n = {n}")
left.loglog(LATE, late_limit, "k--", label="limit")
left.set(title="exact gradients", xlabel="time t", ylabel="loss")
left.legend(fontsize="small")
for i, (name, (widths, loss)) in enumerate(stages.items()):
    rate = trained[name]
    points(middle, widths, loss, color=f"C{i}", label=f"{name}: {rate.exponent:.2f}")
    rate.plot(widths, middle, color=f"C{i}")
middle.set(title="SGD, and the quench", xlabel="units n", ylabel="loss", ylim=(5e-5, 5e-2))
middle.set_xticks(WIDE, [str(n) for n in WIDE])
middle.xaxis.minorticks_off()
middle.legend(fontsize="small", title="batch, time: exponent")
for color, (n, values) in zip(("C1", "C0"), slices.items(), strict=True):
    mean, spread = values.mean(0), 2 * values.std(0, ddof=1)
    right.fill_between(theta, mean - spread, mean + spread, color=color, alpha=0.3, lw=0)
    right.plot(theta, values[0], color, lw=1, label=f"n = {n}, one run")
right.plot(theta, jax.vmap(f)(circle)[:, 0], "k--", label="target")
right.set(
    title="after SGD with batches of n/32, t = 256", ylabel="$f(x)$", ylim=(None, 4),
    xlabel="$\\theta$, with $x = \\sqrt{d}\\,(\\sin\\theta, \\cos\\theta, 0, …)$",
)  # fmt: skip
right.legend(fontsize="small", title="bands: ± 2 sd over seeds")
save(figure, "three_spin_quench")
