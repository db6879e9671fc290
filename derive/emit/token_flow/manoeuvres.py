"""Manoeuvres of a token flow as functions: parameters that move whole laws, rates, durations.

Input: a derivation.  Output: functions added to `Parts`.  Every value is that which was put into
the velocity when they were derived.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import sympy as sp

from derive.calculus.index.factors import Tensor
from derive.emit.common import scalars
from derive.emit.common.kernel import Kernel
from derive.emit.common.names import fresh, local
from derive.emit.gaussian_closure.kernels import Parts
from derive.emit.token_flow.parameters import param_fields
from derive.methods.token_flow.levers import Lever
from derive.methods.token_flow.manoeuvres import C_SPLIT, MEAN, H, Manoeuvres, shared
from derive.methods.token_flow.result import TokenFlow

WIDTH = sp.Symbol("width", positive=True, integer=True)
SIZE = sp.Symbol("d", positive=True, integer=True)
_FUNCTIONS = re.compile(r"\b(sqrt|exp|log|tanh|sin|cos)\(")  # of numbers, in their library
TAKEN = {"alpha", "c", "omega", "z", "h", "width", "d"}
Values = Mapping[Tensor, tuple[Lever, tuple[str, ...], sp.Expr]]


def manoeuvres(parts: Parts, result: TokenFlow, found: Manoeuvres) -> None:
    """Adds split, pull, reversed_piece and what says how far and how long they move."""
    _split(parts, result, found)
    _pull(parts, result, found)
    turned = ", ".join(f"{t.name}=-params.{t.name}" for t in found.levers.outputs)
    doc = "Parameters under which every token has minus the velocity that it has under `params`."
    parts.kernels.append(Kernel("reversed_piece", "params", doc, [], f"params._replace({turned})"))
    _rates(parts, found)
    _times(parts, found)


def _split(parts: Parts, result: TokenFlow, found: Manoeuvres) -> None:
    mean, gate = found.levers.barycentre, found.levers.gate
    values: Values = {
        mean.tensor: (mean, ("alpha", "alpha"), shared(mean)),
        gate.offset.tensor: (gate.offset, (), sp.S.One),
        gate.out.tensor: (gate.out, ("alpha",), -C_SPLIT * shared(gate.out)),
    }
    doc = (
        "Parameters that move every token x of a law by (<m, alpha> - c) alpha, m the law's mean, "
        "alpha (d,) of unit length.\n\natanh <x, alpha> grows at <m, alpha> - c for all alike."
    )
    _steering(parts, result, found, "split", ("alpha",), "c", doc, values)


def _pull(parts: Parts, result: TokenFlow, found: Manoeuvres) -> None:
    gate = found.levers.gate
    values: Values = {
        gate.into.tensor: (gate.into, ("z",), sp.S.One),
        gate.offset.tensor: (gate.offset, (), -H),
        gate.out.tensor: (gate.out, ("omega",), shared(gate.out)),
    }
    doc = (
        "Parameters that move every token x by relu(<z, x> - h) omega, omega (d,) of unit length, "
        "z (d,).\n\nTokens with <z, x> <= h rest, others go to omega on great circles."
    )
    _steering(parts, result, found, "pull", ("omega", "z"), "h", doc, values)


def _steering(
    parts: Parts,
    result: TokenFlow,
    found: Manoeuvres,
    name: str,
    directions: Sequence[str],
    number: str,
    doc: str,
    values: Values,
) -> None:
    """A function that gives Params; all matrices that have no value are zero."""
    place, free = _places(result, found), _numbers(result)
    by_name = {t.name: value for t, value in values.items()}
    matrices = {m.data: m for m in result.trace.used}
    fields = []
    for field in param_fields(result):
        key = str(field["name"])
        if key in matrices:
            text = _matrix(matrices[key].shape, by_name.get(key), directions[0], place)
        else:
            text = _named(key) if key in free else "d"
        fields.append(f"{key}={text}")
    gate = found.levers.gate.out
    own = [dim for dim in gate.spare if dim != result.model.state_dim]
    size = "`width`: of the gate." if own else "`width` is read by gates of a width of their own."
    keywords = "".join(f", {_named(n)}={_usual(result, n)}" for n in free)
    given = f"{', '.join(directions)}, {number}, width=1{keywords}"
    made = ", ".join(f"{d}={d}" for d in directions)
    left = ", ".join(directions) + ("," if len(directions) == 1 else "")
    lines = [f"{left} = vectors({made})", f"d = {directions[0]}.shape[0]"]
    fields = [_FUNCTIONS.sub(r'elementary("\1", ', text) for text in fields]
    parts.words |= {"vectors", "filled", "elementary"}
    parts.kernels.append(
        Kernel(name, given, f"{doc}  {size}", lines, f"Params({', '.join(fields)})")
    )


def _numbers(result: TokenFlow) -> list[str]:
    """Numbers among the parameters; they stay what the caller wants them to be."""
    matrices = {m.data for m in result.trace.used}
    names = [str(f["name"]) for f in param_fields(result)]
    return [n for n in names if n not in matrices and n != result.model.state_dim.name]


def _named(name: str) -> str:
    """What a function that gives Params calls a number of the definition."""
    return fresh(local(name), TAKEN)


def _usual(result: TokenFlow, name: str) -> float:
    """One, or what lies within the range of a number."""
    (found,) = [p.range for p in result.model.params if p.name == name]
    if 1.0 in found:
        return 1.0
    low, high = max(found.low, -2.0), min(found.high, found.low + 4.0)
    return (low + high) / 2


def _places(result: TokenFlow, found: Manoeuvres) -> Callable[[sp.Expr], sp.Expr]:
    """What stands for the sizes and numbers of a definition."""
    spare = found.levers.gate.out.spare
    change: dict[sp.Expr, sp.Expr] = {
        dim: WIDTH if dim in spare else sp.S.One for dim in result.model.dims
    }
    change[result.model.state_dim] = SIZE
    change |= {p: sp.Symbol(_named(p.name), real=True) for p in result.model.params}
    return lambda expression: sp.sympify(expression).xreplace(change)


def _matrix(
    shape: Sequence[sp.Symbol],
    value: tuple[Lever, tuple[str, ...], sp.Expr] | None,
    like: str,
    place: Callable[[sp.Expr], sp.Expr],
) -> str:
    sizes = ", ".join(str(place(dim)) for dim in shape) + ("," if len(shape) == 1 else "")
    if value is None:
        return f"filled(({sizes}), 0, {like})"
    lever, pieces, times = value
    at = [k for k in (lever.out, lever.into) if k >= 0]
    texts = [_placed(p, k, len(shape)) for p, k in zip(pieces, at, strict=True)]
    number = sp.simplify(place(times / lever.number))
    if not texts:
        texts = [scalars.python(number)]
    elif number != 1:
        texts.insert(0, scalars.factor_text(number))
    return f"filled(({sizes}), {' * '.join(texts)}, {like})"


def _placed(name: str, at: int, axes: int) -> str:
    if axes == 1:
        return name
    return f"{name}[{', '.join(':' if k == at else 'None' for k in range(axes))}]"


def _rates(parts: Parts, found: Manoeuvres) -> None:
    doc = (
        "Rate of z = <x, alpha> of a token under `split`, `mean` that of the law's mean.\n\n"
        "Numbers or arrays that broadcast."
    )
    text = scalars.python(found.split_rate.xreplace({MEAN: sp.Symbol("mean", real=True)}))
    parts.kernels.append(Kernel("split_rate", "z, mean, c", doc, [], text))
    doc = (
        "Rates of s = <x, omega> and g = <x, z> of a token under `pull`, k = <omega, z>.\n\n"
        "Numbers or arrays that broadcast."
    )
    gates = sorted({m for r in found.pull_rates for m in r.atoms(sp.Max)}, key=str)
    opened = {gate: sp.Symbol("pushed", real=True) for gate in gates}
    (argument,) = [a for a in gates[0].args if a != 0]
    lines = [f"pushed = positive_part({scalars.python(argument)})"]
    parts.words.add("positive_part")
    both = ", ".join(scalars.python(r.xreplace(opened)) for r in found.pull_rates)
    parts.kernels.append(Kernel("pull_rates", "s, g, k, h", doc, lines, both))


def _times(parts: Parts, found: Manoeuvres) -> None:
    parts.words |= {"time_by_roots", "time_of_exponentials"}
    pairs = ", ".join(
        f"({scalars.python(share)}, {scalars.python(root)})" for share, root in found.split_poles
    )
    doc = (
        "Time under `split` from <x, alpha> = z0 to z1 of a law at one point, |c| < 1.\n\n"
        "Negative: a time of the reverse.  Infinite where c lies between.  Numbers or arrays that "
        "broadcast."
    )
    text = f"time_by_roots(({pairs}), z0, z1)"
    parts.kernels.append(Kernel("split_time", "z0, z1, c", doc, [], text))
    N, Q = (_coefficients(p) for p in found.pull_quadratics)
    doc = (
        "Time under `pull` from atanh <x, omega> = u0 to u1 of a token, k = <omega, z>, C = (g - k "
        "s) / sqrt(1 - s**2).\n\nNegative: a time of the reverse.  Infinite where the gate is "
        "closed on the way, nan where C = 0 and h = -k or k.  Numbers or arrays that broadcast."
    )
    text = f"time_of_exponentials({N}, {Q}, u0, u1)"
    parts.kernels.append(Kernel("pull_time", "u0, u1, k, C, h", doc, [], text))


def _coefficients(polynomial: sp.Poly) -> str:
    """Those of 1, E, E^2."""
    (variable,) = polynomial.gens
    found = [polynomial.coeff_monomial(variable**k) for k in range(3)]
    return f"({', '.join(scalars.python(c) for c in found)})"
