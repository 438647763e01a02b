"""What becomes of a network: dynamics, limits and measurements."""

from ._coupling import Coupling as Coupling
from ._coupling import coupling as coupling
from ._data import Data as Data
from ._dynamics import SGD as SGD
from ._dynamics import GradientFlow as GradientFlow
from ._energies import Energy as Energy
from ._energies import Risk as Risk
from ._flow import flow as flow
from ._gradients import mean_field_gradient as mean_field_gradient
from ._limit import limit as limit
from ._losses import CrossEntropyLoss as CrossEntropyLoss
from ._losses import HuberLoss as HuberLoss
from ._losses import LogisticLoss as LogisticLoss
from ._losses import SquaredLoss as SquaredLoss
from ._rates import Rate as Rate
from ._rates import fit_rate as fit_rate
from ._train import train as train
from ._trajectory import RESULTS as RESULTS
from ._trajectory import FailedRun as FailedRun
from ._trajectory import Trajectory as Trajectory
