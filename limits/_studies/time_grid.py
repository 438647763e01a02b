"""Grids of times on which what happens along a run is resolved, where its influence varies.

The influence on f_t of what happens at time s fades as t − s grows: over long runs it lives on a
small last part, which no even grid sees. On a grid of hats ∫ h² is told as Σ |hat| (mean of h over
the hat)², which is never too large, and too small by about Σ w³ h'²/6 over intervals of length w:
the least for a given number of them where w ∝ |h'|^(−2/3).
"""

import numpy as np
from jaxtyping import Float

_NEAREST = 1e-4  # of the gap between two times, how near the later one a first grid is resolved
_POINTS = 64  # of a gap, from which the first grid is made
_SPREAD = 0.25  # of the points of a grid, that stay where those of the one before were
_APART = 512  # units of the last place that points are apart, at least


def graded(times: Float[np.ndarray, " T"], intervals: int) -> Float[np.ndarray, " J"]:
    """A grid of [0, the last time] that sees every scale: half of it even, half of it geometric
    towards each of `times` from the one before."""
    ends = np.union1d(0.0, times)
    gaps = np.diff(ends)[:, None]
    near = ends[1:, None] - gaps * np.geomspace(_NEAREST, 1, _POINTS)
    points = np.union1d(np.linspace(0, ends[-1], near.size + 1), near)
    return np.interp(np.linspace(0, 1, intervals + 1), np.linspace(0, 1, len(points)), points)


def adapted(
    grid: Float[np.ndarray, " J"],
    influence: Float[np.ndarray, "T entries J n"],
    masses: Float[np.ndarray, " n"],
    spans: Float[np.ndarray, "T J"],
) -> Float[np.ndarray, " J"]:
    """As many times, where the influence told on `grid` varies, by all of T times alike."""
    width, slopes = np.diff(grid), np.diff(influence, axis=2)
    square = (slopes**2 @ masses).sum(1) / width**2
    each = np.cbrt(np.where(spans[:, 1:] > 0, square, 0)) * width
    total = each.sum(1, keepdims=True)
    share = (each / np.where(total > 0, total, 1)).sum(0)
    even = np.full(len(width), 1 / len(width))
    share = share / share.sum() if share.sum() > 0 else even
    least = _APART * np.finfo(influence.dtype).eps * grid[-1] * len(width)
    share = np.minimum(_SPREAD * even + (1 - _SPREAD) * share, width / least)
    done = np.append(0, np.cumsum(share)) / share.sum()
    return np.interp(np.linspace(0, 1, len(grid)), done, grid)


def integrals(times: Float[np.ndarray, " T"], grid: Float[np.ndarray, " J"]) -> np.ndarray:
    """∫_0^t of the hat function of every grid time (T, J): 1 there, 0 at its neighbours."""
    width = np.diff(grid)
    part = np.clip((times[:, None] - grid[None, :-1]) / width, 0, 1)
    falling, rising = width * (part - part**2 / 2), width * part**2 / 2
    return np.pad(falling, [(0, 0), (0, 1)]) + np.pad(rising, [(0, 0), (1, 0)])


def halved(
    slopes: Float[np.ndarray, "... J n"], grid: Float[np.ndarray, " J"]
) -> Float[np.ndarray, "... I n"]:
    """Derivatives in the hats of `grid`, in those of every second of its times."""
    right = ((grid[1::2] - grid[:-2:2]) / (grid[2::2] - grid[:-2:2]))[:, None]
    found, between = slopes[..., ::2, :].copy(), slopes[..., 1::2, :]
    found[..., 1:, :] += between * right
    found[..., :-1, :] += between * (1 - right)
    return found
