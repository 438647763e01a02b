"""Games between measures: every player lowers a loss in a distribution of strategies."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters, Space
from ensembles.internal import (
    choose,
    count,
    dot,
    indexed,
    inside,
    kind,
    matmul,
    shape_of,
    takes,
    traced,
)

from .domain import Domain
from .energy import Derivatives, Energy
from .pairs import TABLE, averages
from .payoffs import check_payoffs

Loss = Callable[..., Array]
Strategies = tuple[Array, Array]  # strategies (n, dim) and their masses (n,)


class _Sampled(eqx.Module):
    """A number of strategies that are drawn of every opponent, with a key."""

    size: int = eqx.field(static=True)
    key: PRNGKeyArray


class Game(Energy):
    """Players with distributions μ_i of strategies; player i lowers L_i = ∫ ℓ_i d(μ_1 ⊗ … ⊗ μ_k).

    `Game(payoff)` is a zero-sum game of two: the first lowers ∬ ℓ dμ_1 dμ_2, the second raises it;
    `Game(loss_1, loss_2, ...)` gives each player a loss of its own. They are functions of one
    strategy (dim_i,) of each player, in their order, and give scalars.

    A state is a network of `players(...)`, whose hidden layer i is player i. Derivatives per unit
    mass and first variations are each player's own, Ψ_i(θ) = ∫ ℓ_i(…, θ, …) d⊗_{j ≠ i} μ_j; under
    any dynamics all move at once. The value is L_1: along a run it need not fall. Sources:
    Domingo-Enrich, Jelassi, Mensch, Rotskoff & Bruna (arXiv:2002.06277); Wang & Chizat
    (arXiv:2211.01280).

    `spaces`: what the strategies of each player live on (None: all of R^dim). Velocities are made
    tangent to it and steps are brought back to it. Batches draw that many strategies of every
    opponent. Raises `ValueError` for losses that are no functions or don't give
    finite scalars, players that do not fit, and strategies with mass outside of their space.
    """

    takes: ClassVar[str | None] = "players"
    losses: tuple[Loss, ...]
    spaces: tuple[Space | None, ...]
    sampled: _Sampled | None

    def __init__(
        self,
        payoff: Loss,
        *losses: Loss,
        spaces: Sequence[Space | None] | None = None,
    ):
        for f in (payoff, *losses):
            if not callable(f):
                raise ValueError(
                    f"payoff must be a function of one strategy of each player, got {f!r}: write "
                    "Game(lambda x, y: x @ y)"
                )
        self.losses = (payoff, *losses) if losses else (payoff, _Negative(payoff))
        k = len(self.losses)
        for f in (payoff, *losses):
            takes(
                "payoff", f, k, "one strategy of each player", "write Game(lambda x, y: x @ y)"
                if k == 2 else f"give {k} arguments to each of the {k} losses",
            )  # fmt: skip
        each = spaces if isinstance(spaces, Sequence) else (spaces,)
        self.spaces = (None,) * k if spaces is None else tuple(each)
        if len(self.spaces) != k or not all(s is None or isinstance(s, Space) for s in self.spaces):
            raise ValueError(
                f"spaces must be one space (or None) for each of the {k} players, got {spaces!r}: "
                "write spaces=(Sphere(3), Sphere(3))"
            )
        self.sampled = None

    def __call__(self, network: Network) -> Float[Array, ""]:
        kind("network", network, Network, "write Network.players(measure_1, measure_2)")
        self._check_fit(network)
        return dot(network.masses[0], self._seen(network, False)[0][0])

    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        each = self._seen(network, True)

        def rows(parameters: Parameters) -> tuple[Array, ...]:
            return tuple(parameters.rows(i) for i in range(len(self.losses)))

        _, pull = jax.vjp(rows, network.parameters)
        gradient = pull(tuple(slope for _, slope in each))[0].still()
        psi = tuple(psi for psi, _ in each) if variation else None
        return Derivatives(dot(network.masses[0], each[0][0]), gradient, psi)

    @property
    def domain(self) -> Domain:
        return Domain(self.spaces)

    def _seen(self, network: Network, slopes: bool) -> list[tuple[Array, Any]]:
        """Ψ_i, and ∇Ψ_i with `slopes`, at the strategies of every player."""
        players = self._players(network)
        if self._shares(players):
            return self._table(players, slopes)
        found = []
        for i in range(len(players)):
            (points, masses), *rest = self._opponents(network, players, i)
            at = partial(self._at, i, slopes, rest)
            found.append(averages(at, players[i][0], points, masses))
        return found

    def _at(
        self,
        i: int,
        slopes: bool,
        rest: list[Strategies],
        theta: Array,
        points: Array,
        masses: Array,
    ) -> tuple[Array, Any]:
        """Ψ_i(θ), and ∇Ψ_i(θ) with `slopes`, of the first opponent's strategies and the rest."""
        psi = partial(self._variation, i, [(points, masses), *rest])
        return jax.value_and_grad(psi)(theta) if slopes else (psi(theta), None)

    def _shares(self, players: list[Strategies]) -> bool:
        """Whether one table of payoffs gives both players all they need, and is not too large."""
        second = self.losses[1]
        zero_sum = len(players) == 2 and isinstance(second, _Negative)
        pairs = math.prod(len(masses) for _, masses in players)
        return zero_sum and self.sampled is None and pairs <= TABLE

    def _table(self, players: list[Strategies], slopes: bool) -> list[tuple[Array, Any]]:
        """`_seen` of a zero-sum game, from every payoff once."""
        (x, p), (y, q) = players

        def payoffs(x: Array, y: Array) -> Float[Array, "n m"]:
            return jax.vmap(lambda a: jax.vmap(lambda b: self.losses[0](a, b))(y))(x)

        table, pull = jax.vjp(payoffs, x, y) if slopes else (payoffs(x, y), None)
        psi = (matmul(table, q), -matmul(p, table))
        if pull is None:
            return [(psi[0], None), (psi[1], None)]
        down = pull(jnp.broadcast_to(q[None], table.shape))[0]
        up = pull(jnp.broadcast_to(p[:, None], table.shape))[1]
        return [(psi[0], down), (psi[1], -up)]

    def _variation(self, i: int, others: list[Strategies], theta: Array) -> Array:
        """Ψ_i(θ)."""

        def mean(chosen: tuple[Array, ...], rest: list[Strategies]) -> Array:
            if not rest:
                return self.losses[i](*chosen[:i], theta, *chosen[i:])
            points, masses = rest[0]
            return dot(masses, jax.vmap(lambda z: mean((*chosen, z), rest[1:]))(points))

        return mean((), others)

    def _players(self, network: Network) -> list[Strategies]:
        self._check_players(network)
        return [(network.points(i), p) for i, p in enumerate(network.masses)]

    def _opponents(self, network: Network, players: list[Strategies], i: int) -> list[Strategies]:
        others = [player for j, player in enumerate(players) if j != i]
        if self.sampled is None:
            return others
        size, key = self.sampled.size, self.sampled.key
        keys = jax.random.split(jax.random.fold_in(key, i), len(others))
        mass = jnp.full(size, 1 / size, network.dtype)
        return [
            (points[choose(masses, size, k)], mass)
            for (points, masses), k in zip(others, keys, strict=True)
        ]

    def samples(self, network: Network) -> int:
        return max(network.width)

    def outputs(self, network: Network) -> Float[Array, "1 outputs"]:
        """L_1, and for every player the variance of Ψ_i and the mean of |∇Ψ_i|²."""
        each = self._seen(network, True)
        seen = [dot(network.masses[0], each[0][0])]
        for (psi, slope), p in zip(each, network.masses, strict=True):
            seen += [dot(p, (psi - dot(p, psi)) ** 2), dot(p, (slope**2).sum(1))]
        return jnp.stack(seen)[None]

    def size(self, outputs: Float[Array, "... n outputs"]) -> Float[Array, "..."]:
        return jnp.sqrt((outputs**2).mean((-2, -1)))

    def stationarity(self, network: Network) -> Float[Array, ""]:
        """The root of the sum over players of the variances of Ψ_i: 0 when no player gains by
        changing masses."""
        pairs = zip(self.first_variation(network), network.masses, strict=True)
        return jnp.sqrt(sum((dot(p, (v - dot(p, v)) ** 2) for v, p in pairs), jnp.zeros(())))

    def draw(self, batch: int, key: PRNGKeyArray) -> "Game":
        drawn = _Sampled(batch, key)
        return eqx.tree_at(lambda g: g.sampled, self, drawn, is_leaf=lambda x: x is None)

    def _check_players(self, network: Network) -> None:
        k = len(self.losses)
        if network.depth != k + 1 or any(w is not None for w in network.start.weights[1:]):
            raise ValueError(
                f"network must be of {k} players, got one of {network.depth} layers "
                f"{', '.join(dict.fromkeys(map(repr, network.layers)))}: write Network.players("
                "measure_1, measure_2), and players(space_1, space_2) as an ensemble, or its "
                ".sample(100, key=key)"
            )

    def check(self, network: Network, batch: int | None = None) -> None:
        self._check_fit(network)
        if batch is not None and count("batch", batch) > min(network.width):
            raise ValueError(
                f"batch must be at most the {min(network.width)} strategies of every player, "
                f"got {batch}: write batch=None for all of them"
            )
        first = [network.points(i)[0] for i in range(len(self.losses))]
        if not traced(self.losses, self.spaces, first):
            check_payoffs(self.losses, self.spaces, first)

    def _check_fit(self, network: Network) -> None:
        """Raise `ValueError` for players and payoffs that do not fit, strategies outside of their
        spaces, and payoffs that are not finite at the first ones."""
        k = len(self.losses)
        self._check_players(network)
        points = [network.points(i) for i in range(k)]
        for i, (space, p) in enumerate(zip(self.spaces, points, strict=True)):
            if space is not None and space.dim != p.shape[-1]:
                raise ValueError(
                    f"spaces[{i}] must have the dimension {p.shape[-1]} of the strategies of "
                    f"player {i + 1}, got {space.dim}"
                )
            if space is not None:
                remedy = "write game.domain.project(network), or give a larger space"
                name = f"strategies of player {i + 1}"
                inside(name, space, p, network.masses[i], remedy)
        each = [jax.ShapeDtypeStruct(p.shape[1:], p.dtype) for p in points]
        for loss in self.losses:
            fit = f"payoff must fit strategies of dimensions {[a.shape[0] for a in each]}"
            indexed(fit, loss, each, "write strategies of other dimensions, or other entries")
            given = shape_of(fit, loss, *each)
            if given.shape != ():
                raise ValueError(
                    f"payoff must return a scalar, got shape {given.shape}: write .sum(), or index "
                    "it"
                )
            if not jnp.issubdtype(given.dtype, jnp.floating) or (
                given.dtype != network.dtype and not given.weak_type
            ):
                raise ValueError(
                    f"payoff must return the network's dtype {network.dtype}, got {given.dtype}: "
                    f"write .astype({network.dtype}), .real, or constants as Python numbers"
                )
        if traced(self.losses, self.spaces, points):
            return
        known = np.stack([np.asarray(f(*[p[0] for p in points])) for f in self.losses])
        if not np.isfinite(known).all():
            raise ValueError(
                f"payoff must be finite, got {known} at the first strategies: "
                "check for log, sqrt and division there, or give other strategies"
            )

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        """Every L_i is linear in μ_i."""


class _Negative(eqx.Module):
    """−ℓ."""

    payoff: Loss

    def __call__(self, *strategies: Array) -> Array:
        return -self.payoff(*strategies)
