"""Quadratic games on spheres, whose best answers are known.

The first player lowers what the second raises, as in `Game(payoff)`.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float

from ensembles import Measure
from ensembles.internal import dot, floating, on_host


class QuadraticGame(eqx.Module):
    """The payoff ℓ(x, y) = x · A x + x · B y + y · C y + a · x + b · y on two unit spheres.

    Write `Game(quadratic, spaces=(Sphere(n), Sphere(m)))`. A (n, n) and C (m, m) need not be
    symmetric or definite; None is 0. Best answers to mixed strategies are then known: see
    `best_values`. Raises `ValueError` for shapes that do not fit.
    """

    B: Float[Array, "n m"]
    A: Float[Array, "n n"]
    C: Float[Array, "m m"]
    a: Float[Array, " n"]
    b: Float[Array, " m"]

    def __init__(
        self,
        B: ArrayLike,
        *,
        A: ArrayLike | None = None,
        C: ArrayLike | None = None,
        a: ArrayLike | None = None,
        b: ArrayLike | None = None,
    ):
        self.B = floating("B", B, ndim=2)
        n, m = self.B.shape
        given = {"A": (A, (n, n)), "C": (C, (m, m)), "a": (a, (n,)), "b": (b, (m,))}
        for name, (value, shape) in given.items():
            zero = jnp.zeros(shape, self.B.dtype)
            known = zero if value is None else floating(name, value, ndim=len(shape))
            if known.shape != shape:
                raise ValueError(
                    f"{name} must have shape {shape} for B of shape {(n, m)}, got {known.shape}"
                )
            setattr(self, name, known.astype(self.B.dtype))

    def __call__(self, x: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, ""]:
        pairs = dot(x, dot(self.A, x) + dot(self.B, y)) + dot(y, dot(self.C, y))
        return pairs + dot(self.a, x) + dot(self.b, y)

    def best_values(self, mu: Measure, nu: Measure) -> tuple[float, float]:
        """(min_x ∫ ℓ(x, y) dν(y), max_y ∫ ℓ(x, y) dμ(x)), over unit x and y, to rounding.

        Second minus first is the Nikaidô–Isoda error of (μ, ν); where A, C, a, b are 0 it is
        |B' m_μ| + |B m_ν|, m the means.
        """
        A, B, C, a, b = (np.asarray(v, float) for v in (self.A, self.B, self.C, self.a, self.b))
        (x, p), (y, q) = ((np.asarray(m.points), np.asarray(m.masses)) for m in (mu, nu))
        mean_x, mean_y = p @ x, q @ y
        own_x = p @ np.einsum("ki,ij,kj->k", x, A, x) + a @ mean_x
        own_y = q @ np.einsum("ki,ij,kj->k", y, C, y) + b @ mean_y
        lowest, _ = quadratic_on_sphere(A, a + B @ mean_y)
        highest, _ = quadratic_on_sphere(-C, -(b + B.T @ mean_x))
        return lowest + float(own_y), float(own_x) - highest


def quadratic_on_sphere(matrix: ArrayLike, vector: ArrayLike) -> tuple[float, np.ndarray]:
    """The minimum of x · matrix x + vector · x over unit x (dim,), and a minimiser; to rounding.

    With eigenvalues λ_1 ≤ λ_2 ≤ … of the symmetric part and c = vector/2 in its eigenvectors, the
    minimum is max_{s ≥ 0} λ_1 − s − Σ_i c_i²/(λ_i − λ_1 + s), without duality gap. Inside, the
    derivative is the secular equation Σ_i c_i²/(λ_i − λ_1 + s)² = 1; in the hard case (no root,
    c_1 = 0) s is 0, and any multiple of the first eigenvector that makes x unit will do. Raises
    `ValueError` for shapes that do not fit.
    """
    on_host("quadratic_on_sphere", matrix, vector, jnp.zeros(()))
    M = np.asarray(floating("matrix", matrix, ndim=2), float)
    v = np.asarray(floating("vector", vector, ndim=1), float)
    if not len(v) or M.shape != (len(v), len(v)):
        raise ValueError(
            f"matrix must have shape (dim, dim) and vector (dim,), dim ≥ 1, got {M.shape} and "
            f"{v.shape}"
        )
    scale = max(np.abs(M).max(), np.abs(v).max()) or 1.0
    M, v = M / scale, v / scale
    eigenvalues, basis = np.linalg.eigh((M + M.T) / 2)
    above, c = eigenvalues - eigenvalues[0], basis.T @ v / 2
    size = float(np.linalg.norm(c))
    noise = 1e-15 * max(size, float(np.abs(eigenvalues).max()))
    c = np.where((above <= noise) & (np.abs(c) <= noise), 0.0, c)

    def unscaled(s: float) -> np.ndarray:
        """−c/(above + s), 0 where c is."""
        return -np.divide(c, above + s, out=np.zeros_like(c), where=c != 0)

    def short(s: float) -> float:
        """Positive where x is longer than 1; nearly linear in s."""
        return 1 - 1 / float(np.linalg.norm(unscaled(s)))

    lowest = float(np.linalg.norm(c[above <= noise]))
    hard = lowest == 0 and float(np.linalg.norm(unscaled(0.0))) <= 1
    # at s = |c_1| what is in the lowest eigenspace alone is unit, at s = |c| all is at most unit
    s = 0.0 if hard else _root(short, lowest, size)
    x = unscaled(s)
    if hard:
        x[0] += np.sqrt(max(1 - x @ x, 0.0))
    return float(scale * (eigenvalues[0] - s + c @ unscaled(s))), basis @ (x / np.linalg.norm(x))


def _root(f, low: float, high: float) -> float:
    if f(high) >= 0:
        return high
    if low > 0 and f(low) <= 0:
        return low
    root = scipy.optimize.brentq(f, low, high, xtol=1e-300, rtol=np.float64(1e-15), maxiter=500)
    return float(root)  # pyright: ignore[reportArgumentType]
