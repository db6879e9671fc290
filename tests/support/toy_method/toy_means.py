"""A method made from the contract alone: the mean of a linear layer y = f(x), x random with mean m.

It lies in a folder of its own, as another package would, and knows nothing of derive's methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import sympy as sp

from derive.contract import Method
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.common.rendering import NO_HASH, body_hash
from derive.errors import DefinitionError, Place, Refusal
from derive.methods.common.record import Check, Fact, Step
from derive.verify.common.compare import Finding, Target, findings, load_module, strict_jax
from derive.verify.common.facts import facts
from derive.verify.common.rung import Rung


@dataclass(frozen=True)
class Layer:
    """A function of one number."""

    name: str
    function: Any
    place: Place
    method: str = "layer_mean"


def layer_mean(function: Any) -> Layer:
    code = function.__code__
    return Layer(function.__name__, function, Place(code.co_filename, code.co_firstlineno))


@dataclass(frozen=True)
class Mean:
    model: Layer
    equations: dict[str, sp.Expr]
    facts: tuple[Fact, ...]
    steps: tuple[Step, ...]


X, M = sp.symbols("x m")


def _apart(layer: Layer, mean: sp.Expr) -> float:
    """The layer averaged over two points with mean m, against the derived mean, at random m."""
    rng = np.random.default_rng(1)
    worst = 0.0
    for m, s in rng.standard_normal((5, 2)):
        average = (layer.function(m + s) + layer.function(m - s)) / 2
        worst = max(worst, abs(float(mean.subs(M, m)) - average) / (1 + abs(average)))
    return worst


def _check(layer: Layer, mean: sp.Expr) -> Check:
    return Check("the text averaged over two points", _apart(layer, mean), 1e-12)


class Means(Method):
    word = "layer_mean"
    starter = (
        '"""NAME: say here what the layer is."""\n\nfrom toy_means import layer_mean\n\n\n'
        "@layer_mean\ndef NAME(x):\n    return 3 * x + 1\n"
    )

    def trace(self, definition: Layer) -> sp.Expr:
        return sp.sympify(definition.function(X))

    def derive(self, definition: Layer) -> Mean:
        traced = self.trace(definition)
        if not traced.is_polynomial(X):
            raise DefinitionError(f"{traced} is no polynomial", definition.place)
        if sp.degree(traced, X) > 1:
            raise Refusal(f"{traced} is not linear: its mean needs the law of x", definition.place)
        mean = traced.subs(X, M)
        check = _check(definition, mean)
        said = Fact("exact: the layer is linear", "exact", check)
        step = Step("average", "E is linear", {"mean": mean}, (said,), check)
        return Mean(definition, {"mean": mean}, (said,), (step,))

    def render(self, result: Mean, source: str, argument: str) -> str:
        name, mean = result.model.name, result.equations["mean"]
        signature = hashlib.sha256(sp.srepr(mean).encode()).hexdigest()[:16]
        text = (
            f'"""Mean of {name}, from {source}; regenerate with: derive build {argument}\n\n'
            f'Body {NO_HASH}\n"""\n\nMODEL = "{name}"\nSIGNATURE = "{signature}"\n\n\n'
            f'def mean(m):\n    """E f(x), x with mean m."""\n    return {sp.pycode(mean)}\n'
        )
        return text.replace(NO_HASH, body_hash(text), 1)

    def document(self, result: Mean, steps: bool = False, view: str = "") -> Document:
        shown = [
            Shown(name, [f"  {name} = {e}"], name, name, [sp.latex(e)], str(e))
            for name, e in result.equations.items()
        ]
        record = [StepShown(s, shown) for s in result.steps] if steps else None
        name = result.model.name
        return Document(
            name, "the mean of a layer", ["  x with mean m"], shown, result.facts, result.facts, {},
            steps=record,
        )  # fmt: skip

    def gate(self, result: Mean, module: ModuleType) -> list[Finding]:
        mean = result.equations["mean"]
        targets = [Target("mean", (m,), np.asarray(float(mean.subs(M, m)))) for m in (0.3, -1.7)]
        with strict_jax():
            return findings(module, [[t] for t in targets], ())

    def climb(self, definition: Layer, file: Path, level: str) -> Iterator[tuple[Mean, Rung]]:
        result, module = self.derive(definition), load_module(file)
        yield result, facts(result)
        found = _apart(definition, result.equations["mean"])
        yield result, Rung("L2", "the text itself", found < 1e-12, {"error": float(f"{found:.0e}")})
        off = max(f.error for f in self.gate(result, module))
        yield result, Rung("L3", "the kernel is the equation", off < 1e-11, {"error": off})


METHOD = Means()
