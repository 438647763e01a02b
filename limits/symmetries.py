"""What energies make of a group: data, features, architectures, and their discovery."""

from ._energies.augmented import augmented as augmented
from ._energies.predictions import EquivariantArchitecture as EquivariantArchitecture
from ._energies.predictions import FeatureAveraging as FeatureAveraging
from ._studies.architecture import Discovery as Discovery
from ._studies.architecture import discover_architecture as discover_architecture
