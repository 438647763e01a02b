"""Linear maps of sites, which layers with shared weights mix: averages, and functions.

A mix has operators S_δ, from the sites of one layer to those of the next, and the whole map

    (x, c', s') ↦ Σ_k Σ_δ w(k, c')_δ (S_δ a(x, k))(s'),

linear in a and in w, of which `jax.vjp` takes the transposes. Mixes are static: hashable, without
traced arrays.
"""

import abc
from collections.abc import Callable
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import count
from .._contractions import einsum
from .._final import Family
from .._promises import any_dtype, called

Sites = tuple[int, ...]


class Mix(Family):
    """Operators S_δ on sites; one weight has an entry for each of them."""

    @property
    @abc.abstractmethod
    def entries(self) -> tuple[int, ...] | None:
        """The shape of one weight: (K,), or () for one operator; None where sites decide."""

    @abc.abstractmethod
    def check_sites(self, sites: Sites) -> None:
        """Raise `ValueError` for sites of a shape that is not taken."""

    @abc.abstractmethod
    def contracted(
        self, a: Float[Array, "batch n ..."], w: Float[Array, "n m ..."]
    ) -> Float[Array, "batch m ..."]:
        """Σ_k Σ_δ w(k, c')_δ S_δ a(x, k) from `a` (batch, n, *sites) and `w` (n, m, *entries)."""


class Pooling(Mix):
    """The mean over all sites, after which there are none, or over windows of `size` sites.

    `Shared(activation, Pooling())` is the usual last layer: w_L(c) gives (outputs,). An `Affine`
    layer may be behind it too. `size` is a number, or one for each axis of sites, and divides their
    numbers; windows do not overlap. One weight is a number.
    """

    size: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, size: int | tuple[int, ...] | None = None):
        self.size = None if size is None else numbers("size", size)

    @property
    def entries(self) -> tuple[int, ...]:
        return ()

    def check_sites(self, sites: Sites) -> None:
        if self.size is None:
            return
        if len(self.size) != len(sites) or any(
            n % k for n, k in zip(sites, self.size, strict=True)
        ):
            raise ValueError(
                f"mix must be given sites that its windows divide, got {self} on {shaped(sites)}: "
                "write another size, or Pooling() for the mean over all"
            )

    def contracted(self, a: Array, w: Float[Array, "n m"]) -> Array:
        if self.size is None:
            return einsum("bn,nm->bm", a.mean(tuple(range(2, a.ndim))), w)
        split = [n for s, k in zip(a.shape[2:], self.size, strict=True) for n in (s // k, k)]
        windows = a.reshape(*a.shape[:2], *split)
        return einsum("bn...,nm->bm...", windows.mean(tuple(range(3, windows.ndim, 2))), w)

    def __repr__(self) -> str:
        return "Pooling()" if self.size is None else f"Pooling({shaped(self.size)})"


class SetMix(Mix):
    """The identity and the mean over all sites, for sites that are elements of a set, K = 2: all
    linear maps that commute with permutations (Zaheer et al., arXiv:1703.06114)."""

    @property
    def entries(self) -> tuple[int, ...]:
        return (2,)

    def check_sites(self, sites: Sites) -> None:
        pass

    def contracted(self, a: Array, w: Float[Array, "n m 2"]) -> Array:
        own = einsum("bn...,nm->bm...", a, w[..., 0])
        mean = einsum("bn,nm->bm", a.mean(tuple(range(2, a.ndim))), w[..., 1])
        return own + mean.reshape(mean.shape + (1,) * (a.ndim - 2))

    def __repr__(self) -> str:
        return "SetMix()"


class Function(Mix):
    """A linear function of one array of sites that gives (K, *sites), one row for each S_δ."""

    function: Callable[[Array], Array] = eqx.field(static=True)

    @property
    def entries(self) -> None:
        return None

    def check_sites(self, sites: Sites) -> None:
        linear(self.function, sites)

    def contracted(self, a: Array, w: Array) -> Array:
        mixed = jax.vmap(jax.vmap(self.function))(a)
        if w.shape[2:] != mixed.shape[2:3]:
            raise ValueError(
                f"mix must give one row for each of the entries {w.shape[2:]} of a weight, got "
                f"{mixed.shape[2:]} for sites {a.shape[2:]}: write weights of shape "
                f"({mixed.shape[2]},)"
            )
        return einsum("bnk...,nmk->bm...", mixed, w)

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


@lru_cache(maxsize=64)
def linear(f: Callable[[Array], Array], sites: Sites) -> None:
    """Raise `ValueError` unless `f` is linear on arrays of these sites: zero at zero, and the sum
    at sums of random arrays."""
    fit = f"mix must map sites {sites} to (K, *sites), linearly"
    remedy = "write lambda a: jnp.stack([a, jnp.roll(a, 1)])"
    with called(fit, remedy), any_dtype():
        found = jax.eval_shape(f, jax.ShapeDtypeStruct(sites, jnp.result_type(float)))
    if not isinstance(found, jax.ShapeDtypeStruct) or not found.shape:
        raise ValueError(f"{fit}, got {getattr(found, 'shape', type(found).__name__)}: {remedy}")
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"{fit}, got {found.dtype}: {remedy}")
    rng = np.random.default_rng(0)
    with jax.ensure_compile_time_eval(), any_dtype():
        a, b = (jnp.asarray(rng.standard_normal(sites), float) for _ in range(2))
        given = a, b, 0.7 * a - 2.1 * b, 0 * a
        one, other, both, zero = (np.asarray(f(x), float) for x in given)
    apart = max(np.abs(both - 0.7 * one + 2.1 * other).max(initial=0), np.abs(zero).max(initial=0))
    size = max(np.abs(one).max(initial=0), np.abs(other).max(initial=0), 1e-300)
    if not apart <= (1e-9 if found.dtype.itemsize >= 8 else 1e-4) * size:
        raise ValueError(
            f"mix must be linear in the values at sites, got a function whose values at sums "
            f"differ from sums of values by {apart:.3g}: nonlinear maps belong into the "
            "activation, and maxima have no place in a mix"
        )


def numbers(name: str, given: int | tuple[int, ...]) -> tuple[int, ...]:
    """`given` as a tuple of positive ints."""
    each = tuple(given) if isinstance(given, tuple | list) else (given,)
    if not each:
        raise ValueError(f"{name} must be a number for each axis of sites, got (): write {name}=3")
    return tuple(count(name, n) for n in each)


def shaped(sites: Sites) -> str:
    """A number of sites, or numbers along axes."""
    return f"{sites[0]}" if len(sites) == 1 else f"{sites}"
