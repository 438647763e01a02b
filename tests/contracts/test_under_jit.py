"""What runs on the host says so under jit and grad, and what runs anywhere runs there."""

import inspect

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from models import largest, regression, smooth

from contracts.calls import right_calls
from ensembles import Sphere
from limits import (
    Adaptive,
    Data,
    FisherRao,
    GradientFlow,
    HuberLoss,
    Interaction,
    PathNorm,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
    flow,
    limit,
)
from limits._solvers.forward import forward_alone
from limits.kernels import GaussianOverlap, RBFKernel, ReLUKernel
from limits.references import IsotropicGaussians

ELSEWHERE = {"save", "load", "flow", "train", "diverse"}  # files, and what is jitted in other tests
DATA, KEY = regression(6), jax.random.key(0)
NETWORK = smooth(2).sample(3, key=KEY)


@pytest.mark.parametrize("name", sorted(right_calls().keys() - ELSEWHERE))
def test_what_is_traced_is_taken_or_refused_in_words(name):
    call, arguments, _ = right_calls()[name]
    held, rest = eqx.partition(arguments, eqx.is_inexact_array)

    def traced(held):
        call(**eqx.combine(held, rest))

    try:
        eqx.filter_make_jaxpr(traced)(held)
    except ValueError as error:
        assert " must " in str(error) or "runs on the host" in str(error)


STUDIES = (
    "collapse", "coupling", "fluctuations", "initial_motion", "jackknife", "limit", "sgd_noise",
    "simulate", "optimality_gap", "nikaido_isoda", "discover_architecture", "fit_power_law",
    "matrix_game", "sparse_relu", "minimal_interpolation", "minimising_movement",
)  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_studies_on_the_host_say_so_under_jit_also_where_nothing_of_theirs_is_traced(name):
    call, arguments, _ = right_calls()[name]
    with pytest.raises(ValueError, match=rf"^{name} runs on the host.*call it outside"):
        jax.make_jaxpr(lambda _: call(**arguments) and 0)(1.0)


OTHER_NUMBERS = {
    "learning_rates": GradientFlow,
    "bias_rates": lambda v: GradientFlow(bias_rates=v),
    "weight_decay": lambda v: GradientFlow(weight_decay=v),
    "one of learning_rates": lambda v: GradientFlow([v, 1.0]),
    "rate": FisherRao,
    "rates of transport": lambda v: WassersteinFisherRao(GradientFlow(v)),
    "delta": HuberLoss,
    "strength": PowerPenalty,
    "strength of paths": PathNorm,
    "constant": lambda v: Interaction(jnp.sum, jnp.dot, v),
    "kappa": RBFKernel,
    "radius": lambda v: ReLUKernel(1, radius=v),
    "radius of a sphere": lambda v: Sphere(3, v),
    "variance": GaussianOverlap,
    "delta of Gaussians": IsotropicGaussians,
    "max_step": lambda v: Adaptive(max_step=v),
    "rtol": lambda v: Adaptive(rtol=v),
    "atol": lambda v: Adaptive(atol=v),
    "step": lambda v: Adaptive(step=v),
    "kinks": lambda v: Adaptive(kinks=v[None]),
}


def numbers():
    """Calls with every argument that is a number in a right call, or by default, and with those of
    classes."""
    for name, (call, arguments, _) in right_calls().items():
        for key, parameter in inspect.signature(call).parameters.items():
            if isinstance(arguments.get(key, parameter.default), float) and key not in BOXES:
                yield name, lambda v, c=call, a=arguments, k=key: c(**(a | {k: v}))
    yield from OTHER_NUMBERS.items()


BOXES = ("low", "high")  # numbers, or one for each axis
REFUSED = (
    r"must be .*got an array of shape \(|must be (a scalar|known)|must be hashable|on the host"
)


def test_an_array_in_place_of_a_number_is_refused_also_where_it_is_traced():
    """Behind a check of values alone it would broadcast over the entries of weights."""
    for name, call in numbers():
        with pytest.raises(ValueError, match=REFUSED):
            jax.make_jaxpr(lambda v, f=call: f(v) and 0)(jnp.array([0.1, 0.2]))
            pytest.fail(f"{name} takes a traced array")


@pytest.mark.parametrize("name", OTHER_NUMBERS)
def test_an_array_in_place_of_a_number_is_refused_in_the_same_words_outside(name):
    with pytest.raises(ValueError, match=REFUSED + "|increasing times"):
        OTHER_NUMBERS[name](jnp.array([0.1, 0.2]))


def test_rates_in_an_array_are_told_how_to_be_a_list():
    said = r"a list of them, one per layer, got an array of shape \(2,\): write \[r\[0\], r\[1\]\]"
    with pytest.raises(ValueError, match=said):
        GradientFlow(jnp.array([1.0, 0.1]))
    with pytest.raises(ValueError, match=said):
        jax.jit(lambda r: GradientFlow(r) and 0)(jnp.array([1.0, 0.1]))
    with pytest.raises(ValueError, match=r"got \{'w1': 1\.0\}: write a list"):
        GradientFlow({"w1": 1.0})  # pyright: ignore[reportArgumentType]
    for wrong in ("1", -1.0):
        with pytest.raises(ValueError, match=rf"got {wrong!r}: .*; write 1\.0"):
            GradientFlow(wrong)


def test_numbers_that_are_traced_are_taken():
    for name in OTHER_NUMBERS.keys() - {"kinks", "delta of Gaussians"}:
        jax.make_jaxpr(lambda v, n=name: OTHER_NUMBERS[n](v) and 0)(0.1)


def energy(scale, **options):
    return flow(NETWORK, Risk(Data(DATA.x, scale * DATA.y)), t1=0.1, **options).energies[-1]


def test_the_derivative_of_a_limit_says_what_to_write():
    def wrong(scale):
        return limit(smooth(2), Risk(Data(DATA.x, scale * DATA.y)), t1=0.1).energies[-1]

    with pytest.raises(ValueError, match=r"for derivatives write flow on ensemble\.discretise"):
        jax.grad(wrong)(1.0)


@pytest.mark.slow
def test_forward_mode_passes_forward_and_says_so_in_reverse():
    def forward(scale):
        return energy(scale, adjoint=diffrax.ForwardMode())

    one = jnp.asarray(1.0)
    slope = jax.jvp(forward, (one,), (one,))[1]
    assert largest(slope, jax.grad(energy)(one)) < 1e-8
    remedy = r"^adjoint must be left out .*got diffrax\.ForwardMode\(\).*write flow"
    with pytest.raises(ValueError, match=remedy):
        jax.grad(forward)(one)


def test_what_is_for_forward_mode_alone_is_the_identity_under_other_transformations():
    def f(x):
        return (forward_alone(x) ** 2).sum()

    x = jnp.arange(3.0)
    assert (jax.jit(jax.vmap(jax.jacfwd(f)))(x) == 2 * x).all()
    assert jax.jacfwd(jax.jacfwd(f))(jnp.asarray(1.0)) == 2
    with pytest.raises(ValueError, match=r"^adjoint must be left out"):
        jax.jit(jax.value_and_grad(f))(x)
