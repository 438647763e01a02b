"""The registry: named members of every family, with what they need, one module a family.

Whatever is listed here has to keep the contract of its family, which the tests beside it say: a new
class is tested by being listed, and every public concrete class has to be. Tolerances are a priori:
rounding for what is the same sum in another order, four standard errors for averages of random
draws.
"""
