"""Power laws fitted to measurements, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import ArrayLike, Float, Int

from ensembles.internal import on_host

from .._checks import confidence
from .._result import Result, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PowerLaw(Result):
    """A fitted power law y ≈ prefactor · x^exponent, with the exponent's interval [low, high]."""

    exponent: float
    low: float
    high: float
    prefactor: float
    level: float

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """The fitted power law at `x`."""
        return self.prefactor * np.asarray(x, float) ** self.exponent

    def plot(self, x: ArrayLike, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """The fitted power law as a line over `x`, on logarithmic axes."""
        ax = axes(ax)
        ax.loglog(np.asarray(x), self(x), **{"ls": "--", "color": "k", "lw": 1, **kwargs})
        return ax

    def _words(self) -> list[str]:
        return [f"exponent {self} with confidence {self.level:.3g}, prefactor {self.prefactor:.4g}"]

    def __str__(self) -> str:
        return f"{self.exponent:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def fit_power_law(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> PowerLaw:
    """Fit log y = log prefactor + exponent · log x by least squares.

    `x` has shape (n,), n ≥ 3 (n ≥ 2 with seeds). `y` has shape (n,) for one measurement each, and
    the interval is Student's from the residuals; or (seeds, n), NaN where a seed is missing, and
    the means of log y over seeds are fitted. The exponent is then Σ_j a_j mean_j, of variance
    Σ_j a_j² s_j² / n_j with s_j² the sample variance of n_j seeds, and the interval is Student's
    with the degrees of freedom of Welch and Satterthwaite: it says how well the seeds fix the line,
    not whether a line fits. Raises `ValueError` for other shapes, values that are not positive and
    finite (NaN but for seeds that are missing), and a `level` that is not between 0 and 1.
    """
    on_host("fit_power_law", x, y, jnp.zeros(()))
    x, y, level = _numbers("x", x), _numbers("y", y), confidence(level)
    if x.ndim != 1 or y.ndim not in (1, 2) or y.shape[-1] != x.size or x.size < 4 - y.ndim:
        raise ValueError(
            "x must have shape (n,) and y (n,) with n ≥ 3, or (seeds, n) with n ≥ 2; "
            f"got {x.shape} and {y.shape}{_remedy_of_shapes(x, y)}"
        )
    missing = np.isnan(y) & (y.ndim == 2)
    good = (y > 0) & np.isfinite(y)
    if not ((x > 0) & np.isfinite(x)).all() or np.ptp(x) == 0:
        raise ValueError(
            f"x must be positive and finite, with at least two different ones, got {x}: a power "
            "law has no zeros, and no exponent at one x"
        )
    if not (good | missing).all():
        raise ValueError(
            f"y must be positive and finite, got {(~(good | missing)).sum()} of {y.size} that are "
            "not: a power law has no zeros; NaN stands for a seed that is missing, in y (seeds, n)"
        )
    logs = np.log(y)
    apart = np.log(x) - np.log(x).mean()
    if y.ndim == 1:
        slope, intercept = np.polyfit(np.log(x), logs, 1)
        off = logs - intercept - slope * np.log(x)
        freedom, variance = x.size - 2, (off**2).sum() / (x.size - 2) / (apart**2).sum()
        return _rate(slope, intercept, variance, freedom, level)
    columns = [column[~np.isnan(column)] for column in logs.T]
    if min(map(len, columns)) < 2:
        raise ValueError(
            "y needs at least two seeds for every x to have an interval, got "
            f"{[len(c) for c in columns]} seeds: write y[0] for one measurement at each of three x "
            "or more"
        )
    slope, intercept = np.polyfit(np.log(x), [c.mean() for c in columns], 1)
    free = np.array([len(c) - 1 for c in columns])
    parts = (apart / (apart**2).sum()) ** 2 * [c.var(ddof=1) / len(c) for c in columns]
    variance = parts.sum()
    freedom = variance**2 / (parts**2 / free).sum() if variance > 0 else 1.0
    return _rate(slope, intercept, variance, freedom, level)


def _remedy_of_shapes(x: np.ndarray, y: np.ndarray) -> str:
    if x.ndim == 1 and y.shape == (2,) == x.shape:
        return (
            ": a line through two points leaves no residual to tell an interval; measure at a "
            "third x, or with several seeds, y (seeds, 2)"
        )
    return ": write y.T" if y.ndim == 2 and x.shape == y.shape[:1] else ""


def power_law_in_width(
    widths: Int[np.ndarray, " widths"], distances: Float[np.ndarray, "seeds widths"]
) -> PowerLaw:
    """What `fit_power_law` finds of a study; errors name what the study was given."""
    if len(set(widths.tolist())) < 2:
        raise ValueError(
            f"widths must be at least two different ones to have an exponent, got "
            f"{widths.tolist()}: write widths=[32, 64, 128]"
        )
    seeds = np.isfinite(distances).sum(0)
    if seeds.min() < 2:
        raise ValueError(
            "seeds must be at least 2 at every width for the exponent to have an interval, got "
            f"{seeds.tolist()} without those that failed: write seeds=8"
        )
    return fit_power_law(widths, distances)


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    """`values` as an array; a `ValueError` for words and rows of different lengths."""
    try:
        held = np.asarray(values)
        if held.dtype.kind not in "iuf":
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{name} must be an array of numbers, got {values!r:.80}: write np.array([8.0, 16.0]), "
            "in y NaN for a missing seed"
        ) from None
    return held.astype(float)


def _rate(
    slope: float, intercept: float, variance: float, freedom: float, level: float
) -> PowerLaw:
    half = scipy.stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(variance)
    return PowerLaw(
        float(slope), float(slope - half), float(slope + half), float(np.exp(intercept)), level
    )


def described(
    name: str, values: Float[np.ndarray, "seeds widths"], widths: Int[np.ndarray, " widths"]
) -> str:
    """Means of `values` over seeds, a number a width, and the power law fitted to them if there is
    one."""
    means = [column[np.isfinite(column)] for column in values.T]
    text = f"{name} " + ", ".join(f"{m.mean():.2e}" if m.size else "NaN" for m in means)
    try:
        return f"{text}: N^{fit_power_law(widths, values)}"
    except ValueError:  # one width, one seed or zeros
        return text
