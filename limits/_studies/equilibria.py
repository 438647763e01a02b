"""How far players are from an equilibrium."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ensembles import Network, Space
from ensembles.internal import count, inside, kind, on_host, randomness

from .._energies.game import Game
from .._result import Result
from .optimality import OptimalityGap, search
from .starts import starting_points


class NikaidoIsoda(Result):
    """The Nikaidô–Isoda error, the sum of what each player could gain alone: `gaps` per player.

    0 exactly at a (mixed) Nash equilibrium. In a zero-sum game it is
    sup_ν L(μ_1, ν) − inf_ν L(ν, μ_2). Each gap says how its best answer was found.
    """

    gaps: tuple[OptimalityGap, ...]

    @property
    def value(self) -> float:
        return sum(gap.gap for gap in self.gaps)

    def _words(self) -> list[str]:
        each = (f"player {i + 1}: {gap}" for i, gap in enumerate(self.gaps))
        return [f"NI = {self.value:.3g}", *each]

    def __str__(self) -> str:
        each = "; ".join(f"player {i + 1}: {gap}" for i, gap in enumerate(self.gaps))
        return f"NI = {self.value:.3g} ({each})"


def nikaido_isoda(
    network: Network,
    game: Game,
    *,
    key: PRNGKeyArray,
    spaces: Sequence[Space] | None = None,
    starts: int = 256,
    steps: int = 500,
) -> NikaidoIsoda:
    """How much the players of `network` could gain alone, summed.

    Each player's best answer, inf Ψ_i over its space (`game.spaces` by default), is searched for as
    in `optimality_gap`: from `starts` draws and its own strategies by `steps` of projected
    gradients. `Atoms` are evaluated completely: a grid, or a finite game, exactly. What the search
    misses makes the error too small; `.gaps` say what it found. Where `spaces` gives `Atoms` for a
    player whose space is another one, these are a grid of it, and its own strategies are evaluated
    too.

    Runs on the host. Raises `ValueError` for strategies with mass outside of their space.
    """
    kind("network", network, Network, "write Network.players(measure_1, measure_2)")
    kind("game", game, Game, "write Game(payoff)")
    on_host("nikaido_isoda", network, game, spaces, jnp.zeros(()))
    game.check(network)
    count("starts", starts)
    count("steps", steps)
    key = randomness(key, "the search begins at random draws")
    if isinstance(spaces, Space):
        raise ValueError(
            f"spaces must be one space for each of the {network.depth - 1} players, got {spaces!r}:"
            " write spaces=(Torus(1), Torus(1))"
        )
    each = game.spaces if spaces is None else tuple(spaces)
    if len(each) != network.depth - 1 or any(s is None for s in each):
        raise ValueError(
            f"spaces must be given for each of the {network.depth - 1} players, got {each}: write "
            "Game(payoff, spaces=(Torus(1), Torus(1))), or spaces= here"
        )
    players = [network.points(i) for i in range(len(each))]
    for i, (space, points) in enumerate(zip(each, players, strict=True)):
        kind(f"spaces[{i}]", space, Space, "write Torus(1), or Atoms(points)")
        assert space is not None
        if space.dim != points.shape[1]:
            raise ValueError(
                f"spaces[{i}] must have the dimension {points.shape[1]} of the strategies of "
                f"player {i + 1}, got {space.dim}"
            )
    gaps = []
    for i, (space, points) in enumerate(zip(each, players, strict=True)):
        assert space is not None
        begin = starting_points(space, points, starts, steps, jax.random.fold_in(key, i))
        own = game.spaces[i]
        if not space.axes and own is not None and own is not space:
            begin = begin._replace(points=jnp.concatenate([begin.points, points]))
        else:
            inside(
                f"strategies of player {i + 1}", space, points, network.masses[i],
                f"write network.with_points(space.project(network.points({i})), {i}), or "
                "game.domain.project(network), or give a larger space",
            )  # fmt: skip
        gaps.append(search(network, game, i, space, begin))
    return NikaidoIsoda(tuple(gaps))
