"""What fits together: layers with masses and parameters, inputs with the first layer."""

from typing import Any

import jax
from jaxtyping import Array

from .._checks import floating
from .._layers.layer import Layer
from .parameters import Parameters


def check_shapes(
    layers: tuple[Layer, ...], masses: tuple[Array, ...], parameters: Parameters
) -> None:
    """Raise `ValueError` unless weights and biases have one entry for each neuron, or pair."""
    sizes = [p.shape[0] for p in masses]
    outputs = parameters.weights[-1]
    after = [*((n,) for n in sizes), () if outputs is None else outputs.shape[1:2]]
    for i, w in enumerate(parameters.weights):
        _leads(f"weights[{i}]", w, tuple(sizes[max(i - 1, 0) : i + 1]))
    for i, b in enumerate(parameters.biases):
        _leads(f"biases[{i}]", b, after[i])
        if b is not None:
            layers[i].check_bias(f"biases[{i}]")


def check_increment(start: Parameters, increment: Parameters) -> None:
    """Raise `ValueError` unless an increment has finite arrays of the shapes of the start's."""
    for name in ("weights", "biases"):
        pairs = list(zip(getattr(start, name), getattr(increment, name), strict=True))
        for i, (own, moved) in enumerate(pairs):
            one = f"increment.{name}[{i}]"
            shapes = [None if a is None else a.shape for a in (own, moved)]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"{one} must have the shape of {name}[{i}], {shapes[0]}, got {shapes[1]}"
                )
            if moved is not None:
                floating(one, moved)


def check_dtypes(network: Any) -> None:
    """Raise `ValueError` unless all arrays have one dtype."""
    found = {str(leaf.dtype) for leaf in jax.tree.leaves(network)}
    if len(found) > 1:
        raise ValueError(
            f"weights: one dtype for labels, masses, weights and biases, got {sorted(found)}: "
            "write the constants of weight functions as Python numbers, and make spaces from "
            "arrays of the dtype you want"
        )


def check_input(x: Any, first: Layer, w: Array) -> None:
    """Raise `ValueError` unless `x` has the dtype and the input shape of first-layer weights."""
    if not hasattr(x, "dtype") or x.dtype != w.dtype:
        raise ValueError(
            f"x must have the network's dtype {w.dtype}, got "
            f"{getattr(x, 'dtype', type(x).__name__)}: write jnp.asarray(x, network.dtype)"
        )
    wanted = first.input_shape(w)
    if x.ndim < 1 or (wanted is not None and x.shape[1:] != wanted):
        raise ValueError(
            f"x must have shape (batch, {', '.join(map(str, wanted or ['...']))}), "
            f"got shape {x.shape}: {_remedy_of_input(x.shape, wanted)}"
        )


def _remedy_of_input(found: tuple[int, ...], wanted: tuple[int, ...] | None) -> str:
    if len(found) < 2:
        if wanted == (1,):
            return "write x[:, None] for inputs in R"
        if not found or wanted is None or found == wanted:
            return "write x[None] for one input"
        return f"one row for each of {found[0]} inputs, each of {wanted[0]} numbers"
    return f"weights[0] gives {wanted} for every neuron, where an input has {found[1:]}"


def misfit(first: Layer, w: Any, b: Any, x: Array, error: Exception) -> ValueError:
    """What to say of inputs that the function of a first layer does not take, with JAX's `error`:
    another axis is the remedy where it takes them with that."""

    def taken(x: Array) -> bool:
        try:
            jax.eval_shape(first.first, w, b, x)
        except Exception:
            return False
        return True

    with_axis = {"x[None] for one input": x[None]}
    if x.ndim == 1:
        with_axis[f"x[:, None] for {len(x)} inputs of one number"] = x[:, None]
    fitting = [words for words, moved in with_axis.items() if taken(moved)]
    remedy = "write " + " or ".join(fitting or ["inputs (n, ...) of the shape that it takes"])
    return ValueError(
        f"x must fit the first layer {first!r} with weights of shape {w.shape[1:]}, got inputs of "
        f"shape {x.shape[1:]} (functions of layers get one neuron and one input at a time, without "
        f"a batch axis), which it does not take: {str(error).strip().rstrip('.')}: {remedy}"
    )


def _leads(name: str, leaf: Array | None, lead: tuple[int, ...]) -> None:
    """Check that `leaf` is floating and begins with axes of sizes `lead`."""
    if leaf is None:
        return
    floating(name, leaf)
    if leaf.shape[: len(lead)] != lead:
        raise ValueError(
            f"{name} must have leading shape {lead}, one entry per neuron (or pair), got shape "
            f"{leaf.shape}"
        )
