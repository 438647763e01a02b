"""Training discovers the parameters that a symmetric teacher shares."""

import jax
import pytest
from models import largest
from swapped import KEY, SWAP, X, sigma

from ensembles import Gaussian, Network
from limits import Data, Risk
from limits.symmetries import augmented, discover_architecture
from limits.warnings import StationaryStart


def test_training_discovers_the_shared_parameters_of_a_symmetric_teacher():
    """Two expansions, to E^G, from 16 neurons on equivariant data; the printed rule needs them too,
    under an energy that is symmetric itself."""
    teacher = Network.shallow(sigma, SWAP.symmetrised(Gaussian(4, scale=2.0).sample(3, key=KEY)))
    data = augmented(Data(X, teacher(X)), SWAP)
    start = Network.shallow(sigma, Gaussian(4, scale=0.25).sample(16, key=jax.random.key(3)))
    for direction in ("principal", "mean"):
        found = discover_architecture(
            start, Risk(data), step=2.0, t1=400.0, direction=direction, threshold=1e-6
        )
        assert found.settled and found.expansions == 2
        assert largest(found.basis @ found.basis.T, SWAP.projection) < 1e-9
        assert (found.distances[:2] > 1e-3).all() and found.distances[2] < 1e-12
    assert "2 expansions" in str(found)


def test_discovery_is_not_settled_in_the_whole_space_and_warns_where_nothing_moves():
    risk, units = Risk(Data(X, X[:, :1] + 1)), (lambda z, x: z, lambda z, x: z**2)
    moves, rests = (Network.shallow(f, Gaussian(1).sample(3, key=KEY)) for f in units)
    found = discover_architecture(moves, risk, step=0.5, t1=1.0)
    assert found.expansions == 1 and not found.settled and "left every proper" in str(found)
    with pytest.warns(StationaryStart, match="neurons at 0 do not move"):
        assert discover_architecture(rests, risk, step=0.5, t1=1.0).expansions == 0
