"""A group acting on inputs, outputs and neurons: what it makes of measures, functions, networks.

Sources: Maass & Fontbona, *Symmetries in overparametrized neural networks: a mean-field view*
(arXiv:2405.19995). With ρ, ρ̂ and M the orthogonal actions on inputs, outputs and neurons, and λ
the Haar measure,

    Q_G f = ∫ ρ̂_g⁻¹ f(ρ_g ·) dλ(g)     the closest equivariant function,
    μ^G = ∫ M_g#μ dλ(g)                 symmetrised; weakly invariant: μ = μ^G,
    μ^E = P#μ,  P = ∫ M_g dλ(g)         projected to E^G = {z: M_g z = z for all g};
                                        strongly invariant: μ = μ^E.

For a jointly equivariant unit, σ(ρ_g x, M_g z) = ρ̂_g σ(x, z), Q_G Φ_μ = Φ_{μ^G}.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import concrete, floating, kind
from .._contractions import einsum, matmul
from .._ensemble import NeuronalEnsemble
from .._layers.operators import Operators
from .._measures import Measure
from .._network.network import Network
from .commutant import commuting
from .group import Group
from .orbits import of_orbits
from .representations import Representation, fixed_subspace, representation

_Law = TypeVar("_Law", Measure, Network)


class Symmetry(eqx.Module):
    """A `Group` with its orthogonal representations on inputs, outputs and neurons.

    `inputs`, `outputs` and `neurons` are functions of a group element (k, k) that give matrices:
    `defining`, `trivial(dim)`, `direct_sum(...)`, `intertwining(outputs, inputs)`, `pixels(size)`,
    or your own. Inputs of several axes are acted on flat. Without `neurons`, methods that need an
    action on them raise an error. `matrices` are those of all elements (m, d, d), by these names.

    Raises `ValueError` for functions that are no orthogonal representations.
    """

    group: Group
    inputs: Representation = eqx.field(static=True)
    outputs: Representation = eqx.field(static=True)
    neurons: Representation | None = eqx.field(static=True)
    matrices: dict[str, Float[Array, "m d d"]]
    _basis: Float[Array, "dim k"] | None

    def __init__(
        self,
        group: Group,
        *,
        inputs: Representation,
        outputs: Representation,
        neurons: Representation | None = None,
    ):
        kind("group", group, Group, "write cyclic(4), or generated(matrix)")
        self.group, self.inputs, self.outputs, self.neurons = group, inputs, outputs, neurons
        given = {"inputs": inputs, "outputs": outputs, "neurons": neurons}
        self.matrices = {
            name: representation(name, rep, group)
            for name, rep in given.items()
            if not (name == "neurons" and rep is None)
        }
        self._basis = (
            None if neurons is None else fixed_subspace(neurons, self.matrices["neurons"], group)
        )

    def on_inputs(self, x: Float[Array, "n ..."]) -> Float[Array, "m n ..."]:
        """ρ_g x for every element g and each of `x`."""
        return self._act("inputs", "x", x)

    def on_outputs(self, y: Float[Array, "n outputs"]) -> Float[Array, "m n outputs"]:
        """ρ̂_g y for every element g and each of `y`."""
        return self._act("outputs", "y", y)

    def on_neurons(self, z: Float[Array, "n dim"]) -> Float[Array, "m n dim"]:
        """M_g z for every element g and each of `z`."""
        return self._act("neurons", "z", z)

    @property
    def basis(self) -> Float[Array, "dim k"]:
        """An orthonormal basis of E^G, its columns: of permutations the indicators of orbits,
        scaled."""
        self._matrices("neurons")  # or say that there are none
        assert self._basis is not None
        return self._basis

    @property
    def projection(self) -> Float[Array, "dim dim"]:
        """P = ∫ M_g dλ(g), the orthogonal projection to E^G."""
        return matmul(self.basis, self.basis.T)

    def operators(self, end: str = "inputs") -> Operators:
        """What commutes with the group: a basis (K, sites', sites) of matrices S with S ρ_g =
        ρ'_g S, for sites on which it acts as on `inputs`, and the sites behind as on `end`,
        "inputs" or "outputs". `Shared(activation, symmetry.operators())` is the equivariant layer,
        at any depth (Maron et al., arXiv:1812.09902); a last one with
        `symmetry.operators("outputs")` has one channel with the group's outputs as sites, which a
        `Risk` takes flat.

        Of permutations they are averages over orbits of pairs of sites: shifts, of a cyclic group.
        Each has rows of which the largest has the absolute sum 1. Raises `ValueError` where only 0
        commutes.
        """
        if end not in ("inputs", "outputs"):
            raise ValueError(f'end must be "inputs" or "outputs", got {end!r}')
        start, behind = self._matrices("inputs"), self._matrices(end)
        reps = self.inputs, getattr(self, end)
        return Operators(commuting(self.group, reps, start, behind))

    def function(self, f: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Q_G f, for `f` (a network, say) from inputs (batch, ...) to outputs (batch, outputs).

        Of a compact group it is the average over its nodes: exact for polynomials up to their
        degree, else to be compared with that of more nodes.
        """
        if not callable(f):
            raise ValueError(f"f must be a function of inputs (batch, ...), got {f!r}")

        def averaged(x: Float[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
            moved = self.on_inputs(x)
            flat, dim = moved.reshape(-1, *moved.shape[2:]), self.matrices["outputs"].shape[1]
            fit, remedy = f"f must give ({len(flat)}, {dim})", "f takes batches: write jax.vmap(f)"
            try:
                values = jnp.asarray(f(flat))
            except TypeError as error:  # JAX's words for shapes that do not fit
                raise ValueError(
                    f"{fit} for inputs {flat.shape}, got an error in it: {error}: {remedy}"
                ) from error
            if values.shape != (len(flat), dim):
                raise ValueError(f"{fit} for inputs {flat.shape}, got {values.shape}: {remedy}")
            _check_floating("f", values)
            return self.returned(values.reshape(*moved.shape[:2], dim))

        return averaged

    def returned(self, values: Float[Array, "m n outputs"]) -> Float[Array, "n outputs"]:
        """∫ ρ̂_g⁻¹ v_g dλ(g): what averages values found at ρ_g x."""
        back = self._matrices("outputs")
        if values.ndim != 3 or values.shape[::2] != back.shape[:2]:
            raise ValueError(
                f"values must have shape ({len(back)}, n, {back.shape[1]}), those of each group "
                f"element for n inputs, got {values.shape}"
            )
        _check_floating("values", values)
        masses, back = self.group.masses.astype(values.dtype), back.astype(values.dtype)
        return einsum("g,gij,gni->nj", masses, back, values)

    def symmetrised(self, law: _Law) -> _Law:
        """μ^G for a `Measure` of neurons or a `Network` of one hidden layer: every neuron becomes
        its whole orbit. The function of the network becomes its Q_G where units are jointly
        equivariant, which `check_units` checks."""
        points = self._law_points(law)
        moved = self._act("neurons", "law", points)
        if isinstance(law, Measure):
            masses = jnp.outer(self.group.masses.astype(law.masses.dtype), law.masses).reshape(-1)
            return Measure(moved.reshape(len(masses), -1), masses)
        m = self.group.order
        haar = self.group.masses.astype(law.dtype)
        masses = tuple(jnp.outer(haar, p).reshape(-1) for p in law.initial_masses)

        def copies(i: int, a: Array, axis: int) -> Array:
            return jnp.concatenate([a] * m, axis)

        return law.map_neurons(copies, masses).with_points(moved.reshape(-1, moved.shape[2]))

    def projected(self, law: _Law) -> _Law:
        """μ^E for a `Measure` of neurons or a `Network` of one hidden layer. The function of the
        network becomes an equivariant one where units are jointly equivariant, which
        `check_units` checks."""
        points = self._law_points(law)
        near = matmul(points, self.projection.astype(points.dtype))
        if isinstance(law, Measure):
            return Measure(near, law.masses)
        return law.with_points(near)

    def ensemble(self, ensemble: NeuronalEnsemble) -> NeuronalEnsemble:
        """The ensemble of Q_G f, f the function of `ensemble`, of any depth; finite groups.

        Labels are (c, g), g an index of a group element in the last coordinate, with

            w_1(c, g) = ρ_g w_1(c),   w_L(c, g) = ρ̂_g w_L(c),
            w_i((c, g), (c', g')) = w_i(c, c') 1[g = g'] / λ_g.

        The group acts on labels by (c, g) ↦ (c, h g), under which it is symmetric: so are the
        limits from it (energies being invariant), and networks on quadrature nodes, not networks
        of independent labels. Affine layers with first-layer weights on R^d, without noisy weights.
        """
        kind("ensemble", ensemble, NeuronalEnsemble, "write NeuronalEnsemble(...)")
        inputs, outputs = self._matrices("inputs"), self._matrices("outputs")
        return of_orbits(self.group, inputs, outputs, ensemble)

    def check_units(self, network: Network, x: Float[Array, "n ..."]) -> None:
        """Raise `ValueError` unless units are jointly equivariant, σ(ρ_g x, M_g θ) = ρ̂_g σ(x, θ):
        a `network` of one hidden layer with Gaussian neurons is evaluated at inputs `x`."""
        drawn = jax.random.normal(jax.random.key(0), self._law_points(network).shape)
        drawn = drawn.astype(network.dtype)
        moved = jax.vmap(lambda p, x: network.with_points(p)(x))(
            self.on_neurons(drawn), self.on_inputs(x)
        )
        wanted = self.on_outputs(network.with_points(drawn)(x))
        found = concrete(jnp.abs(moved - wanted).max())
        slack = 1e-9 if network.dtype.itemsize >= 8 else 1e-4
        if found is not None and not found <= slack * float(jnp.abs(wanted).max()):
            raise ValueError(
                "units must be jointly equivariant, σ(ρ_g x, M_g θ) = ρ̂_g σ(x, θ), got ones that "
                f"are {float(found):.3g} off: choose another `neurons` (a representation on θ)"
            )

    def _matrices(self, name: str) -> Float[Array, "m d d"]:
        if name not in self.matrices:
            raise ValueError(
                f"{name} must be a representation for this, got None: write Symmetry(..., "
                f"{name}=intertwining(outputs, inputs)), say"
            )
        return self.matrices[name]

    def _act(self, name: str, argument: str, x: Float[Array, "n ..."]) -> Float[Array, "m n ..."]:
        """Every matrix on each of `x`, flat."""
        matrices, x = self._matrices(name), floating(argument, x)
        m, dim = matrices.shape[:2]
        if x.ndim < 1 or math.prod(x.shape[1:]) != dim:
            raise ValueError(
                f"{argument} must have shape (n, {dim}), or n arrays of {dim} numbers, on which "
                f"the group acts, got {x.shape}: give the representation `{name}` of that "
                f"dimension (one alone: {argument}[None])"
            )
        flat = x.reshape(len(x), dim)
        return einsum("gij,nj->gni", matrices.astype(x.dtype), flat).reshape(m, *x.shape)

    def _law_points(self, law: Any) -> Float[Array, "n dim"]:
        """The neurons of a measure on which the group acts."""
        kind("law", law, (Measure, Network), "write network.measure(0)")
        if isinstance(law, Network) and (law.depth != 2 or law.start.biases[-1] is not None):
            raise ValueError(
                f"law must be a measure of neurons, or a network of one hidden layer without "
                f"output bias, got depth {law.depth}: write symmetry.ensemble(ensemble), or "
                "symmetry.function(network)"
            )
        points = law.points if isinstance(law, Measure) else law.points(0)
        dim = self._matrices("neurons").shape[1]
        if points.shape[1] != dim:
            raise ValueError(
                f"law must have neurons in R^{dim}, on which the group acts, got "
                f"R^{points.shape[1]}: give the representation `neurons` of that dimension"
            )
        return points


def _check_floating(name: str, values: Array) -> None:
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(
            f"{name} must give floating outputs, got {values.dtype}: write .astype(float)"
        )
