"""
The cost of a symmetry
======================

Steps of data augmentation, feature averaging and an equivariant architecture over a vanilla step,
for groups of 2, 8 and 48 elements: 256 neurons, batches of 32 samples, in one run.

Run it with ``python examples/benchmarks/symmetries.py``.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from ensembles import Gaussian, MonteCarlo, Symmetry, shallow
from ensembles.groups import defining, dihedral, generated, intertwining
from limits import Data, Risk, train
from limits.symmetries import EquivariantArchitecture, FeatureAveraging, augmented

jax.config.update("jax_enable_x64", True)
STEPS, REPEATS = 1000, 7

# %%
# Groups that act on matrices z (d, d)
# ------------------------------------

PLANE, CUBE = np.eye(2)[::-1], np.eye(3)[[1, 2, 0]]
GROUPS = {
    2: generated(PLANE),
    8: dihedral(4),
    48: generated(CUBE, np.eye(3)[[1, 0, 2]], np.diag([-1.0, 1, 1])),
}


def sigma(z, x):
    """Odd, entry by entry: jointly equivariant under permutations and signs of coordinates."""
    d = x.shape[0]
    return jnp.tanh(z.reshape(d, d) @ x)


def seconds(network, energy):
    """Of a step, the median of repeated runs."""
    times = []
    for i in range(REPEATS + 1):
        began = time.perf_counter()
        run = train(network, energy, step=0.01, batch=32, t1=0.01 * STEPS, key=jax.random.key(i))
        jax.block_until_ready(run.energies)
        times.append(time.perf_counter() - began)
    return np.median(times[1:]) / STEPS


# %%
# Ratios
# ------
# Energies at the ends of a run are those of few data, so that steps are what takes time.

print(f"{'|G|':>4} {'vanilla, µs':>12} {'DA':>6} {'FA':>6} {'FA/|G|':>7} {'EA':>6}")
for order, group in GROUPS.items():
    assert group.order == order
    d = group.elements.shape[1]
    acts = Symmetry(
        group, inputs=defining, outputs=defining, neurons=intertwining(defining, defining)
    )
    data = Data.from_space(Gaussian(d), jnp.sin, 16, MonteCarlo(), key=jax.random.key(0))
    network = shallow(sigma, Gaussian(d * d)).sample(256, key=jax.random.key(1))
    vanilla = seconds(network, Risk(data))
    ratios = [
        seconds(network, energy) / vanilla
        for energy in (
            Risk(augmented(data, acts)),
            Risk(data, prediction=FeatureAveraging(acts)),
            Risk(data, prediction=EquivariantArchitecture(acts)),
        )
    ]
    da, fa, ea = ratios
    print(f"{order:4d} {1e6 * vanilla:12.0f} {da:6.2f} {fa:6.2f} {fa / order:7.2f} {ea:6.2f}")
