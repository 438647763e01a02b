"""Independent answers: optima that need no particles and no flow."""
