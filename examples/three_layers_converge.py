"""
Three layers that converge globally, and what they need
=======================================================

Three layers with independent weights fit their data in the limit of infinite width, whether or not
the loss is convex (Nguyen & Pham, arXiv:2001.11443), if

- ∂ℓ = 0 implies ℓ = 0, and the target is a function of the input, y = y(x);
- w_1(0) has full support in R^d, and the functions σ_1(w · x) are dense in L²(P_x);
- the weights converge, w_2 such that its update vanishes uniformly over neurons.

The proof has three steps, each of which is measured along a run. The update of w_2 vanishes: E[∂ℓ
F(x, C_2) σ_1(w_1 · x)] → 0 with F = w_3 σ_2'(H_2). F stays away from 0. And w_1(t) keeps full
support at every finite time, by topology: w_1(0) → w_1(t) is a continuous map that moves no point
by more than some K_t, so a circle of radius R > K_t goes around the origin once, before and after,
and all points within its least distance ρ from the origin are reached.

Then one assumption at a time is broken, and the loss stops at a floor that is known beforehand.

Run it with ``python examples/three_layers_converge.py``, about a minute on two cores. It prints its
tables and saves ``examples/figures/three_layers_converge.png``.
"""

# %%
# The data
# --------
# Twenty-four points u on the line, as inputs x = (u, 1), so that w_1 lives in the plane.

from _setup import save, say

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Affine, Atoms, Gaussian, Measure, Uniform, iid
from limits import Adaptive, Data, GradientFlow, Risk, convergence, flow

u = jnp.linspace(-2.0, 2.0, 24)
x = jnp.stack([u, jnp.ones(24)], axis=1)
y = 0.3 + 0.8 * jnp.sin(2 * u)
smooth = Data(x, y[:, None])


def log_loss(prediction, target):
    """Not convex; flat at ŷ = y alone."""
    return jnp.log1p(((prediction - target) ** 2).sum()) / 2


T1 = 300.0
TIMES = np.concatenate([[0.0], np.geomspace(0.1, T1, 30)])
PRECISION = Adaptive(rtol=1e-4, atol=1e-5, max_steps=10**6)
TANH = Affine(jnp.tanh)


PLANE, CHARGES = Gaussian(1, scale=1.5), Gaussian(1, mean=1.0)


def ensemble(first=TANH, second=TANH, w_1=PLANE, w_3=CHARGES, dim=2):
    """Three layers with activations `first` and `second`, and w_2 of mean 1."""
    return iid(
        dim=dim, depth=3, first=w_1, hidden=Gaussian(1, 1.0, 0.5), last=w_3,
        layers=[first, first, second],
    )  # fmt: skip


# %%
# The three steps, along the run
# ------------------------------
# Tracers, neurons of mass 0, begin on circles of w_1(0) and follow the limit. The winding number of
# their image around the origin is the degree of the map w_1(0) → w_1(t) there.

RADII, POINTS = [2.0, 4.0, 8.0, 16.0], 256
angles = 2 * np.pi * np.arange(POINTS) / POINTS
circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
label = Measure(jnp.ones((1, 1)), jnp.ones(1))  # one tracer for the other layer
circles = Measure(
    jnp.asarray(np.concatenate([r * circle for r in RADII])),
    jnp.full(len(RADII) * POINTS, 1 / (len(RADII) * POINTS)),
)


class Proof:
    """The steps of the proof at one moment: what the theorem assumes (`convergence`), the least
    root mean square of F over C_2 at an input, the share of C_2 with abs(F) > 0.1 at all inputs,
    and w_1 of all neurons."""

    def __init__(self, risk, slope):
        self.risk, self.slope = risk, slope

    def __call__(self, network):
        h = network.preactivations(self.risk.data.x)[1]
        F = jax.vmap(jax.vmap(self.slope))(h) * network.weights[2][:, 0]
        masses = network.masses[1]
        return dict(
            assumed=convergence(network, self.risk),
            F=jnp.sqrt((F**2 @ masses).min()),
            away=masses @ (jnp.abs(F).min(0) > 0.1),
            w_1=network.weights[0],
        )


def follow(chosen, data, nodes, tracers=None, second=jnp.tanh, loss=None, rates=1.0):
    risk = Risk(data) if loss is None else Risk(data, loss)
    network = chosen.discretise(nodes, tracers=tracers)
    return flow(
        network, risk, GradientFlow(rates), t1=T1, times=TIMES, solver=PRECISION,
        observe=Proof(risk, jax.grad(second)),
    )  # fmt: skip


full = ensemble()
tracers = full.network([circles, label])
runs = {
    "squared loss": follow(full, smooth, [400, 16], tracers),
    "log loss, not convex": follow(full, smooth, [400, 16], tracers, loss=log_loss),
}
other = follow(full, smooth, [576, 24])
error = abs(np.log10(other.energies[-1] / runs["squared loss"].energies[-1]))
say(f"other nodes change the logarithm (base 10) of the last loss by {error:.2f}")


def winding(curve):
    """How often a closed curve (n, 2) goes around the origin."""
    z = curve[:, 0] + 1j * curve[:, 1]
    return np.angle(np.roll(z, -1) / z).sum() / (2 * np.pi)


for name, run in runs.items():
    seen, w_1 = run.observed, np.asarray(run.observed["w_1"])
    moved = np.linalg.norm(w_1 - w_1[:1], axis=2).max()
    updates = np.asarray(seen["assumed"].updates)[:, 1]
    print(f"\n{name}: loss {run.energies[0]:.3f} → {run.energies[-1]:.1e}")
    print(f"  sup of ∂_t w_2: {updates[0]:.3f} → {updates[-1]:.1e}")
    missed, least, share = seen["assumed"].residual[:, 0].max(), seen["F"].min(), seen["away"].min()
    print(f"  share of the target outside of the span of σ_1(w_1 · x): at most {missed:.1e}")
    print(f"  least rms of F: {least:.2f}; abs(F) > 0.1 on {share:.0%} of C_2 or more")
    print(f"  w_1 moves by K = {moved:.2f} at most; circles of w_1(0), over all times:")
    print(f"{'radius R':>12}{'winding number':>18}{'least distance ρ':>20}{'R − K':>10}")
    for j, radius in enumerate(RADII):
        image = w_1[:, 400 + j * POINTS : 400 + (j + 1) * POINTS]
        turns = np.array([winding(curve) for curve in image])
        rho = np.linalg.norm(image, axis=2).min()
        print(
            f"{radius:12.0f}{turns.min():9.3f}, {turns.max():.3f}{rho:20.2f}{radius - moved:10.2f}"
        )
        if radius > moved:
            assert np.allclose(turns, 1, atol=1e-3) and rho >= radius - moved > 0
    assert run.energies[-1] < 1e-3 * run.energies[0]
    assert updates[-1] < 0.02 * updates[0]
    assert least > 0.1 and share > 0.25

# %%
# One assumption at a time
# ------------------------
# - σ_1 = σ_2 = identity: the functions σ_1(w · x) span the affine functions of u. The floor is the
#   residual of linear regression. With σ_1 = tanh the loss vanishes.
# - w_1 on a half-line: inputs u alone, σ_1(h) = tanh(max(h, 0)²), w_1 > 0. The velocity of w_1 is
#   proportional to w_1 near 0, which it does not cross, and for u < 0 the output stays 0. The floor
#   is half the mean square of y there. With w_1 on the whole line the loss vanishes. (With σ_1 =
#   tanh a half-line would do: functions of an open set of weights are dense where σ_1 is analytic.)
# - w_3 = 0 and frozen: F = 0, nothing moves, and the floor is the loss of ŷ = 0.
# - y no function of x: every input twice, with targets y ± 0.2. The floor is half their variance.


def identity(h):
    return h


def bump(h):
    return jnp.tanh(jax.nn.relu(h) ** 2)


def regression(x, y):
    """Half the mean square of the residuals of linear regression."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    return ((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).mean() / 2


line, sided = Affine(identity), Affine(bump)
one_sided = jnp.where(u > 0, jnp.tanh(u**2), -0.5 * jnp.tanh(u**2))
on_line = Data(u[:, None], one_sided[:, None])
twice = Data(jnp.concatenate([x, x]), jnp.concatenate([y - 0.2, y + 0.2])[:, None])
linear = dict(second=identity)
half, whole = Uniform(0.0, 1.5), Uniform(-1.5, 1.5)
CONTROLS = {
    "σ_1 = identity": (
        follow(ensemble(line, line), smooth, [400, 16], **linear),
        follow(ensemble(TANH, line), smooth, [400, 16], **linear),
        regression(x, y),
    ),
    "w_1 on a half-line": (
        follow(ensemble(sided, TANH, half, dim=1), on_line, [32, 16]),
        follow(ensemble(sided, TANH, whole, dim=1), on_line, [64, 16]),
        float((one_sided**2)[u < 0].sum() / 48),
    ),
    "w_3 = 0, frozen": (
        follow(ensemble(w_3=Atoms([[0.0]])), smooth, [400, 1], rates=[1.0, 1.0, 0.0]),
        runs["squared loss"],
        float((y**2).mean() / 2),
    ),
    "y is no function of x": (
        follow(full, twice, [400, 16]), runs["squared loss"], 0.2**2 / 2,
    ),
}  # fmt: skip

print(
    f"\n{'broken':>24}{'floor':>10}{'loss at 0':>12}{'at the end':>12}{'unbroken, at the end':>22}"
)
for name, (broken, kept, floor) in CONTROLS.items():
    ends = broken.energies[0], broken.energies[-1], kept.energies[-1]
    print(f"{name:>24}{floor:10.5f}{ends[0]:12.5f}{ends[1]:12.5f}{ends[2]:22.1e}", flush=True)
    assert (broken.energies > floor - 1e-6).all()
    assert ends[1] - floor < 0.02 * (ends[0] - floor) + 1e-6
    assert ends[2] < 0.05 * floor
on_half = np.asarray(CONTROLS["w_1 on a half-line"][0].observed["w_1"])
say(f"on the half-line w_1 stays positive: its least value is {on_half.min():.3f}")
assert on_half.min() > 0

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 2, figsize=(11, 8.5), constrained_layout=True)
losses, plane, steps, floors = panels.flat
for (name, run), style in zip(runs.items(), ("C0-", "C1--"), strict=True):
    seen = run.observed
    losses.plot(TIMES[1:], run.energies[1:], style, label=name)
    steps.plot(TIMES[1:], np.asarray(seen["assumed"].updates)[1:, 1], style,
               label=r"largest update of $w_2$, " + name)  # fmt: skip
    steps.plot(TIMES[1:], seen["F"][1:], style, alpha=0.5, lw=3, label="least rms of $F$, " + name)
losses.plot(TIMES[1:], other.energies[1:], "k:", lw=1, label="squared loss, other nodes")
losses.set(yscale="log", ylabel="risk", title="the loss vanishes")
steps.set(yscale="log", title="updates vanish, $F$ does not", ylabel="size")
w_1 = np.asarray(runs["squared loss"].observed["w_1"])
for j, (radius, colour) in enumerate(zip(RADII[:3], ("C2", "C3", "C4"), strict=True)):
    start, end = (w_1[k, 400 + j * POINTS : 400 + (j + 1) * POINTS] for k in (0, -1))
    for curve, style in ((start, ":"), (end, "-")):
        closed = np.append(curve, curve[:1], axis=0)
        label = f"$R={radius:.0f}$, $t={0 if style == ':' else T1:.0f}$"
        plane.plot(*closed.T, style, color=colour, lw=1.2, label=label)
plane.plot(*w_1[-1, :400].T, "k.", ms=1.5, label=f"nodes, $t={T1:.0f}$")
plane.plot(0, 0, "k+", ms=8)
plane.set(aspect="equal", xlabel="weight of $u$", ylabel="weight of the constant 1",
          title="circles of $w_1(0)$ still go around 0")  # fmt: skip
plane.set(xlim=(-10, 18), ylim=(-10, 10))
plane.legend(fontsize="small", loc="center right", framealpha=1)
for j, (name, (broken, kept, floor)) in enumerate(CONTROLS.items()):
    floors.plot(TIMES[1:], broken.energies[1:], color=f"C{j}", label=name)
    floors.axhline(floor, color=f"C{j}", ls=":", lw=1)
    if kept is not runs["squared loss"]:
        floors.plot(TIMES[1:], kept.energies[1:], "--", color=f"C{j}", lw=1)
floors.set(yscale="log", ylabel="risk", ylim=(1e-3, 0.4))
floors.set_title("one assumption broken (dotted: floors; dashed: it holds)")
for panel in (losses, steps, floors):
    panel.set(xscale="log", xlabel="time $t$")
    panel.legend(fontsize="small", loc="lower left")
save(figure, "three_layers_converge")
