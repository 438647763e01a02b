"""What is asked of runs: distances from the limit, fluctuations, collapse, diversity."""
