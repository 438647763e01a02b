"""Time, observation, outcome and error bar of one run, or of many."""
