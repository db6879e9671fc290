"""The signature of a control problem says what it says, not how or when it was derived."""

from __future__ import annotations

import subprocess
import sys

import pytest

from derive.emit.optimal_control.module import model_signature
from derive.entry import generated_folder
from derive.face.kernel import text_of
from derive.methods.optimal_control.derivation import derive
from derive.registry import find, load, registered
from derive.verify.optimal_control.mutants import mutants

NAME = "gaussian_tracking"
PROBLEMS = [e.name for e in registered() if e.method == "optimal_control"]


@pytest.mark.parametrize("name", PROBLEMS)
def test_committed_modules_are_what_the_definitions_say(name: str) -> None:
    committed = (generated_folder() / f"{name}.py").read_text(encoding="utf-8")
    assert committed == text_of(find(name)), f"run: derive build {name}"


def test_mutants_leave_the_signature_alone() -> None:
    result = derive(load(find(NAME)))
    before = model_signature(result)
    assert mutants(result, 40).passed
    assert model_signature(result) == before
    assert model_signature(derive(load(find(NAME)))) == before


def test_signatures_do_not_follow_the_hash_seed() -> None:
    code = (
        "from derive.registry import find, load\n"
        "from derive.methods.optimal_control.derivation import derive\n"
        "from derive.emit.optimal_control.module import render\n"
        "import hashlib\n"
        "names = ('sphere_attention_tracking', 'sparse_neural_ode')\n"
        "texts = [render(derive(load(find(n))), n, n) for n in names]\n"
        "print(hashlib.sha256(''.join(texts).encode()).hexdigest())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(found) == 1
