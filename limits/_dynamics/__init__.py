"""What moves, and how: dynamics in continuous time, updates in discrete time."""
