"""Equinox MLPs as networks with masses: outputs, and training as it was."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest

from ensembles import Affine, Gaussian, from_mlp, iid, to_mlp
from limits import Data, GradientFlow, Risk, train

X = jax.random.normal(jax.random.key(0), (10, 3))
Y = jax.random.normal(jax.random.key(1), (10, 2))
ACTIVATIONS = [jnp.tanh, jax.nn.relu, jax.nn.gelu, jax.nn.softplus]


def a_random_mlp(number):
    rng = np.random.default_rng(number)
    return eqx.nn.MLP(
        3, 2, int(rng.integers(2, 12)), int(rng.integers(1, 4)),
        activation=ACTIVATIONS[number % 4], use_bias=bool(rng.integers(2)),
        use_final_bias=bool(rng.integers(2)), scan=bool(rng.integers(2)), dtype=jnp.float64,
        key=jax.random.key(number),
    )  # fmt: skip


def trained(mlp, step, steps):
    """Plain gradient descent, written out."""

    def loss(m):
        return ((jax.vmap(m)(X) - Y) ** 2).sum(1).mean() / 2

    @eqx.filter_jit
    def one(m):
        slope = eqx.filter_grad(loss)(m)
        return eqx.apply_updates(m, jax.tree.map(lambda g: -step * g, slope))

    for _ in range(steps):
        mlp = one(mlp)
    return mlp


@pytest.mark.parametrize(
    "number", [n if n < 2 else pytest.param(n, marks=pytest.mark.slow) for n in range(20)]
)
def test_an_mlp_has_its_outputs_and_its_own_gradient_descent(number):
    mlp, step = a_random_mlp(number), 0.02
    network, rates = from_mlp(mlp)
    assert largest(network(X), jax.vmap(mlp)(X)) < 1e-13
    risk = Risk(Data(X, Y))
    for steps in (1, 100):
        run = train(network, risk, GradientFlow(**rates), step=step, t1=steps * step)
        end = trained(mlp, step, steps)
        assert largest(run.final(X), jax.vmap(end)(X)) < 1e-10
        back = to_mlp(run.final)
        assert largest(jax.vmap(back)(X), jax.vmap(end)(X)) < 1e-10
    plain = train(network, risk, step=step, t1=step)
    assert largest(plain.final(X), jax.vmap(trained(mlp, step, 1))(X)) > 1e-6  # other rates


def test_what_is_no_mlp_of_one_width_is_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="mlp must have a hidden layer"):
        from_mlp(eqx.nn.MLP(3, 2, 8, 0, key=key))
    for last in (jax.nn.relu, lambda y: jnp.clip(y, -3, 3), lambda y: 1 * y + 0, eqx.nn.PReLU()):
        with pytest.raises(ValueError, match="mlp must end with the identity"):
            from_mlp(eqx.nn.MLP(3, 2, 8, 1, final_activation=last, key=key))
    from_mlp(eqx.nn.MLP(3, 2, 8, 1, final_activation=jax.nn.identity, key=key))
    with pytest.raises(ValueError, match="mlp must have an activation without"):
        from_mlp(eqx.nn.MLP(3, 2, 8, 1, activation=eqx.nn.PReLU(), key=key))
    laws = dict(first=Gaussian(1), hidden=Gaussian(1), last=Gaussian(1))
    ensemble = iid(dim=3, depth=3, layers=Affine(jnp.tanh), **laws)
    with pytest.raises(ValueError, match="network must have Affine layers of one activation"):
        to_mlp(ensemble.sample((4, 5), key=key))
