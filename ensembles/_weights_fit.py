"""Whether weight functions fit: labels that they take, and shapes and numbers that they give."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._checks import concrete, takes, traced
from ._layers.layer import Layer
from ._network.parameters import Parameters
from ._promises import any_dtype, indexed, shape_of
from ._spaces.space import Space
from ._weights import Noisy

_PAIRS, _DRAWS = 4, 2**15  # of labels, and of the noise at each of them


def check_functions(ensemble: Any) -> None:
    """Raise `ValueError` unless weight and bias functions take labels of the spaces around them and
    give what the layers take."""
    labels = [jax.ShapeDtypeStruct((space.dim,), space.dtype) for space in ensemble.spaces]
    for i, (w, layer) in enumerate(zip(ensemble.weights, ensemble.layers, strict=True)):
        ends = labels[max(i - 1, 0) : i + 1]
        if isinstance(w, Noisy):
            _check_noisy(i, layer, w, ensemble.spaces[max(i - 1, 0) : i + 1], ends)
        if w is not None:
            if not callable(w):
                raise ValueError(
                    f"weights[{i}] must be a function of labels, or None, got {w!r:.80}: write "
                    f"lambda {'c' if len(ends) == 1 else 'c, e'}: ..."
                )
            asked = "a label" if len(ends) == 1 else "the labels of both ends"
            remedy = f"write lambda {'c' if len(ends) == 1 else 'c, e'}: ..."
            takes(f"weights[{i}]", w, len(ends), asked, remedy)
        shape = None if w is None else _returned(f"weights[{i}]", w, ends)
        last = i == ensemble.depth - 1
        if last and shape is not None:
            if not shape:
                raise ValueError(
                    f"weights[{i}] must give shape (outputs,), got (): "
                    "write w[None] for a single output"
                )
            shape = shape[1:]
        layer.check(f"weights[{i}]", shape, first=i == 0)
        _check_bias(ensemble, i, labels)


def _check_bias(ensemble: Any, i: int, labels: list[Any]) -> None:
    b: Any = ensemble.biases[i]
    if b is None:
        return
    ensemble.layers[i].check_bias(f"biases[{i}]")
    if i == ensemble.depth - 1:
        return
    if not callable(b):
        raise ValueError(
            f"biases[{i}] must be a function of the label, or None, got {b!r}: write lambda c: {b}"
        )
    takes(f"biases[{i}]", b, 1, "a label", "write lambda c: ...")
    shape = _returned(f"biases[{i}]", b, labels[i : i + 1])
    if ensemble.layers[i].affine and shape != ():
        raise ValueError(
            f"biases[{i}] must give a scalar for {ensemble.layers[i]!r}, got shape {shape}: write "
            "c[0] for the label's first entry"
        )


def _check_noisy(i: int, layer: Layer, w: Noisy, spaces: Sequence[Space], ends: list[Any]) -> None:
    if len(ends) < 2:
        raise ValueError(
            f"weights[{i}] is Noisy, but has one neuron at its end: noise of a single neuron "
            "belongs to its label; write a Product space and a function of the label"
        )
    if not layer.affine:
        raise ValueError(
            f"weights[{i}] is Noisy, but {layer!r} is not affine in its weights, so "
            "their mean does not determine the limit: write layers=Affine(...), or weights "
            "that are functions of the labels"
        )
    u = jax.ShapeDtypeStruct((w.noise.dim,), w.noise.dtype)
    fit = f"weights[{i}] must fit labels of dimensions {[e.shape[0] for e in ends]}"
    drawn = shape_of(f"{fit} in weight(c, c', u)", w.weight, *ends, u)
    mean = shape_of(f"{fit} in mean(c, c')", w.mean, *ends)
    if (drawn.shape, drawn.dtype) != (mean.shape, mean.dtype):
        raise ValueError(
            f"weights[{i}] must have one shape and dtype in weight(c, c', u) and mean(c, c'), "
            f"got {drawn.shape} {drawn.dtype} and {mean.shape} {mean.dtype}"
        )
    if drawn.shape == () or drawn.shape == layer.entries:  # else the layer refuses it
        _check_mean(i, w, spaces)


def _check_mean(i: int, w: Noisy, spaces: Sequence[Space]) -> None:
    """Raise `ValueError` where mean(c, c') is not E_u w(c, c', u), as draws of u at pairs of labels
    show: finite networks draw the weights, limits keep the mean.

    The average of n draws has the error s/√n, s their standard deviation; it may be eight times
    that. Where one draw makes a tenth of s², or all draws are equal, they say nothing of it: what
    is rare may not be among them. What is traced passes.
    """
    if traced(w, spaces):
        return
    rng = np.random.default_rng(0)
    with jax.ensure_compile_time_eval(), any_dtype():
        c, e, u = given = tuple(
            jnp.asarray(space.from_cube(rng.random((n, space.cube_dim))), space.dtype)
            for space, n in ((spaces[0], _PAIRS), (spaces[1], _PAIRS), (w.noise, _DRAWS))
        )
        drawn = jax.vmap(jax.vmap(w.weight, (None, None, 0)), (0, 0, None))(c, e, u)
        told = jax.vmap(w.mean)(c, e)
        labels = [np.asarray(a) for a in (c, e)]
    if traced(drawn, told):
        return
    rounding = 1e-8 if drawn.dtype.itemsize >= 8 else 1e-4
    values = np.moveaxis(np.asarray(drawn, float).reshape(_PAIRS, _DRAWS, -1), 1, 2)
    means, entries = np.asarray(told, float).reshape(_PAIRS, -1), values.shape[1]
    each = [a.repeat(entries, axis=0) for a in labels]  # every entry of a weight by itself
    for c, e, value, mean in zip(*each, values.reshape(-1, _DRAWS), means.ravel(), strict=True):
        found, squares = value.mean(), (value - value.mean()) ** 2
        if not squares.max() < 0.1 * squares.sum() and not _without_noise(w, given):
            continue
        error = np.sqrt(squares.mean() / _DRAWS)
        if abs(found - mean) > 8 * error + rounding * (abs(mean) + np.abs(value).max()):
            raise ValueError(
                f"weights[{i}] must have as mean(c, c') the mean of weight(c, c', u) over u, which "
                f"is all that a limit keeps of it, got {mean:.4g}, but {found:.4g} ± {error:.1g} "
                f"as the mean of {_DRAWS} draws, at labels {c} and {e}: write Noisy(weight, mean, "
                "noise) with mean=lambda c, e: ... the expectation"
            )


def _without_noise(w: Noisy, given: tuple[Array, ...]) -> bool:
    """Whether a weight is a function of labels alone, at these labels and this noise."""
    program = jax.make_jaxpr(w.weight)(*(a[0] for a in given)).jaxpr
    used = [*program.outvars, *(v for step in program.eqns for v in step.invars)]
    return not any(v is program.invars[2] for v in used)


def _returned(name: str, f: Any, ends: list[Any]) -> tuple[int, ...]:
    """The shape of what a weight function gives on labels like `ends`; a `ValueError` that names it
    where that is no array of numbers."""
    fit = f"{name} must fit labels of dimensions {[end.shape[0] for end in ends]}"
    indexed(fit, f, ends, "write other entries, or a space of another dimension")
    found: Any = shape_of(fit, lambda *c: jax.tree.map(jnp.asarray, f(*c)), *ends)
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise ValueError(
            f"{name} must return one array of real numbers, got {found!r}: write jnp.stack([...])"
        )
    if jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise ValueError(
            f"{name} must return one array of real numbers, got dtype {found.dtype}: write .real"
        )
    return found.shape


def check_finite(start: Parameters, wrong: Parameters) -> None:
    """Raise `ValueError` where weights or biases are not finite; `wrong` are the numbers of such
    entries."""
    for name in ("weights", "biases"):
        pairs = zip(getattr(wrong, name), getattr(start, name), strict=True)
        for i, (many, of) in enumerate(pairs):
            if many is not None and concrete(many):
                raise ValueError(
                    f"{name}[{i}] must give finite numbers, got {many} NaN or infinite entries "
                    f"out of {of.size}: check for log, sqrt and division at labels of the space"
                )
