"""The risk: an average loss over data."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network
from ensembles.internal import count, dot, kind, position, shape_of, takes, tensordot

from .data import Data
from .energy import Derivatives, Energy
from .losses import SquaredLoss
from .predictions import Outputs, Prediction, flat

_PAIRS = 32  # of predictions, between which losses are evaluated


class Risk(Energy):
    """R = Σ_k q_k ℓ(ŷ(x_k), y_k) over `data` (n samples of masses q_k), `loss` = ℓ.

    The squared loss is ‖ŷ − y‖²/2, and a flow follows −∂R per unit mass, without further factors.
    `prediction` says what ŷ is: the outputs of the network by default, or `FeatureAveraging` or
    `EquivariantArchitecture` under a symmetry. Penalties are energies, which are added:
    `Risk(data) + PowerPenalty(1e-3)`.
    """

    takes: ClassVar[str | None] = "networks with outputs"
    data: Data
    loss: Callable[[Array, Array], Array] = SquaredLoss()
    prediction: Prediction = Outputs()

    def __check_init__(self) -> None:
        kind("data", self.data, Data, "write Risk(Data(x, y))")
        if isinstance(self.loss, type):
            name = self.loss.__name__
            raise ValueError(f"loss must be a function, got the class {name}: write {name}()")
        if isinstance(self.loss, Energy | Prediction) or not callable(self.loss):
            raise ValueError(
                f"loss must be a function (outputs,), (outputs,) -> (), got {self.loss!r}: write "
                "loss=SquaredLoss(); a penalty is added, Risk(data) + PowerPenalty(1e-3), and a "
                "prediction given by name, prediction=FeatureAveraging(symmetry)"
            )
        remedy = "write loss=SquaredLoss(); a penalty is added, Risk(data) + PowerPenalty(1e-3)"
        takes("loss", self.loss, 2, "the outputs and y of one sample", remedy)
        remedy = (
            "write prediction=FeatureAveraging(symmetry); a penalty is added, "
            "Risk(data) + PowerPenalty(1e-3)"
        )
        kind("prediction", self.prediction, Prediction, remedy)
        self.prediction.check_data(self.data)
        check = getattr(self.loss, "check", None)
        if check is not None:
            check(self.data.y)

    def __call__(self, network: Network) -> Float[Array, ""]:
        kind("network", network, Network, "write risk(ensemble.sample(64, key=key))")
        self._check_network(network)
        outputs = self.outputs(network)
        self._check_outputs(outputs)  # they would broadcast
        self._check_loss()
        return dot(self.data.masses, jax.vmap(self.loss)(outputs, self.data.y))

    def _check_network(self, network: Network) -> None:
        """Raise `ValueError` for a network of another dtype, and for particles."""
        dtype = self.data.y.dtype
        if dtype != network.dtype:
            raise ValueError(
                f"energy has data of dtype {dtype} and the network dtype {network.dtype}: make "
                "both the same, e.g. Data(x.astype(network.dtype), y.astype(network.dtype))"
            )
        if getattr(network.layers[0], "sigma", None) is position:
            raise ValueError(
                "network must have outputs for a Risk, got particles, which take no inputs: write "
                "shallow(sigma, space), or Interaction(F, K) as energy"
            )

    def _check_loss(self) -> None:
        """Raise `ValueError` unless the loss gives a real scalar for one sample."""
        y = self.data.y
        sample = jax.ShapeDtypeStruct(y.shape[1:], y.dtype)
        fit = f"loss must fit outputs and y of shape {sample.shape}"
        loss = shape_of(fit, self.loss, sample, sample)
        if not jnp.issubdtype(loss.dtype, jnp.floating):
            raise ValueError(
                f"loss must return a real number for one sample, got dtype {loss.dtype}: write "
                ".real, or .astype(prediction.dtype)"
            )
        if loss.shape != ():
            raise ValueError(
                f"loss must return a scalar for one sample, got shape {loss.shape}: write .sum()"
            )

    def _check_outputs(self, outputs: Any) -> None:
        """Raise `ValueError` unless outputs and y have one shape."""
        if len(outputs.shape) != 2:
            raise ValueError(
                f"network must give outputs (batch, outputs) for a Risk, got {outputs.shape}: let "
                "a unit return an array (outputs,), jnp.tanh(theta @ x)[None] for one output, and "
                "keep y (n, outputs)"
            )
        if outputs.shape != self.data.y.shape:
            raise ValueError(
                f"y must have the shape {outputs.shape} of the network's outputs, got "
                f"{self.data.y.shape}: write y[:, :{outputs.shape[1]}], or a network of "
                f"{self.data.y.shape[1]} outputs (last=Gaussian({self.data.y.shape[1]}) in iid)"
            )

    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        outputs, pull = self.prediction.backpropagate(network, self.data.x)
        losses, d = jax.vmap(jax.value_and_grad(self.loss))(outputs, self.data.y)
        value = dot(self.data.masses, losses)
        gradient = pull(self.data.masses[:, None] * d)
        return Derivatives(value, gradient, self.by_masses(network) if variation else None)

    @property
    def takes_factors(self) -> bool:
        return self.prediction.takes_factors

    def samples(self, network: Network) -> int:
        return len(self.data.y)

    @property
    def inputs(self) -> Float[Array, "n d"] | None:
        return self.data.x if self.data.x.ndim == 2 else None

    def with_finer_data(self) -> "Risk | None":
        data = self.data.finer()
        return None if data is None else eqx.tree_at(lambda risk: risk.data, self, data)

    def outputs(self, network: Network) -> Float[Array, "n outputs"]:
        return self.prediction(network, self.data.x)

    def size(self, outputs: Float[Array, "... n outputs"]) -> Float[Array, "..."]:
        return jnp.sqrt(tensordot((outputs**2).mean(-1), self.data.masses))

    def stationarity(self, network: Network) -> Float[Array, ""]:
        slopes = jax.vmap(jax.grad(self.loss))(self.outputs(network), self.data.y)
        return jnp.sqrt(dot(self.data.masses, (slopes**2).sum(1)))

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        y = self.data.y
        size = jnp.maximum(jnp.abs(self.outputs(network)).max(), jnp.maximum(jnp.abs(y).max(), 1))
        ends = 2 * size * jax.random.normal(jax.random.key(0), (2, _PAIRS, *y.shape), y.dtype)
        value = jax.vmap(jax.vmap(self.loss), (0, None))
        between, chord = value(ends.mean(0), y), (value(ends[0], y) + value(ends[1], y)) / 2
        slack = 1e-9 if y.dtype.itemsize >= 8 else 1e-4
        above = float((between - chord - slack * (jnp.abs(chord) + jnp.abs(between))).max())
        if above > 0:
            raise ValueError(
                f"loss must be convex in the outputs for a bound, got {self.loss!r}, which lies "
                f"{above:.3g} above a chord: write SquaredLoss() or HuberLoss()"
            )

    def draw(self, batch: int, key: PRNGKeyArray) -> "Risk":
        return eqx.tree_at(lambda risk: risk.data, self, self.data.draw(batch, key))

    def check(self, network: Network, batch: int | None = None) -> None:
        self._check_network(network)
        self.prediction.check(network, self.data)
        fit = f"network must fit inputs x of shape {self.data.x.shape[1:]}"
        outputs = shape_of(fit, lambda n: flat(n, n(self.data.x)), network)
        self._check_outputs(outputs)
        self._check_loss()
        size = 1 if batch is None else count("batch", batch)
        if self.data.sampler is None and size > len(self.data.y):
            raise ValueError(
                f"batch must be at most the {len(self.data.y)} samples of the data, got {batch}: "
                "write batch=None for the full batch"
            )
