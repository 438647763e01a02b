"""What runs and studies warn of: classes for `warnings.filterwarnings`."""

from ._solvers.departure import UnresolvedStart as UnresolvedStart
from ._solvers.fresh import FreshFunction as FreshFunction
from ._solvers.initial_motion import StationaryStart as StationaryStart
from ._studies.noise import EdgeNoise as EdgeNoise
