"""A layer is an object: the decorated function, what its method needs of it, and its trace.

Input: an ordinary Python function and the decorator's options.  Output: `Model`, and on request
`Trace`, the graph of one layer with the names that the text gives to its parts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy as sp

from derive.errors import DefinitionError, Place
from derive.notation.common import functions
from derive.notation.common.arrays import Array, node, show_shape, walk
from derive.notation.common.declared import doc_of, place_of, symbols_of
from derive.notation.common.names import identifier
from derive.notation.common.scalars import Dim, Param
from derive.notation.common.tracing import call, check_symbols


@dataclass(frozen=True)
class Model:
    """One definition, bound to the method that derives its limit.

    `clock`: the dimension whose inverse is the length of a layer, the width or the depth; `pace`:
    the power of it that is, if not the first.
    """

    name: str
    method: str
    function: Callable[..., Any] = field(compare=False)
    state_name: str
    state_dims: tuple[Dim, ...]
    width: Dim
    clock: Dim
    unit_rows: bool
    dims: tuple[Dim, ...]
    params: tuple[Param, ...]
    doc: str
    place: Place
    pace: Fraction = Fraction(1)

    @property
    def clock_text(self) -> str:
        """The number of layers in a unit of time, as it is written."""
        return power_text(self.clock, self.pace)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


@dataclass(frozen=True)
class Trace:
    """One layer as a graph.

    `weights` holds the random matrices in the order in which the text asks for them; `names`
    maps a node to the name that it has in the text.
    """

    model: Model
    state: Array
    output: Array
    weights: tuple[tuple[str, Array], ...]
    names: dict[Array, str]


def covariance_sde(
    *given: Any,
    state: str = "",
    width: Dim | None = None,
    depth: Dim | None = None,
    clock: Any = None,
    unit_rows: bool = False,
) -> Callable[[Callable[..., Any]], Model]:
    """Declare a layer whose token covariance follows an SDE.

    **Arguments:** `state`: name and dimensions of the layer's input, ``"X[m, n]"``: the number
    of tokens (fixed) and the width.  `width`: the width, if it grows: V = X X^T / width, small
    parameter 1/sqrt(width), clock layer / width.  `depth` instead, if the width is fixed and the
    layers are small: V = X X^T, small parameter 1/sqrt(depth), clock layer / depth.  `clock`: how
    many layers make a unit of time, if not as many as the width: a power of it, ``clock=sqrt(n)``
    or ``clock=n**Rational(2, 3)``.  `unit_rows`: the layer keeps every token on the sphere,
    V_aa = 1.
    """

    if given or not state:
        raise DefinitionError(
            'the decorator names the state and the width: write @covariance_sde(state="X[m, n]", '
            "width=n)",
            place_of(given[0]) if given and callable(given[0]) else None,
        )

    def decorate(function: Callable[..., Any]) -> Model:
        place = place_of(function)
        if (width is None) == (depth is None):
            raise DefinitionError(
                "name the small parameter: width=... if the width grows, or depth=... if the "
                "width is fixed and the layers are small, one of the two",
                place,
            )
        model = _model(function, "covariance_sde", state, width, depth, unit_rows, place)
        return model if clock is None else replace(model, pace=_pace(clock, model))

    return decorate


def _pace(clock: Any, model: Model) -> Fraction:
    """The power of the width that a clock is."""
    base, exponent = sp.sympify(clock).as_base_exp() if _is_scalar(clock) else (clock, None)
    if base == model.clock and isinstance(exponent, sp.Rational) and exponent > 0:
        return Fraction(int(exponent.p), int(exponent.q))
    name = model.clock
    kind = "width" if model.clock == model.width else "depth"
    raise DefinitionError(
        f"clock={clock} is no power of the {kind} {name}; a layer takes a time that falls like a "
        f"positive rational power of {name}: write clock=sqrt({name}), "
        f"clock={name}**Rational(2, 3) or the like",
        model.place,
    )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, sp.Expr)) and not isinstance(value, bool)


def power_text(base: Any, exponent: Fraction) -> str:
    """n, sqrt(n), n^2, n^(2/3)."""
    if exponent == 1:
        return str(base)
    if exponent == Fraction(1, 2):
        return f"sqrt({base})"
    return f"{base}^{exponent}" if exponent.denominator == 1 else f"{base}^({exponent})"


def power_code(base: Any, exponent: Fraction) -> str:
    """The same as a definition says it."""
    if exponent == 1 or exponent == Fraction(1, 2):
        return power_text(base, exponent)
    if exponent.denominator == 1:
        return f"{base}**{exponent}"
    return f"{base}**Rational({exponent.numerator}, {exponent.denominator})"


RESERVED_FOR = {
    "V": "the covariance",
    "L": "its factor",
    "t": "the time",
    "h": "the length of a step",
}
RESERVED = set(RESERVED_FOR)
_DERIVED = re.compile(r"[FGCS]_\d+$")  # fields, their normals, centred parts, functions of V
_STATE = re.compile(r"\s*(\w+)\s*\[\s*(\w+)\s*,\s*(\w+)\s*\]\s*$")


def _model(
    function: Callable[..., Any],
    method: str,
    state: str,
    width: Dim | None,
    depth: Dim | None,
    unit_rows: bool,
    place: Place,
) -> Model:
    said = f"{state} {width} {depth}"
    declared, scalars = symbols_of(function, Dim, said), symbols_of(function, Param, said)
    _check_declared(declared, scalars, place)
    match = _STATE.match(unicodedata.normalize("NFKC", state))
    if not match:
        raise DefinitionError(
            f'state={state!r} is not of the form "X[m, n]": a name, and two declared dimensions, '
            "the tokens and the width",
            place,
        )
    own = identifier(match[1], "state", place)
    if own in RESERVED | set(declared) | set(scalars):
        raise DefinitionError(f"the state has the name {own} of something else; rename it", place)
    for dim in declared:
        if f"{dim}_ratio" in scalars:
            raise DefinitionError(
                f"{dim}_ratio is what a kernel calls {dim} / {match[3]}; rename the parameter",
                place,
            )
    identifier(function.__name__, "model", place)
    for word in match.groups()[1:]:
        if word not in declared:
            raise DefinitionError(
                f"state={state!r} uses the dimension {word}, which is not declared; "
                f'declare it: {word} = dims("{word}: meaning")',
                place,
            )
    shape = (declared[match[2]], declared[match[3]])
    _check_sizes(state, shape, width, depth, place)
    return Model(
        function.__name__,
        method,
        function,
        own,
        shape,
        shape[1],
        depth or shape[1],
        unit_rows,
        tuple(declared.values()),
        tuple(scalars.values()),
        doc_of(function),
        place,
    )


def _check_declared(
    declared: Mapping[str, Dim], scalars: Mapping[str, Param], place: Place
) -> None:
    """Dimensions and parameters: one meaning a name, and none that the equations use."""
    both = sorted(set(declared) & set(scalars))
    if both:
        raise DefinitionError(f"{both[0]} is declared as a dimension and as a parameter", place)
    for word in sorted(RESERVED & (set(declared) | set(scalars))):
        raise DefinitionError(
            f"{word} is what the equations call {RESERVED_FOR[word]}; give the dimension or "
            "parameter another name",
            place,
        )


def _check_sizes(
    state: str, shape: tuple[Dim, Dim], width: Dim | None, depth: Dim | None, place: Place
) -> None:
    if depth is not None and (not isinstance(depth, Dim) or depth in shape):
        raise DefinitionError(f"depth={depth} must be a dimension that is not the state's", place)
    if depth is None and (not isinstance(width, Dim) or width != shape[1]):
        raise DefinitionError(
            f"width={width} must be the last dimension of the state, {shape[1]}", place
        )
    if shape[0] == shape[1]:
        raise DefinitionError(f"state={state!r}: tokens and width must be two dimensions", place)


def trace(model: Model) -> Trace:
    """Run the definition once on symbols.

    Raises `DefinitionError`, with the line, for whatever the text does that is no definition.
    """
    state = node("state", (), model.state_dims, model.state_name)
    first = next(functions.drawn)
    output, run = call(lambda: model.function(state), model.name, model.place)
    asked = next(functions.drawn) - first - 1
    if not isinstance(output, Array):
        raise DefinitionError(
            f"{model.name} returns {type(output).__name__}, not an array; return the new "
            f"{model.state_name}",
            model.place,
        )
    if output.shape != state.shape:
        raise DefinitionError(
            f"{model.name} returns shape {show_shape(output.shape)}, but the state "
            f"{model.state_name} has shape {show_shape(state.shape)}",
            model.place,
        )
    nodes = walk(output)
    check_symbols({*model.dims, *model.params}, nodes)
    names = {array: name for name, array in run.local.items()}
    drawn = sorted((a for a in nodes if a.op == "gaussian"), key=lambda a: a.data)
    for outside in (a for a in drawn if a.data <= first):
        raise DefinitionError(
            f"a weight of shape {show_shape(outside.shape)} is drawn outside {model.name}, so all "
            "layers share it: V then depends on its whole past (it is not Markov), and no SDE of "
            f"V holds. Draw it inside {model.name}: weights are drawn anew in every layer",
            outside.place,
        )
    if len(drawn) != asked:
        raise DefinitionError(
            f"{model.name} draws {asked} weights and uses {len(drawn)} of them; remove the others",
            model.place,
        )
    patterns = [a for a in nodes if a.op == "constant"]
    _check_patterns(model, patterns)
    taken = {s.name for s in model.dims} | {s.name for s in model.params}
    taken |= {a.data.name for a in patterns}
    taken |= {"V", "L", "m", model.state_name}  # the covariance, its factor: see `RESERVED_FOR`
    weights = []
    for p, a in enumerate(drawn):
        name = _weight_name(names.get(a, f"W_{p + 1}"), taken)
        taken.add(name)
        weights.append((name, a))
    names.update({a: name for name, a in weights})
    return Trace(model, state, output, tuple(weights), names)


def _weight_name(wish: str, taken: set[str]) -> str:
    """The name that the text gives a weight, or one like it that nothing else has."""
    wish = f"W_{wish.strip('_')}" if wish in taken or wish.startswith("_") else wish
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name


def _check_patterns(model: Model, patterns: list[Array]) -> None:
    """A pattern's name must be its own: kernels take it as a field beside the parameters."""
    others = {s.name: "dimension" for s in model.dims} | {s.name: "parameter" for s in model.params}
    others |= RESERVED_FOR | {model.state_name: "the state"}
    sizes: dict[str, Array] = {}
    for array in patterns:
        name = array.data.name
        if not array.data.given:
            continue
        if name in others or _DERIVED.match(name):
            raise DefinitionError(
                f"the pattern {name} has the name of something else: "
                f"{others.get(name, 'a derived quantity')}; give it another name",
                array.place,
            )
        if sizes.setdefault(name, array).data != array.data:
            raise DefinitionError(f"the pattern {name} is declared twice", array.place)
