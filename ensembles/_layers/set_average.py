"""Units of networks on sets."""

from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float

from .._contractions import matmul
from .._promises import entrywise
from .layer import check_function


class SetAverage(eqx.Module):
    """The first layer of networks on sets, φ_1(w, b, x) = mean over elements x_j of x of
    activation(w · x_j + b), for inputs x (elements, d): `Elementwise(SetAverage(jax.nn.relu))`.

    The layer behind averages these over neurons as they are: `Affine` with the identity. Source:
    Zaheer et al. (arXiv:1703.06114); Zweig & Bruna (arXiv:2008.06952), depth 3.
    """

    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_function("activation", self.activation, "SetAverage(jax.nn.relu)")
        entrywise("activation", self.activation, ndim=1)

    def __call__(
        self, w: Float[Array, " d"], b: Float[Array, ""] | None, x: Array
    ) -> Float[Array, ""]:
        if x.ndim != 2:
            raise ValueError(
                f"inputs must be (elements, d) for a SetAverage, got shape {x.shape}: write "
                "x[:, None] for sets of one element"
            )
        h = matmul(x, w)
        return self.activation(h if b is None else h + b[None]).mean()
