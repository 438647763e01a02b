"""One pass through the layers."""

from jaxtyping import Array, Float

from .._layers.layer import Layer
from .._promises import named
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
        n = len(x)
        rows = f": write x[:, None] for {n} inputs of one number" if x.ndim == 1 else ""
        raise ValueError(
            f"x must fit the first layer {first!r} with weights of shape {w[0].shape[1:]}, got "
            f"inputs of shape {x.shape[1:]} (functions of layers get one neuron and one input at "
            f"a time, without a batch axis): {error}{rows}"
        ) from error
    for i, layer in enumerate(layers[1:], 1):
        h.append(layer.forward(masses[i - 1], w[i], b[i], h[-1]))
    return tuple(h)
