"""One generated module per model: the derived equations bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.  Templates
hold the shape of a kernel and no mathematics; every formula comes from the derivation.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from derive.emit.common.contraction import responses
from derive.emit.common.kernel import Kernel
from derive.emit.common.layout import tidy
from derive.emit.common.rendering import NO_HASH, body_hash, environment, filled
from derive.emit.common.signature import signature
from derive.emit.covariance_sde.at_width import at_width_entry, at_width_kernels, at_width_params
from derive.emit.covariance_sde.edges import with_edges
from derive.emit.covariance_sde.equations import all_shown
from derive.emit.covariance_sde.kernels import kernels_of, layer_kernel, numbered
from derive.emit.covariance_sde.names import clock_words, parameters, patterns, sizes_of, taken
from derive.emit.covariance_sde.spec import specification, words_of_runtime
from derive.methods.covariance_sde.corrected import Corrected, corrected_or_none
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import show_shape
from derive.notation.common.scalars import Param
from derive.version import ENGINE


def render(result: CovarianceSDE, source: str, request: str) -> str:
    """Text of `generated/<model>.py`.

    `source`: the definition's path as it should be shown; `request`: what `derive build` takes.
    """
    kernels, operations = kernels_of(result)
    at_width = corrected_or_none(result)
    if at_width is not None:
        kernels += at_width_kernels(at_width)
    kept = taken(result)
    kernels = [
        replace(
            numbered(k, kept), doc=filled(k.doc), decorators=single_numbers(k, result, at_width)
        )
        for k in map(with_edges, kernels)
    ]
    all_of = result.equations | ({} if at_width is None else at_width.corrections)
    equations = all_shown(all_of)
    layer = next(k for k in kernels if k.name == "layer")
    text = (
        environment()
        .get_template("covariance_sde.py.jinja")
        .render(
            title=_first_line(result.model.doc) or result.model.name,
            engine=ENGINE,
            source=source,
            request=request,
            toolchain=f"SymPy {sp.__version__}",
            body=NO_HASH,
            model=result.model.name,
            signature=model_signature(result, layer),
            operations=operations,
            sde="dV = drift(V) dt + noise(V) sqrt(dt), clock t = layer / "
            f"{result.model.clock_text}, V = {_gram(result)}; sums run over the tokens.",
            equations_text=["\n".join(s.rows) for s in equations],
            equations_latex={s.name: f"{s.left} = {' '.join(s.right)}" for s in equations},
            facts=[
                *responses(all_of.values()),
                *result.facts,
                *([] if at_width is None else [at_width.fact]),
            ],
            ops=words_of_runtime(kernels)[0],
            means=words_of_runtime(kernels)[1],
            params=[{"name": p.name, "meaning": _meaning(p)} for p in parameters(result)],
            dims=[{"name": d.name, "meaning": d.meaning} for d in sizes_of(result)],
            weights=[{"name": n, "shape": show_shape(a.shape)} for n, a in result.trace.weights],
            kernels=kernels,
            scalars=any(k.decorators for k in kernels),
            spec=specification(result) + ([] if at_width is None else [at_width_entry(at_width)]),
            at_width=at_width and at_width_params(at_width),
            reduced=result.reduction is not None,
            clock=clock_words(result),
        )
    )
    text = tidy(text)
    return text.replace(NO_HASH, body_hash(text), 1)


def single_numbers(kernel: Kernel, result: CovarianceSDE, at_width: Corrected | None) -> list[str]:
    """A check of the fields of `params` that are one number each: no pattern, no table."""
    corrected = at_width is not None and kernel.name.endswith("_at_width")
    fields = parameters(at_width.sde if corrected and at_width is not None else result)
    arrays = {p.name for p in patterns(result) if p.given}
    arrays |= {p.name for p in result.model.params if p.varying}
    places = [f"{f.name}={place}" for place, f in enumerate(fields) if f.name not in arrays]
    return [f"scalars_only({', '.join(places)})"] if places else []


def model_signature(result: CovarianceSDE, layer: Kernel | None = None) -> str:
    layer = layer or layer_kernel(result)
    return signature(result.model, result.equations, "\n".join([*layer.body, layer.result]))


def _meaning(symbol: sp.Symbol) -> str:
    if type(symbol) is sp.Symbol and not symbol.assumptions0.get("positive"):
        return "given numbers (m, m)" if symbol.is_real else "base pattern (m, m), rows sum to one"
    if isinstance(symbol, Param):
        words = [symbol.range.text, symbol.meaning]
        return ", ".join(dict.fromkeys(w for w in words if w))
    return "a dimension of the definition"


def _gram(result: CovarianceSDE) -> str:
    model = result.model
    product = f"{model.state_name} {model.state_name}^T"
    return product if model.clock != model.width else f"{product} / {model.width}"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
