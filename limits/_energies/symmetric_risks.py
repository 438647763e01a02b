"""Three ways to learn with a symmetry, as energies: data augmentation (DA), feature averaging (FA)
and equivariant architectures (EA).

Source: Maass & Fontbona (arXiv:2405.19995). For data π, a loss with ℓ(ρ̂_g ŷ, ρ̂_g y) = ℓ(ŷ, y) and
a jointly equivariant unit,

    R^DA(μ) = E_π ∫ ℓ(Φ_μ(ρ_g X), ρ̂_g Y) dλ(g) = ∫ R(M_g#μ) dλ(g),
    R^FA(μ) = E_π ℓ((Q_G Φ_μ)(X), Y)           = R(μ^G),
    R^EA(μ) = E_π ℓ(Φ_{μ^E}(X), Y)             = R(μ^E).

DA and FA need no action on neurons and serve networks of any depth. A penalty is one of the neurons
themselves, as the source has it, and not of their orbits or projections.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters, Symmetry
from ensembles.internal import backpropagate, choose, einsum, kind, matmul

from .data import Data
from .risk import Risk


def augmented(data: Data, symmetry: Symmetry) -> Data:
    """The data with the group acting on them: `Risk(augmented(data, symmetry))` is R^DA.

    All ρ_g x, ρ̂_g y with the masses λ_g q_k; mini-batches draw sample and group element together,
    fresh ones of a population or of a compact group.
    """
    kind("data", data, Data, "write Data(x, y)")
    _check_symmetry(symmetry, data)
    x, y = symmetry.on_inputs(data.x), symmetry.on_outputs(data.y)
    masses = jnp.outer(symmetry.group.masses.astype(data.masses.dtype), data.masses)
    return Data(
        x.reshape(-1, *data.x.shape[1:]),
        y.reshape(-1, *data.y.shape[1:]),
        masses.reshape(-1),
        sampler=_Augmented(data, symmetry),
    )


class _Augmented(eqx.Module):
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


class FeatureAveraging(Risk):
    """R^FA, the risk of Q_G f: as a `Risk`, of the averaged network. Every evaluation takes the
    network at all ρ_g x, |G| times the cost. The trained function is `symmetry.function(final)`.

    Raises `ValueError` for a symmetry that does not act on the data.
    """

    symmetry: Symmetry = eqx.field(kw_only=True)

    def __check_init__(self) -> None:
        _check_symmetry(self.symmetry, self.data)

    def check(self, network: Network, batch: int | None = None) -> None:
        Risk(self.data, self.loss, self.penalty).check(network, batch)

    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        return self.symmetry.function(network)(self.data.x)

    @property
    def takes_factors(self) -> bool:
        return self.penalty is None and type(self) is FeatureAveraging

    def backpropagate(self, network: Network) -> tuple[Array, Callable[[Array], Parameters]]:
        moved = self.symmetry.on_inputs(self.data.x)
        m, n = moved.shape[:2]
        outputs, pull = backpropagate(network, moved.reshape(m * n, *moved.shape[2:]))
        averaged, back = jax.vjp(self.symmetry.returned, outputs.reshape(m, n, -1))
        return averaged, lambda d: pull(back(d)[0].reshape(m * n, -1))


class EquivariantArchitecture(Risk):
    """R^EA, the risk of the network whose neurons are projected to E^G: shared parameters.

    For networks of one hidden layer whose units are jointly equivariant. Gradients lie in E^G: what
    a neuron has outside stays as it is, and is not seen: the trained function is that of
    `symmetry.projected(final)`. Raises `ValueError` for a symmetry without an action on neurons;
    runs (`flow`, `train`, `limit`) do for units that are not equivariant, values and gradients do
    not look at them.
    """

    symmetry: Symmetry = eqx.field(kw_only=True)

    def __check_init__(self) -> None:
        _check_symmetry(self.symmetry, self.data)
        if self.symmetry.neurons is None:
            raise ValueError(
                "symmetry must act on neurons for an equivariant architecture: write Symmetry(..., "
                "neurons=intertwining(outputs, inputs)), say"
            )

    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        return self.symmetry.projected(network)(self.data.x)

    def backpropagate(self, network: Network) -> tuple[Array, Callable[[Array], Parameters]]:
        outputs, pull = backpropagate(self.symmetry.projected(network), self.data.x)
        _, back = jax.vjp(lambda p: network.rows(p, 0), network.parameters)
        projection = self.symmetry.projection.astype(network.dtype)

        def shared(d: Array) -> Parameters:
            rows = network.rows(pull(d), 0)
            return back(matmul(rows, projection))[0].still()

        return outputs, shared

    def check(self, network: Network, batch: int | None = None) -> None:
        if network.depth != 2 or network.start.biases[-1] is not None:
            raise ValueError(
                f"network must have one hidden layer and no output bias for an equivariant "
                f"architecture, got depth {network.depth}: write Symmetry.ensemble(ensemble), or "
                "FeatureAveraging"
            )
        if network.points(0).shape[1] != self.symmetry.projection.shape[0]:
            raise ValueError(
                f"symmetry must act on the neurons, of dimension {network.points(0).shape[1]}, got "
                f"a representation on R^{self.symmetry.projection.shape[0]}"
            )
        super().check(network, batch)
        self.symmetry.check_units(network, self.data.x[:16])


def _check_symmetry(symmetry: Symmetry, data: Data) -> None:
    kind("symmetry", symmetry, Symmetry, "write Symmetry(group, inputs=..., outputs=...)")
    for name, value in (("inputs", data.x), ("outputs", data.y)):
        dim, size = symmetry.matrices[name].shape[1], value[0].size
        if dim != size:
            raise ValueError(
                f"symmetry must act on the data's {name}, of {size} numbers, got a representation "
                f"on R^{dim}: write {name}=trivial({size}) for what the group leaves alone"
            )
