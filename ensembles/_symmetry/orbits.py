"""Ensembles whose neurons are whole orbits of a group."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._contractions import einsum, matmul
from .._ensemble import NeuronalEnsemble
from .._spaces.atoms import Atoms
from .._spaces.product import Product
from .._weights import WeightFunction
from .group import Group


def of_orbits(
    group: Group,
    inputs: Float[Array, "m d d"],
    outputs: Float[Array, "m k k"],
    ensemble: NeuronalEnsemble,
) -> NeuronalEnsemble:
    """The ensemble of Q_G f, f the function of `ensemble` (`Symmetry.ensemble`), with the matrices
    of all group elements on `inputs` and `outputs`."""
    if group.haar is not None:
        raise ValueError(
            "group must be finite for a symmetric ensemble, got nodes of a compact one: copies "
            "of the neurons would not be connected"
        )
    if ensemble.noisy:
        raise ValueError(
            "ensemble must have weights that are functions of labels to be symmetrised, got "
            "noisy ones: write diverse(...), or weights w(c, c')"
        )
    if not all(layer.affine and layer.entries == () for layer in ensemble.layers):
        raise ValueError(
            f"ensemble must have Affine layers to be symmetrised, got {ensemble.layers!r}: write "
            "Shared(activation, symmetry.operators()) for channels that are equivariant at once"
        )
    dtype = ensemble.spaces[0].dtype
    index = jnp.arange(group.order, dtype=dtype)[:, None]
    masses = group.masses.astype(dtype)
    elements, last = Atoms(index, masses), ensemble.depth - 1

    def turned(name: str, action: Array, i: int) -> _Turned:
        w: Any = ensemble.weights[i]
        matrices, space = action.astype(dtype), ensemble.spaces[min(i, last - 1)]
        size = jax.eval_shape(w, jax.ShapeDtypeStruct((space.dim,), space.dtype)).size
        if size != matrices.shape[1]:
            raise ValueError(
                f"ensemble must have {name} in R^{matrices.shape[1]}, on which the group acts, "
                f"got weights[{i}] of R^{size}"
            )
        return _Turned(w, matrices)

    weights = [
        turned("inputs", inputs, 0),
        *(_Paired(w, masses) for w in ensemble.weights[1:last]),
        turned("outputs", outputs, last),
    ]
    given: tuple[Any, ...] = ensemble.biases
    biases: list[Any] = [None if b is None else _Unturned(b) for b in given]
    if given[-1] is not None:
        back = outputs.astype(dtype)
        biases[-1] = einsum("g,gij,i->j", masses, back, given[-1])
    spaces = [Product(space, elements) for space in ensemble.spaces]
    return NeuronalEnsemble(spaces, weights, biases, layers=ensemble.layers)


class _Turned(eqx.Module):
    """The matrix of g times a weight."""

    weight: WeightFunction | None
    matrices: Float[Array, "m d d"]

    def __call__(self, label: Float[Array, " dim"]) -> Array:
        assert self.weight is not None
        return matmul(self.matrices[label[-1].astype(int)], self.weight(label[:-1]))


class _Paired(eqx.Module):
    """A weight between neurons of the same g."""

    weight: WeightFunction | None
    masses: Float[Array, " m"]

    def __call__(self, c: Float[Array, " dim"], e: Float[Array, " dim"]) -> Array:
        assert self.weight is not None
        g = c[-1].astype(int)
        same = jnp.where(c[-1] == e[-1], 1 / self.masses[g], 0)
        return same * self.weight(c[:-1], e[:-1])


class _Unturned(eqx.Module):
    """A bias, whatever g."""

    bias: Callable[[Array], Array]

    def __call__(self, label: Float[Array, " dim"]) -> Array:
        return self.bias(label[:-1])
