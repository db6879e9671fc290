"""What a user writes for a parameter's value: exact numbers and expressions, or a refusal.

A text is read as an expression and never run.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import sympy as sp

from derive.errors import RequestError
from derive.notation.common.scalars import Param

CONSTANTS: dict[str, sp.Expr] = {"oo": sp.oo, "inf": sp.oo, "pi": sp.pi, "E": sp.E, "I": sp.I}
FUNCTIONS: dict[str, Callable[..., sp.Expr]] = {
    **{f.__name__: f for f in (sp.exp, sp.log, sp.tanh, sp.sin, sp.cos, sp.Rational)},
    "sqrt": sp.sqrt,
    "abs": sp.Abs,
}
OPERATIONS: dict[type, Callable[..., Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.Div: operator.truediv, ast.Pow: operator.pow},
    **{ast.USub: operator.neg, ast.UAdd: operator.pos},
}


def exact(name: str, given: Any, known: Mapping[str, sp.Symbol]) -> sp.Expr:
    """A value of the parameter `name` in the symbols of an equation, which go by their names.

    Raises RequestError for floats, for what is no real number, for what is no expression.
    """
    if isinstance(given, (float, complex)):
        raise RequestError(f"{name}: numbers are exact here, sympy.Rational or a text, not {given}")
    if isinstance(given, Fraction):
        given = sp.Rational(given.numerator, given.denominator)
    value = _read(name, given, known) if isinstance(given, str) else given
    if isinstance(value, bool) or not isinstance(value, (int, sp.Expr)):
        raise RequestError(f"{name} takes a number or an expression, not {given!r}")
    value = sp.sympify(value)
    if value.atoms(sp.Float):
        raise RequestError(f"{name}: numbers are exact here, sympy.Rational or a text, not {given}")
    named = {s: known[s.name] for s in value.free_symbols if s.name in known}
    value = value.xreplace(named)
    if value is sp.nan or value is sp.zoo or value.is_extended_real is False:
        raise RequestError(f"{name} = {given} is no real number")
    return value


def require_admissible(symbol: sp.Symbol, value: sp.Expr, ends: bool = False) -> None:
    """Raises RequestError for a number outside the range of a parameter; `ends`: of its closure."""
    if not isinstance(symbol, Param) or not value.is_number:
        return
    reach = symbol.range
    number = float(value)
    if number not in reach and not (ends and number in (reach.low, reach.high)):
        raise RequestError(f"{symbol} = {value} is outside its range, {reach.text}")


def _read(name: str, text: str, known: Mapping[str, sp.Symbol]) -> sp.Expr:
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, known)
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError):
        raise RequestError(
            f"{name}: {text!r} is no expression; write one of numbers, the parameters "
            f"{', '.join(sorted(known))}, + - * / **, {', '.join((*FUNCTIONS, *CONSTANTS))}"
        ) from None


def _value(node: ast.AST, known: Mapping[str, sp.Symbol]) -> Any:
    """A node's value; KeyError for what is no arithmetic."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return sp.Rational(repr(node.value))  # the digits as they are written
    if isinstance(node, ast.Name):
        symbol = known.get(node.id) or CONSTANTS.get(node.id)
        return symbol if symbol is not None else sp.Symbol(node.id, real=True)
    if isinstance(node, ast.UnaryOp):
        return OPERATIONS[type(node.op)](_value(node.operand, known))
    if isinstance(node, ast.BinOp):
        both = (_value(side, known) for side in (node.left, node.right))
        return OPERATIONS[type(node.op)](*both)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return FUNCTIONS[node.func.id](*(_value(a, known) for a in node.args))
    raise KeyError(ast.dump(node))
