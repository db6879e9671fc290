"""Names of parameters as pictures write them."""

from __future__ import annotations

GREEK = {"alpha", "beta", "gamma", "delta", "epsilon", "kappa", "lam", "sigma", "tau", "theta"}


def tex(name: str) -> str:
    """tau_0 as mathematics."""
    head, _, tail = name.partition("_")
    letter = "\\" + ("lambda" if head == "lam" else head) if head in GREEK else head
    return f"${letter}_{{{tail}}}$" if tail else f"${letter}$"
