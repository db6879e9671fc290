"""Hostile input, drawn at random: whatever a definition, a name, a command line or a damaged file
holds, a command ends with 0, 1 or 2, one message, and no half-written file.

`make hostile` draws some thousands of cases, `make test` a sample of them; the draws are fixed.
"""

from __future__ import annotations

import contextlib
import io
import os
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from derive import certificate, sources
from derive.cli import main
from derive.entry import generated_folder
from derive.files import text_in
from derive.registry import entries, find
from derive.runtime.common import inputs, numbers
from derive.runtime.common.precision import precision
from derive.runtime.common.whole_files import MARK, write_whole

SAMPLE = 12  # one case in so many belongs to the sample

pytestmark = pytest.mark.filterwarnings("ignore")


def drawn(cases: int, least: int = 5, sample: int = SAMPLE):  # type: ignore[no-untyped-def]
    """Settings of a property: `cases` draws where all are wanted, a share of them otherwise."""
    count = cases if os.environ.get("DERIVE_HOSTILE") else max(cases // sample, least)
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def run(*argv: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in argv])
    said = out.getvalue() + err.getvalue()
    assert code in (0, 1, 2), (code, said)
    assert "Traceback" not in said and "bug of derive" not in said, said
    return code, out.getvalue(), err.getvalue()


def nothing_half_written(place: Path) -> None:
    for file in place.rglob("*"):
        assert MARK not in file.name, file
        if file.suffix == ".py" and file.is_file():
            compile(file.read_bytes(), str(file), "exec")


HEAD = '''"""A layer."""
from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt, Rational
m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
gamma, tau_0 = params("gamma: in (0, 1)", "tau_0: positive")
@covariance_sde(state="X[m, n]", width=n)
def mine(X):
    W, U = gaussian(n, n), gaussian(n, n)
'''

ATOMS = ["X", "W", "U", "gamma", "tau_0", "n", "m", "n_k", "1", "0", "-2", "0.5", "None", "'a'"]
ATOMS += ["[]", "X.T", "eye(m)", "gaussian(n, n_k)", "float('nan')", "1j", "True", "10**400", "..."]
FORMS = ["({} + {})", "({} @ {})", "({} * {})", "({} / {})", "({} ** {})", "({} - {})", "{}[{}]"]
FORMS += [
    "sqrt({})+{}",
    "softmax({}) @ {}",
    "{}({})",
    "({} // {})",
    "({} == {})",
    "({} if {} else 0)",
]


def expressions() -> st.SearchStrategy[str]:
    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.builds(lambda f, a, b: f.format(a, b), st.sampled_from(FORMS), inner, inner)

    return st.recursive(st.sampled_from(ATOMS), grow, max_leaves=6)


@drawn(500)
@given(expressions())
def test_any_expression_is_derived_or_refused_at_its_line(text: str) -> None:
    with folder() as place:
        file = place / "mine.py"
        file.write_text(HEAD + f"    return {text}\n", encoding="utf-8")
        code, out, err = run("show", file, "--limit", 20)
        if code == 2:
            assert "mine.py:" in err and out == "", err


RAISED = ["SystemExit(0)", "SystemExit(3)", "SystemExit('x')", "GeneratorExit()", "StopIteration()"]
RAISED += ["MemoryError()", "RecursionError()", "BaseException('a')", "OSError(28, 'full')"]
RAISED += [
    "BrokenPipeError()",
    "UnicodeError('x')",
    "KeyError(None)",
    "type('E', (BaseException,), {})",
]
RAISED += [
    "__import__('derive.errors').errors.CheckFailed('c')",
    "ExceptionGroup('g', [ValueError()])",
]
RAISED += ["type('E', (Exception,), {'__str__': lambda s: 1 / 0})()", "AssertionError", "3"]


@drawn(120)
@given(st.sampled_from(RAISED), st.booleans(), st.sampled_from(["show", "build"]))
def test_whatever_a_definition_raises_has_its_place(what: str, inside: bool, command: str) -> None:
    with folder() as place:
        file = place / "mine.py"
        text = (
            HEAD + f"    raise {what}\n" if inside else f"raise {what}\n" + HEAD + "    return X\n"
        )
        file.write_text(text, encoding="utf-8")
        rest = ["--out", place / "out"] if command == "build" else []
        code, _, err = run(command, file, *rest)
        assert code == 2 and f"mine.py:{8 if inside else 1}:" in err, (text, err)
        nothing_half_written(place)


@drawn(300)
@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
@example(b"\0")
@example(b"\xef\xbb\xbfx = 1")
@example(b"(" * 5000)
def test_any_bytes_as_a_definition_are_refused(content: bytes) -> None:
    with folder() as place:
        (place / "mine.py").write_bytes(content)
        code, _, err = run("show", place / "mine.py")
        assert code == 2 and "mine.py" in err


@drawn(250)
@given(st.data())
def test_a_damaged_kernel_or_certificate_is_named_and_mended(data: st.DataObject) -> None:
    entry = find("linear_closure")
    whole = (generated_folder() / "linear_closure.py").read_bytes()
    damage = data.draw(
        st.sampled_from(["cut", "byte", "insert", "empty", "folder", "link", "noise"])
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    with folder() as place:
        file = place / "linear_closure.py"
        content = {
            "cut": whole[:at],
            "byte": whole[:at]
            + bytes([whole[at] ^ data.draw(st.integers(1, 255))])
            + whole[at + 1 :],
            "insert": whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at:],
            "noise": data.draw(st.binary(max_size=200)),
        }.get(damage, b"")
        if damage == "folder":
            file.mkdir()
        elif damage == "link":
            file.symlink_to(file)
        else:
            file.write_bytes(content)
        cert = place / "linear_closure.cert.json"
        cert.write_bytes(data.draw(st.binary(max_size=40) | st.just(b"{}")))
        found = certificate.verdict(place, entry)
        assert not found.holds and found.why
        from derive.commands.build_command import holds
        from derive.files import clear
        from derive.files import write_whole as command_write

        assert not holds(file, whole.decode())
        clear(file)
        command_write(file, whole.decode())
        assert holds(file, whole.decode()) and text_in(file) == whole.decode()
        nothing_half_written(place)


@drawn(300)
@given(
    st.sampled_from(
        ["list", "show", "new", "diff", "simulate", "sweep", "export", "figure", "nothing", ""]
    ),
    st.lists(
        st.text(string.printable, max_size=12).filter(lambda t: "/" not in t and t[:1] != "-")
        | st.sampled_from(["--kind", "--format", "--limit", "--help", "--steps", "--level", "-x"])
        | st.sampled_from(["--seed", "--paths", "--t1", "nan", "-1", "1e999", "--against", "HEAD"]),
        max_size=4,
    ),
)
def test_any_command_line_ends_in_order(command: str, rest: list[str]) -> None:
    with folder() as place, contextlib.chdir(place):
        run(command, *rest)
        nothing_half_written(place)


@drawn(150)
@given(
    st.text(min_size=1, max_size=15) | st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,9}", fullmatch=True)
)
def test_any_name_is_started_or_refused(name: str) -> None:
    with folder() as place, contextlib.chdir(place):
        code, _, err = run("new", "--kind", "gaussian_closure", "--out", place, "--", name)
        if code == 0:
            (found,) = entries(place / f"{name}.py")
            assert found.function.isidentifier()
        else:
            assert "Python function" in err or "registered" in err or "cannot write" in err, err


VALUES = st.one_of(
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.booleans(),
    st.text(max_size=4),
    st.none(),
    st.lists(st.floats(), max_size=3),
    st.builds(np.int64, st.integers(-(2**62), 2**62)),
    st.builds(np.float32, st.floats(width=32)),
    st.builds(np.array, st.integers(-5, 5)),
    st.just(np.ma.masked_array([[1.0, 2.0]], mask=[[True, False]])),
    st.just(np.array([[1, None]], dtype=object)),
    st.just(np.eye(2) * 1j),
)


@drawn(500)
@given(VALUES)
def test_any_value_is_a_number_or_refused_with_its_name(value: object) -> None:
    for check in (inputs.covariance, inputs.positive_integer, numbers.number, numbers.finite):
        named = [value] if check is inputs.covariance else ["V0", value]
        try:
            got = check(*named)  # type: ignore[operator]
        except ValueError as problem:
            assert "V0" in str(problem)
            continue
        assert np.isrealobj(got) and not isinstance(value, (bool, str, complex, type(None)))
        if check is inputs.positive_integer:
            assert type(got) is int and got == value


@drawn(100)
@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_a_write_that_fails_leaves_the_old_file(content: bytes, until: int) -> None:
    with folder() as place:
        target = place / "file"
        write_whole(target, b"old")

        def full(stream: io.BufferedWriter) -> None:
            stream.write(content[:until])
            if until < len(content):
                raise OSError(28, "No space left on device")
            stream.write(content[until:])

        with contextlib.suppress(OSError):
            write_whole(target, full)  # type: ignore[arg-type]
        assert target.read_bytes() == (b"old" if until < len(content) else content)
        assert os.listdir(place) == ["file"]


@drawn(100)
@given(st.text(alphabet=string.ascii_letters + " \n#'\"=+()[]:0123456789", max_size=60))
def test_a_comment_never_changes_what_a_text_says(words: str) -> None:
    try:
        before = sources.meaning(words)
    except (SyntaxError, ValueError):
        return
    assert sources.meaning(words + "\n# more\n") == before


LAYER = """from derive.notation import covariance_sde, dims, eye, gaussian, params, softmax, sqrt
m, n, n_k = dims("m: tokens", "n: width", "n_k: key width")
{0}, {1} = params("{0}: in (0, 1)", "{1}: positive")


@covariance_sde(state="X[m, n]", width=n)
def mine(X):
    W_Q, W_K, W_V = gaussian(n, n_k), gaussian(n, n_k), gaussian(n, n)
    logits = (X @ W_Q) @ (X @ W_K).T / n
    A = {2}
    return {3}sqrt(1 - {0}**2) * X + {4} * {0} * A @ X @ W_V / sqrt(n)
"""
MIXINGS = ["eye(m) + logits * sqrt({1}) / sqrt(n * n_k)"]
MIXINGS += ["eye(m) + softmax(logits / ({1} * sqrt(n * n_k))) - 1 / m"]
MIXINGS += ["eye(m) + 2 * softmax(logits / ({1} * sqrt(n * n_k))) - 2 / m"]
NAMES = ["gamma", "beta", "matrix", "eye_", "scalar", "V_V", "key", "root", "lambda_", "E", "S"]
NAMES += ["I", "pi", "part", "noise", "drift", "np", "jnp", "x", "Q", "runtime", "MODEL"]
NAMES += ["V_sum", "half", "params", "vector"]


@drawn(36, 1, 36)
@given(
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True),
    st.sampled_from(MIXINGS),
    st.sampled_from(["1", "-1"]),
    st.integers(0, 99),
)
def test_what_is_built_agrees_with_its_equations(
    names: list[str], mixing: str, factor: str, seed: int
) -> None:
    from derive.calculus.index.evaluate import evaluate
    from derive.derivation import derived
    from derive.face import kernel
    from derive.verify.common.compare import load_module
    from derive.verify.covariance_sde.instance import instance

    results = []

    def kept(*arguments: Any) -> Any:
        results.append(derived(*arguments))
        return results[-1]

    with folder() as place, mock.patch.object(kernel, "derived", kept):
        text = LAYER.format(*names, mixing.format(*names), "", factor)
        (place / "mine.py").write_text(text, encoding="utf-8")
        code, _, err = run("build", place / "mine.py", "--out", place / "kernels")
        if code:
            assert "mine.py:" in err, err
            return
        module = load_module(place / "kernels" / "mine.py")
        (result,) = results
        one = instance(result, 3, seed)
        given = module.Params(*(one.params[n] for n in module.Params._fields))
        right = evaluate(result.drift, {"V": one.V}, one.numbers)
        size = max(float(np.max(np.abs(right))), float(np.max(np.abs(one.V))))
        with precision("float64"):
            found = np.asarray(module.drift(one.V, given))
        assert np.max(np.abs(found - right)) < 1e-10 * size
