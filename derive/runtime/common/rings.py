"""Two rings on which a scalar function, written as a Python function, can be evaluated.

`Pair`: its values at two numbers and their divided difference, without cancellation.  `Function`:
the function of a matrix B = S M, both positive semi-definite, without its eigenvectors, so that it
has derivatives of every order at equal and at zero eigenvalues too.  The elements are functions of
one matrix each, so they commute.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from derive.runtime.common import small_matrices

EXACT = jax.lax.Precision.HIGHEST


class Ring(abc.ABC):
    """What a function made of sums, products, quotients and square roots needs."""

    @abc.abstractmethod
    def plus(self, other: Any) -> Self: ...

    @abc.abstractmethod
    def times(self, other: Any) -> Self: ...

    @abc.abstractmethod
    def inverse(self) -> Self: ...

    @abc.abstractmethod
    def root(self) -> Self: ...

    def __add__(self, other: Any) -> Self:
        return self.plus(other)

    def __mul__(self, other: Any) -> Self:
        return self.times(other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Self:
        return self.times(-1.0)

    def __sub__(self, other: Any) -> Self:
        return self.plus(-other)

    def __rsub__(self, other: Any) -> Self:
        return (-self).plus(other)

    def __truediv__(self, other: Any) -> Self:
        return self.times(other.inverse() if isinstance(other, Ring) else 1 / other)

    def __rtruediv__(self, other: Any) -> Self:
        return self.inverse().times(other)

    def __pow__(self, power: int) -> Self:
        base = self if power >= 0 else self.inverse()
        out = self.times(0.0).plus(1.0)
        for _ in range(abs(power)):
            out = out.times(base)
        return out


def sqrt(x: Any) -> Any:
    """Square root of numbers, arrays and elements of a ring."""
    return x.root() if isinstance(x, Ring) else jnp.sqrt(x)


class Pair(Ring):
    """g(0), g(a) and `rise` = (g(a) - g(0)) / a, the corner of g of [[0, 1], [0, a]]."""

    def __init__(self, zero: Any, there: Any, rise: Any) -> None:
        self.zero, self.there, self.rise = zero, there, rise

    def plus(self, other: Any) -> Pair:
        if not isinstance(other, Pair):
            return Pair(self.zero + other, self.there + other, self.rise)
        return Pair(self.zero + other.zero, self.there + other.there, self.rise + other.rise)

    def times(self, other: Any) -> Pair:
        if not isinstance(other, Pair):
            return Pair(self.zero * other, self.there * other, self.rise * other)
        rise = self.zero * other.rise + self.rise * other.there
        return Pair(self.zero * other.zero, self.there * other.there, rise)

    def inverse(self) -> Pair:
        zero, there = 1 / self.zero, 1 / self.there
        return Pair(zero, there, -self.rise * zero * there)

    def root(self) -> Pair:
        zero, there = jnp.sqrt(self.zero), jnp.sqrt(self.there)
        return Pair(zero, there, self.rise / (zero + there))


class Frame(NamedTuple):
    """B = left right^T with right^T left = diag(a): numbers alone, nothing is differentiated."""

    left: jax.Array
    right: jax.Array


class Function(Ring):
    """g(B), its `matrix`; `seen`: what g is on the spectrum of B, as numbers."""

    def __init__(self, matrix: jax.Array, seen: Pair, frame: Frame) -> None:
        self.matrix, self.seen, self.frame = matrix, seen, frame

    def _one(self) -> jax.Array:
        one = jnp.eye(self.matrix.shape[-1], dtype=self.matrix.dtype)
        return jnp.broadcast_to(one, self.matrix.shape)

    def plus(self, other: Any) -> Function:
        if not isinstance(other, Function):
            matrix = self.matrix + other * self._one()
            return Function(matrix, self.seen.plus(other), self.frame)
        return Function(self.matrix + other.matrix, self.seen.plus(other.seen), self.frame)

    def times(self, other: Any) -> Function:
        if not isinstance(other, Function):
            return Function(self.matrix * other, self.seen.times(other), self.frame)
        matrix = jnp.matmul(self.matrix, other.matrix, precision=EXACT)
        return Function(matrix, self.seen.times(other.seen), self.frame)

    def inverse(self) -> Function:
        return Function(_inverse(self.matrix), self.seen.inverse(), self.frame)

    def root(self) -> Function:
        seen = self.seen.root()
        numbers = (seen.zero, seen.there, seen.rise, *self.frame)
        return Function(_root(self.matrix, *numbers), seen, self.frame)


@jax.custom_jvp
def _inverse(matrix: jax.Array) -> jax.Array:
    return small_matrices.inverse(matrix)


@_inverse.defjvp
def _inverse_slope(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    """Two products: triangular solves of many directions at once are slow on CPU."""
    out = _inverse(*primals)
    return out, -_product(out, tangents[0], out)


@jax.custom_jvp
def _root(matrix: Any, zero: Any, there: Any, rise: Any, left: Any, right: Any) -> jax.Array:
    """Y = zero + left rise right^T, the square root of `matrix`."""
    one = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return zero[..., None] * one + _product(left * rise[..., None, :], right.mT)


@_root.defjvp
def _root_slope(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Y dY + dY Y = d matrix, solved in the frame and differentiated as an equation."""
    Y = _root(*primals)
    _, *numbers = primals

    def solve(_: Any, C: jax.Array) -> jax.Array:
        return _sylvester(C, *numbers)

    def solve_transposed(_: Any, C: jax.Array) -> jax.Array:
        zero, there, rise, left, right = numbers
        return _sylvester(C, zero, there, rise, right, left)

    return Y, jax.lax.custom_linear_solve(
        lambda T: _product(Y, T) + _product(T, Y), tangents[0], solve, solve_transposed
    )


def _sylvester(C: Any, zero: Any, there: Any, rise: Any, left: Any, right: Any) -> jax.Array:
    """T with Y T + T Y = C, Y = zero + left rise right^T and `there` = zero + a rise > 0.

    right^T on the left and `left` on the right make it diagonal: first for right^T T left, then
    for right^T T and T left, then for T; nothing is divided by but sums of `zero` and `there`.
    """
    row, column = there[..., :, None], there[..., None, :]
    both = _product(right.mT, C, left) / (row + column)
    bent = rise[..., :, None] * right.mT
    from_left = (_product(right.mT, C) - _product(both, bent)) / (zero[..., None] + row)
    onto = left * rise[..., None, :]
    from_right = (_product(C, left) - _product(onto, both)) / (zero[..., None] + column)
    return (C - _product(onto, from_left) - _product(from_right, bent)) / (2 * zero[..., None])


def _product(first: jax.Array, *others: jax.Array) -> jax.Array:
    for other in others:
        first = jnp.matmul(first, other, precision=EXACT)
    return first
