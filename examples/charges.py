"""
Charges, and the density that they make
=======================================

A network (1/n) Σ c_i φ(x, y_i) is a cloud of particles y_i with charges c_i (Rotskoff &
Vanden-Eijnden, arXiv:1805.00915). Charges that cannot change sign leave an error that no training
removes; charges that move flip where they must. What training finds is the density of charge G, the
solution of F = K G, and many clouds have the same G.

Run it with ``python examples/charges.py``. It prints its tables and saves
``examples/figures/charges.png``.
"""

# %%
# A target that changes sign
# --------------------------
# Gaussian units on the line, whose potentials are known. The target is made of the same units, with
# charges 1, −1.5 and 1 at −2, 0 and 2. One start for all, 100 particles at places U(−3, 3):
# charges +1 that are frozen; eˢ, which stay positive; ±1 at random, frozen; and +1 that are free.
# The particle is (s, y), and only the charge's function of s differs.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import nnls
from scipy.special import eval_legendre

from ensembles import (
    Gaussian,
    Measure,
    Network,
    Product,
    Sphere,
    Uniform,
    wasserstein,
)  # fmt: skip
from limits import Interaction, optimality_gap, train
from limits.kernels import GaussianOverlap

N, SEEDS, STEP, END = 100, 5, 0.1, 1600.0
TIMES = jnp.asarray([0.0, *np.round(10 ** np.linspace(0, np.log10(END), 25), 1)])
overlap = GaussianOverlap(0.5)
PLACES, GIVEN = jnp.array([[-2.0], [0.0], [2.0]]), jnp.array([1.0, -1.5, 1.0])
HALF_NORM = (
    GIVEN @ jax.vmap(lambda y: jax.vmap(lambda z: overlap(y, z))(PLACES))(PLACES) @ GIVEN / 2
)


def seen(y):
    """⟨f, φ(·, y)⟩."""
    return GIVEN @ jax.vmap(lambda z: overlap(y, z))(PLACES)


def charged_by(charge):
    return Interaction(
        lambda t: charge(t[0]) * seen(t[1:]),
        lambda t, u: charge(t[0]) * charge(u[0]) * overlap(t[1:], u[1:]),
        HALF_NORM,
        space=Gaussian(2),  # all of the plane
    )


def points(network):
    return network.points(0)


def free(s):
    return s


KINDS = {  # how s makes the charge, and the s of the start (signs: ±1 at random)
    "frozen +1": (jnp.sign, lambda signs: abs(signs)),
    "positive, eˢ": (jnp.exp, lambda signs: 0 * signs),
    "frozen ±1": (jnp.sign, lambda signs: signs),
    "free, from +1": (free, lambda signs: abs(signs)),
}


@eqx.filter_jit
def descend(network, energy):
    options = dict(step=STEP, t1=TIMES[-1], times=TIMES)
    run = train(network, energy, observe=points, **options)
    return run.energies, run.observed


def start(key, first):
    signs, places = jax.random.split(key)
    s = first(jax.random.rademacher(signs, (N, 1), float))
    y = Uniform(-3.0, 3.0).draw(N, places)
    return Network.particles(Measure(jnp.concatenate([s, y], 1), jnp.full(N, 1 / N)))


keys = jax.random.split(jax.random.key(0), SEEDS)
ran = {}
for name, (charge, first) in KINDS.items():
    energy = charged_by(charge)
    ran[name] = tuple(
        np.stack(a) for a in zip(*(descend(start(k, first), energy) for k in keys), strict=True)
    )
    say(f"{name}: energy {ran[name][0][:, -1].mean():.2e}")

# %%
# The floors
# ----------
# The least energy of non-negative densities, and of those of given totals, by non-negative least
# squares on a grid of places. Positive charges reach theirs and never cross it. Frozen ones keep
# their totals, and rest above the floor of these.

X, GRID = np.linspace(-15, 15, 1201), np.linspace(-12, 12, 1921)


def bumps(places):
    return np.exp(-((X[:, None] - np.asarray(places)) ** 2)) / np.sqrt(np.pi)


target, atoms = bumps(PLACES[:, 0]) @ np.asarray(GIVEN), bumps(GRID)
print(
    f"½‖f‖² = {float(HALF_NORM):.5f}; by the grid of x {(target**2).sum() * (X[1] - X[0]) / 2:.5f}"
)


def floor(positive=None, negative=0.0):
    """min ½‖f − ∫ φ d(ν − ν')‖² over ν, ν' ≥ 0: ν' = 0 and any ν, or both of given totals."""
    scale = np.sqrt(X[1] - X[0])
    if positive is None:
        return nnls(atoms * scale, target * scale)[1] ** 2 / 2
    sums = 1e3 * np.kron(np.eye(2), np.ones(len(GRID)))
    rows = np.concatenate([np.concatenate([atoms, -atoms], 1) * scale, sums])
    wanted = np.concatenate([target * scale, [1e3 * positive, 1e3 * negative]])
    return nnls(rows, wanted)[1] ** 2 / 2


pluses = (ran["frozen ±1"][1][:, 0, :, 0] > 0).mean(1)
FLOORS = {
    "frozen +1": floor(1.0),
    "positive, eˢ": floor(),
    "frozen ±1": np.mean([floor(p, 1 - p) for p in pluses]),
}
flips = {
    name: (np.sign(cloud[:, -1, :, 0]) != np.sign(cloud[:, 0, :, 0])).sum(1)
    for name, (_, cloud) in ran.items()
    if name != "positive, eˢ"
}
print(f"\nE at t = {END:.0f} (mean over {SEEDS} seeds, smallest, largest), its floor, flips")
for name, (energies, _) in ran.items():
    last, least = energies[:, -1], FLOORS.get(name, 0.0)
    print(f"{name:>14}: {last.mean():.6f} [{last.min():.6f}, {last.max():.6f}], floor {least:.6f}, "
          f"of {N}: {flips.get(name, np.zeros(SEEDS, int))}")  # fmt: skip

# %%
# A fixed point that is no minimiser
# ----------------------------------
# One neuron descends until it rests. N copies of it rest, too: forces are the same on all. Mass
# added elsewhere, of the right sign, lowers the energy: at once by −dE/dε = ∫ Ψ dμ − Ψ, and more as
# the mixture moves. A single place where Ψ is least ends at another such point, of two neurons; a
# cloud of charge 0 finds the minimum; more copies in the same place (the control) change nothing.

energy = charged_by(free)
ENDLESS = jnp.array([0.0, 1.0, 10.0, 100.0, END])
box = Uniform((-3.0, -5.0), (3.0, 5.0))


@eqx.filter_jit
def rest(network, times=ENDLESS):
    run = train(network, energy, step=STEP, t1=times[-1], times=times)
    return run.energies, run.final.measure(0)


alone = rest(Network.particles(Measure([[1.0, 2.4]], [1.0])))[1]
copies = Measure(jnp.tile(alone.points, (N, 1)), jnp.full(N, 1 / N))
fresh = Measure(
    jnp.concatenate([jnp.zeros((N, 1)), Uniform(-3.0, 3.0).draw(N, jax.random.key(1))], 1),
    jnp.full(N, 1 / N),
)
still = Network.particles(copies)
gap = optimality_gap(still, energy, space=box, key=jax.random.key(2))
best = Measure(jnp.asarray(gap.minimiser, jnp.float32)[None], jnp.ones(1))
SHARES = {"copies alone": None, "a fifth more of them": copies, "a fifth at rest elsewhere": fresh,
          "a fifth where Ψ is least": best}  # fmt: skip
left = {}
c, y = (float(a) for a in alone.points[0])
say(f"\nthe copies are at c = {c:.4f}, y = {y:.4f}; with charges in [−3, 3]: {gap}")
print(f"energies at t = {[float(t) for t in ENDLESS]}")
for name, more in SHARES.items():
    mixed = copies if more is None else Measure.mixture([copies, more], [0.8, 0.2])
    left[name] = np.asarray(rest(Network.particles(mixed))[0])
    print(f"{name:>26}: " + "  ".join(f"{e:.6f}" for e in left[name]), flush=True)
little = Network.particles(Measure.mixture([copies, best], [0.999, 0.001]))
print(f"dE/dε of mass there: {(energy(little) - energy(still)) / 0.001:.4f}, of which the first "
      f"variation says {-gap.gap:.4f}")  # fmt: skip

# %%
# F = K G
# -------
# On the unit sphere of R³, with units 27 exp(10(⟨x, y⟩ − 1)) and f = 0.3 P_ℓ(x_1): by Funk–Hecke
# F = λ_ℓ f and K has the eigenvalues λ², so that the charge density of a perfect fit is f/λ_ℓ, up
# to what the units cannot see. Its component ∫ f dG is to be ‖f‖²/λ_ℓ.

KAPPA, HEIGHT, SIZE, CLOUD, LONG = 10.0, 27.0, 0.3, 200, 60.0
SPHERE = Product(Gaussian(1), Sphere(3))
t, w = np.polynomial.legendre.leggauss(64)
LAMBDA = {
    k: float(w @ (HEIGHT * np.exp(KAPPA * (t - 1)) * eval_legendre(k, t)) / 2) for k in range(12)
}
LEGENDRE = {k: np.polynomial.legendre.leg2poly([0] * k + [1]) for k in (1, 3, 5)}


def zonal(degree, y):
    """0.3 P_ℓ(y_1)."""
    return SIZE * np.polynomial.Polynomial(LEGENDRE[degree])(y[..., 0])


class Force(eqx.Module):
    """λ_ℓ c f(y), of the coefficients of λ_ℓ f as a polynomial in y_1."""

    coefficients: jax.Array

    def __call__(self, theta):
        return theta[0] * jnp.polyval(self.coefficients, theta[1])


def pair(theta, other):
    """c c' E[φ φ'] = c c' 27² e^{−2κ} sinh(s)/s, s = κ|y + y'|."""
    s = KAPPA * jnp.sqrt(jnp.maximum(((theta[1:] + other[1:]) ** 2).sum(), 1e-8))
    wide = (jnp.exp(s - 2 * KAPPA) - jnp.exp(-s - 2 * KAPPA)) / (2 * s)
    return HEIGHT**2 * theta[0] * other[0] * wide


def fitting(degree):
    powers = np.zeros(6)
    powers[: degree + 1] = LAMBDA[degree] * SIZE * LEGENDRE[degree]
    force = Force(jnp.asarray(powers[::-1], jnp.float32))
    return Interaction(force, pair, SIZE**2 / (2 * degree + 1) / 2, space=SPHERE)


ONWARD = jnp.array([0.0, 1.0, 3.0, 10.0, 30.0, LONG])
TILTED = jnp.array([1.0, 0.0, 0.0])


def cloud(key, spread, tilt):
    charges, places = jax.random.split(key)
    y = jax.random.normal(places, (CLOUD, 3)) + tilt * TILTED
    c = spread * jax.random.normal(charges, (CLOUD, 1))
    y = y / jnp.linalg.norm(y, axis=1, keepdims=True)
    return Measure(jnp.concatenate([c, y], 1), jnp.full(CLOUD, 1 / CLOUD))


@eqx.filter_jit
def fit(measure, energy):
    run = train(Network.particles(measure), energy, step=0.05, t1=LONG, times=ONWARD,
                observe=points)  # fmt: skip
    return run.energies, run.observed


STARTS = {"c ~ N(0, 1)": (0, 1.0, 0.0), "again": (1, 1.0, 0.0), "c ~ N(0, 2²)": (2, 2.0, 0.0),
          "c = 0, tilted": (3, 0.0, 1.0)}  # fmt: skip
fits = {}
say(f"\nF = K G: ∫ f dG over ‖f‖²/λ at t = {[float(x) for x in ONWARD]}")
for degree, some in {1: 2, 3: 4, 5: 2}.items():
    for name, (seed, spread, tilt) in list(STARTS.items())[:some]:
        energies, path = fit(cloud(jax.random.key(10 + seed), spread, tilt), fitting(degree))
        c, y = np.asarray(path[..., 0]), np.asarray(path[..., 1:])
        found = (c * zonal(degree, y)).mean(1) * LAMBDA[degree] * (2 * degree + 1) / SIZE**2
        fits[degree, name] = c, y, found
        print(f"degree {degree} {name:>14}: {found.round(4)}, energy {energies[-1]:.1e}",
              flush=True)  # fmt: skip

# %%
# One G, many ρ
# -------------
# Of degree 3, from three laws. The distance of two G is that of their components up to degree 5,
# over that of f/λ; the distance of two clouds ρ is their transport distance W_2, to compare with
# that of two starts of one law.


def apart_in_G(a, b, time):
    """(Σ_{l ≤ 5} Σ_m |∫ Y_lm d(G − G')|²)^½ over ‖f‖/λ, by the addition theorem."""
    charge = np.concatenate([a[0][time], -b[0][time]]) / CLOUD
    places = np.concatenate([a[1][time], b[1][time]])
    turn = np.clip(places @ places.T, -1, 1)
    kernel = sum((2 * k + 1) * eval_legendre(k, turn) for k in range(6))
    return np.sqrt(charge @ kernel @ charge) * LAMBDA[3] * np.sqrt(7) / SIZE


def apart(a, b, time):
    one, other = (
        Measure(np.concatenate([x[0][time][:, None], x[1][time]], 1), np.full(CLOUD, 1 / CLOUD))
        for x in (a, b)
    )
    return wasserstein(one, other)


FIRST, *OTHERS = STARTS
pairs = {other: (fits[3, FIRST], fits[3, other]) for other in OTHERS}
table = {
    other: [measure(*two, time) for measure in (apart_in_G, apart) for time in (0, -1)]
    for other, two in pairs.items()
}
print(f"\ndistance from {FIRST}:   of G at t = 0, {LONG:.0f};   of ρ at t = 0, {LONG:.0f}")
for other, row in table.items():
    print(f"{other:>21}: " + "  ".join(f"{v:9.4f}" for v in row))

# %%
# What the tables say: frozen charges keep their signs and stay above their floors, positive ones
# come to theirs, free ones flip and fit. Copies stay, a fresh cloud leaves them for the minimum, a
# single place for another fixed point. All clouds have one density of charge.

ends = {name: energies[:, -1] for name, (energies, _) in ran.items()}
assert all((flips[name] == 0).all() for name in ("frozen +1", "frozen ±1"))
assert all((ends[name] > FLOORS[name] - 1e-4).all() for name in FLOORS)
assert abs(ends["positive, eˢ"] - FLOORS["positive, eˢ"]).max() < 1e-3
assert (flips["free, from +1"] > 0).all() and ends["free, from +1"].max() < 1e-3
assert max(np.ptp(left[name]) for name in list(SHARES)[:2]) < 1e-4
assert left["a fifth at rest elsewhere"][-1] < 1e-3 < 0.1 < left["a fifth where Ψ is least"][-1]
assert all(abs(found[-1] - 1) < 0.05 for _, _, found in fits.values())
assert all(row[1] < 0.1 and row[3] > row[2] / 2 for row in table.values())

# %%
# The figure
# ----------

COLOURS = dict(zip(KINDS, ("C7", "C0", "C1", "C3"), strict=True))
MARKERS = dict(zip(KINDS, ("s", "o", "^", "D"), strict=True))
figure, panels = plt.subplots(2, 3, figsize=(14, 8), constrained_layout=True)
(losses, charges, leaving), (components, densities, both) = panels
for name, (energies, ends) in ran.items():
    color = COLOURS[name]
    shown = np.maximum(energies, 1e-6)
    losses.plot(TIMES[1:], np.median(shown, 0)[1:], color=color, label=name)
    losses.fill_between(TIMES[1:], shown.min(0)[1:], shown.max(0)[1:], color=color, alpha=0.2, lw=0)
    if name in FLOORS:
        losses.axhline(FLOORS[name], color=color, ls=":", lw=1)
    s, y = ends[0, -1].T
    charges.plot(
        y, np.asarray(KINDS[name][0](s)), MARKERS[name], color=color, alpha=0.7, ms=4, label=name
    )
losses.set(xlabel="time $t$", ylabel="energy $E$", xscale="log", yscale="log",
           title="medians, ranges of 5 seeds, floors dotted (cut at 10⁻⁶)")  # fmt: skip
losses.legend(fontsize="small")
charges.plot(PLACES[:, 0], GIVEN, "k+", ms=10, mew=2, label="the target's")
charges.axhline(0, color="0.7", lw=0.8)
charges.set(
    title=f"particles at $t = {END:.0f}$, one seed", xlabel="place $y$", ylabel="charge $c$"
)
charges.legend(fontsize="small")
for i, (name, energies) in enumerate(left.items()):
    leaving.plot(
        ENDLESS, np.maximum(energies, 1e-6), f"C{i}o" + ("--" if i == 1 else "-"), ms=4, label=name
    )
leaving.set(title="leaving a fixed point", xlabel="time $t$", ylabel="energy $E$", yscale="log")
leaving.set_xscale("symlog", linthresh=1)
leaving.set_xlim(0, END)
leaving.legend(fontsize="small")
for i, degree in enumerate(LEGENDRE):
    for key, (_, _, found) in fits.items():
        if key[0] == degree and key[1] in (FIRST, OTHERS[0]):
            label = f"degree {degree}, λ = {LAMBDA[degree]:.2f}" if key[1] == FIRST else None
            components.plot(ONWARD, found, f"C{i}o-", ms=4, alpha=1 if label else 0.4, label=label)
components.axhline(1, color="k", ls=":", lw=1)
components.set(title=r"$F = KG$: degrees 1, 3, 5 (two seeds)", xlabel="time $t$",
               ylabel=r"$\int f\,dG$ over $\Vert f\Vert^2/\lambda$")  # fmt: skip
components.set_xscale("symlog", linthresh=1)
components.set_xlim(0, LONG)
components.legend(fontsize="small")
line = np.linspace(-1, 1, 201)
for i, name in enumerate(STARTS):
    c, y, _ = fits[3, name]
    basis = np.stack([(2 * k + 1) * eval_legendre(k, y[-1, :, 0]) for k in range(6)])
    seen_of = (basis * c[-1]).mean(1) @ np.stack([eval_legendre(k, line) for k in range(6)])
    densities.plot(line, seen_of, color=f"C{i}", label=name)
densities.plot(line, SIZE * eval_legendre(3, line) / LAMBDA[3], "k:", lw=2, label="f/λ")
densities.set(title="density of charge by height, to degree 5", xlabel="$y_1$", ylabel="$G$")
densities.legend(fontsize="small")
for i, (name, row) in enumerate(table.items(), 1):
    both.annotate(
        "", (row[1], row[3]), (row[0], row[2]), arrowprops=dict(arrowstyle="->", color=f"C{i}")
    )
    both.plot(row[:2], row[2:], f"C{i}o", ms=5, label=f"{name}, from {FIRST}")
both.set(title="one $G$, many ρ: from $t = 0$ to the end", xlabel="distance in $G$ (relative)",
         ylabel="$W_2$ of the clouds ρ", xscale="log", ylim=(0, None))  # fmt: skip
both.legend(fontsize="small")
save(figure, "charges")
