"""Networks of Equinox as networks with masses, and back."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._checks import kind
from ._layers.affine import Affine
from ._network.network import Network
from ._network.parameters import Parameters


class Standard(NamedTuple):
    """A network that was standard-parametrised, and the rates that train it as it was.

    `rates` are arguments of `GradientFlow`: `learning_rates` and `bias_rates`, one per layer.
    """

    network: Network
    rates: dict[str, list[float]]


def from_mlp(mlp: eqx.nn.MLP) -> Standard:
    """An `equinox.nn.MLP` as a `Network` of the same outputs, and the rates of its own training.

    With W_i (N_i, N_{i-1}) its matrices, w_1 = W_1 and w_i = N_{i-1} W_iᵀ for i ≥ 2: the forward
    factor 1/N_{i-1} of averages is in the weights, biases are the same. Then its gradient descent
    W ← W − ε ∂R/∂W is the mean-field one of step ε with rates, from ∂R/∂w_i = ∂R/∂W_i / N_{i-1} and
    masses p_{i-1} p_i = 1/(N_{i-1} N_i),

        ξ_1 = 1/N_1,  ξ_i = N_{i-1}/N_i,  ξ_L = N_{L-1}   for weights,
        1/N_i,  and 1 for b_L                             for biases:

        network, rates = from_mlp(mlp)
        train(network, risk, GradientFlow(**rates), step=ε, t1=100 * ε)

    These are not the rates of a mean-field limit: ξ_L grows with the width, and entries of w_i have
    variance ∝ N where those of W_i have 1/N. `docs/parametrisation.md` says what can be learned
    about such a network here. Raises `ValueError` for other modules, MLPs without hidden layers,
    and final activations that are not the identity (put them into the loss).
    """
    kind("mlp", mlp, eqx.nn.MLP, "write equinox.nn.MLP(2, 1, 64, 2, key=key)")
    linear = list(mlp.layers)
    if mlp.scan and mlp.depth > 1:
        inner = linear[1]
        linear[1:2] = [
            jax.tree.map(lambda a, j=j: a[j] if eqx.is_array(a) else a, inner)
            for j in range(mlp.depth - 1)
        ]
    if mlp.depth < 1:
        raise ValueError(f"mlp must have a hidden layer, got depth {mlp.depth}: write depth=1")
    if not _identity(mlp.final_activation):
        raise ValueError(
            "mlp must end with the identity, got another final_activation: leave it out, and put "
            "it into the loss"
        )
    if any(map(eqx.is_array, jax.tree.leaves(mlp.activation))):
        raise ValueError(
            "mlp must have an activation without parameters of its own, got "
            f"{mlp.activation!r}: write jnp.tanh, or jax.nn.relu"
        )
    sizes = [layer.weight.shape[0] for layer in linear[:-1]]
    weights = [linear[0].weight]
    weights += [n * layer.weight.T for n, layer in zip(sizes, linear[1:], strict=True)]
    dtype = weights[0].dtype
    start = Parameters(tuple(weights), tuple(layer.bias for layer in linear))
    network = Network(
        (Affine(mlp.activation),) * len(linear),
        tuple(jnp.arange(n, dtype=dtype)[:, None] for n in sizes),
        tuple(jnp.full(n, 1 / n, dtype) for n in sizes),
        start,
    )
    before, after = [1, *sizes], [*sizes, 1]
    return Standard(
        network,
        {
            "learning_rates": [m / n for m, n in zip(before, after, strict=True)],
            "bias_rates": [1 / n for n in after],
        },
    )


def _identity(f: Callable[[Array], Array]) -> bool:
    """Whether `f` returns what it is given."""
    if any(map(eqx.is_array, jax.tree.leaves(f))):
        return False
    with jax.disable_jit():
        program = jax.make_jaxpr(f)(jnp.zeros(())).jaxpr
    return program.outvars == program.invars


def to_mlp(network: Network) -> eqx.nn.MLP:
    """The `equinox.nn.MLP` of the same outputs: W_1 = w_1 and W_i = p_{i-1} w_iᵀ.

    Raises `ValueError` for layers that are not `Affine` with one activation, and hidden layers of
    different widths, which `MLP` does not have.
    """
    kind("network", network, Network, "write from_mlp(mlp).network, or .final of a run")
    layers = set(network.layers)
    (layer,) = layers if len(layers) == 1 else (None,)
    if not isinstance(layer, Affine) or len(set(network.width)) > 1:
        raise ValueError(
            "network must have Affine layers of one activation and one width to be an MLP, got "
            f"{network!r}: write your own module from network.weights"
        )
    w, b = network.weights, network.biases
    matrices = [w[0], *((p[:, None] * a).T for p, a in zip(network.masses, w[1:], strict=True))]
    hidden = [c is not None for c in b[:-1]]
    if any(hidden) != all(hidden):
        raise ValueError(
            "network must have biases in all hidden layers or in none to be an MLP, got "
            f"{hidden}: set the others to zero and freeze them"
        )
    mlp = eqx.nn.MLP(
        matrices[0].shape[1], matrices[-1].shape[0], network.width[0], network.depth - 1,
        activation=layer.activation, use_bias=all(hidden), use_final_bias=b[-1] is not None,
        dtype=network.dtype, key=jax.random.key(0),
    )  # fmt: skip
    mlp = eqx.tree_at(lambda m: [layer.weight for layer in m.layers], mlp, matrices)
    held = [i for i, c in enumerate(b) if c is not None]
    return eqx.tree_at(lambda m: [m.layers[i].bias for i in held], mlp, [b[i] for i in held])
