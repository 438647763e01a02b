"""Energies: functions of a network with a derivative per unit mass."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles._checks import count

from ._data import Data
from ._gradients import backpropagate
from ._losses import SquaredLoss


class Energy(eqx.Module):
    """What a dynamics descends: a value, a derivative per unit mass, and random approximations."""

    @abc.abstractmethod
    def __call__(self, network: Network) -> Float[Array, ""]:
        """The value at `network`."""

    @abc.abstractmethod
    def value_and_gradient(self, network: Network) -> tuple[Float[Array, ""], Parameters]:
        """The value and the derivative per unit mass, with the shapes of `network.parameters`."""

    @abc.abstractmethod
    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        """What the energy sees of the network; limits are compared in it."""

    @abc.abstractmethod
    def stationarity(self, network: Network) -> Float[Array, ""]:
        """The root mean square of the energy's derivative in the outputs; 0 when no change of the
        outputs lowers it to first order."""

    @abc.abstractmethod
    def draw(self, batch: int, key: PRNGKeyArray) -> "Energy":
        """An unbiased estimate of this energy from `batch` random samples."""

    @abc.abstractmethod
    def check(self, network: Network, batch: int | None = None) -> None:
        """Raise `ValueError` when the network, or a batch of that size, does not fit."""


class Risk(Energy):
    """R = Σ_k q_k ℓ(ŷ(x_k), y_k) over `data` (n samples of masses q_k), `loss` = ℓ.

    The squared loss is ‖ŷ − y‖²/2, and a flow follows −∂R per unit mass, without further factors.
    """

    data: Data
    loss: Callable[[Array, Array], Array] = SquaredLoss()

    def __call__(self, network: Network) -> Float[Array, ""]:
        return self.data.masses @ jax.vmap(self.loss)(self.outputs(network), self.data.y)

    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        return network(self.data.x)

    def value_and_gradient(self, network: Network) -> tuple[Float[Array, ""], Parameters]:
        outputs, pull = backpropagate(network, self.data.x)
        losses, d = jax.vmap(jax.value_and_grad(self.loss))(outputs, self.data.y)
        return self.data.masses @ losses, pull(self.data.masses[:, None] * d)

    def stationarity(self, network: Network) -> Float[Array, ""]:
        slopes = jax.vmap(jax.grad(self.loss))(self.outputs(network), self.data.y)
        return jnp.sqrt(jnp.dot(self.data.masses, (slopes**2).sum(1)))

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
        loss = jax.eval_shape(self.loss, y[0], y[0])
        if loss.shape != ():
            raise ValueError(
                f"loss must return a scalar for one sample, got shape {loss.shape}: write .sum()"
            )
        if batch is not None and self.data.sampler is None and count("batch", batch) > len(y):
            raise ValueError(
                f"batch must be at most the {len(y)} samples of the data, got {batch}: "
                "write batch=None for the full batch"
            )
