"""Independent answers: grids, reductions, convex programs."""
