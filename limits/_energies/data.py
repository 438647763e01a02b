"""Data: a measure on inputs and targets, finite or a population."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Rule, Space, quadrature
from ensembles.internal import (
    Kept,
    called,
    choose,
    default_rule,
    floating,
    indexed,
    probabilities,
    shape_of,
    takes,
)


class Data(Kept):
    """Inputs `x` (n, ...) and targets `y` (n, outputs) with `masses` (n,), 1/n by default.

    Expectations over the data are Σ_k q_k f(x_k, y_k); mini-batches draw by the masses, with
    replacement, unless there is a `sampler`: `sampler(size, key)` gives fresh samples (x, y) of a
    population, of which the data are then a quadrature. Raises `ValueError` for integer arrays,
    NaN, shapes or masses that do not fit.
    """

    x: Float[Array, "n ..."]
    y: Float[Array, "n outputs"]
    masses: Float[Array, " n"]
    sampler: Callable[[int, PRNGKeyArray], tuple[Array, Array]] | None

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        masses: ArrayLike | None = None,
        *,
        sampler: Callable[[int, PRNGKeyArray], tuple[Array, Array]] | None = None,
    ):
        self.x = floating("x", x)
        self.y = floating("y", y, ndim=2)
        if self.x.ndim < 1 or self.x.shape[0] != self.y.shape[0]:
            raise ValueError(
                f"x and y must have one row per sample, got shapes {self.x.shape} and "
                f"{self.y.shape}: write x (n, d) and y (n, outputs) with one n"
            )
        if self.x.dtype != self.y.dtype:
            raise ValueError(
                f"x and y must share one dtype, got {self.x.dtype} and {self.y.dtype}: "
                "write y.astype(x.dtype)"
            )
        n = self.x.shape[0]
        if not n:
            raise ValueError(f"x must have at least one sample, got shape {self.x.shape}")
        masses = jnp.full(n, 1 / n, self.x.dtype) if masses is None else masses
        self.masses = probabilities("masses", masses, self.x)
        self.sampler = sampler
        if sampler is not None:
            self._check_sampler(sampler)

    def _check_sampler(self, sampler: Callable[[int, PRNGKeyArray], tuple[Array, Array]]) -> None:
        remedy = "write def sampler(size, key) that returns (x, y), one row per sample"
        if not callable(sampler):
            raise ValueError(f"sampler must be a function, got {sampler!r}: {remedy}")
        takes("sampler", sampler, 2, "a size and a key", remedy)
        fit = "sampler must fit a size and a key"
        for size in (4, 5):
            with called(fit, remedy):
                drawn = jax.eval_shape(
                    lambda key, n=size: tuple(sampler(n, key)), jax.random.key(0)
                )
            wanted = [((size, *a.shape[1:]), a.dtype) for a in (self.x, self.y)]
            if [(a.shape, a.dtype) for a in drawn] != wanted:
                raise ValueError(
                    f"sampler must give samples like x {self.x.shape[1:]} and y "
                    f"{self.y.shape[1:]}, in {self.x.dtype}, as many as it is asked for, got "
                    f"arrays {[(a.shape, str(a.dtype)) for a in drawn]} for size {size}: {remedy}"
                )

    @staticmethod
    def from_space(
        space: Space,
        target: Callable[[Array], Array],
        nodes: int,
        rule: Rule | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> "Data":
        """A population: x distributed as `space` says, y = target(x).

        Flows and full batches use `nodes` quadrature nodes of the space (`rule` and `key` as in
        `quadrature`), mini-batches fresh samples. `target` maps (dim,) to (outputs,).
        """
        measure = quadrature(space, nodes, rule, key=key)
        if not callable(target):
            raise ValueError(
                f"target must be a function of one input (dim,), got {target!r}: write lambda x: "
                "jnp.sin(x[:1])"
            )
        takes("target", target, 1, "an input (dim,)", "write lambda x: jnp.sin(x[:1])")
        one = jax.ShapeDtypeStruct((space.dim,), space.dtype)
        fit = f"target must fit one input of shape {one.shape}"
        remedy = "write it for a single input x, without a batch axis"
        indexed(fit, target, (one,), remedy)
        given = shape_of(fit, target, one, remedy=remedy)
        if getattr(given, "ndim", None) != 1:
            raise ValueError(
                f"target must return an array (outputs,) for one input, got {given!r}: write "
                "y[None] for a single output"
            )
        y = jax.vmap(target)(measure.points)
        held = target if isinstance(target, eqx.Module) else _Function(target)
        rule = default_rule(space) if rule is None else rule
        sampler = _Fresh(space, held, len(y), rule, key)
        return Data(measure.points, y, measure.masses, sampler=sampler)

    def finer(self) -> "Data | None":
        """The same population on the next finer nodes, drawn anew where they are random; None where
        these data are all there is."""
        if not isinstance(self.sampler, Population):
            return None
        return self.sampler.finer()

    def draw(self, size: int, key: PRNGKeyArray) -> "Data":
        """`size` independent samples of mass 1/size: fresh samples of a population."""
        if self.sampler is not None:
            return Data(*self.sampler(size, key))
        chosen = choose(self.masses, size, key)
        return Data(self.x[chosen], self.y[chosen])


class Population(eqx.Module):
    """A sampler of a population of which data are nodes, as many as one likes."""

    @abc.abstractmethod
    def __call__(self, size: int, key: PRNGKeyArray) -> tuple[Array, Array]:
        """That many samples."""

    @abc.abstractmethod
    def finer(self) -> Data | None:
        """The population on the next finer nodes; None where those that it has are all."""


class _Fresh(Population):
    """Draws x from a space, with y = target(x); `nodes`, `rule` and `key` are those of the data."""

    space: Space
    target: eqx.Module
    nodes: int = eqx.field(static=True)
    rule: Rule
    key: PRNGKeyArray | None

    def __call__(self, size: int, key: PRNGKeyArray) -> tuple[Array, Array]:
        x = self.space.draw(size, key)
        return x, jax.vmap(self.target)(x)  # pyright: ignore[reportArgumentType]

    def finer(self) -> Data | None:
        if not self.space.axes:
            return None
        more = self.rule.refine(self.space, self.nodes)
        key = None if self.key is None else jax.random.fold_in(self.key, 1)
        return Data.from_space(self.space, self.target, more, self.rule, key=key)  # pyright: ignore[reportArgumentType]


class _Function(eqx.Module):
    """A plain function as a module."""

    f: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        return self.f(x)
