"""A definition may call its things as it likes: kernels agree, or the line is refused."""

from __future__ import annotations

import ast
import builtins
import keyword
import string
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from built_modules import imported

from derive import registry
from derive.calculus.index.evaluate import evaluate
from derive.dispatch import method
from derive.errors import DefinitionError
from derive.runtime.common.precision import precision

ATTENTION = string.Template('''"""Attention under other names."""
from derive.notation import *

$tokens, $width, $keys = dims("$tokens: tokens", "$width: width", "$keys: key width")
$gamma, $tau = params("$gamma: in (0, 1)", "$tau: positive")


@covariance_sde(state="$state[$tokens, $width]", width=$width)
def $model($state):
    $W = gaussian($width, $keys)
    $mask = pattern("$mask: rows sum to one", $tokens)
    $logits = ($state @ $W) @ ($state @ gaussian($width, $keys)).T / $width
    root_of = ($width * $keys) ** Rational(1, 2)
    $A = eye($tokens) + $mask * $logits / ($tau * root_of)
    skip = (1 - $gamma**2) ** Rational(1, 2) * $state
    return skip + $gamma * $A @ $state @ gaussian($width, $width) / $width**(Rational(1, 2))
''')
USUAL = dict(
    tokens="m", width="n", keys="n_k", gamma="gamma", tau="tau_0", state="X", model="own",
    W="W_Q", mask="D", logits="logits", A="A",
)  # fmt: skip

#: names that meet words of a kernel, temporaries, Python's own, methods of named tuples
ODD = [
    "V_sum", "V_diag", "V_total", "V_V", "half", "root", "matrix", "vector", "scalar", "array",
    "matrix_2", "my_matrix_2", "matrix_V", "eye_", "sqrt_", "half_", "np", "jax", "runtime",
    "MODEL", "Params", "Dims", "Weights", "Paths", "key", "params_", "dims_", "fields", "blocks",
    "drift", "diffusion", "noise", "layer", "simulate", "annotations", "NamedTuple", "diagonal",
    "matvec", "constant", "identity", "at", "permuted", "count", "index", "len", "float", "tuple",
    "lambda_", "G_1", "F_1_", "W_1", "W_Q_0", "part", "part_2", "rate", "push", "pull", "lift",
    "x", "y", "z", "g", "i", "d", "pi_", "E", "I", "Q", "N", "S", "O", "beta", "zeta", "α", "Δt",
    "größe", "変数", "mixing", "logits_2", "self", "cls", "print", "type", "match", "case",
]  # fmt: skip


def built(tmp_path: Path, text: str, name: str = "own") -> tuple[object, ModuleType]:
    """The derivation of a definition's text, and its kernel as a module."""
    file = tmp_path / "definition.py"
    file.write_text(text, encoding="utf-8")
    (entry,) = registry.entries(file)
    model = registry.load(entry)
    result = method(model.method).derive(model)
    kernel = tmp_path / "kernel.py"
    text = method(model.method).render(result, "definition.py", "definition.py")
    kernel.write_text(text, encoding="utf-8")
    return result, imported(kernel)


def test_names_of_the_usual_text(tmp_path: Path) -> None:
    """The numbers that the renamed texts below must give, by the equations."""
    result, module = built(tmp_path, ATTENTION.substitute(USUAL))
    runs(module, agrees(result, module, USUAL))


V = np.array([[1.1, 0.3, 0.2], [0.3, 0.9, -0.1], [0.2, -0.1, 1.4]])
MASK = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])


def closed_form() -> tuple[np.ndarray, np.ndarray]:
    """Drift and diffusion for gamma = 0.6, tau_0 = 0.8: E B_an B_bk = D D V_ab V_nk / tau^2."""
    g, tau = 0.6, 0.8
    second = np.einsum("an,bk,ab,nk->anbk", MASK, MASK, V, V) / tau**2
    P = np.einsum("anck,nb,kd->abcd", second, V, V)
    P = P + P.transpose(1, 0, 2, 3)
    P = P + P.transpose(0, 1, 3, 2)
    linear = np.einsum("ac,bd->abcd", V, V) + np.einsum("ad,bc->abcd", V, V)
    drift = g**2 * np.einsum("anbk,nk->ab", second, V)
    return drift, g**2 * (2 - g**2) * linear + g**4 * P


def agrees(result: object, module: ModuleType, names: dict[str, str]) -> tuple[object, ...]:
    """By its equations; its parameters, for `runs`."""
    fields = {names["gamma"]: 0.6, names["tau"]: 0.8, names["mask"]: MASK}
    params = module.Params(**fields)
    drift, diffusion = closed_form()
    with precision("float64"):
        np.testing.assert_allclose(module.drift(V, params), drift, rtol=0, atol=1e-12)
        np.testing.assert_allclose(module.diffusion(V, params), diffusion, rtol=0, atol=1e-12)
        numbers = {s: fields[s.name] for s in result.model.params}  # type: ignore[attr-defined]
        numbers[result.law.gram.dims[0]] = 3  # type: ignore[attr-defined]
        rate = evaluate(result.mixing_rate, {"V": V, names["mask"]: MASK}, numbers)  # type: ignore[attr-defined]
        np.testing.assert_allclose(module.mixing_rate(V, params), rate, rtol=1e-12)
    clean(Path(module.__file__ or ""))
    return params  # type: ignore[no-any-return]


def runs(module: ModuleType, params: tuple[object, ...]) -> None:
    """Its simulations have values; their programs take longest to compile."""
    with precision("float64"):
        paths = module.simulate(V, params, t1=0.02, paths=2, seed=0, dt=0.01)
        net = module.network(V, params, width=8, depth=2, paths=2, seed=0)
        chain = module.reduced_network(V, params, width=8, depth=2, paths=2, seed=0)
    for out in (paths, net, chain):
        assert np.isfinite(np.asarray(out.V)).all()


def clean(file: Path) -> None:
    """No local of a function hides a name of its module that the function or Python needs."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    for node in tree.body:
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            top |= {a.asname or a.name for a in node.names}
        if isinstance(node, ast.Assign):
            top |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    hidden = top | set(dir(builtins))
    for function in (n for n in tree.body if isinstance(n, ast.FunctionDef)):
        if function.name in ("simulate", "network", "reduced_network"):
            continue
        stored = [
            n.id
            for n in ast.walk(function)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        ]
        assert not set(stored) & hidden, (function.name, set(stored) & hidden)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(ODD), 7))
@pytest.mark.parametrize("shift", [0, 3])
def test_things_with_odd_names(tmp_path: Path, start: int, shift: int) -> None:
    """Seven slots at a time take odd names; two shifts put each name in two slots."""
    names = [ODD[(start + k) % len(ODD)] for k in range(7)]
    slots = ["gamma", "tau", "mask", "keys", "W", "logits", "A"]
    given = dict(USUAL)
    for k, name in enumerate(names):
        given[slots[(k + shift) % 7]] = name
    if "_" in given["mask"] and given["mask"][:2] in ("F_", "G_"):
        given["mask"] = "D"  # fields of the noise: refused, see below
    text = ATTENTION.substitute(given)
    result, module = built(tmp_path, text)
    agrees(result, module, given)


def rare(name: str) -> object:
    """One of a kind with others that every run tries."""
    return pytest.param(name, marks=pytest.mark.slow)


MODEL_NAMES = ["jax", rare("numpy"), "drift", "Params", "np", rare("con"), "Ω", "V", rare("own_")]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_models_with_odd_names(tmp_path: Path, name: str) -> None:
    result, module = built(tmp_path, ATTENTION.substitute(USUAL | {"model": name}))
    assert name == module.MODEL
    params = agrees(result, module, USUAL)
    if name == "jax":
        runs(module, params)


@pytest.mark.parametrize(
    "state", ["x", rare("Y"), "weights_", "params", rare("dims"), "half", rare("n_")]
)
def test_states_with_odd_names(tmp_path: Path, state: str) -> None:
    result, module = built(tmp_path, ATTENTION.substitute(USUAL | {"state": state}))
    params = agrees(result, module, USUAL)
    if state == "params":
        runs(module, params)


def test_names_that_python_reads_as_one(tmp_path: Path) -> None:
    """A ligature in an identifier is two letters to Python, and to the fields of a kernel."""
    given = USUAL | {"gamma": "ﬁeld", "tau": "ℓ"}
    result, module = built(tmp_path, ATTENTION.substitute(given))
    agrees(result, module, given | {"gamma": "field", "tau": "l"})


@pytest.mark.parametrize("slot", ["gamma", "tau", "keys", "mask"])
@pytest.mark.parametrize("name", ["_x", "_", "__len__", "_replace", "lambda", "class", "None"])
def test_names_that_no_field_can_have_are_refused(tmp_path: Path, slot: str, name: str) -> None:
    """At the line of the declaration, whatever the variable is called."""
    text = ATTENTION.substitute(USUAL).replace(f'"{USUAL[slot]}:', f'"{name}:')
    line = 1 + next(k for k, row in enumerate(text.split("\n")) if f'"{name}:' in row)
    with pytest.raises(DefinitionError, match=name) as problem:
        built(tmp_path, text)
    assert problem.value.place is not None and problem.value.place.line == line
    assert "underscore" in str(problem.value) or keyword.iskeyword(name)


PAIRS = ("gamma tau", "gamma keys", "mask gamma", "mask keys", "state gamma", "state keys")


@pytest.mark.parametrize("pair", [p.split() for p in (*PAIRS, "mask state")])
def test_one_name_for_two_things_is_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    given = USUAL | {pair[0]: USUAL[pair[1]]}
    with pytest.raises(DefinitionError):
        built(tmp_path, ATTENTION.substitute(given))


@pytest.mark.parametrize("name", ["V", "L", "t", "h", "F_1", "G_2", "S_1"])
def test_patterns_that_derived_quantities_are_called_after(tmp_path: Path, name: str) -> None:
    with pytest.raises(DefinitionError, match=name):
        built(tmp_path, ATTENTION.substitute(USUAL | {"mask": name}))
