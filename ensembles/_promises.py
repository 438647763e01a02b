"""What users' functions promise: that JAX can trace them, and that activations act on every entry
alone. Looked at once, where a function is given, with errors that name it."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# Operations of single entries: programs of nothing else keep the promise.
# fmt: off
_ENTRYWISE = {
    "abs", "acos", "acosh", "add", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt",
    "ceil", "clamp", "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite",
    "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not",
    "or", "pow", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square",
    "stop_gradient", "sub", "tan", "tanh", "xor",
}
# fmt: on
_UNTRACED = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)
_NAMED = re.compile(r"[\w.\[\]]+(, [\w ]+| and \w+)? must ")  # errors of this library
_VALUES = np.array([[-1.3, 0.2, 2.1, -0.4], [0.7, -2.6, 0.05, 1.1], [3.2, -0.9, 0.6, -1.7]])


@contextmanager
def traceable(name: str) -> Iterator[None]:
    """Within it a user's function is called: what JAX cannot trace in it is a `ValueError` with its
    name."""
    try:
        yield
    except _UNTRACED as error:
        raise ValueError(
            f"{name} must be written with jnp, as its arguments are traced, got an error in it "
            f"({type(error).__name__}): write jnp.sin for np.sin or math.sin, jnp.where(c, a, b) "
            "for `a if c else b`, and leave out float(...) and NumPy arrays of its arguments"
        ) from error


@contextmanager
def called(fit: str, remedy: str = "") -> Iterator[None]:
    """As `traceable`, where shapes that do not fit are a `ValueError` too, which begins with `fit`,
    and that with the function's name."""
    try:
        with traceable(fit.partition(" ")[0]):
            yield
    except (TypeError, IndexError, ValueError) as error:
        words = str(error).strip()
        if named(error):
            raise
        remedy = f": {remedy}" * bool(remedy)
        raise ValueError(f"{fit}, got an error in it: {words}{remedy}") from error


def named(error: Exception) -> bool:
    """Whether it is an error of this library, which names an argument."""
    return isinstance(error, ValueError) and _NAMED.match(str(error).strip()) is not None


def shape_of(fit: str, f: Callable, *given: Any, remedy: str = "") -> Any:
    """The shape of what `f` gives; a `ValueError` that begins with `fit` where it does not trace,
    or shapes do not fit."""
    with called(fit, remedy):
        return jax.eval_shape(f, *given)


def indexed(fit: str, f: Callable, given: Sequence[jax.ShapeDtypeStruct], remedy: str) -> None:
    """Raise a `ValueError` that begins with `fit` where `f` takes entries of NumPy arrays like
    `given` that are not there: of JAX's it gets the last one."""
    arrays = [np.full(a.shape, 0.5, a.dtype) for a in given]
    try:
        jax.eval_shape(lambda: f(*arrays))
    except IndexError as error:
        raise ValueError(f"{fit}, got an error in it: {error}: {remedy}") from None
    except Exception:  # NumPy's arrays are not for all functions
        return


def entrywise(name: str, f: Callable, ndim: int = 2) -> None:
    """Raise `ValueError` unless f(h)[k] = f(h[k]) for arrays h of `ndim` axes.

    Programs of operations on single entries pass as they are. Others, with sums, sorts, norms or
    constant arrays, are evaluated on an array, parts of it and its transpose: values and places
    that are NaN or infinite have to be the same ones.
    """
    try:
        hash(f)
    except TypeError:
        raise ValueError(
            f"{name} must be hashable, got {f!r:.80}: write a function, with constants as Python "
            "numbers"
        ) from None
    wrong = _broken(f, ndim)
    if wrong:
        raise ValueError(
            f"{name} must act on every entry alone, f(h)[k] = f(h[k]), as jnp.tanh does, got one "
            f"that {wrong}: a neuron's output would depend on which others there are. Put softmax "
            "into the loss, and gates or normalisation of an input into shallow(sigma, space)"
        )


@lru_cache(maxsize=64)
def _broken(f: Callable, ndim: int) -> str | None:
    """What an activation does beyond acting on entries; None where it keeps the promise."""
    h = _VALUES if ndim == 2 else _VALUES[0]
    like = jax.ShapeDtypeStruct(h.shape, jnp.result_type(float))
    fit = f"activation must map arrays of any shape, such as {h.shape}, entry by entry"
    with called(fit, "write jnp.tanh, or jnp.where(h > 0, h, 0.1 * h)"), any_dtype():
        program, found = jax.make_jaxpr(f, return_shape=True)(like)
    if getattr(found, "shape", None) != h.shape:
        return f"gives {getattr(found, 'shape', type(found).__name__)} for an array {h.shape}"
    if not jnp.issubdtype(found.dtype, jnp.inexact):
        raise ValueError(
            f"activation must return floating numbers, got {found.dtype}, through which no "
            "derivative passes: write jnp.where(h > 0, 1.0, 0.0), or .astype(h.dtype)"
        )
    if jnp.issubdtype(found.dtype, jnp.complexfloating):
        return f"gives {found.dtype}, not real numbers"
    if _of_entries(program.jaxpr) and not any(np.shape(c) for c in program.consts):
        return None
    with jax.ensure_compile_time_eval(), any_dtype():
        parts = _parts(jnp.asarray(h, like.dtype))
        each = [f(part) for part in parts]
    if any(isinstance(value, Tracer) for value in each):
        return None  # it holds parameters that are not known
    whole, *rest = map(np.asarray, each)
    for part, value in zip(_parts(whole)[1:], rest, strict=True):
        if part.shape != value.shape or not np.allclose(
            part, value, rtol=1e-4, atol=1e-4 * _size(whole), equal_nan=True
        ):
            return "gives other values for a part of an array than that part of its values"
    return None


@contextmanager
def any_dtype() -> Iterator[None]:
    """Constants of the other precision are for networks of that."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _size(values: np.ndarray) -> float:
    known = np.abs(values[np.isfinite(values)], dtype=float)
    return float(known.max(initial=0))


def _parts(h: Any) -> list[Any]:
    if h.ndim == 1:
        return [h, h[:1], h[1:], h[::-1]]
    return [h, h[:1, :1], h[1:, 2:], h.T, h[::-1, ::-1]]


def _of_entries(program: Any) -> bool:
    """Whether a program is made of operations on single entries, and of numbers."""
    for step in program.eqns:
        inner = [p for p in map(_program, step.params.values()) if p is not None]
        if inner:
            known = step.primitive.name.startswith(
                ("jit", "pjit", "custom_", "checkpoint", "remat")
            )
            if not known or not _of_entries(inner[0]):
                return False
        elif step.primitive.name == "broadcast_in_dim":
            if step.invars[0].aval.shape:
                return False
        elif step.primitive.name not in _ENTRYWISE:
            return False
    return True


def _program(value: Any) -> Any:
    """The program that a parameter of an operation is; None for others."""
    if hasattr(value, "eqns"):
        return value
    inner = getattr(value, "jaxpr", None)
    closed = hasattr(inner, "eqns") and not any(np.shape(c) for c in value.consts)
    return inner if closed else None
