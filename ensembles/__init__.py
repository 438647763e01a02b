"""What a network is: neuronal ensembles, their measures, weights and layers."""

from ._ensemble import NeuronalEnsemble as NeuronalEnsemble
from ._layers import Affine as Affine
from ._layers import Elementwise as Elementwise
from ._layers import Layer as Layer
from ._layers import Unit as Unit
from ._measures import Measure as Measure
from ._network import Network as Network
from ._parameters import Parameters as Parameters
from ._quadrature import Gauss as Gauss
from ._quadrature import MonteCarlo as MonteCarlo
from ._quadrature import Rule as Rule
from ._quadrature import Sobol as Sobol
from ._quadrature import quadrature as quadrature
from ._spaces import Atoms as Atoms
from ._spaces import Gaussian as Gaussian
from ._spaces import Product as Product
from ._spaces import Space as Space
from ._spaces import Sphere as Sphere
from ._spaces import Torus as Torus
from ._spaces import Uniform as Uniform
from ._starts import diverse as diverse
from ._starts import iid as iid
from ._starts import particles as particles
from ._starts import shallow as shallow
from ._weights import Noisy as Noisy
