"""One generated module per token flow: what was derived, bound to the runtime.

Input: a derivation.  Output: the module's text, the same bytes for the same input.
"""

from __future__ import annotations

import hashlib
import re

import sympy as sp

from derive.calculus.arrays.scalar_functions import derivative_of
from derive.calculus.written.dialect import LATEX
from derive.emit.common import scalars
from derive.emit.common.layout import tidy
from derive.emit.common.rendering import NO_HASH, body_hash, environment
from derive.emit.gaussian_closure.code import symbols_inside
from derive.emit.gaussian_closure.module import function_text
from derive.emit.token_flow.equations import written
from derive.emit.token_flow.kernels import parts_of
from derive.emit.token_flow.parameters import param_fields
from derive.methods.token_flow.result import Absent, TokenFlow
from derive.version import ENGINE

#: words of `derive.runtime.flows.words`; all others are those of closures
OWN = frozenset(
    [
        "by_pairs",
        "cosines",
        "equal_masses",
        "exp_or_nan",
        "growth_rate",
        "in_frame",
        "in_frame_of_average",
        "largest",
        "largest_share",
        "relu",
        "sines",
        "tangent",
        "towards",
        "uniform_mean",
        "with_transpose",
    ]
)
#: words of `derive.runtime.flows.manoeuvres`
OF_MANOEUVRES = frozenset(
    ["elementary", "filled", "positive_part", "time_by_roots", "time_of_exponentials", "vectors"]
)


def render(result: TokenFlow, source: str, request: str) -> str:
    """Text of `generated/<model>.py`."""
    parts = parts_of(result)
    model = result.model
    words = set(parts.words)
    functions = []
    for (rule, order), name in sorted(parts.functions.items(), key=lambda item: item[1]):
        text, more = function_text(derivative_of(rule.body, order))
        words |= more
        title = rule.name if not order else f"Derivative of {rule.name}, order {order}"
        arguments = ", ".join(["s", *(scalars.python(p) for p in symbols_inside(rule.body))])
        functions.append({"name": name, "text": text, "arguments": arguments, "doc": f"{title}."})
    body = "\n".join(
        [*(f["text"] for f in functions), *(t for k in parts.kernels for t in k.lines)]
    )
    words = {
        w for w in words if re.search(rf"\b{w}\b", body)
    }  # a writer may not need what it asked for
    text = (
        environment()
        .get_template("token_flow.py.jinja")
        .render(
            title=model.doc.split("\n")[0] or model.name,
            engine=ENGINE,
            toolchain=f"SymPy {sp.__version__}",
            source=source,
            request=request,
            body=NO_HASH,
            where=f"on the sphere of R^{model.state_dim}"
            if model.sphere
            else f"in R^{model.state_dim}",
            home="On the sphere: tokens of unit length, or `project=True`."
            if model.sphere
            else "A system that blows up is nan after its time.",
            operations=f"{parts.contractions} contractions in {len(parts.kernels)} functions",
            model=model.name,
            signature=model_signature(result),
            equations_text=equations_text(result),
            equations_latex={n: w.latex for n, w in written(result, LATEX).items()},
            facts=result.facts,
            ops=sorted(words - OWN - OF_MANOEUVRES),
            own=sorted(words & OWN),
            of_manoeuvres=sorted(words & OF_MANOEUVRES),
            sums=sorted(parts.sums),
            params=param_fields(result),
            scalar_functions=functions,
            kernels=parts.kernels,
            sphere=model.sphere,
            noisy=result.noise is not None,
            spec=_spec(result),
            led="score" in result.equations,
            large="" if isinstance(result.slow_motion, Absent) else str(result.slow_motion.large),
            caps=not isinstance(result.caps, Absent),
            steered=not isinstance(result.manoeuvres, Absent),
            clusters=result.noise is None and clusters_move(result),
        )
    )
    text = tidy(text)
    return text.replace(NO_HASH, body_hash(text), 1)


def clusters_move(result: TokenFlow) -> bool:
    """Is there a reduced system of clusters whose merging is followed?"""
    return result.model.sphere and "gram_rate" in result.equations


def _spec(result: TokenFlow) -> list[tuple[str, str]]:
    names = {k.name for k in parts_of(result).kernels}
    out = [("energy", "energy")] if "energy" in names else []
    if "cluster_rate" in names:
        out.append(("gram_rate", "cluster_rate"))
    if "score" in result.equations:
        out += [("frame", "frame_matrix"), ("score", "score_matrix")]
    if result.noise is not None:
        out.append(("noise_rate", "noise_rate"))
    out += [
        (n, n)
        for n in ("uniform_velocity", "split", "pull", "reversed_piece", "pull_time", "split_rate")
        if n in names
    ]
    if result.model.positional:
        out.append(("ordered", "True"))
    return out + scalars.bounded(result.model.params)


def model_signature(result: TokenFlow) -> str:
    """Sixteen hexadecimal digits over the meaning: equations, parameters, functions."""
    lines = [result.model.method, str(result.model.sphere)]
    lines += [f"{f['name']}: {f['shape']}" for f in param_fields(result)]
    lines += [f"{k} = {v}" for k, v in equations_text(result).items()]
    lines += [k.name + "\n".join(k.lines) for k in parts_of(result).kernels]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def equations_text(result: TokenFlow) -> dict[str, str]:
    return {name: shown.text for name, shown in written(result).items()}
