"""Residual networks: blocks of neurons on one stream, of some depth or of any."""

from collections.abc import Callable, Sequence

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


class Residual(Kept):
    """Residual networks of every depth: the stream h obeys ∂_s h = ∫ σ(θ(s, c), h) dP(c), s in
    [0, 1].

    Networks of L blocks of N neurons approach it as 1/L + 1/√(L N) (Chizat, arXiv:2509.10167):
    neurons of all blocks average together. `limit` refines the depth as it refines nodes. Made by
    `residual(..., depth=None)`, which says what the fields are.
    """

    unit: StreamUnit = eqx.field(static=True)
    space: Space
    theta: Callable[[float, Array], Array]
    embed: Callable[[Array], Array] = eqx.field(static=True)
    readout: Callable[[Array], Array] = eqx.field(static=True)

    def of_depth(self, depth: int, *, midpoint: bool = False) -> NeuronalEnsemble:
        """The ensemble of networks of `depth` blocks: Euler's steps along the stream, as finite
        networks make them, or with `midpoint` those of the midpoint rule, whose error is of order
        depth⁻². Block l is at s = (l − 1/2)/L."""
        depth = count("depth", depth)
        each = [AtDepth(self.theta, (block + 0.5) / depth) for block in range(depth)]
        layers = Block(self.unit, depth, midpoint=midpoint, embed=self.embed, readout=self.readout)
        weights = (each[0], *(None,) * depth)
        biases = (None, *each[1:], None)
        return NeuronalEnsemble((self.space,) * depth, weights, biases, layers=layers)

    def sample(self, width: int | Sequence[int], *, depth: int, key: PRNGKeyArray) -> Network:
        """A finite network of `depth` blocks of `width` neurons, as `NeuronalEnsemble.sample`."""
        return self.of_depth(depth).sample(width, key=key)

    def discretise(
        self,
        nodes: int | Sequence[int],
        rule: Rule | None = None,
        *,
        depth: int,
        key: PRNGKeyArray | None = None,
    ) -> Network:
        """The limit of infinite width and depth on `depth` steps of the midpoint rule with `nodes`
        each, as `NeuronalEnsemble.discretise`."""
        return self.of_depth(depth, midpoint=True).discretise(nodes, rule, key=key)

    def __repr__(self) -> str:
        space = f"{type(self.space).__name__}({self.space.dim})"
        return f"Residual({self.unit!r}, space={space}, any depth, mean field 1/(N L))"


def residual(
    sigma: Callable[[Array, Array], Array] | StreamUnit,
    space: Space,
    theta: Callable[[float, Float[Array, " dim"]], Array],
    *,
    depth: int | None = None,
    embed: Callable[[Array], Array] = same,
    readout: Callable[[Array], Array] = same,
) -> NeuronalEnsemble | Residual:
    """A residual network of `depth` = L blocks, h_l = h_{l-1} + (1/L) E σ(θ_l(c), h_{l-1}); of any
    depth with None, whose `limit` is that of infinite width and depth.

    The neurons of block l have labels c in `space` and begin at theta(s, c), s = (l − 1/2)/L in
    [0, 1]: a limit in depth needs a function that is smooth in s, or at least piecewise.
    `sigma(theta, h)` is a function of one neuron and one stream, of the stream's shape, or a unit
    (`Perceptron`). `embed` makes the stream h_0 of one input, `readout` the outputs (outputs,) of
    one stream h_L.

    Neurons have masses p_{l,k}/L: gradients are per unit mass, and rates need no factor L.
    Raises `ValueError` for functions of other arguments, depths below 1, and weights or streams of
    shapes that do not fit.
    """
    kind("space", space, Space, "write Gaussian(3)")
    takes("theta", theta, 2, "a depth s and a label", "write lambda s, c: c")
    networks = Residual(as_unit(sigma), space, theta, embed, readout)
    shape = networks.of_depth(1 if depth is None else depth)
    return networks if depth is None else shape
