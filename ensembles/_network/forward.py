"""One pass through the layers."""

from jaxtyping import Array, Float

from .._layers.layer import Layer
from .._promises import named
from .fits import misfit
from .parameters import Parameters


def forward(
    layers: tuple[Layer, ...],
    parameters: Parameters,
    masses: tuple[Array, ...],
    x: Float[Array, "batch ..."],
) -> tuple[Array, ...]:
    """The preactivations (H_1, …, H_L) at `x`, for the current parameters and masses, which whoever
    asks computes once."""
    w, b, first = parameters.weights, parameters.biases, layers[0]
    try:
        h = [first.first(w[0], b[0], x)]
    except (TypeError, IndexError, ValueError) as error:  # JAX's words for shapes that do not fit
        if named(error):
            raise
        raise misfit(first, w[0], b[0], x, error) from error
    for i, layer in enumerate(layers[1:], 1):
        h.append(layer.forward(masses[i - 1], w[i], b[i], h[-1]))
    return tuple(h)
