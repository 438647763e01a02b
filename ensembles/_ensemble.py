"""Neuronal ensembles: probability spaces and weight functions on them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ._checks import counts, floating, kind, per_layer, randomness, spare
from ._keeping.kept import Kept
from ._layers.layer import Layer
from ._measures import Measure
from ._network.network import Network
from ._network.parameters import Parameters
from ._quadrature import Rule, default_rule, quadrature
from ._spaces.space import Space
from ._weights import Noisy, WeightFunction, on_labels
from ._weights_fit import check_finite, check_functions


class NeuronalEnsemble(Kept):
    """Probability spaces (Ω_i, P_i) with weight functions on them: networks of every width.

    Source: Nguyen & Pham (arXiv:2001.11443), *neuronal embedding*. A network of L layers has
    labels c_i ∈ Ω_i in its L − 1 hidden layers, and the initial weights

        w_1(c_1),  w_i(c_{i-1}, c_i),  w_L(c_{L-1})    and    b_i(c_i),  b_L.

    With labels drawn from the P_i it is a finite network, with quadrature nodes of the P_i its
    infinite-width limit (mean field, 1/N).

    Arguments:

    - `spaces`: Ω_1, …, Ω_{L-1}; labels are arrays (dim,).
    - `weights`: L functions. `w_1(c_1)` gives (d,) for inputs in R^d, `w_i(c, c')` gives a scalar
      (any shape for `Elementwise` layers, an axis of entries more for `Shared` ones), `w_L(c)`
      gives (outputs,). Those between hidden layers may be `Noisy`.
    - `biases`: None, or L entries, each None or a function `b_i(c_i)` giving a scalar (any shape
      for `Elementwise`); the last is an array (outputs,).
    - `layers`: one layer map for all, or one for each of the L layers.

    Raises `ValueError` when numbers of layers or the shapes of weights do not fit.
    """

    spaces: tuple[Space, ...]
    weights: tuple[WeightFunction | None, ...]
    biases: tuple[WeightFunction | Array | None, ...]
    layers: tuple[Layer, ...] = eqx.field(static=True)

    def __init__(
        self,
        spaces: Sequence[Space],
        weights: Sequence[WeightFunction | None],
        biases: Sequence[WeightFunction | Array | None] | None = None,
        *,
        layers: Layer | Sequence[Layer],
    ):
        kind("spaces", spaces, Sequence, "write [space], one per hidden layer")
        for i, space in enumerate(spaces):
            kind(f"spaces[{i}]", space, Space, "write [Uniform(-1.0, 1.0)]")
        self.spaces = tuple(spaces)
        kind("weights", weights, Sequence, "write [w_1, ..., w_L], one function for each layer")
        self.weights = tuple(weights)
        depth = len(self.weights)
        if depth < 2 or len(self.spaces) != depth - 1:
            raise ValueError(
                f"weights: L ≥ 2 weight functions go with L − 1 spaces, got {depth} weights and "
                f"{len(self.spaces)} spaces"
            )
        self.biases = per_layer("biases", biases, depth)
        each = tuple(layers) if isinstance(layers, Sequence) else (layers,) * depth
        if len(each) != depth or not all(isinstance(layer, Layer) for layer in each):
            raise ValueError(
                f"layers must be one layer map or {depth}, one per weight function, "
                f"got {layers!r}: write layers=Affine(jnp.tanh)"
            )
        self.layers = each
        if self.biases[-1] is not None:
            if callable(self.biases[-1]):
                raise ValueError(
                    f"biases[{depth - 1}] belongs to the outputs, which have no label: "
                    "give an array (outputs,), got a function"
                )
            last = floating(f"biases[{depth - 1}]", self.biases[-1], ndim=1)
            self.biases = (*self.biases[:-1], last)
        check_functions(self)

    @property
    def depth(self) -> int:
        """The number of layers L."""
        return len(self.weights)

    @property
    def noisy(self) -> bool:
        """Whether some weights have noise of their own (`Noisy`)."""
        return any(isinstance(weight, Noisy) for weight in self.weights)

    def measures(
        self,
        nodes: int | Sequence[int],
        rule: Rule | Sequence[Rule | None] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Measure, ...]:
        """Quadrature nodes of every Ω_i: `nodes` and `rule` for all, or one per hidden layer.

        Layer i draws with `jax.random.fold_in(key, i)`; a key is needed by random rules only.
        """
        spare(key)
        sizes = counts("nodes", nodes, len(self.spaces))
        return tuple(
            quadrature(space, n, r, key=None if key is None else jax.random.fold_in(key, i))
            for i, (space, n, r) in enumerate(
                zip(self.spaces, sizes, self.rules(rule), strict=True)
            )
        )

    def rules(self, rule: Rule | Sequence[Rule | None] | None) -> tuple[Rule, ...]:
        """The quadrature rule of every hidden layer, defaults filled in.

        One rule for all leaves finite spaces out: their atoms are exact.
        """
        if rule is None or isinstance(rule, Rule):
            each = tuple(rule if space.axes else None for space in self.spaces)
        else:
            if isinstance(rule, str):
                named = {"gauss": "Gauss()", "sobol": "Sobol()"}.get(rule.lower(), "MonteCarlo()")
                raise ValueError(f"rule must be a Rule, got {rule!r}: write rule={named}")
            kind("rule", rule, (Rule, Sequence), "write rule=Sobol(), or one rule per hidden layer")
            each = rule
        if len(each) != len(self.spaces):
            raise ValueError(
                f"rule must be one rule or one per hidden layer ({len(self.spaces)}), got "
                f"{rule!r}: write rule=Gauss() for all"
            )
        for i, r in enumerate(each):
            if r is not None:
                kind(f"rule[{i}]", r, Rule, "write Gauss(), Sobol(), MonteCarlo() or None")
        return tuple(r or default_rule(s) for r, s in zip(each, self.spaces, strict=True))

    def discretise(
        self,
        nodes: int | Sequence[int],
        rule: Rule | Sequence[Rule | None] | None = None,
        *,
        tracers: Network | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Network:
        """The infinite-width limit on finitely many nodes.

        Arguments: `nodes` in all per hidden layer (an int, or one per layer), `rule` as in
        `quadrature` (one, or one per layer), `tracers` as in `network`, `key` for random
        rules (layer i uses `fold_in(key, i)`).
        """
        return self.network(self.measures(nodes, rule, key=key), tracers=tracers)

    def sample(self, width: int | Sequence[int], *, key: PRNGKeyArray) -> Network:
        """A finite network: labels drawn independently, masses 1/N, and noise on noisy edges.

        `width` is an int or one int per hidden layer; layer i uses `jax.random.fold_in(key, i)`
        for its labels, `weights[i]` `fold_in(key, L + i)` for its noise.
        """
        key = randomness(key, "a finite network draws its labels")
        sizes = counts("width", width, len(self.spaces))
        return self.network(
            tuple(
                space.sample(n, key=jax.random.fold_in(key, i))
                for i, (space, n) in enumerate(zip(self.spaces, sizes, strict=True))
            ),
            key=key,
        )

    def network(
        self,
        measures: Sequence[Measure],
        *,
        tracers: Network | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Network:
        """The network of this ensemble whose neurons have these labels and masses.

        Noisy weights are drawn with `key` as in `sample`; without one they are their conditional
        means, as in the limit. The neurons of `tracers`, a network of this ensemble, are added
        behind the others with mass 0: they follow the limit. Noisy weights among themselves begin
        at their own values, weights from and to the others at conditional means.

        Raises `ValueError` where weight functions give NaN or infinite numbers.
        """
        spare(key)
        network, wrong = self._network(measures, tracers, key)
        check_finite(network.start, wrong)
        return network

    @eqx.filter_jit
    def _network(
        self, measures: Sequence[Measure], tracers: Network | None, key: PRNGKeyArray | None
    ) -> tuple[Network, Parameters]:
        """`network`, and how many entries of each weight and bias are not finite."""
        if tracers is not None:
            kind("tracers", tracers, Network, "write tracers=ensemble.sample(64, key=key)")
            if tracers.depth != self.depth:
                raise ValueError(
                    f"tracers must have the ensemble's depth {self.depth}, got {tracers.depth}"
                )
            measures = [m.with_tracers(c) for m, c in zip(measures, tracers.labels, strict=True)]
        labels = [measure.points for measure in measures]

        def weights(i: int) -> Any:
            w: Any = self.weights[i]
            if w is None:
                return None
            ends = labels[max(i - 1, 0) : i + 1]
            if key is not None and isinstance(w, Noisy):
                return w.draw(ends[0], ends[1], jax.random.fold_in(key, self.depth + i))
            values = on_labels(w, *ends)
            if tracers is not None and isinstance(w, Noisy):
                own = tracers.start.weights[i]
                values = values.at[-own.shape[0] :, -own.shape[1] :].set(own)
            return values

        def biases(i: int) -> Any:
            b: Any = self.biases[i]
            return on_labels(b, labels[i]) if i < self.depth - 1 and b is not None else b

        layers = range(self.depth)
        start = Parameters(tuple(map(weights, layers)), tuple(map(biases, layers)))
        start = jax.tree.map(jnp.asarray, start)
        wrong = jax.tree.map(lambda a: jnp.count_nonzero(~jnp.isfinite(a)), start)
        masses = tuple(m.masses for m in measures)
        return Network(self.layers, tuple(labels), masses, start), wrong

    def __repr__(self) -> str:
        layers = self.layers[:1] if len(set(self.layers)) == 1 else self.layers
        spaces = ", ".join(f"{type(s).__name__}({s.dim})" for s in self.spaces)
        return (
            f"NeuronalEnsemble(depth={self.depth}, spaces=({spaces}), "
            f"layers={', '.join(map(repr, layers))}, mean field 1/N)"
        )
