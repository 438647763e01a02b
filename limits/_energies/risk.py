"""The risk: an average loss over data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles._backpropagate import backpropagate
from ensembles._checks import count, kind
from ensembles._contractions import dot, tensordot

from .data import Data
from .energy import Energy
from .losses import SquaredLoss


class Risk(Energy):
    """R = Σ_k q_k ℓ(ŷ(x_k), y_k) over `data` (n samples of masses q_k), `loss` = ℓ.

    The squared loss is ‖ŷ − y‖²/2, and a flow follows −∂R per unit mass, without further factors.
    """

    data: Data
    loss: Callable[[Array, Array], Array] = SquaredLoss()

    def __check_init__(self) -> None:
        kind("data", self.data, Data, "write Risk(Data(x, y))")
        if not callable(self.loss):
            raise ValueError(
                f"loss must be a function (outputs,), (outputs,) -> (), got {self.loss!r}: write "
                "loss=SquaredLoss()"
            )
        check = getattr(self.loss, "check", None)
        if check is not None:
            check(self.data.y)

    def __call__(self, network: Network) -> Float[Array, ""]:
        return dot(self.data.masses, jax.vmap(self.loss)(self.outputs(network), self.data.y))

    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        return network(self.data.x)

    def size(self, outputs: Float[Array, "... n outputs"]) -> Float[Array, "..."]:
        return jnp.sqrt(tensordot((outputs**2).mean(-1), self.data.masses))

    def value_and_gradient(self, network: Network) -> tuple[Float[Array, ""], Parameters]:
        outputs, pull = backpropagate(network, self.data.x)
        losses, d = jax.vmap(jax.value_and_grad(self.loss))(outputs, self.data.y)
        return dot(self.data.masses, losses), pull(self.data.masses[:, None] * d)

    def stationarity(self, network: Network) -> Float[Array, ""]:
        slopes = jax.vmap(jax.grad(self.loss))(self.outputs(network), self.data.y)
        return jnp.sqrt(dot(self.data.masses, (slopes**2).sum(1)))

    def draw(self, batch: int, key: PRNGKeyArray) -> "Risk":
        return Risk(self.data.draw(batch, key), self.loss)

    def check(self, network: Network, batch: int | None = None) -> None:
        y = self.data.y
        if y.dtype != network.dtype:
            raise ValueError(
                f"energy has data of dtype {y.dtype} and the network dtype {network.dtype}: make "
                "both the same, e.g. Data(x.astype(network.dtype), y.astype(network.dtype))"
            )
        outputs = jax.eval_shape(self.outputs, network)
        if outputs.shape != y.shape:
            raise ValueError(
                f"y must have the shape {outputs.shape} of the network's outputs, got {y.shape}"
            )
        sample = jax.ShapeDtypeStruct(y.shape[1:], y.dtype)
        loss = jax.eval_shape(self.loss, sample, sample)
        if loss.shape != ():
            raise ValueError(
                f"loss must return a scalar for one sample, got shape {loss.shape}: write .sum()"
            )
        size = 1 if batch is None else count("batch", batch)
        if self.data.sampler is None and size > len(y):
            raise ValueError(
                f"batch must be at most the {len(y)} samples of the data, got {batch}: "
                "write batch=None for the full batch"
            )
