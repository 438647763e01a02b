"""
The collapse of i.i.d. starts
=============================

Five layers, all weights drawn independently. In the infinite-width limit the neurons of layers 2
and 3 become copies of one another, and training moves all weights between them by one common
number Δ(t): a deep network has one effective neuron in its middle layers (Nguyen & Pham,
arXiv:2001.11443). Finite networks show it up to N^(-1/2).

Run it with ``python examples/collapse.py``. It prints its tables and saves
``examples/figures/collapse.png``.
"""

# %%
# The start
# ---------
# Twenty points in R^5 with smooth targets. Entries of w_1 are standard Gaussian, those of the
# middle layers have mean 1 and variance 1/4, those of the last layer mean 0.7: with zero means the
# limit would not move at all. ``iid`` gives both the finite networks, whose entries are
# independent, and the limit, whose labels are w_1(0), one point for each middle layer, and w_5(0).

from _setup import save, say

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from ensembles import Affine, Gaussian, iid
from limits import Adaptive, Data, Risk, Steps, collapse, limit

x = jax.random.normal(jax.random.key(0), (20, 5))
risk = Risk(Data(x, jnp.sin(x[:, :1] + x[:, 1:2] * x[:, 2:3])))


def ensemble(depth):
    return iid(
        dim=5, depth=depth, first=Gaussian(1), hidden=Gaussian(1, mean=1.0, scale=0.5),
        last=Gaussian(1, mean=0.7, scale=0.5), layers=Affine(jnp.tanh),
    )  # fmt: skip


print(ensemble(5), flush=True)

# %%
# Finite networks and the limit
# -----------------------------
# Gradient descent with step 0.05 to time 20. Spreads are standard deviations over neurons (over
# pairs of them for increments), the largest over times; exponents are in the width, with 95 %
# intervals over seeds. Layers 2 and 3 collapse, layer 4 sees the random w_5(0) and does not.

WIDTHS = [32, 64, 128, 256]
result = collapse(
    ensemble(5), risk, widths=WIDTHS, seeds=[24, 16, 12, 8], t1=20.0,
    solver=Steps(0.05), limit_solver=Adaptive(rtol=1e-4), times=jnp.linspace(0, 20, 11),
    nodes=[1024, 1, 1, 32], key=jax.random.key(1),
    progress=diffrax.TqdmProgressMeter(),
)  # fmt: skip
say(f"\n{result.table()}")

# %%
# The limit's own error comes with it: more nodes, and redraws of them.

resolved = limit(
    ensemble(5), risk, t1=20.0, nodes=[1024, 1, 1, 32], times=jnp.linspace(0, 20, 11),
    key=jax.random.key(2),
)  # fmt: skip
say(
    f"\nthe limit's loss at the end: {float(resolved.energies[-1]):.4f}, error (of outputs, rms) "
    f"{float(resolved.error):.1e}"
)

# %%
# Three and four layers
# ---------------------
# With three layers nothing collapses, H_2 depends on w_3(0); with four H_2 does.

for depth in (3, 4):
    shallower = collapse(
        ensemble(depth), risk, widths=[32, 128], seeds=[12, 8], t1=20.0,
        solver=Steps(0.05), limit_solver=Adaptive(rtol=1e-4), times=jnp.linspace(0, 20, 3),
        nodes=[512, *[1] * (depth - 3), 32], key=jax.random.key(depth),
    )  # fmt: skip
    rates = ", ".join(f"H_{i}: {shallower.rate('preactivations', i)}" for i in range(2, depth))
    print(f"{depth} layers, exponents of the spread of {rates}", flush=True)

# %%
# The figure
# ----------

figure, panels = plt.subplots(2, 2, figsize=(9.5, 7), constrained_layout=True)
result.coupling.plot_energies(panels[0, 0])
panels[0, 0].set(title="five layers, i.i.d. start: risk", ylabel="risk")
result.plot_translations(3, panels[0, 1])
panels[0, 1].set(title="one number for all of $w_3$: $\\Delta_3(t)$")
result.plot("preactivations", panels[1, 0])
panels[1, 0].set(title="neurons of layers 2 and 3 become equal", ylim=(5e-3, 50))
panels[1, 0].legend(fontsize="x-small", ncols=2, loc="upper center")
result.plot("increments", panels[1, 1])
panels[1, 1].set(title="only $w_3$ moves as one", ylim=(1e-2, 20))
panels[1, 1].legend(fontsize="x-small", ncols=2, loc="upper center")
save(figure, "collapse")
