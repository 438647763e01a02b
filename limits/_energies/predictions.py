"""What a risk compares with its targets: outputs of a network, as they are or under a symmetry.

Source of the two under a symmetry: Maass & Fontbona (arXiv:2405.19995). For data π, a loss with
ℓ(ρ̂_g ŷ, ρ̂_g y) = ℓ(ŷ, y) and a jointly equivariant unit,

    R^DA(μ) = E_π ∫ ℓ(Φ_μ(ρ_g X), ρ̂_g Y) dλ(g) = ∫ R(M_g#μ) dλ(g),
    R^FA(μ) = E_π ℓ((Q_G Φ_μ)(X), Y)           = R(μ^G),
    R^EA(μ) = E_π ℓ(Φ_{μ^E}(X), Y)             = R(μ^E):

`Risk(augmented(data, symmetry))`, `Risk(data, loss, FeatureAveraging(symmetry))` and
`Risk(data, loss, EquivariantArchitecture(symmetry))`. The first two need no action on neurons and
serve networks of any depth. Penalties that are added are of the neurons themselves, as the source
has them, and not of their orbits or projections.
"""

import abc
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from ensembles import Network, Parameters, Symmetry
from ensembles.channels import Shared
from ensembles.internal import Family, backpropagate, kind, matmul

from .data import Data

Pull = Callable[[Float[Array, "n outputs"]], Parameters]


class Prediction(Family):
    """A function of a network and inputs, with derivatives per unit mass."""

    @abc.abstractmethod
    def __call__(self, network: Network, x: Float[Array, "n ..."]) -> Float[Array, "n outputs"]:
        """The predictions at inputs `x`."""

    @abc.abstractmethod
    def backpropagate(
        self, network: Network, x: Float[Array, "n ..."]
    ) -> tuple[Float[Array, "n outputs"], Pull]:
        """The predictions, and the map from derivatives in them to those per unit mass."""

    @property
    def takes_factors(self) -> bool:
        """Whether derivatives are those that layers pull back, as factors where there are some."""
        return False

    def check_data(self, data: Data) -> None:
        """Raise `ValueError` for data that do not fit."""

    def check(self, network: Network, data: Data) -> None:
        """Raise `ValueError` for networks that do not fit."""


class Outputs(Prediction):
    """The outputs of the network; at sites flat, output by output."""

    def __call__(self, network: Network, x: Float[Array, "n ..."]) -> Float[Array, "n outputs"]:
        return flat(network, network(x))

    def backpropagate(
        self, network: Network, x: Float[Array, "n ..."]
    ) -> tuple[Float[Array, "n outputs"], Pull]:
        outputs, pull = backpropagate(network, x)
        return flat(network, outputs), lambda d: pull(d.reshape(outputs.shape))

    @property
    def takes_factors(self) -> bool:
        return True


def flat(network: Network, outputs: Array) -> Array:
    """Outputs (batch, outputs, *sites) of a network of channels as (batch, outputs * sites)."""
    return outputs.reshape(len(outputs), -1) if isinstance(network.layers[-1], Shared) else outputs


class FeatureAveraging(Prediction):
    """Q_G f: the average over the group of ρ̂_g⁻¹ f(ρ_g x), which makes a risk R^FA.

    Every evaluation takes the network at all ρ_g x, |G| times the cost. The trained function is
    `symmetry.function(final)`. Raises `ValueError` (in a risk) for a symmetry that does not act on
    the data.
    """

    symmetry: Symmetry

    def __check_init__(self) -> None:
        kind("symmetry", self.symmetry, Symmetry, _SYMMETRY)

    def __call__(self, network: Network, x: Float[Array, "n ..."]) -> Float[Array, "n outputs"]:
        return self.symmetry.function(network)(x)

    def backpropagate(
        self, network: Network, x: Float[Array, "n ..."]
    ) -> tuple[Float[Array, "n outputs"], Pull]:
        moved = self.symmetry.on_inputs(x)
        m, n = moved.shape[:2]
        outputs, pull = backpropagate(network, moved.reshape(m * n, *moved.shape[2:]))
        averaged, back = jax.vjp(self.symmetry.returned, outputs.reshape(m, n, -1))
        return averaged, lambda d: pull(back(d)[0].reshape(m * n, -1))

    @property
    def takes_factors(self) -> bool:
        return True

    def check_data(self, data: Data) -> None:
        check_action(self.symmetry, data)


class EquivariantArchitecture(Prediction):
    """The network whose neurons are projected to E^G, with shared parameters: it makes a risk R^EA.

    For networks of one hidden layer whose units are jointly equivariant. Gradients lie in E^G: a
    neuron's part outside of it stays as it is, and has no effect; the trained function is that of
    `symmetry.projected(final)`. Raises `ValueError` for a symmetry without an action on neurons;
    runs (`flow`, `train`, `limit`) raise for units that are not equivariant, values and gradients
    do not check them.
    """

    symmetry: Symmetry

    def __check_init__(self) -> None:
        kind("symmetry", self.symmetry, Symmetry, _SYMMETRY)
        if self.symmetry.neurons is None:
            raise ValueError(
                "symmetry must act on neurons for an equivariant architecture: write Symmetry(..., "
                "neurons=intertwining(outputs, inputs)), say"
            )

    def __call__(self, network: Network, x: Float[Array, "n ..."]) -> Float[Array, "n outputs"]:
        return self.symmetry.projected(network)(x)

    def backpropagate(
        self, network: Network, x: Float[Array, "n ..."]
    ) -> tuple[Float[Array, "n outputs"], Pull]:
        outputs, pull = backpropagate(self.symmetry.projected(network), x)
        _, back = jax.vjp(lambda p: p.rows(0), network.parameters)
        projection = self.symmetry.projection.astype(network.dtype)

        def shared(d: Array) -> Parameters:
            rows = pull(d).rows(0)
            return back(matmul(rows, projection))[0].still()

        return outputs, shared

    def check_data(self, data: Data) -> None:
        check_action(self.symmetry, data)

    def check(self, network: Network, data: Data) -> None:
        if network.depth != 2 or network.start.biases[-1] is not None:
            raise ValueError(
                f"network must have one hidden layer and no output bias for an equivariant "
                f"architecture, got depth {network.depth}: write Symmetry.ensemble(ensemble), or "
                "FeatureAveraging"
            )
        if network.points(0).shape[1] != self.symmetry.projection.shape[0]:
            raise ValueError(
                f"symmetry must act on the neurons, of dimension {network.points(0).shape[1]}, got "
                f"a representation on R^{self.symmetry.projection.shape[0]}: give Symmetry(..., "
                "neurons=...) one of that dimension"
            )
        self.symmetry.check_units(network, data.x[:16])


_SYMMETRY = "write Symmetry(group, inputs=..., outputs=...)"


def check_action(symmetry: Symmetry, data: Data) -> None:
    """Raise `ValueError` unless the symmetry acts on inputs and targets like those of the data."""
    kind("symmetry", symmetry, Symmetry, _SYMMETRY)
    for name, value in (("inputs", data.x), ("outputs", data.y)):
        dim, size = symmetry.matrices[name].shape[1], value[0].size
        if dim != size:
            raise ValueError(
                f"symmetry must act on the data's {name}, of {size} numbers, got a representation "
                f"on R^{dim}: give Symmetry(..., {name}=...) a representation on R^{size} "
                f"(trivial({size}) if the group leaves them alone), or data whose {name} have "
                f"{dim} numbers"
            )
