"""What a closure's module holds: its functions as text, collected with the words they use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import sympy as sp

from derive.calculus.index.defined import Book
from derive.calculus.index.expressions import Expression
from derive.calculus.index.factors import Tensor
from derive.calculus.written.meanings import expression_text
from derive.emit.common.kernel import Kernel
from derive.emit.common.names import fresh, local
from derive.emit.gaussian_closure.code import Code
from derive.methods.gaussian_closure.conditions import has_frequency, is_gram
from derive.methods.gaussian_closure.definitions import defined_in
from derive.methods.gaussian_closure.fields import Rule
from derive.methods.gaussian_closure.result import CUBATURE, GaussianClosure
from derive.notation.closures.model import ClosureModel
from derive.notation.common.arrays import walk
from derive.notation.common.scalars import Dim

PRODUCTS = re.compile(r" @ |\b(?:contract|matvec|dot|outer)\(")


@dataclass
class Parts:
    """What the template is filled with."""

    kernels: list[Kernel] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    sums: set[str] = field(default_factory=set)
    functions: dict[tuple[Rule, int], str] = field(default_factory=dict)

    @property
    def contractions(self) -> int:
        """How many there are in all kernels."""
        lines = [line for k in self.kernels for line in k.lines]
        return sum(len(PRODUCTS.findall(line)) for line in lines)


def param_fields(result: GaussianClosure) -> list[dict[str, str]]:
    """Fields of Params: matrices that are used, scalars, the keys' law, the positions' weights."""
    model = result.model
    used = {m.data for m in result.trace.used}
    out = []
    for m in model.matrices:
        if m.data in used:
            names = tuple(str(s) for s in m.shape)
            out.append({"name": m.data, "shape": names, "meaning": f"({', '.join(names)})"})
    symbols = _symbols(result)
    for p in model.params:
        if p in symbols:
            out.append({"name": p.name, "shape": (), "meaning": p.range.text})
    if model.cross:
        e = str(model.key_dim)
        out.append({"name": "key_mean", "shape": (e,), "meaning": f"({e},), mean of the keys"})
        out.append({"name": "key_cov", "shape": (e, e), "meaning": f"({e}, {e}), their covariance"})
    if model.positional:
        what = "components" if model.mixture else "positions"
        out.append({"name": "theta", "shape": ("B",), "meaning": f"(B,), weights of the {what}"})
    return out


def taken_by(model: ClosureModel) -> set[str]:
    """What kernels call the arrays, numbers and sizes of a definition: no temporary may have it."""
    matrices = {m.data for m in model.matrices}
    return matrices | {local(p.name) for p in model.params} | {local(d.name) for d in model.dims}


def _symbols(result: GaussianClosure) -> set[sp.Symbol]:
    nodes = [n for g in (result.trace.velocity, *result.trace.noises) for n in walk(g)]
    inside = [n.data[1] for n in nodes if n.op == "function"]
    return {s for e in [n.data for n in nodes if n.op == "full"] + inside for s in e.free_symbols}


def sizes_of(model: ClosureModel) -> frozenset[str]:
    """The dimension of a token."""
    return frozenset((model.state_dim.name,))


def _code(parts: Parts, result: GaussianClosure) -> Code:
    names, state = {"m": "mean", "S": "cov"}, sizes_of(result.model)
    return Code(result.book, names, functions=parts.functions, state=state)


def add_kernel(
    parts: Parts,
    result: GaussianClosure,
    name: str,
    arguments: str,
    doc: str,
    expression: Expression,
    names: dict[str, str] | None = None,
) -> None:
    code = _code(parts, result)
    code.names |= names or {}
    code._taken = {"x", "mean", "cov", "params"} | taken_by(result.model)
    text = code.expression(expression)
    if _complex(expression, result.book):
        code.words.add("real")
        text = f"real({text})"
    body = [*prelude(result, code.used), *code.lines]
    parts.words |= code.words
    parts.kernels.append(Kernel(name, arguments, doc, body, text))


def add_pair(
    parts: Parts,
    result: GaussianClosure,
    name: str,
    arguments: str,
    mean: Expression,
    jacobian: Expression,
    doc: str,
) -> None:
    code = _code(parts, result)
    code._taken = {"u", "mean", "cov", "params"} | taken_by(result.model)
    one = code.expression(mean)
    first = fresh("first", code._taken)
    code._taken.add(first)
    code.lines.append(f"{first} = {one}")
    two = code.expression(jacobian)
    if not arguments.startswith("u,") and any(_complex(e, result.book) for e in (mean, jacobian)):
        code.words.add("real")
        code.lines.append(f"{first} = real({first})")
        two = f"real({two})"
    body = [*prelude(result, code.used), *code.lines]
    parts.words |= code.words
    parts.kernels.append(Kernel(name, arguments, doc, body, f"{first}, {two}"))


def _complex(expression: Expression, book: Book) -> bool:
    """Does the imaginary unit stand in it, as in the two exponentials of a cosine?"""
    bodies = [expression, *(b for t in defined_in(book, expression) for b in book.of[t].bodies)]
    return any(c.has(sp.I) for b in bodies for c, _ in b.terms)


def prelude(result: GaussianClosure, used: set[str], point: str = "mean") -> list[str]:
    """Unpack the parameters that a kernel uses, and read the dimensions off their shapes.

    `point`: the argument whose last axis is the state's dimension.
    """
    fields = [f for f in param_fields(result) if f["name"] in used]
    sizes = [d for d in result.model.dims if d.name in used]
    places = {d: _place_of(result, d, point) for d in sizes}
    out = []
    if fields:
        # scalars are printed under the name that `local` gives them, arrays under their own
        left = [f["name"] if f["shape"] else local(f["name"]) for f in fields]
        out.append(f"{', '.join(left)} = {', '.join('params.' + f['name'] for f in fields)}")
    return out + [f"{local(d.name)} = {place}" for d, place in places.items()]


def _place_of(result: GaussianClosure, dim: Dim, point: str) -> str:
    """Where the size of a dimension is found among a kernel's arguments."""
    model = result.model
    if dim == model.state_dim:
        return f"{point}.shape[-1]"
    for matrix in model.matrices:
        if matrix in result.trace.used and dim in matrix.shape:
            axis = matrix.shape.index(dim) - len(matrix.shape)
            return f"params.{matrix.data}.shape[{axis}]"
    if model.cross and dim == model.key_dim:
        return "params.key_mean.shape[-1]"
    raise LookupError(f"no array of the kernel has the size {dim.name}")  # refused when traced


# the root of cov that places the nodes of a cubature has no other derivatives
EDGE_OF_NODES = (
    "\n\nDerivatives by cov: the first alone, and where cov is regular; at a singular cov only "
    "those along changes that keep its range are right."
)


def add_cov_rate(parts: Parts, result: GaussianClosure, square: str) -> None:
    line = "rate(jacobian(mean, cov, params), cov)"
    if result.noise is not None:
        parts.words.add("total")
        line = f"total({line}, noise(mean, cov, params))"
    noise = " and the noise" if result.noise is not None else ""
    doc = f"Rate of the covariance, {square}, from the mean gradient{noise}."
    doc += EDGE_OF_NODES if result.route == CUBATURE else ""
    parts.kernels.append(Kernel("cov_rate", "mean, cov, params", doc, [], line))


def add_margin(parts: Parts, result: GaussianClosure) -> None:
    """Smallest eigenvalue over all conditions that are not met by structure."""
    needed = _needed(result)
    if not needed:
        return
    code = _code(parts, result)
    code._taken = {"mean", "cov", "params"} | taken_by(result.model)
    values = []
    for matrix, cov in needed:
        name = code.assign("M", code.expression(matrix))
        code.used.add(cov.name)
        own = code.names.get(cov.name, cov.name)
        # heads come first, then the positions that the law has too
        along = ":, " * result.model.positional
        heads = len(matrix.free) - 2 - result.model.positional
        value = f"smallest_eigenvalue({name}, {own})"
        if heads > 0:
            axis = -1 - result.model.positional
            value = f"smallest_eigenvalue({name}, {own}[..., None, {along}:, :]).min(axis={axis})"
        values.append(value)
    parts.words.add("smallest_eigenvalue")
    out = values[0]
    for value in values[1:]:
        parts.words.add("minimum")
        out = f"minimum({out}, {value})"
    doc = (
        f"Smallest eigenvalue of {condition_text(result)}: the Gaussian integrals exist while it "
        "is positive."
    )
    body = [*prelude(result, code.used), *code.lines]
    parts.words |= code.words
    parts.kernels.append(Kernel("margin", "mean, cov, params", doc, body, out))


def _needed(result: GaussianClosure) -> list[tuple[Expression, Tensor]]:
    """The conditions that not every law meets: (M, covariance), I + F^T M F > 0."""
    needed = [(m, c) for m, c in result.book.conditions if not (is_gram(m) or has_frequency(m))]
    return [(m, c) for m, c in needed if not any(k.has(sp.I) for k, _ in m.terms)]


def condition_text(result: GaussianClosure) -> str:
    """The matrices that must be positive definite, in words."""
    stacks = result.names.stacks
    parts = [
        f"I + F^T M F, F F^T = {'cov' if c.name == 'S' else c.name}, "
        f"M = {expression_text(m, stacks)}"
        for m, c in _needed(result)
    ]
    return "; ".join(dict.fromkeys(parts))
