"""
The limit against width 5,000, on digits
========================================

Pham & Nguyen (*Limiting fluctuation and trajectorial stability of multilayer neural networks with
mean field training*, NeurIPS 2021) let networks of width 5,000 stand in for infinite width. The
same experiment on scikit-learn's digits: classes {0, 4} against {5, 9} with targets −1 and 1, the
first 100 images of these classes in the order of the data, pixels scaled to [0, 1] and a constant
input 1 appended. Three layers (65–N–N–1), tanh, Huber loss, full-batch gradient descent of step
7e-3, Gaussian weights of means 0, 0.1, 0.1 and standard deviations 1.

Printed: root mean square distances of outputs (over images and times) and of the loss curve from a
finer limit, and times with and without compilation, for the limit on fewer nodes and for networks
of width 5,000. All in single precision. The networks take about ten minutes a seed on two cores.
"""

# %%

import time

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from ensembles import Affine, Gaussian, Sobol, iid
from limits import Data, HuberLoss, Risk, flow, train

WIDTH = 5000
STEP, STEPS, LOOKS = 7e-3, 3000, 30
SEEDS = 3
NODES = ((32768, 16), (65536, 16))
FINE, RANDOMISATIONS = (65536, 32), 8

digits = load_digits()
chosen = np.flatnonzero(np.isin(digits.target, [0, 4, 5, 9]))[:100]
x = np.append(digits.data[chosen] / 16, np.ones((100, 1)), axis=1)
y = np.where(np.isin(digits.target[chosen], [5, 9]), 1, -1)[:, None]
x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
risk = Risk(Data(x, y), HuberLoss(1.0))
ensemble = iid(
    dim=65, depth=3, first=Gaussian(65), hidden=Gaussian(1, mean=0.1), last=Gaussian(1, mean=0.1),
    layers=Affine(jnp.tanh),
)  # fmt: skip
every = STEPS // LOOKS
times = STEP * every * jnp.arange(LOOKS + 1)


def outputs(network):
    return network(x)


def limit_nodes(nodes, key):
    return ensemble.discretise(nodes, [Sobol(align=x), None], key=jax.random.key(key))


def follow(network, steps_per_unit=2):
    """The limit in continuous time: third order, far fewer evaluations than gradient descent."""
    return flow(
        network, risk, t1=times[-1], times=times, observe=outputs,
        solver=diffrax.Bosh3(), step=times[-1] / np.ceil(float(times[-1]) * steps_per_unit),
    )  # fmt: skip


def descend(network, when=times):
    return train(network, risk, step=STEP, t1=when[-1], times=when, observe=outputs)


def timed(solve, make):
    """(outputs, losses, seconds) of making a network and solving."""
    began = time.perf_counter()
    run = jax.block_until_ready(solve(make()))
    seconds = time.perf_counter() - began
    return np.asarray(run.observed), np.asarray(run.energies), seconds


def rms(a):
    return float(np.sqrt((a**2).mean()))


# %%
# The reference: the mean of independent randomisations, whose spread gives its standard error.

began = time.perf_counter()
several = [timed(lambda n: follow(n, 3), lambda k=k: limit_nodes(FINE, 1000 + k))
           for k in range(RANDOMISATIONS)]  # fmt: skip
exact, loss = (np.mean([run[i] for run in several], axis=0) for i in (0, 1))
own = [
    np.sqrt(np.var([run[i] for run in several], axis=0, ddof=1).mean() / RANDOMISATIONS)
    for i in (0, 1)
]
print(f"reference: {FINE[0]} x {FINE[1]} nodes, mean of {RANDOMISATIONS} randomisations,", end=" ")
print(f"{time.perf_counter() - began:.0f} s; loss from {loss[0]:.3f} to {loss[-1]:.4f}")
print(f"its standard error: outputs {own[0]:.1e}, loss {own[1]:.1e}")
small = limit_nodes((1024, 16), 0)
a, b = (timed(solve, lambda: small) for solve in (follow, descend))
print(f"gradient descent of step {STEP} against continuous time, on the same 1024 x 16 nodes:")
print(f"outputs {rms(a[0] - b[0]):.1e}, loss {rms(a[1] - b[1]):.1e}", flush=True)

# %%
# Warm-up: all compilation happens here, with as many times and fewer steps for the networks.


def compilation(solve, make):
    first, second = (timed(solve, make)[2] for _ in range(2))
    return max(first - second, 0.0)


def sample(seed):
    return ensemble.sample(WIDTH, key=jax.random.key(seed))


short = STEP * jnp.arange(LOOKS + 1)
compiling = {n: compilation(follow, lambda n=n: limit_nodes(n, 500)) for n in NODES}
compiling[WIDTH] = compilation(lambda n: descend(n, short), lambda: sample(500))

# %%
# Limits and networks in turn, so that both meet the same load of the machine.

found = {name: [] for name in compiling}
for seed in range(SEEDS):
    for n in NODES:
        found[n].append(timed(follow, lambda n=n, s=seed: limit_nodes(n, s)))
    found[WIDTH].append(timed(descend, lambda s=seed: sample(s)))
    print(f"seed {seed}: network {found[WIDTH][-1][2]:.0f} s, limits", end=" ")
    print(*(f"{found[n][-1][2]:.1f} s" for n in NODES), flush=True)


def cell(values):
    return f"{np.mean(values):.2e} [{min(values):.1e}, {max(values):.1e}]"


print(f"\nmean [range] of {SEEDS} seeds, {STEPS} steps, time {float(times[-1]):.0f}")
print(f"{'':>20}{'outputs':>30}{'loss curve':>30}{'seconds':>20}{'with compilation':>18}")
means = {}
for name, runs in found.items():
    far = [[rms(run[0] - exact) for run in runs], [rms(run[1] - loss) for run in runs]]
    spent = [run[2] for run in runs]
    means[name] = [np.mean(far[0]), np.mean(far[1]), np.mean(spent)]
    title = f"width {name}" if name == WIDTH else f"limit {name[0]} x {name[1]}"
    seconds = f"{np.mean(spent):.1f} [{min(spent):.1f}, {max(spent):.1f}]"
    print(f"{title:>20}{cell(far[0]):>30}{cell(far[1]):>30}{seconds:>20}", end="")
    print(f"{np.mean(spent) + compiling[name]:>18.1f}")
network = means[WIDTH]
for n in NODES:
    both = (network[2] + compiling[WIDTH]) / (means[n][2] + compiling[n])
    print(
        f"limit {n[0]} x {n[1]} is {network[0] / means[n][0]:.1f} times closer in outputs and "
        f"{network[1] / means[n][1]:.1f} in the loss curve, in 1/{network[2] / means[n][2]:.0f} of "
        f"the time (1/{both:.0f} with compilation)"
    )
