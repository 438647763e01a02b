"""What bands share: how far they reach around centres that are off, and when they mean little."""

import numpy as np
import scipy
from jaxtyping import ArrayLike

from .._checks import quantile


class VagueBand(UserWarning):
    """A band that holds its own errors more than the scatter of networks."""


def reach(level: float, deviation: ArrayLike, off: ArrayLike) -> np.ndarray:
    """h with P(|off + deviation Z| ≤ h) = level, Z standard Gaussian: how far from a centre that is
    wrong by `off` a Gaussian variable lies. On the host, by bisection; arrays broadcast."""
    s, d = np.broadcast_arrays(np.asarray(deviation, float), np.asarray(off, float))
    low, high = np.zeros_like(s), d + quantile(level) * s
    known = np.where(s > 0, s, 1)
    for _ in range(60):
        h = (low + high) / 2
        inside = scipy.special.ndtr((h - d) / known) - scipy.special.ndtr((-h - d) / known)
        low, high = np.where(inside < level, h, low), np.where(inside < level, high, h)
    return np.where(s > 0, high, d)
