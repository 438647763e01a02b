"""
Deep networks that converge globally, and those that cannot
===========================================================

Five layers and two outputs. Under an i.i.d. start the middle layers collapse to one scalar function
of the input, so the outputs stay on a curve, and where the means vanish the limit does not move at
all. A start whose neurons are bidirectionally diverse fits the data (Nguyen & Pham,
arXiv:2001.11443). The loss, the effective rank of neurons' profiles and the span of preactivations
are followed along the run, in the limit and at finite width.

Run it with ``python examples/deep_global_convergence.py``. It prints its table and saves
``examples/figures/deep_global_convergence.png``.
"""

# %%
# The task
# --------
# Twenty-four points in the plane with a constant input appended, and a target in R^2.

from _setup import save, say

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ensembles import Affine, Gaussian, Sobol, diverse, iid
from limits import Adaptive, Data, Risk, convergence, diversity, flow, initial_motion

u = jax.random.normal(jax.random.key(1), (24, 2))
x = jnp.concatenate([u, jnp.ones((24, 1))], axis=1)
y = jnp.stack([jnp.sin(2 * u[:, 0]), u[:, 0] * u[:, 1]], axis=1)
risk = Risk(Data(x, y))
T1, WIDTH = 80.0, 128

# %%
# Three starts
# ------------
# Centred i.i.d. weights stand still in the limit, and this is recognised. Non-zero means let an
# i.i.d. start move. The diverse start has eight modes in what comes in to a neuron and in what
# goes out.

same = dict(dim=3, depth=5, layers=Affine(jnp.tanh))
starts = {
    "i.i.d., centred": iid(
        first=Gaussian(1), hidden=Gaussian(1, 0.0, 0.5), last=Gaussian(2, 0.0, 1.0), **same
    ),
    "i.i.d., means 1 and 0.5": iid(
        first=Gaussian(1), hidden=Gaussian(1, 1.0, 0.5), last=Gaussian(2, 0.5, 1.0), **same
    ),
    "diverse, 8 modes": diverse(modes=8, last=Gaussian(2), scale=2.0, **same),
}
for name, ensemble in starts.items():
    print(f"{name}: {initial_motion(ensemble, risk, key=jax.random.key(2))}", flush=True)

# %%
# Runs
# ----
# The limit on quadrature nodes, and a finite network of the same ensemble, both in continuous time.
# Nodes of the diverse start are random (Sobol points in up to 17 dimensions): a second draw of them
# shows the limit's own error.

NODES = {
    "i.i.d., centred": ([64, 1, 1, 64], None),
    "i.i.d., means 1 and 0.5": ([512, 1, 1, 64], None),
    "diverse, 8 modes": (128, Sobol()),
}
times = jnp.concatenate([jnp.zeros(1), jnp.geomspace(0.1, T1, 24)])
runs = {}
print(f"\n{'start':>26}{'network':>12}{'loss at 0':>11}{'at the end':>12}{'rank':>14}{'span':>20}")
for name, ensemble in starts.items():
    nodes, rule = NODES[name]
    networks = {
        "limit": ensemble.discretise(nodes, rule, key=jax.random.key(3)),
        f"N = {WIDTH}": ensemble.sample(WIDTH, key=jax.random.key(4)),
    }
    if rule is not None:
        networks["other nodes"] = ensemble.discretise(nodes, rule, key=jax.random.key(6))
    look = eqx.Partial(diversity, data=risk.data, ensemble=ensemble, key=jax.random.key(5))
    for kind, network in networks.items():
        run = flow(
            network,
            risk,
            t1=T1,
            times=times,
            observe=look,
            solver=Adaptive(rtol=1e-4, atol=1e-5, max_steps=10**6),
        )
        runs[name, kind] = run
        rank, span = (
            np.asarray(run.observed.rank)[-1, 1:3, 0],
            np.asarray(run.observed.span)[-1, 1:3],
        )
        say(
            f"{name:>26}{kind:>12}{run.energies[0]:11.3f}{run.energies[-1]:12.2e}"
            f"{np.array2string(rank, precision=2):>14}{np.array2string(span, precision=4):>20}"
        )

# %%
# What the theorems assume, at the end: the last layer's update has to vanish uniformly, and the
# features have to span the target.

print(f"\n{'start (limit)':>26}{'sup of update of w_5':>24}{'residual of span, layer 4':>28}")
for name in starts:
    final = convergence(runs[name, "limit"].final, risk)
    print(f"{name:>26}{float(final.updates[-1]):24.1e}{float(final.residual[-1]):28.1e}")

# %%
# From the diverse start neurons differ in more than one direction, in what comes in and in what
# goes out, in all layers and at all recorded times, and the loss falls; middle layers of i.i.d.
# starts end with an effective rank below 1, and most of the loss or a third of it stays.

for (name, _), run in runs.items():
    rank, loss = np.asarray(run.observed.rank), np.asarray(run.energies)
    if name == "diverse, 8 modes":
        assert rank.min() > 1 and np.asarray(run.observed.span).min() > 0.5
        assert loss[-1] < 0.05 * loss[0]
    else:
        assert rank[-1, 1:3, 0].max() < 1
        assert loss[-1] > 0.2 * loss[0]

# %%
# The figure
# ----------

STYLES = {
    "limit": dict(ls="-", lw=2),
    "other nodes": dict(ls="--", lw=1.2),
    f"N = {WIDTH}": dict(ls=":", lw=1.8),
}
figure, panels = plt.subplots(1, 3, figsize=(12.5, 4), constrained_layout=True)
for (name, kind), run in runs.items():
    style = dict(color=f"C{list(starts).index(name)}", **STYLES[kind])
    run.plot(panels[0], label=f"{name}: {kind}", **style)
    panels[1].plot(times, run.observed.rank[:, 1, 0], **style)
    panels[2].plot(times, run.observed.span[:, 1], **style)
panels[0].set(yscale="log", ylabel="risk", title="loss")
panels[0].legend(fontsize="x-small", loc="lower left")
panels[1].set(
    ylabel=r"effective rank of $w_2(\cdot, c)$ over neurons $c$", title="diversity, layer 2"
)
panels[2].set(ylabel=r"effective rank of $H_2(\cdot, c)$ in $L^2(P_x)$", title="span, layer 2")
for panel in panels:
    panel.set(xlabel="time $t$", xscale="log")
save(figure, "deep_global_convergence")
