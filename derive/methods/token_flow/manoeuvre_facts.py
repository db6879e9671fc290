"""What is said of manoeuvres: parameters, what moves, what rests, how long it takes."""

from __future__ import annotations

from typing import Any

import sympy as sp

from derive.calculus.index.defined import Book
from derive.methods.common.record import Fact, Step, worst_of
from derive.methods.token_flow import manoeuvre_checks as checks
from derive.methods.token_flow.levers import Lever
from derive.methods.token_flow.manoeuvres import Manoeuvres, shared
from derive.methods.token_flow.names import Names


def equations(found: Manoeuvres) -> dict[str, Any]:
    """By name."""
    first, second = found.pull_rates
    return {
        "uniform_velocity": found.levers.uniform,
        "split_rate": found.split_rate,
        "split_time": found.split_time,
        "pull_rate": first,
        "pull_height_rate": second,
        "pull_kept": found.kept,
        "pull_time": found.pull_time,
    }


def step(found: Manoeuvres, names: Names, book: Book) -> Step:
    """The findings, each with the text at the parameters that it names."""
    outputs = ", ".join(f"-{t.name}" for t in found.levers.outputs)
    split, pull = _in_words(found, names)
    pulled = worst_of((checks.pull(found, names, book), checks.kept(found, names, book)))
    compared = (
        (
            f"{found.levers.vanishing}, tokens see the others' mean alone",
            checks.uniform(found, names, book),
        ),
        (split, checks.split(found, names, book)),
        (pull, pulled),
        (
            f"{outputs}: minus the velocity, so that every manoeuvre is run backwards",
            checks.reverse(found, names),
        ),
        (
            "split_time from z0 to z1 of a law at one point and pull_time from u0 to u1 of a token "
            "are durations in closed form",
            checks.durations(found, names, book),
        ),
    )
    said = tuple(Fact(words, "manoeuvre", check) for words, check in compared)
    rule = "values of parameters put into the velocity, projected; partial fractions"
    return Step("manoeuvres", rule, equations(found), said, worst_of([c for _, c in compared]))


def _in_words(found: Manoeuvres, names: Names) -> tuple[str, str]:
    """What a split and a pull are, in letters that are none of the definition's."""
    model = names.model
    taken = {m.data for m in model.matrices} | {p.name for p in model.params}
    alpha, omega, z, c, h, m = (
        f"{n}_0" if n in taken else n for n in ("alpha", "omega", "z", "c", "h", "m")
    )
    gate, mean, x = found.levers.gate, found.levers.barycentre, model.state
    U, offset, W = gate.into, gate.offset, gate.out
    split = (
        f"split: {_value(mean, f'{alpha} {alpha}^T', shared(mean))}, {U.tensor.name} = 0, "
        f"{_value(offset, '1')}, {_value(W, f'{c} {alpha}', -shared(W))}, the rest 0: "
        f"atanh <{x}, {alpha}> grows at <{m}, {alpha}> - {c} for all tokens of a law, {m} its "
        f"mean; a law at one point rests at <{x}, {alpha}> = {c} and leaves it on either side"
    )
    pull = (
        f"pull: {_value(U, f'rows {z}^T')}, {_value(offset, h, -sp.S.One)}, "
        f"{_value(W, omega, shared(W))}, the rest 0: tokens with <{z}, {x}> <= {h} rest, others go "
        f"to {omega} on great circles at relu(<{z}, {x}> - {h}) and keep C = "
        f"{sp.sstr(found.kept)}, s = <{x}, {omega}>, g = <{x}, {z}>, k = <{omega}, {z}>"
    )
    return split, pull


def _value(lever: Lever, value: str, share: sp.Expr = sp.S.One) -> str:
    """A matrix and its value in words."""
    top, below = sp.fraction(sp.simplify(share / lever.number))
    sign = "-" if (top / below).could_extract_minus_sign() else ""
    top, below = (sp.Abs(n) if n.is_number else n for n in (top, below))
    if sign and not top.is_number and top.could_extract_minus_sign():
        top = -top
    front, behind = (
        "" if n == 1 else sp.sstr(n) if n.is_Atom or n.is_Pow else f"({sp.sstr(n)})"
        for n in (top, below)
    )
    return f"{lever.tensor.name} = {sign}{front}{' ' * bool(front)}{value}" + (
        f" / {behind}" if behind else ""
    )
