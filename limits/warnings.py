"""What runs and studies warn of: classes for `warnings.filterwarnings`."""

from ._energies.interaction import LeavesSphere as LeavesSphere
from ._solvers.crossings import UnseenKink as UnseenKink
from ._solvers.initial_motion import StationaryStart as StationaryStart
from ._solvers.recompilation import Recompilation as Recompilation
from ._solvers.start_error import UnresolvedStart as UnresolvedStart
from ._studies.bands import VagueBand as VagueBand
from ._studies.noise import EdgeNoise as EdgeNoise
from .references._walls import CutDomain as CutDomain
