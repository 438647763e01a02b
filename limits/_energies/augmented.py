"""Data augmentation: data with a group acting on them.

Source: Maass & Fontbona (arXiv:2405.19995), where the risk of augmented data is
R^DA(μ) = E_π ∫ ℓ(Φ_μ(ρ_g X), ρ̂_g Y) dλ(g).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ensembles import Symmetry
from ensembles.internal import choose, einsum, kind

from .data import Data, Population
from .predictions import check_action


def augmented(data: Data, symmetry: Symmetry) -> Data:
    """The data with the group acting on them: `Risk(augmented(data, symmetry))` is R^DA.

    All ρ_g x, ρ̂_g y with the masses λ_g q_k; mini-batches draw sample and group element together,
    fresh samples of a population or of a compact group.
    """
    kind("data", data, Data, "write Data(x, y)")
    check_action(symmetry, data)
    x, y = symmetry.on_inputs(data.x), symmetry.on_outputs(data.y)
    masses = jnp.outer(symmetry.group.masses.astype(data.masses.dtype), data.masses)
    return Data(
        x.reshape(-1, *data.x.shape[1:]),
        y.reshape(-1, *data.y.shape[1:]),
        masses.reshape(-1),
        sampler=_Augmented(data, symmetry),
    )


class _Augmented(Population):
    """Draws of data, each with a group element of its own."""

    data: Data
    symmetry: Symmetry

    def __call__(self, size: int, key: PRNGKeyArray) -> tuple[Array, Array]:
        of_data, of_group = jax.random.split(key)
        drawn, group = self.data.draw(size, of_data), self.symmetry.group
        if group.haar is None:
            chosen = choose(group.masses, size, of_group)
            rho, rho_hat = (self.symmetry.matrices[k][chosen] for k in ("inputs", "outputs"))
        else:
            elements = group.sample(size, key=of_group)
            rho, rho_hat = map(jax.vmap, (self.symmetry.inputs, self.symmetry.outputs))
            rho, rho_hat = rho(elements), rho_hat(elements)

        def move(matrices: Array, x: Array) -> Array:
            flat = x.reshape(size, -1)
            return einsum("nij,nj->ni", matrices.astype(x.dtype), flat).reshape(x.shape)

        return move(rho, drawn.x), move(rho_hat, drawn.y)

    def finer(self) -> Data | None:
        data = self.data.finer()
        return None if data is None else augmented(data, self.symmetry)
