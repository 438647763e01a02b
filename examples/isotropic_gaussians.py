"""
Two isotropic Gaussians, on a line
==================================

Two classes N(0, (1 ± Δ)² I_d) are told apart by neurons of which only the length |w| = r matters: a
law of weights in R^d becomes a law on a line (Mei, Montanari & Nguyen, arXiv:1804.06561). There the
best risk is found, which is zero beyond a threshold of Δ that is known in closed form, and SGD in
40 dimensions is compared with it at all times.

Run it with ``python examples/isotropic_gaussians.py``. It prints its tables and saves
``examples/figures/isotropic_gaussians.png``.
"""

# %%
# The best risk
# -------------
# In the limit d → ∞: the risk E (y − ŷ)² at which 16 particles come to rest. Up to the threshold
# its root reaches zero like a line, beyond it the risk is zero: the threshold is where a parabola
# through the last values (of the root) vanishes.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Gaussian, Measure, Network, shallow
from limits import Adaptive, Data, Risk, flow, train
from limits.references import IsotropicGaussians, grid_flow

jax.config.update("jax_enable_x64", True)


@eqx.filter_jit
def settle(delta, t1):
    begin = Measure(jnp.linspace(0.5, 3.0, 16)[:, None], jnp.full(16, 1 / 16))
    run = flow(
        Network.particles(begin),
        IsotropicGaussians(delta).interaction,
        t1=t1,
        solver=Adaptive(rtol=1e-8, atol=1e-10, max_steps=10**6),
    )
    return 2 * run.energies[-1], run.final.points(0)[:, 0]


DELTAS = np.array([0.1, 0.2, 0.3, 0.4, 0.44, 0.455, 0.47, 0.48, 0.5, 0.6, 0.8])
print(f"{'Δ':>6}{'risk':>14}{'spread of r':>14}")
best = np.zeros(len(DELTAS))
for i, delta in enumerate(DELTAS):
    value, ends = settle(jnp.array(delta), jnp.array(1e4))
    best[i] = max(float(value), 0)
    say(f"{delta:>6}{best[i]:>14.3e}{np.ptp(ends):>14.1e}")
line = np.polyfit(np.sqrt(best[5:7]), DELTAS[5:7], 1)[-1]
found = np.polyfit(np.sqrt(best[4:7]), DELTAS[4:7], 2)[-1]
threshold = IsotropicGaussians.threshold()
say(f"threshold {found:.5f} (by a line {line:.5f}), closed form {threshold:.5f}")

# %%
# SGD in 40 dimensions
# --------------------
# Δ = 0.8, w of law N(0, 0.64 I/d) at the start, single precision: norms of 400 neurons under SGD
# with batches of 100.

D, DELTA, SPREAD, SEEDS = 40, 0.8, 0.8, 8
TIMES = np.array([0.0, 0.3, 1.0, 3.0, 8.0])


def hinge(theta, x):
    return jnp.clip(-2.5 + 10 * (jnp.dot(theta, x) - 0.5), -2.5, 7.5)[None]


class Classes(eqx.Module):
    """Fresh samples of the two classes."""

    def __call__(self, size, key):
        label, noise = jax.random.split(key)
        y = jax.random.rademacher(label, (size, 1), jnp.float32)
        return (1 + DELTA * y) * jax.random.normal(noise, (size, D), jnp.float32), y


def neurons(network):
    return network.points(0)


@eqx.filter_jit
def learned(keys):
    """Norms of neurons (seeds, times, neurons)."""
    nothing = jnp.zeros((1, D), jnp.float32), jnp.zeros((1, 1), jnp.float32)
    risk = Risk(Data(*nothing, sampler=Classes()))
    vectors = shallow(hinge, Gaussian(D, jnp.float32(0.0), jnp.float32(SPREAD / D**0.5)))
    times = jnp.asarray(TIMES, jnp.float32)

    def one(key):
        return train(
            vectors.sample(400, key=jax.random.fold_in(key, 0)),
            risk,
            step=jnp.float32(0.002),
            batch=100,
            t1=times[-1],
            times=times,
            observe=neurons,
            key=jax.random.fold_in(key, 1),
        ).observed

    return jnp.linalg.norm(jax.vmap(one)(keys), axis=-1)


seen = np.asarray(learned(jax.random.split(jax.random.key(30), SEEDS)))
norms = seen.transpose(1, 0, 2).reshape(len(TIMES), -1)
say(f"\nSGD: {norms.shape[1]} norms in all, from {norms.min():.2f} to {norms.max():.2f}")

# %%
# The law on the line
# -------------------
# The law of r on a grid, in 40 and in infinitely many dimensions, and as 400 particles. The
# Kolmogorov distance of 3,200 independent draws from their law is below 0.024 with probability
# 0.95; neurons of one network are not quite independent.


def chi(theta):
    """The density of |w| at the start."""
    r = theta[0]
    return jnp.exp((D - 1) * jnp.log(r / SPREAD) - D * (r / SPREAD) ** 2 / 2 + (D - 1) / 2)


def on_grid(dim, cells):
    energy = IsotropicGaussians(DELTA, dim).interaction
    return grid_flow(energy, chi, t1=TIMES[-1], times=TIMES, low=0.0, high=4.0, cells=cells)


laws = {dim: on_grid(dim, 1200) for dim in (D, None)}
half = on_grid(D, 600).energies[-1]
radii = np.asarray(laws[D].points)[:, 0]
faces = radii + (radii[1] - radii[0]) / 2
quantiles = np.interp((np.arange(400) + 0.5) / 400, np.cumsum(laws[D].masses[0]), faces)
points = flow(
    Network.particles(Measure(quantiles[:, None], np.full(400, 1 / 400))),
    IsotropicGaussians(DELTA, D).interaction,
    t1=TIMES[-1],
    times=TIMES,
    solver=Adaptive(rtol=1e-5),
)


def kolmogorov(r, masses):
    return np.abs(np.searchsorted(np.sort(r), faces) / len(r) - np.cumsum(masses)).max()


say(f"risk at the end {2 * laws[D].energies[-1]:.4f}, with half of the cells {2 * half:.4f}")
print(f"{'':>6}{'risk':^36}{'mean of r':^31}{'Kolmogorov distance of SGD from the law':^48}")
print(f"{'time':>6}{'grid':>12}{'particles':>12}{'d → ∞':>12}{'SGD':>20}{'grid':>11}{'now':>14}"
      f"{'d → ∞':>14}{'time before':>14}")  # fmt: skip
for k, t in enumerate(TIMES):
    own, flat = (kolmogorov(norms[k], laws[dim].masses[k]) for dim in (D, None))
    before = kolmogorov(norms[k], laws[D].masses[max(k - 1, 0)])
    means = seen[:, k].mean(1)
    mean = f"{means.mean():.4f} ± {means.std(ddof=1) / SEEDS**0.5:.4f}"
    print(f"{t:>6}{2 * laws[D].energies[k]:>12.4f}{2 * points.energies[k]:>12.4f}"
          f"{2 * laws[None].energies[k]:>12.4f}{mean:>20}{laws[D].measure(k).mean[0]:>11.4f}"
          f"{own:>14.3f}{flat:>14.3f}{before:>14.3f}")  # fmt: skip

# %%
# The figure
# ----------

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), constrained_layout=True)
left.plot(DELTAS, np.sqrt(best), "ok", ms=4, label="16 particles at rest")
left.axvline(threshold, color="C3", lw=1, ls="--", label=f"closed form, Δ = {threshold:.4f}")
left.set(xlabel="Δ", ylabel="root of the best risk", title="d → ∞: the best risk")
left.legend()
for k, t in enumerate(TIMES):
    right.hist(norms[k], bins=120, range=(0.4, 3.4), density=True, alpha=0.35, color=f"C{k}")
    right.plot(radii, laws[D].masses[k] / laws[D].volume, color=f"C{k}", label=f"time {t:g}")
right.set(xlim=(0.4, 3.4), xlabel="$r = |w|$", ylabel="density")
right.set_title(f"Δ = {DELTA}, d = {D}: SGD ({SEEDS} seeds, histograms) and the grid (lines)")
right.legend()
save(figure, "isotropic_gaussians")
