"""inverse, inv_sqrt_det and linear_solve, of square matrices."""

from __future__ import annotations

import numpy as np
import sympy as sp

from derive.errors import DefinitionError
from derive.notation.common.arrays import Array, Shape, show_shape
from derive.notation.common.words.word import (
    ATOM,
    POWER,
    PRODUCT,
    WORDS,
    Operations,
    Printer,
    Text,
    Word,
)

MINUS = sp.Integer(-1)


def square(said: str, matrix: Array) -> Shape:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DefinitionError(f"{said} of an array of shape {show_shape(matrix.shape)}")
    return matrix.shape


class Inverse(Word):
    """The inverse of a square matrix."""

    transposes = True

    def value(self, matrix: np.ndarray) -> np.ndarray:
        return np.linalg.inv(matrix)

    def exact(self, matrix: np.ndarray) -> np.ndarray:
        symbolic = sp.Matrix(matrix)
        return np.array((symbolic.adjugate() / symbolic.det()).tolist(), dtype=object)

    def matrix(self, matrix: sp.MatrixExpr) -> sp.MatrixExpr:
        return sp.Inverse(matrix)

    def shape(self, matrix: Array) -> Shape:
        return square("inverse", matrix)

    def simplified(self, g: Operations, matrix: Array) -> Array | None:
        coefficient, core = g.split(matrix)
        return g.scale(1 / coefficient, core) if core.op == "eye" else None

    def adjoint(self, g: Operations, array: Array, position: int, bar: Array) -> Array:
        turned = g.transpose(array)
        return g.scale(MINUS, g.matmul(g.matmul(turned, bar), turned))

    def tangent(self, g: Operations, array: Array, position: int, move: Array) -> Array:
        return g.scale(MINUS, g.matmul(g.matmul(array, move), array))

    def text(self, p: Printer, array: Array) -> Text:
        return f"{p.bound(array, 0, ATOM)}^-1", POWER

    def latex(self, p: Printer, array: Array) -> Text:
        return f"{p.bound(array, 0, ATOM)}^{{-1}}", POWER


class InvSqrtDet(Word):
    """det^(-1/2) of a square matrix, a number."""

    def value(self, matrix: np.ndarray) -> np.ndarray:
        return np.linalg.det(matrix) ** -0.5

    def exact(self, matrix: np.ndarray) -> sp.Expr:
        return sp.Matrix(matrix).det() ** sp.Rational(-1, 2)

    def matrix(self, matrix: sp.MatrixExpr) -> sp.Expr:
        return sp.Determinant(matrix) ** sp.Rational(-1, 2)

    def shape(self, matrix: Array) -> Shape:
        square("log_det", matrix)  # by which a definition writes it
        return ()

    def simplified(self, g: Operations, matrix: Array) -> Array | None:
        return g.scalar(sp.Integer(1)) if matrix.op == "eye" else None

    def adjoint(self, g: Operations, array: Array, position: int, bar: Array) -> Array:
        inner = g.multiply(array, g.transpose(g.word("inverse", array.args[0])))
        return g.multiply(bar, g.scale(MINUS / 2, inner))

    def tangent(self, g: Operations, array: Array, position: int, move: Array) -> Array:
        inner = g.multiply(g.transpose(g.word("inverse", array.args[0])), move)
        return g.scale(MINUS / 2, g.multiply(array, g.sum_all(inner)))

    def text(self, p: Printer, array: Array) -> Text:
        return f"det({p.words(array)})^(-1/2)", POWER

    def latex(self, p: Printer, array: Array) -> Text:
        return rf"\det\left({p.words(array)}\right)^{{-1/2}}", POWER


class LinearSolve(Word):
    """matrix^-1 right, for a matrix or a vector on the right."""

    def value(self, matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.linalg.solve(matrix, right)

    def exact(self, matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.dot(WORDS["inverse"].exact(matrix), right)

    def matrix(self, matrix: sp.MatrixExpr, right: sp.MatrixExpr) -> sp.MatrixExpr:
        return sp.Inverse(matrix) * right

    def shape(self, matrix: Array, right: Array) -> Shape:
        square("linear_solve", matrix)
        return right.shape

    def simplified(self, g: Operations, matrix: Array, right: Array) -> Array | None:
        coefficient, core = g.split(right)
        return None if coefficient == 1 else g.scale(coefficient, g.word(self.name, matrix, core))

    def adjoint(self, g: Operations, array: Array, position: int, bar: Array) -> Array:
        out = g.word("linear_solve", g.transpose(array.args[0]), bar)
        if position == 1:
            return out
        if array.ndim == 1:
            return g.scale(MINUS, g.multiply(g.expand(out, 1), g.expand(array, 0)))
        return g.scale(MINUS, g.matmul(out, g.transpose(array)))

    def tangent(self, g: Operations, array: Array, position: int, move: Array) -> Array:
        change = move if position == 1 else g.scale(MINUS, g.matmul(move, array))
        return g.word("linear_solve", array.args[0], change)

    def text(self, p: Printer, array: Array) -> Text:
        return f"{p.bound(array, 0, ATOM)}^-1 {p.bound(array, 1, PRODUCT)}", PRODUCT

    def latex(self, p: Printer, array: Array) -> Text:
        return f"{p.bound(array, 0, ATOM)}^{{-1}} {p.bound(array, 1, PRODUCT)}", PRODUCT


Inverse("inverse").register()
InvSqrtDet("inv_sqrt_det").register()
LinearSolve("linear_solve").register()
