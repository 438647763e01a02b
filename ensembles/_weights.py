"""Weight functions: initial weights and biases as functions of neurons' labels."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ._checks import kind, shown, takes
from ._spaces.space import Space

WeightFunction = Callable[..., Array]


class Noisy(eqx.Module):
    """Weights w(c, c', u) between two hidden layers, u drawn for every pair of neurons.

    Initial weights that are exchangeable in each layer's neurons have this form (Aldous–Hoover);
    u alone makes independent entries. Finite networks draw u. In layers affine in w the limit
    depends on the conditional mean E[w | c, c'] only: increments are functions of the labels, while
    each weight keeps its own initial value (Nguyen & Pham, arXiv:2001.11443, i.i.d. weights).

    Arguments: `weight(c, c', u)`, `mean(c, c')` its mean over u, `noise` the space of u. Called on
    labels alone it is the conditional mean. Raises `ValueError` for other objects; an ensemble of
    it where draws of `weight` at a few labels show another mean than `mean`.
    """

    weight: WeightFunction
    mean: WeightFunction
    noise: Space

    def __check_init__(self) -> None:
        remedy = "write Noisy(lambda c, e, u: ..., lambda c, e: ..., Gaussian(1))"
        kind("noise", self.noise, Space, remedy)
        for name, f, n, of in (
            ("weight", self.weight, 3, "two labels and the noise"),
            ("mean", self.mean, 2, "two labels"),
        ):
            if not callable(f):
                raise ValueError(f"{name} must be a function, got {shown(f)}: {remedy}")
            takes(name, f, n, of, remedy)

    def __call__(self, c: Float[Array, " dim"], e: Float[Array, " dim"]) -> Array:
        return self.mean(c, e)

    def draw(self, c: Float[Array, "n dim"], e: Float[Array, "m dim"], key: PRNGKeyArray) -> Array:
        """The weights (n, m) of a finite network with these labels."""
        n, m = c.shape[0], e.shape[0]
        u = self.noise.sample(n * m, key=key).points.reshape(n, m, self.noise.dim)
        return jax.vmap(jax.vmap(self.weight, (None, 0, 0)), (0, None, 0))(c, e, u)


def on_labels(weight: WeightFunction, *labels: Float[Array, "n dim"]) -> Array:
    """The values of a weight function on all combinations of labels.

    With one set of labels `weight(c)` gives shape (n, ...); with two, `weight(c, c')` gives
    (n, n', ...), for whatever trailing shape the function returns.
    """
    for axis in reversed(range(len(labels))):
        weight = jax.vmap(weight, [0 if i == axis else None for i in range(len(labels))])
    return weight(*labels)
