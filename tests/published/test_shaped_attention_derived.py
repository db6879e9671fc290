"""Shaped attention, derived for symbolic m, n, n_k, is Theorem 4.2 with no term left over.

Noci et al. (2023), arXiv 2306.17759.  The theorem is typed here as index expressions; a second
comparison expands the layer with plain SymPy at m = 2, 3, 4; a third evaluates it in NumPy.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import shaped_attention_theorem as theorem
import sympy as sp
from derivations import derivation
from index_expressions import evaluate_at, read

from derive.calculus.gaussian.expectation import contract_gram, expectation
from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Index
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.layers.model import Model


def load() -> Model:
    path = Path(__file__).parents[2] / "theory" / "shaped_attention.py"
    spec = importlib.util.spec_from_file_location("shaped_attention_definition", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.shaped_attention


@pytest.fixture(scope="module")
def sde() -> CovarianceSDE:
    return derivation("shaped_attention")


def scalars(sde: CovarianceSDE) -> dict[str, sp.Expr]:
    return {p.name: p for p in sde.model.params}


def S1(sde: CovarianceSDE) -> Expression:
    """S_1^{a n, b k} = (1/m^2) V^{ab} (V^{nk} - V^{n xbar} - V^{k xbar} + V^{xbar xbar})."""
    text = """ 1/m**2 * V[a,b] V[n,k] - 1/m**3 * V[a,b] V[n,x]
             - 1/m**3 * V[a,b] V[k,x] + 1/m**4 * V[a,b] V[x,y]"""
    return read(text, "a n b k", sde.law.gram)


def S2(sde: CovarianceSDE) -> Expression:
    """S_2^{a n} = (1/m) V^{aa} (V^{nn} - 2 V^{n xbar} + 2 V^{xbar xbar} - (1/m) sum_b V^{bb})."""
    text = """ 1/m * V[a,a] V[n,n] - 2/m**2 * V[a,a] V[n,x]
             + 2/m**3 * V[a,a] V[x,y] - 1/m**2 * V[a,a] V[b,b]"""
    return read(text, "a n", sde.law.gram)


def at(expression: Expression, *names: str) -> Expression:
    """The expression with its free indices renamed in order."""
    return expression.renamed(
        {i: Index(x, i.dim) for i, x in zip(expression.free, names, strict=True)}
    )


def entry(sde: CovarianceSDE, *names: str) -> Expression:
    return read(f"V[{','.join(names)}]", " ".join(names), sde.law.gram)


def ordered(expression: Expression, names: str) -> Expression:
    """Free indices in the order of `names`."""
    by_name = {i.name: i for i in expression.free}
    assert set(by_name) == set(names)
    return read("0*V[a,a]", " ".join(names), GRAM[0]) + Expression(
        tuple(by_name[x] for x in names), expression.terms
    )


GRAM: list = []


def published_drift(sde: CovarianceSDE) -> Expression:
    GRAM[:] = [sde.law.gram]
    gamma, tau_0 = scalars(sde)["gamma"], scalars(sde)["tau_0"]
    dim = sde.law.gram.dims[0]
    n, k = Index("n", dim), Index("k", dim)
    first = (entry(sde, "n", "k") * S1(sde)).summed(n, k)
    second = (entry(sde, "b", "n") * S2(sde)).summed(n)
    third = (entry(sde, "a", "n") * at(S2(sde), "b", "n")).summed(n)
    total = ordered(first, "ab")
    for half in (second, third):
        total = total + ordered(half, "ab").scaled(sp.Rational(1, 2))
    return total.scaled(gamma**2 / tau_0**2)


def sigma_linear(sde: CovarianceSDE) -> Expression:
    return read("V[a,c] V[b,d] + V[a,d] V[b,c]", "a b c d", sde.law.gram)


def sigma_attention(sde: CovarianceSDE) -> Expression:
    """A^{ab,cd}: sum_{n,k} of V^{bn} V^{dk} S_1^{an,ck} and its three images."""
    GRAM[:] = [sde.law.gram]
    dim = sde.law.gram.dims[0]
    n, k = Index("n", dim), Index("k", dim)
    total = None
    for (a, b), (c, d) in itertools.product(("ab", "ba"), ("cd", "dc")):
        part = entry(sde, b, "n") * entry(sde, d, "k") * at(S1(sde), a, "n", c, "k")
        image = ordered(part.summed(n, k), "abcd")
        total = image if total is None else total + image
    assert total is not None
    return total


def published_diffusion(sde: CovarianceSDE) -> Expression:
    gamma, tau_0 = scalars(sde)["gamma"], scalars(sde)["tau_0"]
    linear = sigma_linear(sde).scaled(gamma**2 * (2 - gamma**2))
    return linear + sigma_attention(sde).scaled(gamma**4 / tau_0**2)


def test_drift_is_the_theorem(sde: CovarianceSDE) -> None:
    assert len(sde.drift.terms) == 11
    assert (sde.drift - published_drift(sde)).terms == ()


def test_diffusion_is_the_theorem(sde: CovarianceSDE) -> None:
    assert len(sde.diffusion.terms) == 18
    assert (sde.diffusion - published_diffusion(sde)).terms == ()


def test_noise_map_has_the_covariance_of_the_theorem(sde: CovarianceSDE) -> None:
    assert (sde.noise.covariance() - published_diffusion(sde)).terms == ()


def test_width_and_key_width_drop_out_and_the_number_of_tokens_stays_symbolic(
    sde: CovarianceSDE,
) -> None:
    token, width = sde.model.state_dims
    for name, expression in sde.equations.items():
        symbols = set().union(*(c.free_symbols for c, _ in expression.terms))
        assert {s.name for s in symbols} <= {"m", "gamma", "tau_0"}, name
        assert width not in symbols
    for expression in (sde.drift, sde.diffusion):
        assert any(token in c.free_symbols for c, _ in expression.terms)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_derived_coefficients_are_the_theorem_in_numbers(sde: CovarianceSDE, m: int) -> None:
    root = np.random.default_rng(m).standard_normal((m, m + 1))
    V = root @ root.T / m
    values = {scalars(sde)["gamma"]: 0.6, scalars(sde)["tau_0"]: 0.35}
    for ours, reference in (
        (sde.drift, theorem.drift),
        (sde.diffusion, theorem.diffusion),
    ):
        truth = reference(V, 0.6, 0.35)
        scale = np.abs(truth).max()
        if m == 1:
            scale = 1.0
        np.testing.assert_allclose(evaluate_at(ours, V, m, values), truth, atol=1e-13 * scale)


# the same layer, expanded with plain SymPy at a literal number of tokens


class Plain:
    """One layer at m tokens: V' = lam^2 V + gam^2 A V A^T on average, with A random through y.

    y_an are centred Gaussian symbols with E y_an y_bk = V_ab V_nk (times 1/n), and the softmax is
    expanded to second order by differentiation.
    """

    def __init__(self, m: int) -> None:
        self.m = m
        self.v = sp.Matrix(m, m, lambda i, j: sp.Symbol(f"v{min(i, j)}{max(i, j)}"))
        self.y = sp.Matrix(m, m, lambda i, j: sp.Symbol(f"y{i}_{j}"))
        self.tau = sp.Symbol("tau_0", positive=True)
        self.gamma = sp.Symbol("gamma", real=True)
        h = sp.Symbol("h")
        # softmax(h y / tau) by its series: exp(z)/sum exp(z), z of order h
        z = [sp.Symbol(f"z{i}") for i in range(m)]
        weight = [1 + h * x + h**2 * x**2 / 2 for x in z]
        mean = sum(z) / m
        square = sum(x**2 for x in z) / m
        inverse = (1 - h * mean + h**2 * (mean**2 - square / 2)) / m
        first, second = [], []
        for w in weight:
            series = sp.Poly(sp.expand(w * inverse), h)
            first.append(series.coeff_monomial(h))
            second.append(series.coeff_monomial(h**2))

        def row(entries: list[sp.Expr], a: int) -> list[sp.Expr]:
            to = {z[i]: self.y[a, i] / self.tau for i in range(m)}
            return [e.xreplace(to) for e in entries]

        self.B = sp.Matrix([row(first, a) for a in range(m)])
        self.C = sp.Matrix([row(second, a) for a in range(m)])

    def covariance(self, one: sp.Symbol, two: sp.Symbol) -> sp.Expr:
        (a, n), (b, k) = (map(int, s.name[1:].split("_")) for s in (one, two))
        return self.v[a, b] * self.v[n, k]

    def mean(self, expression: sp.Expr) -> sp.Expr:
        """E over y of a polynomial, by Stein: E y f = sum_z Cov(y, z) E df/dz."""
        poly = sp.Poly(sp.expand(expression), *self.y)
        total = sp.Integer(0)
        symbols = list(self.y)
        for powers, coefficient in poly.terms():
            drawn = [s for s, p in zip(symbols, powers, strict=True) for _ in range(p)]
            total += coefficient * self.wick(drawn)
        return sp.expand(total)

    def wick(self, drawn: list[sp.Symbol]) -> sp.Expr:
        if not drawn:
            return sp.Integer(1)
        if len(drawn) % 2:
            return sp.Integer(0)
        first, *rest = drawn
        return sp.Add(
            *(
                self.covariance(first, other) * self.wick(rest[:i] + rest[i + 1 :])
                for i, other in enumerate(rest)
            )
        )

    def drift(self, a: int, b: int) -> sp.Expr:
        """gam^2 (E[B V B^T] + E[C] V + V E[C]^T)."""
        m, v, B, C = self.m, self.v, self.B, self.C
        value = sum(B[a, n] * v[n, k] * B[b, k] for n in range(m) for k in range(m))
        value += sum(C[a, n] * v[n, b] + v[a, n] * C[b, n] for n in range(m))
        return sp.expand(self.gamma**2 * self.mean(value))

    @cache  # noqa: B019
    def fluctuation(self, a: int, b: int) -> sp.Expr:
        return sp.expand(
            sum(self.B[a, n] * self.v[n, b] + self.v[a, n] * self.B[b, n] for n in range(self.m))
        )

    def diffusion(self, a: int, b: int, c: int, d: int) -> sp.Expr:
        """Skip times value and value Wishart noise, plus gam^4 Cov(B V + V B^T)."""
        v, g = self.v, self.gamma
        lam2 = 1 - g**2
        linear = v[a, c] * v[b, d] + v[a, d] * v[b, c]
        noise = self.mean(self.fluctuation(a, b) * self.fluctuation(c, d))
        return sp.expand((2 * lam2 * g**2 + g**4) * linear + g**4 * noise)


def literal(expression: Expression, plain: Plain, place: tuple[int, ...]) -> sp.Expr:
    """An index expression written out at m tokens, in the symbols of `plain`."""
    total = sp.Integer(0)
    for coefficient, factors in expression.terms:
        names = sorted({i.name for f in factors for i in f.indices})
        fixed = {i.name: p for i, p in zip(expression.free, place, strict=True)}
        bound = [x for x in names if x not in fixed]
        inner = sp.Integer(0)
        for picks in itertools.product(range(plain.m), repeat=len(bound)):
            where = {**fixed, **dict(zip(bound, picks, strict=True))}
            inner += sp.Mul(*(plain.v[tuple(where[i.name] for i in f.indices)] for f in factors))
        numbers = {
            s: {"m": sp.Integer(plain.m), "gamma": plain.gamma, "tau_0": plain.tau}[s.name]
            for s in coefficient.free_symbols
        }
        total += coefficient.xreplace(numbers) * inner
    return sp.expand(total)


def distinct(m: int, count: int) -> Iterator[tuple[int, ...]]:
    """One place from each class that permutations of the tokens leave alone."""
    for place in itertools.product(range(m), repeat=count):
        seen = list(dict.fromkeys(place))
        if seen == sorted(seen) == list(range(len(seen))):
            yield place


@pytest.mark.parametrize("m", [2, 3, 4])
def test_drift_is_the_plain_expansion_at_literal_tokens(sde: CovarianceSDE, m: int) -> None:
    plain = Plain(m)
    for place in distinct(m, 2):
        assert sp.expand(plain.drift(*place) - literal(sde.drift, plain, place)) == 0


@pytest.mark.parametrize("m", [2, 3, 4])
def test_diffusion_is_the_plain_expansion_at_literal_tokens(sde: CovarianceSDE, m: int) -> None:
    plain = Plain(m)
    places = list(distinct(m, 4)) if m < 4 else [(0, 1, 0, 2)]
    for place in places:
        assert sp.expand(plain.diffusion(*place) - literal(sde.diffusion, plain, place)) == 0


# the comparison has teeth: every term of every equation, broken in four ways


MUTATIONS = {
    "drop": sp.Integer(0),
    "flip": sp.Integer(-1),
    "double": sp.Integer(2),
    "scale 1.01": sp.Rational(101, 100),
}


def mutants(expression: Expression, factor: sp.Expr) -> Iterator[Expression]:
    for position in range(len(expression.terms)):
        terms = list(expression.terms)
        c, f = terms[position]
        terms[position] = (c * factor, f)
        yield Expression(expression.free, tuple(t for t in terms if t[0] != 0))


@pytest.mark.parametrize("kind", MUTATIONS)
def test_every_broken_term_is_noticed_by_both_comparisons(sde: CovarianceSDE, kind: str) -> None:
    V = np.array([[1.3, 0.4, -0.2], [0.4, 0.8, 0.1], [-0.2, 0.1, 1.1]])
    values = {scalars(sde)["gamma"]: 0.6, scalars(sde)["tau_0"]: 0.35}
    for whole, typed, reference in (
        (sde.drift, published_drift(sde), theorem.drift),
        (sde.diffusion, published_diffusion(sde), theorem.diffusion),
    ):
        truth = reference(V, 0.6, 0.35)
        count = 0
        for broken in mutants(whole, MUTATIONS[kind]):
            assert not (broken - typed).is_zero
            off = np.abs(evaluate_at(broken, V, 3, values) - truth).max()
            assert off > 1e-7 * np.abs(truth).max()
            count += 1
        assert count == len(whole.terms)


@pytest.mark.parametrize("kind", MUTATIONS)
def test_every_broken_term_of_the_noise_is_noticed(sde: CovarianceSDE, kind: str) -> None:
    noise = sde.noise
    drawn = tuple(f.drawn for f in noise.fields)
    typed = published_diffusion(sde)
    for broken in mutants(noise.expanded, MUTATIONS[kind]):
        second = at(broken, "c", "d")
        covariance = contract_gram(
            expectation(broken * second, drawn), noise.factor, noise.gram, sp.Integer(1)
        )
        difference = covariance - typed
        if kind == "flip" and len(mirrors(broken, noise.expanded)) == len(noise.expanded.terms):
            continue
        assert not difference.is_zero


def mirrors(broken: Expression, whole: Expression) -> list[int]:
    """Positions whose sign differs by a flip of one whole field (the same law)."""
    fields = {f.tensor for _, fs in whole.terms for f in fs if f.tensor.kind == "gaussian"}
    for tensor in fields:
        flipped = whole.map_terms(
            lambda c, f, t=tensor: [(-c if any(x.tensor == t for x in f) else c, f)]
        )
        if flipped == broken:
            return list(range(len(whole.terms)))
    return []


def test_reading_aid_reads_what_is_typed(sde: CovarianceSDE) -> None:
    V = np.array([[1.0, 2.0], [2.0, 5.0]])
    text = "2/m * V[a,n] V[n,b] - (1 - 1/m) * V[a,b] V[x,x] - - V[a,b]"
    value = evaluate(read(text, "a b", sde.law.gram), {"V": V}, {sde.law.gram.dims[0]: 2.0})
    np.testing.assert_allclose(value, V @ V - 0.5 * V * np.trace(V) + V)
