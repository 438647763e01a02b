"""Independent weights."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from .._checks import count, numeric, per_layer
from .._ensemble import NeuronalEnsemble
from .._layers.layer import Layer
from .._spaces.space import Space
from .._weights import Noisy
from .labels import Constant, Labels
from .laws import checked_depth, checked_law, first_law, hidden_laws, on_the_line


def iid(
    *,
    dim: int,
    depth: int,
    first: Space,
    hidden: Space | Sequence[Space] | None = None,
    last: Space,
    biases: Sequence[Space | ArrayLike | None] | None = None,
    layers: Layer | Sequence[Layer],
) -> NeuronalEnsemble:
    """Independent weights: finite networks draw every entry, the limit is on reduced labels.

    Source: Nguyen & Pham (arXiv:2001.11443), i.i.d. initialisation. In the limit of layers affine
    in their weights, increments are functions of few labels: (w_1, b_1) in layer 1, b_i in the
    middle, (b_{L-1}, w_L) in the last hidden layer, and of the middle distributions only means
    matter. Layers 2, …, L − 2 without random biases have a single label, so the limit takes memory
    linear in the nodes of layer 1.

    Arguments, distributions being spaces:

    - `dim` inputs and `depth` L ≥ 2 layers.
    - `first`: the distribution of a neuron's w_1 on R^dim, or of one of its independent entries, on
      R.
    - `hidden`: the distribution of an entry of w_2, …, w_{L-1}, on R and with a mean: one for all,
      or one for each of these L − 2 layers; without use at depth 2, which has none.
    - `last`: the distribution of a neuron's w_L on R^outputs.
    - `biases`: None, or one entry per layer: None (no biases), a number (all begin there) or a
      distribution on R; the last belongs to the outputs, None or an array (outputs,). Biases are
      trained.

    Raises `ValueError` for depth < 2, distributions of other dimensions or numbers, or without a
    mean, and middle layers that are not affine in their weights.
    """
    dim, depth = count("dim", dim), checked_depth(depth)
    first = first_law(first, dim)
    middle = hidden_laws(hidden, depth - 2)
    each = per_layer("biases", biases, depth)
    parts: list[dict[str, Any]] = [{} for _ in range(depth - 1)]
    parts[0]["w_1"] = first
    for i, b in enumerate(each[:-1]):
        if isinstance(b, Space):
            parts[i]["b"] = on_the_line(f"biases[{i}]", b)
    parts[-1]["w_L"] = checked_law("last", last)
    labels = [Labels(p, first.dtype) for p in parts]
    weights = [labels[0].part("w_1"), *map(_independent, middle), labels[-1].part("w_L")]

    def bias(i: int) -> Any:
        b: Any = each[i]
        if isinstance(b, Space):
            return labels[i].entry("b")
        return (
            b
            if b is None or i == depth - 1
            else Constant(numeric(f"biases[{i}]", b, "write 0.1", first.dtype))
        )

    starts = [bias(i) for i in range(depth)]
    return NeuronalEnsemble([p.space for p in labels], weights, starts, layers=layers)


class _Own(eqx.Module):
    """The noise itself."""

    def __call__(self, c: Array, e: Array, u: Float[Array, " one"]) -> Float[Array, ""]:
        return u[0]


def _independent(law: Space) -> Noisy:
    return Noisy(_Own(), Constant(law.mean[0]), law)
