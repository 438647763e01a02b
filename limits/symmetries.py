"""What energies make of a group: data, features, architectures, and their discovery."""

from ._energies.symmetric_risks import EquivariantArchitecture as EquivariantArchitecture
from ._energies.symmetric_risks import FeatureAveraging as FeatureAveraging
from ._energies.symmetric_risks import augmented as augmented
from ._studies.architecture import Discovery as Discovery
from ._studies.architecture import discover_architecture as discover_architecture
