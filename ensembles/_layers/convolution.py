"""Shifts of sites on a line or in a plane: convolutions."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._contractions import einsum
from .mixes import Mix, Sites, numbers, shaped

_PADDINGS = ("CIRCULAR", "SAME", "VALID")


class Convolution(Mix):
    """Shifts of sites on a line, or in a plane: S_δ a (s') = a(stride s' + δ − low).

    - `size`: the number of shifts, or one for each axis of sites, (3, 3) for images. A weight has
      shape (K,), K their product, row by row; as in other libraries it is not flipped.
    - `padding`: "CIRCULAR" for sites on a circle or torus, low = ⌊(size − 1)/2⌋; "SAME" for
      zeros beyond the ends, and "VALID" for none, as XLA has them.
    - `stride`: how far the shifts move from site to site, a number or one for each axis.

    In single precision it is one `jax.lax.conv_general_dilated` with channels as features. In
    double precision, for which XLA's processors have no quick convolution, shifted arrays are
    stacked, K times the memory, and multiplied as matrices.

    Raises `ValueError` for other paddings, and numbers that are not positive.
    """

    size: tuple[int, ...] = eqx.field(static=True)
    padding: str = eqx.field(static=True)
    stride: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        size: int | tuple[int, ...],
        padding: str = "CIRCULAR",
        stride: int | tuple[int, ...] = 1,
    ):
        self.size = numbers("size", size)
        if padding not in _PADDINGS:
            raise ValueError(
                f"padding must be one of {_PADDINGS}, got {padding!r}: write "
                f'Convolution({shaped(self.size)}, "SAME")'
            )
        self.padding = padding
        each = numbers("stride", stride)
        self.stride = each * len(self.size) if len(each) == 1 else each
        if len(self.stride) != len(self.size):
            raise ValueError(
                f"stride must be one number, or one for each of the {len(self.size)} axes of size, "
                f"got {stride!r}: write stride={self.stride[0]}"
            )

    @property
    def entries(self) -> tuple[int, ...]:
        return (math.prod(self.size),)

    def check_sites(self, sites: Sites) -> None:
        if len(sites) != len(self.size):
            raise ValueError(
                f"mix must have one size for each axis of sites, got {self} for sites {sites}: "
                f"write Convolution({(self.size[0],) * len(sites)}), or inputs (batch, channels, "
                "*sites)"
            )
        if any(n < k for n, k in zip(sites, self.size, strict=True)):
            raise ValueError(
                f"mix must be at most as large as the sites, got {self} for sites {sites}: write "
                "a smaller size"
            )

    def contracted(
        self, a: Float[Array, "batch n ..."], w: Float[Array, "n m k"]
    ) -> Float[Array, "batch m ..."]:
        a = self._padded(a)
        if a.dtype.itemsize >= 8:
            return einsum("bnk...,nmk->bm...", self._shifts(a), w)
        axes = "HW"[: len(self.size)] if len(self.size) < 3 else "HWD"
        return jax.lax.conv_general_dilated(
            a,
            w.reshape(*w.shape[:2], *self.size),
            self.stride,
            "VALID",
            dimension_numbers=(f"NC{axes}", f"IO{axes}", f"NC{axes}"),
            precision=jax.lax.Precision.HIGHEST,
        )

    def _padded(self, a: Array) -> Array:
        """`a` (batch, n, *sites) with what is beyond the ends."""
        if self.padding == "CIRCULAR":
            ends = [((k - 1) // 2, k // 2) for k in self.size]
        else:
            ends = jax.lax.padtype_to_pads(a.shape[2:], self.size, self.stride, self.padding)
        mode = "wrap" if self.padding == "CIRCULAR" else "constant"
        return jnp.pad(a, [(0, 0), (0, 0), *ends], mode=mode)

    def _shifts(self, a: Array) -> Array:
        """All S_δ of a padded array, behind one another in axis 2."""
        each = zip(a.shape[2:], self.size, self.stride, strict=True)
        spans = [(n - k) // stride * stride + 1 for n, k, stride in each]
        corners = itertools.product(*map(range, self.size))
        return jnp.stack([self._at(a, corner, spans) for corner in corners], 2)

    def _at(self, a: Array, corner: tuple[int, ...], spans: list[int]) -> Array:
        ends = [c + n for c, n in zip(corner, spans, strict=True)]
        return jax.lax.slice(a, (0, 0, *corner), (*a.shape[:2], *ends), (1, 1, *self.stride))

    def __repr__(self) -> str:
        stride = "" if set(self.stride) == {1} else f", stride={shaped(self.stride)}"
        return f'Convolution({shaped(self.size)}, "{self.padding}"{stride})'
