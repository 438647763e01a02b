"""Residual networks: blocks of neurons on one stream, of some depth or of any."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import count, kind, takes
from .._ensemble import NeuronalEnsemble
from .._keeping.kept import Kept
from .._layers.block import Block, same
from .._layers.stream_units import StreamUnit, as_unit
from .._network.network import Network
from .._quadrature import Rule
from .._spaces.space import Space


class AtDepth(eqx.Module):
    """The weight function of the block at depth `s`."""

    theta: Callable[[float, Array], Array]
    s: float = eqx.field(static=True)

    def __call__(self, c: Float[Array, " dim"]) -> Array:
        return self.theta(self.s, c)


class Neurons(eqx.Module):
    """The neurons of a block: what they do, their labels, and where they begin."""

    unit: StreamUnit = eqx.field(static=True)
    space: Space
    theta: Callable[..., Array]


class Residual(Kept):
    """Residual networks of every depth: the stream h obeys ∂_s h = Σ_j ∫ σ_j(θ_j(s, c), h) dP_j(c),
    s in [0, 1], one term for each of the `kinds` of blocks.

    Networks of L blocks of N neurons approach it as 1/L + 1/√(L N) (Chizat, arXiv:2509.10167):
    neurons of all blocks average together. `limit` refines the depth as it refines nodes. Made by
    `residual(..., depth=None)`, which says what the fields are.
    """

    kinds: tuple[Neurons, ...]
    embed: Neurons | Callable[[Array], Array]
    readout: Neurons | Callable[[Array], Array]

    def of_depth(self, depth: int, *, midpoint: bool = False) -> NeuronalEnsemble:
        """The ensemble of networks of `depth` blocks of each kind, those at s = (l − 1/2)/L:
        Euler's steps along the stream, the kinds in turn, as finite networks make them. With
        `midpoint` steps of the midpoint rule, and kinds there and back in turn, whose error is of
        order depth⁻²."""
        depth = count("depth", depth)
        embed, readout = (same if isinstance(f, Neurons) else f for f in (self.embed, self.readout))

        def layer(unit: StreamUnit, blocks: int, keeps: bool) -> Block:
            return Block(
                unit,
                blocks,
                keeps=keeps,
                midpoint=midpoint and keeps,
                embed=embed,
                readout=readout,
            )

        blocks: list[tuple[Neurons, Any, Block]] = []
        for block in range(depth):
            back = midpoint and block % 2 == 1
            for own in reversed(self.kinds) if back else self.kinds:
                at = AtDepth(own.theta, (block + 0.5) / depth)
                blocks.append((own, at, layer(own.unit, depth, True)))
        ends = [
            [(own, own.theta, layer(own.unit, 1, False))] if isinstance(own, Neurons) else []
            for own in (self.embed, self.readout)
        ]
        each = [*ends[0], *blocks, *ends[1]]
        theta, layers = [theta for _, theta, _ in each], [layer for _, _, layer in each]
        return NeuronalEnsemble(
            [own.space for own, _, _ in each],
            (theta[0], *(None,) * len(each)),
            (None, *theta[1:], None),
            layers=(layers[0], *layers),
        )

    def sample(self, width: int | Sequence[int], *, depth: int, key: PRNGKeyArray) -> Network:
        """A finite network of `depth` blocks of each kind, of `width` neurons, as
        `NeuronalEnsemble.sample`."""
        return self.of_depth(depth).sample(width, key=key)

    def discretise(
        self,
        nodes: int | Sequence[int],
        rule: Rule | Sequence[Rule | None] | None = None,
        *,
        depth: int,
        tracers: Network | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Network:
        """The limit of infinite width and depth on `depth` steps of the midpoint rule with `nodes`
        each, as `NeuronalEnsemble.discretise`.

        The neurons of `tracers`, a network of L blocks of one kind, are added with mass 0 behind
        the nodes at their depths s = (l − 1/2)/L, where the limit has a block too: hidden layer
        r (l − 1/2) + 1/2 of r L steps, r odd. Raises `ValueError` for other depths.
        """
        ensemble = self.of_depth(depth, midpoint=True)
        measures = list(ensemble.measures(nodes, rule, key=key))
        if tracers is not None:
            for place, labels in zip(self._places(depth, tracers), tracers.labels, strict=True):
                measures[place] = measures[place].with_tracers(labels)
        return ensemble.network(measures)

    def _places(self, depth: int, tracers: Network) -> list[int]:
        """The hidden layers of the limit, from 0, that are at the depths of those of `tracers`."""
        kind("tracers", tracers, Network, "write networks.sample(32, depth=5, key=key)")
        blocks = tracers.depth - 1
        if len(self.kinds) > 1 or Neurons in map(type, (self.embed, self.readout)):
            raise ValueError(
                f"tracers must be those of blocks of one kind with fixed ends, got {self!r}"
            )
        ratio, rest = divmod(depth, blocks)
        if rest or ratio % 2 == 0:
            raise ValueError(
                f"depth must be an odd multiple of that of tracers, {blocks} blocks, got {depth}: "
                f"write depth={blocks * max(3, ratio + 1 - ratio % 2)}"
            )
        return [ratio * block + ratio // 2 for block in range(blocks)]

    def __repr__(self) -> str:
        each = ", ".join(
            f"{k.unit!r} on {type(k.space).__name__}({k.space.dim})" for k in self.kinds
        )
        return f"Residual({each}, any depth, mean field 1/(N L))"


def residual(
    sigma: Any,
    space: Space | Sequence[Space],
    theta: Any,
    *,
    depth: int | None = None,
    embed: Any = same,
    readout: Any = same,
) -> NeuronalEnsemble | Residual:
    """A residual network of `depth` = L blocks, h_l = h_{l-1} + (1/L) E σ(θ_l(c), h_{l-1}); of any
    depth with None, whose `limit` is that of infinite width and depth.

    Neurons have masses p_{l,k}/L: gradients are per unit mass, and rates need no factor L.

    Arguments:

    - `sigma(theta, h)`: a function of one neuron and one stream, of the stream's shape, or a unit
      (`Perceptron`).
    - `space`: of the labels c of a block's neurons, which begin at `theta(s, c)`, block l at
      s = (l − 1/2)/L in [0, 1]: a limit in depth needs a function that is smooth in s, or at least
      piecewise.
    - A list each of `sigma`, `space` and `theta` for several kinds of blocks in turn, attention and
      perceptron, say: then there are L blocks of each kind.
    - `embed(x)` makes the stream h_0 of one input, `readout(h)` the outputs (outputs,) of one
      stream h_L. Those that are trained are averages over neurons too, E σ(θ(c), x): given as
      `(sigma, space, theta)` with theta(c), σ of any shape.

    Raises `ValueError` for functions of other arguments, depths below 1, and weights or streams of
    shapes that do not fit.
    """
    given = {"sigma": sigma, "space": space, "theta": theta}
    lists = {name: list(v) if isinstance(v, list | tuple) else [v] for name, v in given.items()}
    if len({len(v) for v in lists.values()}) > 1 or not lists["sigma"]:
        found = ", ".join(f"{len(v)} {name}" for name, v in lists.items())
        raise ValueError(
            f"sigma must be one function, or a list with as many spaces and functions theta, got "
            f"{found}: write residual([head, perceptron], [space_1, space_2], [theta_1, theta_2])"
        )
    kinds = tuple(_neurons(*one) for one in zip(*lists.values(), strict=True))
    ends = [_end(name, f) for name, f in (("embed", embed), ("readout", readout))]
    networks = Residual(kinds, *ends)
    shape = networks.of_depth(1 if depth is None else depth)
    return networks if depth is None else shape


def _neurons(sigma: Any, space: Any, theta: Any) -> Neurons:
    kind("space", space, Space, "write Gaussian(3)")
    _function("theta", theta, 2, "a depth s and a label", "lambda s, c: c")
    return Neurons(as_unit(sigma), space, theta)


def _end(name: str, f: Any) -> Any:
    """An embedding or a readout, of neurons where it is trained."""
    if not isinstance(f, tuple):
        _function(name, f, 1, "an input or a stream", "lambda h: h")
        return f
    if len(f) != 3:
        raise ValueError(
            f"{name} must be a function, or (sigma, space, theta) where it is trained, got "
            f"{len(f)} entries: write {name}=(sigma, Gaussian(3), lambda c: c)"
        )
    sigma, space, theta = f
    kind(name, space, Space, f"write {name}=(sigma, Gaussian(3), lambda c: c)")
    _function(name, theta, 1, "a label", "lambda c: c")
    return Neurons(as_unit(sigma), space, theta)


def _function(name: str, f: Any, n: int, of: str, example: str) -> None:
    if not callable(f):
        raise ValueError(f"{name} must be a function of {of}, got {f!r:.80}: write {example}")
    takes(name, f, n, of, f"write {example}")
