"""The mean of a noisy weight, all that a limit keeps of it, is that of its draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, NeuronalEnsemble, Noisy, Space, Uniform, iid

LINE, TANH = Uniform(-1.0, 1.0), Affine(jnp.tanh)


def ensemble(weight, mean, noise):
    def ends(c):
        return jnp.stack([c[0]])

    return NeuronalEnsemble([LINE] * 2, [ends, Noisy(weight, mean, noise), ends], layers=TANH)


def _even(power):
    """sign(z) |z|^power, of mean 0."""
    return lambda c, e, u: c[0] + jnp.sign(u[0]) * jnp.abs(u[0]) ** power


def _level(mean):
    return lambda c, e: jnp.full((), mean)


NORMAL, UNIT = Gaussian(1), Uniform(0.0, 1.0)
RIGHT = {
    **{f"power {k}": (_even(k), lambda c, e: c[0], NORMAL) for k in (0.0, 0.5, 3.0, 9.0)},
    **{
        f"exp({s} z)": (lambda c, e, u, s=s: jnp.exp(s * u[0]), _level(math.exp(s * s / 2)), NORMAL)
        for s in (0.5, 1.0, 2.0, 4.0, 8.0)
    },
    **{
        f"tail {a}": (lambda c, e, u, a=a: u[0] ** (-1 / a), _level(a / (a - 1)), UNIT)
        for a in (1.05, 1.2, 1.5, 1.8, 2.5)
    },
    **{
        f"one edge in {1 / p:g}": (
            lambda c, e, u, p=p: jnp.where(u[0] < p, 1 / p, 0.0),
            _level(1.0),
            UNIT,
        )
        for p in (0.5, 1e-2, 1e-3, 1e-4, 1e-6)
    },
    "no noise": (lambda c, e, u: c[0] * e[0], lambda c, e: c[0] * e[0], NORMAL),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_means_pass_whatever_the_tails(name, monkeypatch):
    for seed in range(4):  # of the draws of noise and labels
        generator = np.random.default_rng(seed)
        monkeypatch.setattr(np.random, "default_rng", lambda *_, g=generator: g)
        ensemble(*RIGHT[name])


WRONG = {
    "another mean": (lambda c, e, u: u[0], _level(1.0), NORMAL),
    "the median": (lambda c, e, u: jnp.exp(u[0]), _level(1.0), NORMAL),
    "a fifth of the deviation off": (lambda c, e, u: u[0] + c[0], lambda c, e: c[0] + 0.2, NORMAL),
    "the other label": (lambda c, e, u: c[0] + u[0], lambda c, e: e[0], NORMAL),
    "no noise": (lambda c, e, u: c[0], _level(1.0), NORMAL),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_means_are_refused_with_both_numbers(name):
    said = r"^weights\[1\] must have as mean.*, got .*, but .* ± .* as the mean of 32768 draws, at "
    with pytest.raises(ValueError, match=said + r"labels .*: write Noisy"):
        ensemble(*WRONG[name])


class Shifted(Space):
    """Standard Gaussian, but for its mean."""

    dim, dtype = 1, jnp.dtype(float)

    @property
    def mean(self):
        return jnp.ones(1)

    def draw(self, n, key):
        return NORMAL.draw(n, key)

    def from_cube(self, u):
        return NORMAL.from_cube(u)

    def grid(self, m):
        return NORMAL.grid(m)


def test_spaces_whose_mean_is_not_that_of_their_labels_are_refused_as_laws_of_weights():
    with pytest.raises(ValueError, match=r"^weights\[1\] must have as mean"):
        iid(dim=1, depth=3, first=NORMAL, hidden=Shifted(), last=NORMAL, layers=TANH)


def test_what_is_traced_passes_and_what_is_known_is_looked_at_inside_jit():
    def made(s):
        ensemble(lambda c, e, u: s * u[0], _level(s), NORMAL)
        ensemble(lambda c, e, u: u[0], lambda c, e: jnp.asarray(s), NORMAL)
        return 0

    jax.make_jaxpr(made)(1.0)
    with pytest.raises(ValueError, match=r"^weights\[1\] must have as mean"):
        jax.make_jaxpr(lambda _: ensemble(*WRONG["another mean"]) and 0)(1.0)


SWAPPED = {
    "all": lambda: Noisy(Gaussian(1), _level(0.0), lambda c, e, u: u[0]),
    "functions": lambda: Noisy(_level(0.0), lambda c, e, u: u[0], NORMAL),
    "mean and noise": lambda: Noisy(lambda c, e, u: u[0], NORMAL, _level(0.0)),
    "a number": lambda: Noisy(lambda c, e, u: u[0], 0.0, NORMAL),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_swapped_arguments_are_named(name):
    with pytest.raises(ValueError, match=r"^(noise|weight|mean) must .*: write Noisy\(lambda"):
        SWAPPED[name]()
