"""Groups by their names, the usual representations of them, for `Group` and `Symmetry`, and how far
measures are apart beside their symmetric parts."""

from ._symmetry.makers import cyclic as cyclic
from ._symmetry.makers import dihedral as dihedral
from ._symmetry.makers import direct_product as direct_product
from ._symmetry.makers import generated as generated
from ._symmetry.makers import orthogonal as orthogonal
from ._symmetry.makers import rotations as rotations
from ._symmetry.makers import symmetric as symmetric
from ._symmetry.representations import defining as defining
from ._symmetry.representations import direct_sum as direct_sum
from ._symmetry.representations import intertwining as intertwining
from ._symmetry.representations import pixels as pixels
from ._symmetry.representations import trivial as trivial
from ._transport import relative_measure_distance as relative_measure_distance
