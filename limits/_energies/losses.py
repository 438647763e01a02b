"""Losses ℓ(ŷ, y) of one sample. Any function (outputs,), (outputs,) -> () is a loss as well; one
that has a `check(y)` is asked whether the data's targets are its."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembles.internal import concrete, number


class SquaredLoss(eqx.Module):
    """ℓ = ‖ŷ − y‖² / 2."""

    def __call__(
        self, prediction: Float[Array, " outputs"], y: Float[Array, " outputs"]
    ) -> Float[Array, ""]:
        return ((prediction - y) ** 2).sum() / 2


class HuberLoss(eqx.Module):
    """ℓ = Σ_j h(ŷ_j − y_j): h(r) = r²/2 up to abs(r) = δ, δ abs(r) − δ²/2 beyond; δ > 0."""

    delta: Float[Array, ""]

    def __init__(self, delta: ArrayLike = 1.0):
        self.delta = number("delta", delta, "write HuberLoss(1.0)", jnp.result_type(float))
        value = concrete(self.delta)
        if value is not None and not value > 0:
            raise ValueError(f"delta must be positive, got {delta}: write HuberLoss(1.0)")

    def __call__(
        self, prediction: Float[Array, " outputs"], y: Float[Array, " outputs"]
    ) -> Float[Array, ""]:
        r = jnp.abs(prediction - y)
        delta = self.delta.astype(r.dtype)
        inside = jnp.minimum(r, delta)
        return (inside * (r - inside / 2)).sum()


class LogisticLoss(eqx.Module):
    """ℓ = Σ_j log(1 + exp(−y_j ŷ_j)) for labels y_j ∈ {−1, 1}."""

    def check(self, y: Float[Array, "n outputs"]) -> None:
        """Raise `ValueError` for other labels."""
        known = concrete(y)
        if known is not None and not (np.abs(known) == 1).all():
            raise ValueError(
                f"y must be −1 or 1 for LogisticLoss, got {np.unique(known)[:4]}: for labels 0 and "
                "1 write 2 * y - 1"
            )

    def __call__(
        self, prediction: Float[Array, " outputs"], y: Float[Array, " outputs"]
    ) -> Float[Array, ""]:
        return jax.nn.softplus(-y * prediction).sum()


class CrossEntropyLoss(eqx.Module):
    """ℓ = −Σ_j y_j log softmax(ŷ)_j for class probabilities y (one-hot labels)."""

    def check(self, y: Float[Array, "n outputs"]) -> None:
        """Raise `ValueError` for one output, and rows that are no probabilities."""
        if y.shape[1] < 2:
            raise ValueError(
                f"y must have one column per class for CrossEntropyLoss, got shape {y.shape}, of "
                "which the softmax is 1: write jax.nn.one_hot(labels, 2), or LogisticLoss()"
            )
        known = concrete(y)
        if known is not None:
            off = np.abs(known.sum(1) - 1).max()
            if known.min() < 0 or off > 1e-4:
                raise ValueError(
                    "y must be probabilities of classes for CrossEntropyLoss, got rows that sum to "
                    f"1 up to {off:.2g} and a smallest entry {known.min():.3g}: write "
                    "jax.nn.one_hot(labels, classes)"
                )

    def __call__(
        self, prediction: Float[Array, " outputs"], y: Float[Array, " outputs"]
    ) -> Float[Array, ""]:
        return -(y * jax.nn.log_softmax(prediction)).sum()
