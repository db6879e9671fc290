"""Array statements have the value of the expression, with as few products as by hand."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.calculus.index.expressions import Expression, collect
from derive.calculus.index.factors import Index, Tensor
from derive.calculus.index.readable import readable
from derive.calculus.index.text import show
from derive.emit.common.layout import WIDTH, tidy
from derive.emit.common.lowering import lower
from derive.emit.common.program import Program
from derive.emit.common.scalars import python
from derive.runtime.common import ops

GENERATED = Path(__file__).parents[3] / "generated"
m, x, y = sp.symbols("m x y", positive=True)
a, b = Index("a", m), Index("b", m)
V = Tensor("V", (m, m), "constant", symmetric=True)
PLAIN = [Tensor(name, (m, m), "constant") for name in "ABC"]
FAMILY = sorted(p for p in GENERATED.glob("*.py") if "runtime.paths import entry" in p.read_text())


def _random_expression(rng: np.random.Generator, symmetric: bool) -> Expression:
    """Chains between two free indices, some beside a vector or a number made of sums."""
    terms = []
    for number in range(int(rng.integers(2, 6))):
        length = int(rng.integers(1, 4))
        stops = [a, *(Index(f"k{number}{p}", m) for p in range(length - 1)), b]
        factors = []
        for left, right in itertools.pairwise(stops):
            tensor = [V, *PLAIN][int(rng.integers(4))]
            ends = (left, right) if rng.random() < 0.5 else (right, left)
            factors.append(tensor[ends])
        i, j = Index(f"i{number}", m), Index(f"j{number}", m)
        extra = int(rng.integers(4))
        if extra == 1:
            factors.append(V[(i, j)])  # the sum of V
        elif extra == 2:
            factors.append(PLAIN[0][(a, i)])  # a row sum
        elif extra == 3:
            factors += [PLAIN[1][(i, j)], V[(j, b)]]  # a column sum times V
        terms.append((sp.Rational(int(rng.integers(1, 5)), 2) * x ** int(rng.integers(3)), factors))
    found = collect((a, b), [(c, tuple(f)) for c, f in terms])
    if not symmetric:
        return found
    return found + collect((a, b), found.renamed({a: b, b: a}).terms)


def _run(expression: Expression, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, Program]:
    program = Program(taken={"V", "A", "B", "C", "m", "x"}, symmetric={"V"})
    text = lower(expression, program)
    scope = {**vars(ops), **arrays, "m": len(arrays["V"]), "x": 0.7}
    for statement in program.statements:
        scope[statement.name] = np.asarray(eval(statement.text, scope))
    return np.asarray(eval(text, scope)), program


@pytest.mark.parametrize("symmetric", [False, True])
def test_statements_have_the_value_of_the_expression(symmetric: bool) -> None:
    rng = np.random.default_rng(8)
    arrays = {name: rng.standard_normal((4, 4)) for name in "VABC"}
    arrays["V"] = arrays["V"] + arrays["V"].T
    for _ in range(40):
        expression = _random_expression(rng, symmetric)
        found, _ = _run(expression, arrays)
        expected = evaluate(expression, arrays, {m: 4.0, x: 0.7})
        # single precision of jnp where a word of the kernels is called
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_a_lone_delta_is_the_identity() -> None:
    delta = Tensor("delta", (m, m), "delta", symmetric=True)
    expression = collect((a, b), [(x, (delta[(a, b)],)), (sp.Integer(2), (PLAIN[0][(a, b)],))])
    program = Program(taken={"V", "A", "m", "x"}, like="A")
    text = lower(expression, program)
    scope = {**vars(ops), "A": np.diag([1.0, 2.0, 3.0]), "x": 0.5}
    for statement in program.statements:
        scope[statement.name] = np.asarray(eval(statement.text, scope))
    np.testing.assert_allclose(eval(text, scope), np.diag([2.5, 4.5, 6.5]))


def test_a_coefficient_that_is_a_sum_is_taken_out_once() -> None:
    """(x / sqrt(m) + 1) y: divided by term for term it stayed below each of them, and what was
    left to factor grew without end."""
    slope = sp.expand((x / sp.sqrt(m) + 1) * x / 4)
    expression = collect((a, b), [(slope, (V[(a, b)],)), (-slope, (PLAIN[0][(a, b)],))])
    rng = np.random.default_rng(10)
    arrays = {name: rng.standard_normal((3, 3)) for name in "VABC"}
    found, _ = _run(expression, arrays)
    expected = evaluate(expression, arrays, {m: 3.0, x: 0.7})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_products_with_a_common_factor_become_one() -> None:
    A, B, C = PLAIN
    k, other = Index("k", m), Index("l", m)
    expression = collect(
        (a, b),
        [
            (sp.Integer(1), (A[(a, k)], C[(k, b)])),
            (-x, (B[(k, a)], C[(k, b)])),
            (x / m, (A[(other, a)], B[(a, other)], C[(k, b)])),  # a column sum of C
        ],
    )
    rng = np.random.default_rng(9)
    arrays = {name: rng.standard_normal((3, 3)) for name in "VABC"}
    found, program = _run(expression, arrays)
    assert sum(s.text.count("@") for s in program.statements) == 1
    expected = evaluate(expression, arrays, {m: 3.0, x: 0.7})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_product_that_is_used_again_is_not_computed_twice() -> None:
    A, B, C = PLAIN
    k, l_ = Index("k", m), Index("l", m)
    expression = collect(
        (a, b),
        [
            (sp.Integer(1), (A[(a, k)], C[(k, b)])),
            (x, (B[(a, k)], C[(k, b)])),
            (y, (A[(a, k)], C[(k, b)], A[(a, l_)], C[(l_, b)])),
        ],
    )
    program = Program(taken={"A", "B", "C"})
    lower(expression, program)
    assert sum(s.text.count("@") for s in program.statements) == 2


def test_a_symmetric_term_joins_the_half_that_ends_alike() -> None:
    A, _, C = PLAIN
    k, l_ = Index("k", m), Index("l", m)
    expression = collect(
        (a, b),
        [
            (x, (A[(a, k)], V[(k, l_)], A[(b, l_)])),
            (sp.Integer(1), (C[(a, k)], A[(b, k)])),
            (sp.Integer(1), (A[(a, k)], C[(b, k)])),
        ],
    )
    rng = np.random.default_rng(11)
    arrays = {name: rng.standard_normal((3, 3)) for name in "VABC"}
    arrays["V"] = arrays["V"] + arrays["V"].T
    found, program = _run(expression, arrays)
    np.testing.assert_allclose(found, evaluate(expression, arrays, {m: 3.0, x: 0.7}), atol=1e-12)
    assert sum(s.text.count("@") for s in program.statements) == 2


def _function(path: Path, name: str) -> str:
    text = path.read_text()
    return re.search(rf"^def {name}\(.*?(?=^def |^_SPEC)", text, re.M | re.S)[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("model", "drift", "noise"),
    [
        ("shaped_attention", 0, 4),
        ("shaped_transformer", 0, 4),
        ("shaped_relu_mlp", 0, 2),
        ("causal_shaped_attention", 5, 5),
    ],
)
def test_kernels_multiply_no_more_matrices_than_by_hand(model: str, drift: int, noise: int) -> None:
    path = GENERATED / f"{model}.py"
    counts = [_function(path, name).count(" @ ") for name in ("drift", "noise_from")]
    assert counts == [drift, noise]


@pytest.mark.parametrize("path", FAMILY, ids=lambda p: p.stem)
def test_what_runs_at_every_step_transposes_no_left_factor(path: Path) -> None:
    for name in ("drift", "noise_from", "step_layer"):
        assert not re.search(r"\.mT @", _function(path, name)), name


@pytest.mark.parametrize("path", FAMILY, ids=lambda p: p.stem)
def test_kernels_read_well(path: Path) -> None:
    text = path.read_text()
    long = [s for s in text.splitlines() if len(s) > WIDTH and 'r"' not in s]
    assert long == []
    assert not re.search(r"\b1 \* |\*\*\(-|\+ -", text)
    for kernel in re.findall(r"^def \w+\(.*?(?=^def |^_SPEC)", text, re.M | re.S):
        for name in re.findall(r"^    (\w+) = ", kernel, re.M):
            uses = len(re.findall(rf"\b{name}\b", kernel))
            assert uses > 1, f"{name} is computed for nothing in {kernel.splitlines()[0]}"


def test_scalars_take_their_shortest_form() -> None:
    g, p, q = sp.symbols("g p q", positive=True)
    assert python(readable(g**2 * (2 - g**2))) == "g**2 * (2 - g**2)"
    assert python(readable(p**2 * g / 4 - p * q * g / 2 + q**2 * g / 4)) == "g * (p - q)**2 / 4"
    assert python(sp.sqrt(2 - g) * sp.sqrt(2 + g)) == "sqrt(4 - g**2)"


def test_terms_of_coefficient_one_show_no_coefficient() -> None:
    k = Index("k", m)
    shown = show(collect((a, b), [(sp.Integer(1), (V[(a, b)],)), (x**-2, (V[(a, k)], V[(k, b)]))]))
    assert shown.splitlines() == ["V[a,b]", "1/x**2 * sum_{k} V[a,k] V[b,k]"]


def test_deep_layout_fits_and_keeps_the_code() -> None:
    names = " + ".join(f"some_long_name_{p} * another_{p}" for p in range(9))
    value = f"factor / (m * n) * (({names}) * z + ({names})) @ z"
    text = f"def f(z):\n    value = {value}\n    return value\n"
    laid = tidy(text)  # the tree is compared inside
    assert max(map(len, laid.splitlines())) <= WIDTH < max(map(len, text.splitlines()))


def test_matvec_is_one_word_on_tiles_and_on_arrays() -> None:
    rng = np.random.default_rng(10)
    matrices, vectors = rng.standard_normal((5, 3, 3)), rng.standard_normal((5, 3))
    tiled = ops.matvec(
        ops.Tiles.of((3, 3), lambda i, j: matrices[:, i, j]),
        ops.Tiles.of((3,), lambda i: vectors[:, i]),
    )
    expected = np.einsum("pij,pj->pi", matrices, vectors)
    np.testing.assert_allclose(np.stack(list(tiled.entries), -1), expected, atol=1e-12)
    np.testing.assert_allclose(ops.matvec(matrices, vectors), expected, atol=1e-5)
