"""Wrong data and losses: each error names the argument, what arrived and the remedy."""

import jax.numpy as jnp
import jaxtyping
import pytest
from models import regression
from right import X, Y, network

from limits import CrossEntropyLoss, Data, HuberLoss, LogisticLoss, Risk, flow

CALLS = {
    "x integer": (
        lambda: Data(jnp.ones((4, 2), int), Y),
        r"x must be floating, got dtype int64: write x\.astype\(float\)",
    ),
    "y class labels": (
        lambda: Data(X, jnp.arange(4)),
        r"y must be floating, got dtype int64: .*jax\.nn\.one_hot",
    ),
    "y flat": (
        lambda: Data(X, jnp.ones(4)),
        r"y must have 2 axes, got shape \(4,\): write y\[:, None\]",
    ),
    "NaN in data": (
        lambda: Data(X.at[0, 0].set(jnp.nan), Y),
        r"x has 1 NaN or infinite entries out of 8: remove or impute",
    ),
    "rows do not match": (
        lambda: Data(X, jnp.ones((5, 1))),
        r"x and y must have one row per sample, got shapes \(4, 2\) and \(5, 1\)",
    ),
    "data of two dtypes": (
        lambda: Data(X, Y.astype(jnp.float32)),
        r"x and y must share one dtype, got float64 and float32: write y\.astype\(x\.dtype\)",
    ),
    "data and network of two dtypes": (
        lambda: flow(network(), Risk(Data(X.astype(jnp.float32), Y.astype(jnp.float32))), t1=1.0),
        r"energy has data of dtype float32 and the network dtype float64: make both the same",
    ),
    "outputs and targets of two shapes": (
        lambda: flow(network(), Risk(regression(8, outputs=2)), t1=1.0),
        r"y must have the shape \(8, 1\) of the network's outputs, got \(8, 2\)",
    ),
    "loss not a scalar": (
        lambda: flow(network(), Risk(regression(8), lambda p, y: (p - y) ** 2), t1=1.0),
        r"loss must return a scalar for one sample, got shape \(1,\): write \.sum\(\)",
    ),
    "Huber delta": (lambda: HuberLoss(-1.0), r"delta must be positive, got -1\.0"),
    "logistic labels 0 and 1": (
        lambda: Risk(Data(X, jnp.array([[0.0], [1.0], [1.0], [0.0]])), LogisticLoss()),
        r"y must be −1 or 1 for LogisticLoss, got \[0\. 1\.\]: for labels 0 and 1 write 2 \* y - 1",
    ),
    "cross-entropy of one output": (
        lambda: Risk(Data(X, jnp.ones((4, 1))), CrossEntropyLoss()),
        r"y must have one column per class for CrossEntropyLoss, got shape \(4, 1\)",
    ),
    "cross-entropy of numbers": (
        lambda: Risk(Data(X, jnp.ones((4, 2))), CrossEntropyLoss()),
        r"y must be probabilities of classes for CrossEntropyLoss, got rows that sum to 1 up to 1",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_loss_must_be_a_function(monkeypatch):
    """As users run it: tests check types besides."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"loss must be a function .* got 'squared': write loss="):
        Risk(Data(X, jnp.ones((4, 2))), "squared")
