"""What is easily mistaken for what, and a right call of every public function."""

import functools
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from models import regression, smooth

from contracts.common import KEY
from contracts.energies import GAMES, PARTICLES, SWAP, target, weighted
from contracts.layers import neuron
from contracts.solvers import Solver
from ensembles import (
    Affine,
    Gauss,
    Gaussian,
    Group,
    Measure,
    Network,
    NeuronalEnsemble,
    Rule,
    Space,
    Symmetry,
    Uniform,
    diverse,
    from_mlp,
    iid,
    load,
    particles,
    players,
    quadrature,
    residual,
    save,
    shallow,
    to_mlp,
    wasserstein,
)
from ensembles.blocks import (
    attention,
    causal_attention,
    layer_norm,
    linear_attention,
    rms_norm,
)
from ensembles.groups import (
    cyclic,
    defining,
    dihedral,
    direct_product,
    direct_sum,
    generated,
    intertwining,
    orthogonal,
    pixels,
    relative_measure_distance,
    rotations,
    symmetric,
    trivial,
)
from limits import (
    Adaptive,
    BirthDeath,
    Data,
    Dynamics,
    Energy,
    FisherRao,
    GradientFlow,
    Interaction,
    Langevin,
    MirrorProx,
    Risk,
    SquaredLoss,
    Steps,
    Update,
    WassersteinFisherRao,
    collapse,
    convergence,
    coupling,
    diversity,
    fit_power_law,
    flow,
    fluctuations,
    initial_motion,
    jackknife,
    limit,
    mean_field_gradient,
    nikaido_isoda,
    optimality_gap,
    sgd_noise,
    simulate,
    train,
)
from limits.kernels import ErfKernel, charged, from_potentials, teacher_student
from limits.references import (
    activation_patterns,
    boltzmann,
    boltzmann_game,
    grid_flow,
    matrix_game,
    minimal_interpolation,
    minimising_movement,
    quadratic_on_sphere,
    single_neuron,
    sparse_relu,
)
from limits.symmetries import FeatureAveraging, augmented, discover_architecture


@functools.cache
def mistakable() -> dict[type, tuple[Any, ...]]:
    ensemble, risk = smooth(3), Risk(regression(6))
    network, measure = ensemble.sample(3, key=KEY), quadrature(Uniform(-1.0, 1.0), 2)
    return {
        NeuronalEnsemble: (network, risk, measure),
        Network: (ensemble, risk.data, measure),
        Energy: (risk.data, SquaredLoss(), network),
        Data: (risk, measure),
        Dynamics: (MirrorProx(), risk, GradientFlow),
        GradientFlow: (MirrorProx(), FisherRao(), GradientFlow),
        Update: (Steps(0.1), risk, MirrorProx),
        Solver: (diffrax.Tsit5(), GradientFlow(), Adaptive),
        Adaptive: (Steps(0.1), diffrax.Tsit5()),
        diffrax.AbstractSolver: (Adaptive(), diffrax.Tsit5),
        Space: (measure, Gauss(), Uniform),
        Measure: (network, Gauss()),
        Rule: (Uniform(-1.0, 1.0), Gauss),
        Symmetry: (cyclic(2), Symmetry),
        Group: (jnp.eye(2), Group),
    }


def _outputs(network):
    return network.biases[-1]


def _mlp():
    return eqx.nn.MLP(2, 1, 3, 1, dtype=jnp.float64, key=KEY)


@functools.cache
def right_calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, type]]]:
    """Every public function with arguments that fit, and the kinds of those that are objects of
    this library; then what else is made of such objects."""
    ensemble, risk = smooth(3, biases=True), Risk(regression(6))
    network, affine = ensemble.sample(3, key=KEY), Affine(jnp.tanh)
    run = dict(t1=0.5)
    pair = dict(network=network, energy=risk)
    study = dict(ensemble=ensemble, energy=risk, **run)
    wide = dict(**study, widths=[3], seeds=2, nodes=3, key=KEY)
    observed = dict(**study, observe=_outputs)
    laws = dict(dim=2, depth=3, layers=affine, first=Gaussian(1), last=Gaussian(1, 1.0))
    started = {"network": Network, "energy": Energy}
    studied = {"ensemble": NeuronalEnsemble, "energy": Energy}
    moved = {"dynamics": Dynamics}
    space = Uniform(-1.0, 1.0)
    duel, game = Network.players(*[quadrature(space, 2)] * 2), GAMES["bilinear game"]
    return {
        "quadrature": (quadrature, dict(space=space, n=4), {"space": Space, "rule": Rule}),
        "shallow": (shallow, dict(sigma=neuron, neurons=space), {"neurons": Space}),
        "residual": (
            residual,
            dict(sigma=neuron, space=space, theta=lambda s, c: c, depth=2),
            {"space": Space},
        ),
        "attention": (attention, dict(theta=jnp.ones((4, 2, 3)), h=jnp.ones((2, 3))), {}),
        "causal_attention": (causal_attention, dict(theta=jnp.ones((4, 2, 3)), h=jnp.eye(3)), {}),
        "linear_attention": (linear_attention, dict(theta=jnp.ones((4, 2, 3)), h=jnp.eye(3)), {}),
        "layer_norm": (layer_norm, dict(h=jnp.eye(3)), {}),
        "rms_norm": (rms_norm, dict(h=jnp.eye(3)), {}),
        "particles": (particles, dict(positions=space), {"positions": Space}),
        "players": (
            lambda strategies: players(strategies, space),
            dict(strategies=space),
            {"strategies": Space},
        ),
        "Network.shallow": (
            Network.shallow,
            dict(sigma=neuron, neurons=quadrature(space, 2)),
            {"neurons": Measure},
        ),
        "Network.particles": (
            Network.particles,
            dict(positions=quadrature(space, 2)),
            {"positions": Measure},
        ),
        "Network.players": (
            lambda strategies: Network.players(strategies, quadrature(space, 2)),
            dict(strategies=quadrature(space, 2)),
            {"strategies": Measure},
        ),
        "Measure.mixture": (Measure.mixture, dict(measures=[quadrature(space, 2)]), {}),
        "wasserstein": (
            wasserstein,
            dict(mu=quadrature(space, 2), nu=quadrature(space, 3)),
            {"mu": Measure, "nu": Measure},
        ),
        "relative_measure_distance": (
            relative_measure_distance,
            dict(mu=quadrature(space, 2), nu=quadrature(space, 3)),
            {"mu": Measure, "nu": Measure},
        ),
        "cyclic": (cyclic, dict(n=3), {}),
        "symmetric": (symmetric, dict(n=3), {}),
        "dihedral": (dihedral, dict(n=3), {}),
        "generated": (lambda: generated(jnp.eye(2)), {}, {}),
        "direct_product": (lambda: direct_product(cyclic(2), cyclic(2)), {}, {}),
        "rotations": (rotations, dict(dim=2), {}),
        "orthogonal": (orthogonal, dict(dim=2, samples=3, key=KEY), {}),
        "defining": (defining, dict(g=jnp.eye(2)), {}),
        "trivial": (trivial, dict(dim=2), {}),
        "direct_sum": (lambda: direct_sum(defining, trivial(1)), {}, {}),
        "intertwining": (intertwining, dict(outputs=defining, inputs=defining), {}),
        "pixels": (pixels, dict(size=2), {}),
        "augmented": (
            augmented,
            dict(data=weighted(lambda y: y), symmetry=SWAP),
            {"data": Data, "symmetry": Symmetry},
        ),
        "discover_architecture": (
            discover_architecture,
            dict(
                network=Network.shallow(neuron, quadrature(space, 2)),
                energy=PARTICLES["penalised risk"],
                step=0.1,
                t1=0.2,
            ),
            started,
        ),
        "Symmetry": (
            Symmetry,
            dict(group=cyclic(2), inputs=defining, outputs=defining),
            {"group": Group},
        ),
        "Symmetry.symmetrised": (SWAP.symmetrised, dict(law=quadrature(space, 2)), {"law": Rule}),
        "Symmetry.projected": (SWAP.projected, dict(law=quadrature(space, 2)), {"law": Rule}),
        "Symmetry.ensemble": (
            SWAP.ensemble,
            dict(ensemble=smooth(3, outputs=2)),
            {"ensemble": NeuronalEnsemble},
        ),
        "optimality_gap": (
            optimality_gap,
            dict(
                network=Network.shallow(neuron, quadrature(space, 2)),
                space=space,
                key=KEY,
                energy=PARTICLES["penalised risk"],
            ),
            started | {"space": Space},
        ),
        "iid": (
            iid,
            dict(**laws, hidden=Gaussian(1, 1.0)),
            {"first": Space, "hidden": Space, "last": Space},
        ),
        "diverse": (diverse, dict(**laws, modes=2), {"first": Space, "last": Space}),
        "mean_field_gradient": (mean_field_gradient, pair, started),
        "flow": (
            flow,
            dict(**pair, **run),
            started | moved | {"solver": Adaptive},
        ),
        "train": (train, dict(**pair, **run, step=0.5), started | {"dynamics": Update}),
        "limit": (
            limit,
            study,
            studied | moved | {"rule": Rule, "solver": Adaptive},
        ),
        "initial_motion": (
            initial_motion,
            dict(ensemble=ensemble, energy=risk),
            studied | {"rule": Rule},
        ),
        "coupling": (coupling, wide, studied | moved | {"solver": Solver, "rule": Rule}),
        "collapse": (collapse, wide, studied | moved | {"solver": Solver, "rule": Rule}),
        "convergence": (convergence, pair, started),
        "diversity": (
            diversity,
            dict(network=network, data=risk.data, modes=2, key=KEY),
            {"network": Network, "data": Data, "ensemble": NeuronalEnsemble},
        ),
        "fluctuations": (
            fluctuations,
            dict(**observed, nodes=3),
            studied | moved | {"solver": Adaptive, "rule": Rule},
        ),
        "jackknife": (
            jackknife,
            dict(**(pair | dict(network=ensemble.sample(4, key=KEY))), **run, observe=_outputs),
            started | moved | {"solver": Adaptive},
        ),
        "sgd_noise": (
            sgd_noise,
            dict(**observed, nodes=3),
            studied | moved | {"solver": Adaptive, "rule": Rule},
        ),
        "simulate": (
            simulate,
            dict(**observed, width=3, seeds=2, key=KEY),
            studied | moved | {"solver": Solver},
        ),
        "activation_patterns": (activation_patterns, dict(x=risk.data.x), {}),
        "sparse_relu": (sparse_relu, dict(data=risk.data, penalty=0.1), {"data": Data}),
        "minimal_interpolation": (
            minimal_interpolation,
            dict(data=risk.data, directions=risk.data.x),
            {"data": Data},
        ),
        "charged": (charged, dict(K=ErfKernel()), {}),
        "from_potentials": (from_potentials, dict(V=jnp.sum, U=ErfKernel()), {}),
        "teacher_student": (
            teacher_student,
            dict(K=ErfKernel(), teacher=quadrature(space, 2)),
            {"teacher": Measure},
        ),
        "grid_flow": (
            grid_flow,
            dict(
                interaction=Interaction(jnp.sum, jnp.dot),
                density=lambda t: jnp.exp(t).sum(),
                low=-1.0,
                high=1.0,
                cells=8,
                t1=0.1,
            ),
            {"interaction": Data},
        ),
        "boltzmann": (
            boltzmann,
            dict(
                interaction=Interaction(jnp.sum, jnp.dot),
                low=-1.0,
                high=1.0,
                cells=8,
                temperature=1.0,
            ),
            {"interaction": Data},
        ),
        "nikaido_isoda": (
            nikaido_isoda,
            dict(network=duel, game=game, spaces=(space, space), key=KEY),
            {"network": Network, "game": Energy},
        ),
        "matrix_game": (matrix_game, dict(payoff=[[0.0, 1.0]]), {}),
        "quadratic_on_sphere": (
            quadratic_on_sphere,
            dict(matrix=jnp.eye(2), vector=jnp.ones(2)),
            {},
        ),
        "boltzmann_game": (
            boltzmann_game,
            dict(game=game, low=-1.0, high=1.0, cells=8, temperature=1.0),
            {"game": Energy},
        ),
        "minimising_movement": (
            minimising_movement,
            dict(
                network=Network.particles(quadrature(space, 2)),
                step=0.1,
                t1=0.2,
                energy=Interaction(jnp.sum, jnp.dot),
            ),
            started,
        ),
        "single_neuron": (single_neuron, dict(dim=3), {}),
        "fit_power_law": (fit_power_law, dict(x=[1.0, 2.0, 4.0], y=[1.0, 0.7, 0.5]), {}),
        "from_mlp": (from_mlp, dict(mlp=_mlp()), {"mlp": Network}),
        "to_mlp": (to_mlp, dict(network=from_mlp(_mlp()).network), {"network": Network}),
        "save": (save, dict(path="", value=1), {}),
        "load": (load, dict(path=""), {}),
        "Risk": (Risk, dict(data=risk.data), {"data": Data}),
        "FeatureAveraging": (FeatureAveraging, dict(symmetry=SWAP), {"symmetry": Symmetry}),
        "MirrorProx": (MirrorProx, {}, moved),
        "BirthDeath": (BirthDeath, {}, moved | {"prior": Space}),
        "Langevin": (Langevin, {}, {"transport": GradientFlow}),
        "Interaction.from_data": (
            Interaction.from_data,
            dict(sigma=neuron, data=risk.data),
            {"data": Data},
        ),
        "WassersteinFisherRao": (WassersteinFisherRao, {}, {"transport": GradientFlow}),
        "Adaptive": (Adaptive, {}, {"method": diffrax.AbstractSolver}),
        "Steps": (Steps, dict(step=0.1), {}),
        "Data.from_space": (
            Data.from_space,
            dict(space=Gaussian(2), target=target, nodes=4),
            {"space": Space, "rule": Rule},
        ),
        "NeuronalEnsemble.measures": (ensemble.measures, dict(nodes=3), {"rule": Rule}),
        "NeuronalEnsemble.discretise": (
            ensemble.discretise,
            dict(nodes=3),
            {"rule": Rule, "tracers": Network},
        ),
    }
