"""`derive build` writes no kernel of which any function differs from its equation."""

import ast
from functools import cache

import pytest
from derivations import derivation

from derive import cli, gate
from derive.derivation import rendered
from derive.dispatch import method as method_of
from derive.errors import CheckFailed
from derive.registry import find
from derive.verify.common.compare import module_of

MODELS = (
    "shaped_attention",
    "shaped_relu_mlp",
    "post_norm_shaped_attention",
    "softmax_closure",
    "sigmoid_closure",
    "sphere_attention_tracking",
)
HANDED_ON = {
    "noise",
    "simulate",
    "path",
    "terms",
    "normals",
    "network",
    "reduced_network",
    "solve",
    "flow",
    "particles",
    "turnpike",
    "extremal",
}
ESTIMATES = {"rate_error", "velocity_error"}  # of a quadrature: compared where it is used


@cache
def emitted(name):
    entry = find(name)
    result = derivation(name)
    return entry.method, result, rendered(entry, result)


def broken(text, names):
    """The module with what these functions return wrong by a thousandth, zeros included."""
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            (last,) = [n for n in node.body if isinstance(n, ast.Return)]
            last.value = ast.Call(ast.Name("_wrong", ast.Load()), [last.value], [])
    wrong = "import jax\n_wrong = lambda x: jax.tree.map(lambda a: 1.001 * a + 0.001, x)"
    tree.body += ast.parse(wrong).body
    return ast.unparse(ast.fix_missing_locations(tree))


def functions(text):
    found = {n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)}
    return sorted(f for f in found - HANDED_ON - ESTIMATES if not f.startswith("_"))


#: two of each method but the last are derived in any case
MARKED = [pytest.param(n, marks=pytest.mark.slow) if n in MODELS[2::2] else n for n in MODELS]


#: one here; what `derive build` is tested with passes too
@pytest.mark.parametrize(
    "name", [MODELS[0], *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS[1:])]
)
def test_the_unbroken_kernel_passes(name):
    method, result, text = emitted(name)
    gate.require_right(result, text, method, name)


@pytest.mark.parametrize("name", MARKED)
def test_a_thousandth_in_any_emitted_function_is_caught_and_named(name):
    method, result, text = emitted(name)
    names = functions(text)
    found = method_of(method).gate(result, module_of(broken(text, names), name))
    assert {f.name for f in found if not f.error <= f.allowed} >= set(names)
    assert len(names) > 4


def test_a_function_that_nothing_compares_is_no_pass():
    method, result, text = emitted("shaped_attention")
    with pytest.raises(CheckFailed, match="extra, which nothing compares"):
        gate.require_right(result, text + "\n\ndef extra(V):\n    return V\n", method, "x")


@pytest.mark.parametrize("line", ["raise SystemExit(0)", "import nowhere", "1 / 0"])
def test_a_module_that_does_not_run_is_not_written(line):
    method, result, text = emitted("shaped_attention")
    with pytest.raises(CheckFailed, match="does not run"):
        gate.require_right(result, text + f"\n{line}\n", method, "x")


def test_build_ends_with_one_and_writes_nothing(tmp_path, monkeypatch, capsys):
    from derive.emit.covariance_sde import module as covariance_sde

    render = covariance_sde.render
    monkeypatch.setattr(covariance_sde, "render", lambda *a: broken(render(*a), ["step_layer"]))
    assert cli.main(["build", "linear_attention", "--out", str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == []
    assert "step_layer: off by 0.00" in capsys.readouterr().err
