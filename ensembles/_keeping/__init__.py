"""Networks, ensembles and results in files and pickles."""

from . import pickling as pickling  # what it says to `pickle` is said once, on import
