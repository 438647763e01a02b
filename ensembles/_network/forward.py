"""One pass through the layers: what it needs of a network is computed once."""

from typing import TYPE_CHECKING

from jaxtyping import Array, Float

from .parameters import Parameters

if TYPE_CHECKING:
    from .network import Network


def forward(
    network: "Network", x: Float[Array, "batch ..."]
) -> tuple[Parameters, tuple[Array, ...], tuple[Array, ...]]:
    """The current parameters, the current masses, and the preactivations (H_1, …, H_L) at `x`."""
    parameters, masses = network.parameters, network.masses
    w, b, first = parameters.weights, parameters.biases, network.layers[0]
    try:
        h = [first.first(w[0], b[0], x)]
    except TypeError as error:  # JAX's words for shapes that do not fit
        raise ValueError(
            f"x must fit the first layer {first!r} with weights of shape {w[0].shape[1:]}, got "
            f"inputs of shape {x.shape[1:]}: {error}"
        ) from error
    for i in range(1, network.depth):
        h.append(network.layers[i].forward(masses[i - 1], w[i], b[i], h[-1]))
    return parameters, masses, tuple(h)
