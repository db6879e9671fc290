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
    gate, mean = found.levers.gate, found.levers.barycentre
    outputs = ", ".join(f"-{t.name}" for t in found.levers.outputs)
    closed = f"{gate.into.tensor.name} = 0"
    split = (
        f"split: {_value(mean, 'alpha alpha^T', shared(mean))}, {closed}, "
        f"{_value(gate.offset, '1')}, {_value(gate.out, '-c alpha', shared(gate.out))}, the rest "
        "0: atanh <x, alpha> grows at <m, alpha> - c for all tokens of a law, m its mean; a law at "
        "one point rests at <x, alpha> = c and leaves it on either side"
    )
    pull = (
        f"pull: {_value(gate.into, 'rows z^T')}, {_value(gate.offset, '-h')}, "
        f"{_value(gate.out, 'omega', shared(gate.out))}, the rest 0: tokens with <z, x> <= h rest, "
        "others go to omega on great circles at relu(<z, x> - h) and keep C = "
        f"{sp.sstr(found.kept)}, s = <x, omega>, g = <x, z>, k = <omega, z>"
    )
    pulled = worst_of((checks.pull(found, names, book), checks.kept(found, names, book)))
    said = (
        Fact(
            f"where {found.levers.vanishing}, tokens see the others' mean alone",
            "manoeuvre",
            checks.uniform(found, names, book),
        ),
        Fact(split, "manoeuvre", checks.split(found, names, book)),
        Fact(pull, "manoeuvre", pulled),
        Fact(
            f"{outputs}: minus the velocity, so that every manoeuvre is run backwards",
            "manoeuvre",
            checks.reverse(found, names),
        ),
        Fact(
            "split_time from z0 to z1 = <x, alpha> of a law at one point and pull_time from u0 to "
            "u1 = atanh <x, omega> of a token are durations in closed form",
            "manoeuvre",
            checks.durations(found, names, book),
        ),
    )
    rule = "values of parameters put into the velocity, projected; partial fractions"
    return Step(
        "manoeuvres", rule, equations(found), said, worst_of([f.check for f in said if f.check])
    )


def _value(lever: Lever, value: str, share: sp.Expr = sp.S.One) -> str:
    """A matrix and its value in words."""
    below = sp.simplify(lever.number / share)
    if below == 1:
        return f"{lever.tensor.name} = {value}"
    return f"{lever.tensor.name} = {value} / {below if below.is_Atom else f'({below})'}"
