"""Parameters of a covariance SDE are single numbers: an array of them is refused, not misread.

Imports numpy alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np


def scalars_only(**places: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A kernel whose argument `params` holds numbers at these places.

    An array there would be broadcast against tokens.  Raises ValueError for one, with the call
    that does what was meant.
    """

    def decorate(kernel: Callable[..., Any]) -> Callable[..., Any]:
        position = list(inspect.signature(kernel).parameters).index("params")

        @functools.wraps(kernel)
        def checked(*arguments: Any, **named: Any) -> Any:
            params: Any = arguments[position] if len(arguments) > position else named["params"]
            for name, place in places.items():
                shape = np.shape(params[place]) if not callable(params[place]) else ()
                if shape:
                    raise ValueError(
                        f"{name} has shape {shape}: a parameter is one number. For several at once "
                        f"map over them: jax.vmap(lambda {name}: {kernel.__name__}"
                        f"(..., params._replace({name}={name})))({name})"
                    )
            return kernel(*arguments, **named)

        return checked

    return decorate
