"""Independent answers: problems solved without particles or networks, to compare with."""

from ._boltzmann_game import boltzmann_game as boltzmann_game
from ._cones import activation_patterns as activation_patterns
from ._grid import GridFlow as GridFlow
from ._grid import boltzmann as boltzmann
from ._grid import grid_flow as grid_flow
from ._matrix_game import MatrixGame as MatrixGame
from ._matrix_game import matrix_game as matrix_game
from ._minimising_movement import minimising_movement as minimising_movement
from ._quadratic_game import QuadraticGame as QuadraticGame
from ._quadratic_game import quadratic_on_sphere as quadratic_on_sphere
from ._reductions import IsotropicGaussians as IsotropicGaussians
from ._reductions import single_neuron as single_neuron
from ._sparse_relu import SparseReLU as SparseReLU
from ._sparse_relu import minimal_interpolation as minimal_interpolation
from ._sparse_relu import sparse_relu as sparse_relu
from ._three_spin import ThreeSpin as ThreeSpin
