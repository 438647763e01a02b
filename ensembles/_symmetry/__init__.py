"""Groups, their representations, and what they make of measures, functions and networks."""
