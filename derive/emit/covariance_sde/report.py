"""The report of a covariance SDE: its equations, its noise, what is said of them, its steps."""

from __future__ import annotations

from derive.calculus.index.expressions import Expression
from derive.calculus.index.text import show
from derive.calculus.index.words import word
from derive.calculus.written.short_form import short_form
from derive.emit.common import latex
from derive.emit.common.contraction import responses
from derive.emit.common.document import Document, Shown, StepShown
from derive.emit.covariance_sde.equations import all_shown, terms
from derive.emit.covariance_sde.module import model_signature
from derive.methods.covariance_sde.fields import Field, NoiseMap, describe
from derive.methods.covariance_sde.result import CovarianceSDE


def document(result: CovarianceSDE, steps: bool = False) -> Document:
    """The report, with the record of the steps or with the equations alone."""
    model, fields = result.model, result.noise.fields
    state = (
        f"  state {model.state_name}[{', '.join(d.name for d in model.state_dims)}], "
        f"V = {model.state_name} {model.state_name}^T"
        + (f" / {model.width}" if model.clock == model.width else "")
        + f", clock t = layer / {model.clock_text}"
    )
    return Document(
        name=model.name,
        title=title(result),
        intro=[state],
        equations=all_shown(result.equations),
        notes=[
            *(_seen(f, result.noise) for f in fields),
            *responses(result.equations.values()),
            *result.facts,
        ],
        latex_notes=[*result.facts, *(_seen(f, result.noise) for f in fields)],
        facts=result.facts,
        data={"signature": model_signature(result)},
        more={
            "fields": [
                {"name": f.tensor.name, "symmetric": f.tensor.symmetric, "replaces": f.core}
                for f in fields
            ]
        },
        steps=[StepShown(s, [_result(n, e) for n, e in s.results.items()]) for s in result.steps]
        if steps
        else None,
    )


def _result(name: str, expression: Expression) -> Shown:
    """What a step has found."""
    rows = [f"{name}: {len(expression.terms)} terms"]
    rows += [f"    {row}" for row in show(expression).split("\n")]
    left = rf"\text{{{latex.escape(name)}}}"
    return Shown(name, rows, name, left, latex.lines(expression), terms(expression))


def _seen(field: Field, noise: NoiseMap) -> str:
    """What a field stands for and its law, E F F derived from how it is drawn."""
    name = field.tensor.name
    law = short_form(noise.covariance_of(field))
    cores = " and ".join(product_words(core) for core in field.cores)
    return (
        f"{name}: {cores} as the tokens see {'it' if len(field.cores) == 1 else 'them'}, Gaussian "
        f"with E {_entry(name, 'ab', field)} {_entry(name, 'cd', field)} = {' '.join(law.lines)}; "
        f"drawn as {_drawn(field)}, L L^T = V"
    )


def _entry(name: str, ends: str, field: Field) -> str:
    return f"{name}[{','.join(ends[: len(field.built.free)])}]"


def product_words(core: Expression) -> str:
    """A core as a product of matrices where it is one."""
    (_, factors), *_ = core.terms
    found = word(factors, core.free)
    if found is None:
        return describe(core)
    return " ".join(f"{x.tensor.name}{'^T' if x.transposed else ''}" for x in found.letters)


def _drawn(field: Field) -> str:
    """A field in its normals: L G L^T, without the L where a leg is not paired through V."""
    (_, factors), *_ = field.built.terms
    through = {f.indices[0] for f in factors if f.tensor.kind == "factor"}
    left, *right = (leg in through for leg in field.built.free)
    end = (" L^T" if right[0] else "") if right else " 1"
    return f"{'L ' if left else ''}{field.drawn.name}{end}"


def title(result: CovarianceSDE) -> str:
    return result.model.doc.strip().split("\n")[0]
