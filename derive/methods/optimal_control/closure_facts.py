"""What may be said in words of the closure that the dynamics of a control problem come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from derive.methods.common.record import Check, Fact
from derive.methods.gaussian_closure import checks, clouds, instances, singular
from derive.methods.gaussian_closure.result import GaussianClosure


def of_closure(words: str, said: str, closure: GaussianClosure) -> Fact:
    """What is said of the closure that the dynamics come from."""
    if said.startswith(("exact closure", "projected closure")):
        claimed = replace(closure, exact=said.startswith("exact"))
        return Fact(words, "exactness", checks.second_difference(claimed))
    model = closure.model
    if model.cross:
        return Fact(words, "mean", None, "its keys have a law that the control problem gives")
    one = instances.instance(model, 41)
    rest = replace(one, arrays={**one.arrays, "m": np.zeros_like(one.arrays["m"])})
    nodes = 40
    here, there = (clouds.text_rates(model, o, nodes) for o in (one, rest))
    if "the mean stays zero" in said:
        off = float(np.max(np.abs(there[0])) / max(float(np.max(np.abs(here[0]))), 1e-3))
        return Fact(words, "mean", Check("m' at m = 0 by quadrature of the text", off, 1e-9))
    if "does not depend on the mean" in said:
        off = checks.residual(here[1], there[1])
        # Gauss-Hermite is a coarse reference for kinks
        allowed = 1e-2 if singular.has_kinks(model) else 1e-7
        return Fact(words, "mean", Check("S' by quadrature of the text at two means", off, allowed))
    raise AssertionError(f"no check is known of these words: {words}")
