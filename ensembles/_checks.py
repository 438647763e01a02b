"""What the public boundary checks: shapes and dtypes always, values where they are known, with
errors that name the remedy."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float


def concrete(x: Any) -> np.ndarray | None:
    """The values of `x` on the host, or None while `x` is being traced, and where other processes
    hold parts of it."""
    held = isinstance(x, jax.Array) and not isinstance(x, Tracer)
    if held and not (x.is_fully_addressable or x.is_fully_replicated):
        return None
    try:
        return np.asarray(x)
    except jax.errors.TracerArrayConversionError:
        return None


def shown(value: Any) -> str:
    """What arrived, in words: of arrays their shape, also while they are traced; of numbers that
    are, that they are; anything else as it is written."""
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}"
    return "a traced number" if isinstance(value, Tracer) else f"{value!r:.80}"


def floating(name: str, x: Any, ndim: int | None = None) -> Array:
    """`x` as a finite floating array of `ndim` axes; a `ValueError` naming `name` otherwise."""
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError):
        found = f"{name} must be an array of numbers, got {type(x).__name__}: {x!r:.80}"
        rows = isinstance(x, Sequence) and len({len(r) for r in x if isinstance(r, Sequence)}) > 1
        ragged = ": rows must be equally long, write jnp.stack(rows) of arrays of one shape"
        raise ValueError(found + ragged * rows) from None
    if not jnp.issubdtype(x.dtype, jnp.floating):
        real = f"{name}.real" if jnp.iscomplexobj(x) else f"{name}.astype(float)"
        raise ValueError(
            f"{name} must be floating, got dtype {x.dtype}: write {real}"
            + " (class labels: jax.nn.one_hot(labels, classes))" * (name == "y")
        )
    if x.dtype.itemsize < 4:
        raise ValueError(
            f"{name} must be in single or double precision, got dtype {x.dtype}, in which masses "
            f"do not sum to 1 and times are not kept: write {name}.astype(jnp.float32)"
        )
    if ndim is not None and x.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} axes, got shape {x.shape}"
            + (f": write {name}[{':, ' * (ndim == 2)}None]" if x.ndim == ndim - 1 else "")
        )
    values = concrete(x)
    if values is not None and not np.isfinite(values).all():
        raise ValueError(
            f"{name} has {np.count_nonzero(~np.isfinite(values))} NaN or infinite entries out of "
            f"{values.size}: "
            + (
                "remove or impute them first"
                if name in ("x", "y", "points")
                else "write finite ones"
            )
        )
    return x


def numeric(name: str, value: Any, remedy: str, dtype: Any = None) -> Array:
    """`value` as an array of real numbers; words and other objects are a `ValueError` with
    `name`."""
    try:
        held = jnp.asarray(value, dtype)
        if held.dtype == bool or jnp.iscomplexobj(held):
            raise ValueError
    except (TypeError, ValueError):
        found = f"{name} must be a number, or an array of them, got {shown(value)}: {remedy}"
        raise ValueError(found) from None
    return held


def is_number(value: Any) -> bool:
    """Whether `value` is one real number, as far as is known while it is traced: its shape and its
    dtype are. An array in its place would broadcast over the entries of weights."""
    try:
        held = value if isinstance(value, Tracer) else concrete(value)
        held = jnp.asarray(value) if held is None else held
    except (TypeError, ValueError):
        return False
    real = jnp.issubdtype(held.dtype, jnp.integer) or jnp.issubdtype(held.dtype, jnp.floating)
    return held.ndim == 0 and bool(real)


def number(name: str, value: Any, remedy: str, dtype: Any = None) -> Float[Array, ""]:
    """`value` as one real number, known or traced; arrays, words and other objects are a
    `ValueError` with `name`."""
    if not is_number(value):
        raise ValueError(f"{name} must be one real number, got {shown(value)}: {remedy}")
    return jnp.asarray(value, dtype)


def positive(name: str, value: ArrayLike, dtype: jnp.dtype) -> Float[Array, ""]:
    """`value` as a positive scalar of that dtype."""
    known = concrete(value)
    if not is_number(value) or (known is not None and not 0 < known < float("inf")):
        example = "1e-6" if name in ("rtol", "atol", "tol") else "0.1"
        raise ValueError(
            f"{name} must be a positive finite number, got {shown(value)}: write {name}={example}"
        )
    return jnp.asarray(value if known is None else np.asarray(known, dtype), dtype)


def probabilities(name: str, masses: Any, like: Array) -> Array:
    """`masses` as one non-negative number per row of `like`, in its dtype, summing to 1."""
    masses = numeric(name, masses, f"leave {name} out for equal ones")
    n = like.shape[0]
    if masses.shape != (n,):
        raise ValueError(
            f"{name} must have shape ({n},), one mass per point, got shape {masses.shape}"
        )
    masses = masses.astype(like.dtype)
    values = concrete(masses)
    if values is not None:
        if not (values >= 0).all():
            raise ValueError(
                f"{name} must be non-negative, got {values.min()}: a measure has no negative mass "
                "(put signs into the weights)"
            )
        total = values.sum(dtype=float)
        slack = 1e-9 if values.dtype.itemsize >= 8 else 1e-4
        if abs(total - 1) > slack:
            raise ValueError(
                f"{name} must sum to 1, got a sum of {total}: write {name} / {name}.sum()"
            )
    return masses


def count(name: str, n: Any) -> int:
    """`n` as an int of at least 1."""
    if isinstance(n, Tracer):
        raise ValueError(
            f"{name} must be an int of at least 1, got a traced number, on which shapes depend: "
            "keep it out of jit and vmap, or write jax.jit(f, static_argnums=0)"
        )
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"{name} must be an int of at least 1, got {n!r}: write {name}=8")
    return int(n)


def counts(name: str, n: Any, layers: int, each: str = "hidden layer") -> tuple[int, ...]:
    """`n` as one int per hidden layer (or `each`); a single int stands for all."""
    if isinstance(n, Sequence | np.ndarray) and not isinstance(n, str):
        if len(n) != layers:
            raise ValueError(
                f"{name} must be an int or one int per {each} ({layers}), got {len(n)}: {n!r}"
            )
        return tuple(count(name, k) for k in n)
    return (count(name, n),) * layers


def per_layer(name: str, entries: Any, depth: int) -> tuple[Any, ...]:
    """`entries` as one for each layer; None is None for all."""
    if entries is None:
        return (None,) * depth
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        raise ValueError(
            f"{name} must be a list of one entry per layer ({depth}), got {shown(entries)}: write "
            f"[b] * {depth - 1} + [None], the last of the outputs, or None for no {name}"
        )
    if len(entries) != depth:
        raise ValueError(
            f"{name} must have one entry per layer ({depth}), got {len(entries)}: write None for a "
            f"layer without {name}"
        )
    return tuple(entries)


def randomness(key: Any, reason: str) -> Array:
    """The key that `reason` needs."""
    if key is None:
        raise ValueError(f"key is required: {reason}; write key=jax.random.key(0)")
    dtype, ndim = getattr(key, "dtype", None), getattr(key, "ndim", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and ndim == 0) and not (dtype == jnp.uint32 and ndim == 1):
        many = dtype is not None and (ndim if typed else dtype == jnp.uint32 and ndim == 2)
        found = f"an array of keys of shape {key.shape}" if many else shown(key)
        remedy = "write keys[0], or jax.vmap over keys" if many else "write key=jax.random.key(0)"
        raise ValueError(f"key must be one JAX key, got {found}: {remedy}")
    return key


def spare(key: Any) -> None:
    """Raise `ValueError` where a key that may not be needed is given, and none."""
    if key is not None:
        randomness(key, "what is drawn is drawn with it")


def takes(name: str, f: Callable, n: int, of: str, remedy: str) -> None:
    """Raise `ValueError` unless `f` can be called with `n` arguments, as far as it says."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # it does not say
        return
    try:
        signature.bind(*range(n))
    except TypeError:
        shown = getattr(f, "__name__", repr(f))
        raise ValueError(
            f"{name} must take {n} argument{'s' * (n > 1)}, {of}, got {shown}{signature}: {remedy}"
        ) from None


def alike(numbers: tuple[int, ...]) -> str:
    """Numbers of neurons in words: a long row of one number is said once."""
    if len(numbers) > 4 and len(set(numbers)) == 1:
        return f"({numbers[0]}, ...) of {len(numbers)} layers"
    return str(numbers)


def traced(*trees: Any) -> bool:
    """Whether a leaf of `trees` is traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def on_host(function: str, *trees: Any, remedy: str = "call it outside") -> None:
    """Raise `ValueError` where some of `trees` is traced."""
    if traced(*trees):
        raise ValueError(
            f"{function} runs on the host and is not for use under jit, vmap or grad, got traced "
            f"arguments: {remedy}"
        )


def inside(name: str, space: Any, points: Array, masses: Array, remedy: str) -> None:
    """Raise `ValueError` unless the `points` that have mass are in the space, up to 1e-6 of the
    largest of them (1e-3 in single precision)."""
    known, apart = concrete(masses), concrete(space.distance(points))
    if known is None or apart is None:
        return
    size = np.abs(np.asarray(points)).max(initial=0)
    slack = 1e-6 if apart.dtype.itemsize >= 8 else 1e-3
    out = (known > 0) & ~(apart <= slack * size)
    if out.any():
        raise ValueError(
            f"{name} must be in the space {type(space).__name__}({space.dim}) where there is mass, "
            f"got {out.sum()} of {len(out)} outside, by up to {apart[out].max():.3g}: {remedy}"
        )


def kind(name: str, value: Any, wanted: type | tuple[type, ...], remedy: str) -> None:
    """Raise `ValueError` unless `value` is of a kind that is `wanted`. Where a network is wanted
    of what holds one (a trajectory its final one), or of Equinox's, the error says what to write
    for it, in place of `remedy`."""
    if isinstance(value, wanted):
        return
    names = [w.__name__ for w in (wanted if isinstance(wanted, tuple) else (wanted,))]
    asked = " or ".join(f"{'an' if n[0] in 'AEIOU' else 'a'} {n}" for n in names)
    if isinstance(value, type):
        found = f"the class {value.__name__} itself"
        remedy = f"write {value.__name__}(...)" if issubclass(value, wanted) else remedy
    else:
        found = shown(value) if isinstance(value, Tracer) else type(value).__name__
        remedy = _of_held(value, wanted, names) or _of_equinox(value, names) or remedy
    raise ValueError(f"{name} must be {asked}, got {found}: {remedy}")


def _of_held(value: Any, wanted: Any, names: list[str]) -> str | None:
    """Which attribute of `value`, a result or another record, is the network that is wanted."""
    if "Network" not in names:
        return None
    fields = getattr(value, "_fields", ())
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
    held = [n for n in fields if isinstance(getattr(value, n, None), wanted)]
    return f"write its .{held[0]}" if held else None


def _of_equinox(value: Any, names: list[str]) -> str | None:
    """What to write for a module of Equinox where a network, or an ensemble, is wanted."""
    if not isinstance(value, eqx.Module) or not type(value).__module__.startswith("equinox."):
        return None
    mlp = "mlp" if isinstance(value, eqx.nn.MLP) else "equinox.nn.MLP(...)"
    if "Network" in names:
        return f"write from_mlp({mlp}).network"
    if "NeuronalEnsemble" in names:
        return (
            "an ensemble is a law of networks, such as iid(...), a module is one network: write "
            f"from_mlp({mlp}).network for flow, train and jackknife, which take those"
        )
    return None
