"""Independent weights."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from .._checks import count, numeric, per_layer
from .._ensemble import NeuronalEnsemble
from .._layers.layer import Layer
from .._spaces.space import Space
from .._weights import Noisy
from .labels import Constant, Labels, Part
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
    - Weights of `Shared` layers have K entries each: `dim` is the number of channels, `first` a
      distribution on R^(dim K), `hidden` on R^K, both also on R for independent entries, `last` on
      R^(outputs K).
    - `biases`: None, or one entry per layer: None (no biases), a number (all begin there) or a
      distribution on R; the last belongs to the outputs, None or an array (outputs,). Biases are
      trained.

    Raises `ValueError` for depth < 2, distributions of other dimensions or numbers, or without a
    mean, and middle layers that are not affine in their weights.
    """
    dim, depth = count("dim", dim), checked_depth(depth)
    shapes = _shapes(layers, depth)
    first = first_law(first, dim, shapes[0])
    middle = hidden_laws(hidden, shapes[1:-1])
    each = per_layer("biases", biases, depth)
    parts: list[dict[str, Any]] = [{} for _ in range(depth - 1)]
    parts[0]["w_1"] = first
    for i, b in enumerate(each[:-1]):
        if isinstance(b, Space):
            parts[i]["b"] = on_the_line(f"biases[{i}]", b)
    parts[-1]["w_L"] = checked_law("last", last)
    labels = [Labels(p, first.dtype) for p in parts]
    behind = _outputs(last, shapes[-1])
    weights = [
        _reshaped(labels[0].part("w_1"), dim, shapes[0]),
        *(_independent(*pair) for pair in zip(middle, shapes[1:-1], strict=True)),
        _reshaped(labels[-1].part("w_L"), behind, shapes[-1]),
    ]

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


def _shapes(layers: Any, depth: int) -> list[tuple[int, ...] | None]:
    """The shape of one weight of each layer; what are no layers the ensemble refuses."""
    each = tuple(layers) if isinstance(layers, Sequence) else (layers,) * depth
    if len(each) != depth or not all(isinstance(layer, Layer) for layer in each):
        return [()] * depth
    return [layer.entries for layer in each]


def _outputs(last: Space, entries: tuple[int, ...] | None) -> int:
    """How many outputs the weights of the last layer have."""
    k = 1 if entries is None else math.prod(entries)
    if last.dim % k:
        raise ValueError(
            f"last must be a distribution on R^(outputs {k}), {k} entries of a weight to each "
            f"output, got one on R^{last.dim}: write Gaussian({k}), or Pooling() in the last layer"
        )
    return last.dim // k


class _Reshaped(eqx.Module):
    """Coordinates of a label, or of noise, as an array."""

    part: Part
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, "..."]:
        return self.part(c).reshape(self.shape)


def _reshaped(part: Part, lead: int, entries: tuple[int, ...] | None) -> Part | _Reshaped:
    if entries == ():
        return part
    return _Reshaped(part, (lead, *((-1,) if entries is None else entries)))


class _Own(eqx.Module):
    """The noise itself."""

    def __call__(self, c: Array, e: Array, u: Float[Array, " one"]) -> Float[Array, ""]:
        return u[0]


class _OwnEntries(eqx.Module):
    """The noise itself, a number for each entry of a weight."""

    def __call__(self, c: Array, e: Array, u: Float[Array, " k"]) -> Float[Array, " k"]:
        return u


def _independent(law: Space, entries: tuple[int, ...] | None) -> Noisy:
    if entries == ():
        return Noisy(_Own(), Constant(law.mean[0]), law)
    return Noisy(_OwnEntries(), Constant(law.mean), law)
