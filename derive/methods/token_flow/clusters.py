"""Clusters of tokens on the sphere: what pulls a token, and how fast a cluster closes in on itself.

Input: the velocity over (token, coordinate), with inner products that close.  Output: the pushes
w_ab, of which the velocity of x_a is the tangential part of sum_b w_ab x_b, and the contraction
c_a = sum_b w_ab R_ab: a token beside cluster a, off the span of all clusters, has the distance
that decays at the rate c_a, since its velocity has no share along the separation but that of the
projection.  A separation within a cluster with mean zero moves no other token at first order.
"""

from __future__ import annotations

import numpy as np

from derive.calculus.index.defined import Book, spread
from derive.calculus.index.expressions import Expression, collect, single
from derive.draws import generator
from derive.methods.common.record import Check
from derive.methods.token_flow.gram import OTHER, Leaves, in_products
from derive.methods.token_flow.instances import FlowInstance, at, instance, tangent
from derive.methods.token_flow.names import Names

SEPARATION = 1e-6


def pushes(velocity: Expression, names: Names, book: Book) -> Expression:
    """w over (a, b) in inner products; what points along x_a itself has no tangential part."""
    a, i, b = names.s, names.i, OTHER
    out = []
    for coefficient, factors in velocity.terms:
        (carrier,) = [f for f in factors if i in f.indices]
        if carrier.tensor != names.x:
            raise Leaves(f"{carrier} turns tokens")
        at_ = carrier.indices[0]
        if at_ == a:
            continue
        rest = tuple(f.rename({at_: b}) for f in factors if f != carrier)
        out.append((coefficient, rest))
    return in_products(collect((a, b), out), names, book)


def contraction(velocity: Expression, names: Names, book: Book) -> Expression:
    """c over (a,)."""
    a, b = names.s, OTHER
    product = pushes(velocity, names, book) * single(names.gram[a, b], (a, b))
    return spread(product.summed(b), (a,))


def by_the_text(found: Expression, names: Names, book: Book) -> Check:
    """A token of no mass beside each of three clusters, off their span: the text moves it."""
    d, K = 5, 3
    worst = 0.0
    for seed in (16, 17):
        one = instance(names.model, seed, tokens=K, d=d)
        rates = at(one, found, book)
        off = generator(88, seed).standard_normal(d)
        off -= one.x.T @ np.linalg.lstsq(one.x.T, off, rcond=None)[0]
        off /= np.linalg.norm(off)
        for k in range(K):
            beside = one.x[k] * np.sqrt(1 - SEPARATION**2) + SEPARATION * off
            x, mass = np.vstack([one.x, beside]), np.append(one.mass, 0.0)
            v = tangent(FlowInstance(one.model, x, mass, one.arrays, one.params))[-1]
            decay = -float(v @ off) / SEPARATION
            worst = max(worst, abs(decay - rates[k]) / max(abs(rates[k]), 1e-3))
    return Check("a token of no mass beside a cluster, moved by the text", worst, 1e-4)
