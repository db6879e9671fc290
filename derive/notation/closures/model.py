"""A velocity field of tokens is an object: its definition and its trace.

Input: a velocity field written as in the papers.  Output: `ClosureModel`, and on request the graph
of its velocity.

>>> @gaussian_closure(state="x[d]")
... def softmax_closure(x, y):
...     return average(V @ y, exp((Q @ x) @ (K @ y)))
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from derive.errors import DefinitionError, Place, Refusal
from derive.notation.closures.normal_form import normal_form
from derive.notation.closures.words import COMPLEMENTS, Matrix, Position
from derive.notation.common.arrays import Array, lift, node, show_shape, walk
from derive.notation.common.declared import doc_of, globals_of, place_of, symbols_of
from derive.notation.common.names import identifier, literal_size
from derive.notation.common.scalars import Dim, Param
from derive.notation.common.tracing import call


@dataclass(frozen=True)
class ClosureModel:
    """One velocity field under a Gaussian law."""

    name: str
    method: str
    function: Callable[..., Any] = field(compare=False)
    state: str
    state_dim: Dim
    key_dim: Dim
    cross: bool
    positional: bool
    dims: tuple[Dim, ...]
    params: tuple[Param, ...]
    matrices: tuple[Matrix, ...]
    doc: str
    place: Place
    law: str = "gaussian"  # one of LAWS
    second: bool = False  # does the text take two keys?  The second one has the keys' law

    @property
    def centred(self) -> bool:
        """Is the mean of the tokens zero, by the definition?"""
        return self.law == "centred"

    @property
    def mixture(self) -> bool:
        """Are there several Gaussian laws side by side, a token of any seeing all?"""
        return self.law == "mixture"

    @property
    def law_text(self) -> str:
        """The law of the tokens, for readers."""
        return {
            "gaussian": "N(m, S)",
            "centred": "N(0, S)",
            "mixture": "sum_{tau} theta[tau] N(m[tau], S[tau])",
        }[self.law]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


@dataclass(frozen=True)
class ClosureTrace:
    """The velocity as a graph, its noise factors apart."""

    model: ClosureModel
    velocity: Array
    noises: tuple[Array, ...]
    used: tuple[Matrix, ...]


RESERVED = frozenset(
    """
    x y z m S s lag tau theta mean cov params u h xb yb one key_mean key_cov rate total contract
    along inverse det_root gate spectral factor identity mask exp log tanh sin cos sqrt erf pi
    maximum minimum step sign real base part rate_error velocity_error F_S F_key runtime np velocity
    mean_rate jacobian cov_rate noise margin particle_velocity solve particles causal
    """.split()  # noqa: SIM905
)
_DEFINED = re.compile(r"(?:[GfJPcrgD]|mask)_\w+$")
_VECTOR = re.compile(r"\s*(\w+)\s*\[\s*(\w+)\s*\]\s*$")


LAWS = ("gaussian", "centred", "mixture")


def gaussian_closure(
    *, state: str, keys: str | None = None, law: str = "gaussian"
) -> Callable[[Callable[..., Any]], ClosureModel]:
    """Declare a velocity field Gamma(x) = f(x, law) of tokens x in R^d.

    **Arguments:** `state`: name and dimension of a token, ``"x[d]"``.  `keys`: the same for keys
    that have a Gaussian law of their own (cross-attention), ``"y[d_y]"``; by default the keys are
    the tokens.  `law`: of the tokens: "gaussian"; "centred", a Gaussian law of mean zero, which the
    velocity must keep; or "mixture", a mixture of Gaussian laws with fixed weights theta, each with
    a mean and a covariance that move.  The function takes (x, y), or (x, y, s, tau) where tokens
    carry positions, or (x, y, z) with two keys that are averaged over independently: y is a token,
    and z one of the keys, or where none are declared another token.
    """

    def decorate(function: Callable[..., Any]) -> ClosureModel:
        place = place_of(function)
        return _under(model_of(function, state, keys, place, "gaussian_closure"), law)

    return decorate


def _require_constant(scalars: Iterable[Param], place: Place) -> None:
    for p in scalars:
        if re.search(r"depends on (t|time|depth)\b", p.meaning):
            raise DefinitionError(
                f"{p.name} is said to depend on time, but kernels of tokens hold it constant; "
                "leave these words out, and go from one solve(...) or flow(...) to the next, each "
                "with its value of the parameter and the moments where the last one ended",
                place,
            )


def _under(model: ClosureModel, law: str) -> ClosureModel:
    """The definition under a kind of law."""
    if law not in LAWS:
        raise DefinitionError(f"law={law!r} is none of {', '.join(LAWS)}", model.place)
    two = model.second and law == "mixture"
    if law != "gaussian" and (model.cross or model.positional or two):
        what = "keys of a law of their own" if model.cross else "two keys" if two else "positions"
        raise DefinitionError(
            f'law="{law}" says of one cloud of tokens, its own keys, what its law is; this '
            f"definition has {what}",
            model.place,
        )
    return replace(model, law=law, positional=model.positional or law == "mixture")


def _vector(text: str, declared: dict[str, Dim], place: Place, word: str) -> tuple[str, Dim]:
    match = _VECTOR.match(text)
    if not match:
        raise DefinitionError(f'{word}={text!r} is not of the form "x[d]"', place)
    if match[2].isdigit():
        raise DefinitionError(literal_size(f"{word}={text!r}", match[2]), place)
    if match[2] not in declared:
        raise DefinitionError(
            f"{word}={text!r} uses the dimension {match[2]}, which is not declared; declare it: "
            f'{match[2]} = dims("{match[2]}: meaning")',
            place,
        )
    return match[1], declared[match[2]]


def model_of(
    function: Callable[..., Any], state: str, keys: str | None, place: Place, method: str
) -> ClosureModel:
    """What a decorator of the word `method` makes of a velocity's text."""
    said = f"{state} {keys}"
    declared, scalars = symbols_of(function, Dim, said), symbols_of(function, Param, said)
    found = {v.data: v for v in globals_of(function) if isinstance(v, Matrix)}
    identifier(function.__name__, "model", place)
    for given in sorted({*found, *scalars}):
        roles = [
            role
            for role, names_ in (
                ("a matrix", found),
                ("a parameter", scalars),
                ("a dimension", declared),
            )
            if given in names_
        ]
        if len(roles) > 1:
            raise DefinitionError(f"{given} is declared as {' and as '.join(roles)}", place)
        if given in RESERVED or _DEFINED.match(given) or keyword.iskeyword(given):
            raise DefinitionError(
                f"the name {given} is taken: kernels use it for the law or for derived quantities; "
                "rename it",
                place,
            )
    _require_constant(scalars.values(), place)
    name, dim = _vector(state, declared, place, "state")
    key_dim = _vector(keys, declared, place, "keys")[1] if keys else dim
    count = function.__code__.co_argcount
    if count not in (2, 3, 4):
        raise DefinitionError(
            f"{function.__name__} takes (x, y), or (x, y, z) with two keys, or (x, y, s, tau) with "
            f"positions; it takes {count} arguments",
            place,
        )
    if keys and count == 4:
        raise DefinitionError("keys with a law of their own carry no positions", place)
    return ClosureModel(
        function.__name__,
        method,
        function,
        name,
        dim,
        key_dim,
        keys is not None,
        count == 4,
        tuple(declared.values()),
        tuple(scalars.values()),
        tuple(found.values()),
        doc_of(function),
        place,
        second=count == 3,
    )


def trace_closure(model: ClosureModel) -> ClosureTrace:
    """Run the definition once on symbols."""
    output = _output(model)
    masks = {a.data for a in walk(output) if a.op == "mask"} if isinstance(output, Array) else set()
    if any({one, other} <= masks for one, other in COMPLEMENTS.items()):
        output = _output(model, either=True)
    if not isinstance(output, Array) or output.shape != (model.state_dim,):
        shown = show_shape(output.shape) if isinstance(output, Array) else type(output).__name__
        raise DefinitionError(
            f"{model.name} returns {shown}, but a velocity has shape ({model.state_dim})",
            model.place,
        )
    velocity, noises = _without_noise(normal_form(output))
    nodes = [*walk(velocity), *(n for g in noises for n in walk(g))]
    _check(model, nodes)
    _require_averaged(velocity, model.place, set())
    used = {a.data for a in nodes if a.op == "constant"}
    return ClosureTrace(
        model, velocity, tuple(noises), tuple(m for m in model.matrices if m.data in used)
    )


def _output(model: ClosureModel, either: bool = False) -> Any:
    """What the text returns on symbols."""
    x = node("query", (), (model.state_dim,), "x")
    more: tuple[Any, ...] = ()
    if model.positional and not model.mixture:
        more = Position("s", either), Position("tau", either)
    if model.second:
        more = (node("key", (), (model.key_dim,), "z"),)
    y = node("key", (), (model.state_dim if model.second else model.key_dim,), "y")
    return call(lambda: model.function(x, y, *more), model.name, model.place)[0]


def _without_noise(output: Array) -> tuple[Array, list[Array]]:
    """Noise may be added to the velocity, and stand nowhere else."""
    if output.op == "noise":
        return lift(sp.Integer(0)), [output.args[0]]
    if output.op == "add":
        parts = [_without_noise(a) for a in output.args]
        found = [n for _, ns in parts for n in ns]
        if found:
            left = [a for a, _ in parts if not (a.op == "full" and a.data == 0)]
            return (left[0] if len(left) == 1 else node("add", tuple(left), output.shape)), found
        return output, []
    for inner in walk(output):
        if inner.op == "noise":
            raise DefinitionError("noise is added to the velocity, nowhere else", inner.place)
    return output, []


def _check(model: ClosureModel, nodes: list[Array]) -> None:
    known = set(model.dims) | set(model.params)
    declared = {m.data for m in model.matrices}
    used = {array.data for array in nodes if array.op == "constant"}
    sized = {d for m in model.matrices if m.data in used for d in m.shape}
    sized |= {model.state_dim, model.key_dim}
    for array in nodes:
        if array.op == "constant" and array.data not in declared:
            raise DefinitionError(
                f"the matrix {array.data} is no global name of the file", model.place
            )
        if array.op in ("state", "gaussian"):
            raise Refusal(
                f"{array.op} weights do not belong to a velocity field; declare given matrices "
                "with matrices(...)",
                array.place,
            )
        if array.op == "full":
            for symbol in sorted(array.data.free_symbols - known, key=str):
                raise DefinitionError(f"the symbol {symbol} is not declared", array.place)
            for dim in sorted(set(model.dims) & array.data.free_symbols - sized, key=str):
                raise DefinitionError(
                    f"the dimension {dim} stands in a number, but it is the size of no array that "
                    "the velocity reads; declare it as a parameter",
                    array.place,
                )


def _require_averaged(array: Array, place: Place | None, seen: set[int]) -> None:
    """A velocity depends on x alone: a key stands within an average or an integral.

    `place`: of the array that holds this one.
    """
    if array.op in ("average", "integral") or id(array) in seen:
        return
    seen.add(id(array))
    if array.op in ("key", "bistochastic"):
        what = f"the key {array.data}" if array.op == "key" else "bistochastic(...)"
        raise DefinitionError(
            f"{what} stands outside of average(value, weight) and integral(value, weight); the "
            "velocity of x is what remains when all keys are averaged over",
            place if array.op == "key" else array.place,
        )
    for inner in array.args:
        _require_averaged(inner, array.place or place, seen)
