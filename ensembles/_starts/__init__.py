"""Ready-made ensembles."""
