"""Units and data under C_2, which swaps the two coordinates (Maass & Fontbona, arXiv:2405.19995).

The unit is σ(z x) of matrices z (2, 2), jointly equivariant under C_2, which swaps the coordinates
of inputs and outputs and acts on z by z ↦ P z P.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from ensembles import Affine, Elementwise, Gaussian, Network, SetAverage, Symmetry, iid
from ensembles.groups import cyclic, defining, intertwining, trivial
from limits import Adaptive, Data, Risk, flow
from limits.symmetries import EquivariantArchitecture, FeatureAveraging, augmented

KEY = jax.random.key(13)
SWAP = Symmetry(
    cyclic(2), inputs=defining, outputs=defining, neurons=intertwining(defining, defining)
)


def sigma(z, x):
    return jax.nn.sigmoid(z.reshape(2, 2) @ x)


X = jax.random.normal(jax.random.key(1), (8, 2)) * 2
ARBITRARY = Data(X, jnp.stack([jnp.sin(X[:, 0]), jnp.cos(X[:, 0] * X[:, 1]) - X[:, 1]], 1) / 2)

# an equivariant teacher (g(x_1, x_2), g(x_2, x_1)) on inputs closed under the swap, which fixes one
ORBITS = jnp.concatenate([X, X[:, ::-1], jnp.array([[0.7, 0.7]])])
EQUIVARIANT = Data(ORBITS, jnp.sin(ORBITS) / 2 - jnp.cos(ORBITS[:, ::-1]) * ORBITS[:, ::-1] / 4)
CLOUD = Gaussian(4).sample(5, key=KEY)
PLAIN = Network.shallow(sigma, CLOUD)


def bump(z, x):
    """Jointly invariant under permutations, smooth and bounded."""
    return jnp.exp(-((x - z) ** 2).sum() / 2)[None]


INVARIANT = Symmetry(cyclic(2), inputs=defining, outputs=trivial(1), neurons=defining)


def identity(h):
    return h


SETS = iid(
    dim=3, depth=3, first=Gaussian(1), hidden=Gaussian(1, 0.5), last=Gaussian(1),
    layers=[Elementwise(SetAverage(jax.nn.relu)), Affine(identity), Affine(jax.nn.relu)],
).sample((5, 7), key=KEY)  # fmt: skip


def risks(data):
    """The four ways to learn from data."""
    return {
        "vanilla": Risk(data),
        "DA": Risk(augmented(data, SWAP)),
        "FA": Risk(data, prediction=FeatureAveraging(SWAP)),
        "EA": Risk(data, prediction=EquivariantArchitecture(SWAP)),
    }


@eqx.filter_jit
def run(network, energy):
    return flow(network, energy, t1=4.0, solver=Adaptive(rtol=1e-10, atol=1e-12)).final.points(0)
