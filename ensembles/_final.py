"""Classes of a family are abstract or final: what is concrete is held, not inherited from."""

import inspect

from ._keeping.kept import Kept


class Family(Kept):
    """The base of layers, energies, dynamics and solvers.

    A subclass of a concrete class would inherit what that class says of itself (that its
    derivatives have factors, that its value and its gradient belong together) and change it without
    a word. So there are none: `TypeError` for a class that tries.
    """

    def __init_subclass__(cls, **kwargs: object):
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[1:]:
            if issubclass(base, Family) and base is not Family and not inspect.isabstract(base):
                family = next(b for b in base.__mro__ if inspect.isabstract(b))
                article = "an" if family.__name__[0] in "AEIOU" else "a"
                raise TypeError(
                    f"{base.__name__} is final, got a subclass {cls.__name__}: hold one in a field "
                    f"of {article} {family.__name__} of your own, and call its methods"
                )
