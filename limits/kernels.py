"""Kernels in closed form, and interactions of particles made from them."""

from ._energies.kernels import CosineKernel as CosineKernel
from ._energies.kernels import ErfKernel as ErfKernel
from ._energies.kernels import GaussianOverlap as GaussianOverlap
from ._energies.kernels import RBFKernel as RBFKernel
from ._energies.kernels import ReLUKernel as ReLUKernel
from ._energies.potentials import charged as charged
from ._energies.potentials import from_potentials as from_potentials
from ._energies.potentials import teacher_student as teacher_student
