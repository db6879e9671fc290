"""What is substituted has the value of the expression at those arrays."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from steered_flows import heads, plain, scaled, unnormalised

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import collect, scalar, single
from derive.calculus.index.factors import Index, fresh
from derive.calculus.index.substitution import substituted
from derive.methods.token_flow.fields import velocity_of
from derive.methods.token_flow.instances import at, instance
from derive.methods.token_flow.levers import constants, slots, zeros
from derive.methods.token_flow.names import COUNT, Names
from derive.notation.flows.model import trace_flow


def read(model):
    names, book = Names(model), Book(pairs=COUNT)
    return velocity_of(trace_flow(model), names, book), names, book


@pytest.mark.parametrize("model", [plain, scaled, heads, unnormalised], ids=lambda m: m.name)
def test_each_matrix_alike_or_zero_is_that_array(model):
    velocity, names, book = read(model)
    for position, tensor in enumerate(sorted(constants(velocity, names, book), key=str)):
        for value in (sp.Integer(0), sp.Rational(2, 3)):
            one = instance(model, 120 + position)
            found = substituted(velocity, {tensor: scalar(value, slots(tensor))}, book, names.mass)
            alike = np.full_like(one.arrays[tensor.name], float(value))
            wanted = at(one, velocity, book, **{tensor.name: alike})
            np.testing.assert_allclose(at(one, found, book), wanted, rtol=1e-12, atol=1e-13)


def test_a_product_in_the_place_of_a_matrix_is_placed_in_every_slot():
    velocity, names, book = read(plain)
    (V,) = [t for t in constants(velocity, names, book) if t.name == "V"]
    (U,) = [t for t in constants(velocity, names, book) if t.name == "U"]
    i, j, k = (fresh(d) for d in (*V.dims, U.dims[0]))
    one = instance(plain, 130)
    product = collect((i, j), [(sp.Integer(1), (U[k, i], U[k, j]))])
    found = substituted(velocity, {V: product}, book, names.mass)
    wanted = at(one, velocity, book, V=one.arrays["U"].T @ one.arrays["U"])
    np.testing.assert_allclose(at(one, found, book), wanted, rtol=1e-12)


def test_no_exponential_is_left_where_scores_vanish():
    velocity, names, book = read(plain)
    scores = tuple(t for t in constants(velocity, names, book) if t.name == "B")
    found = substituted(velocity, zeros(scores), book, names.mass)
    assert not {t.kind for t in found.tensors()} & {"gate", "exp", "reciprocal"}


def test_masses_are_added_up_only_where_nothing_else_has_their_index():
    _, names, book = read(plain)
    a, b = names.s, Index("b", COUNT)
    weighted = collect((a,), [(sp.Integer(1), (names.mass[(b,)], names.gram[a, b]))])
    assert substituted(weighted, {}, book, names.mass) == weighted
    whole = collect((), [(sp.Integer(1), (names.mass[(b,)],))])
    assert substituted(whole, {}, book, names.mass) == scalar(sp.Integer(1))
    free = single(names.mass[(b,)], (b,))
    assert substituted(free, {}, book, names.mass) == free
