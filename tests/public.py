"""The packages whose names are public, flat facades first."""

import inspect

import ensembles
import ensembles.blocks
import ensembles.channels
import ensembles.groups
import limits
import limits.kernels
import limits.references
import limits.symmetries
import limits.warnings

PACKAGES = (
    ensembles,
    ensembles.groups,
    ensembles.blocks,
    ensembles.channels,
    limits,
    limits.kernels,
    limits.references,
    limits.symmetries,
    limits.warnings,
)


def names(*packages):
    """What each of them gives: a name with its package in front -> the object."""
    return {
        f"{package.__name__}.{name}": value
        for package in packages or PACKAGES
        for name, value in vars(package).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
