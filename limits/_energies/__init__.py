"""What a dynamics descends: values, derivatives per unit mass, first variations."""
