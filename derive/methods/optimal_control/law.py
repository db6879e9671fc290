"""The control that minimises the Hamiltonian, solved for where it can be.

Input: the gradient of the smooth part of the Hamiltonian by the controls, what the running cost
adds that is not smooth (|u|_1, |u|_2), and the bounds.  Output: the minimiser as array
expressions, or the reason why there is none in closed form.

Three cases, tried in this order and told apart by form alone:
- nothing but a quadratic: H_u = H_u(0) + R u, solved where R is a product entry by entry or a
  matrix; any other linear R is left to a numeric linear solve;
- a cost of the norm, g(|u|) with |u| <= M: the direction is the subgradient of the dual norm, and
  what remains is min over r in [0, M] of g(r) - r |q|_*, one-dimensional and solved by SymPy;
- a cost entry by entry, g(|u_k|) with low <= u_k <= high: the same one-dimensional problem twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import sympy as sp

from derive.calculus.arrays.algebra import Algebra
from derive.calculus.arrays.derivative import along, write
from derive.calculus.arrays.interned import ZERO
from derive.errors import DefinitionError, Place, Refusal
from derive.notation.common.arrays import Array, walk, x_symbol
from derive.notation.control.words import Bound


@dataclass(frozen=True)
class Price:
    """A part of the running cost that is not smooth: `weight` times a norm of `arrays`."""

    kind: str
    weight: sp.Expr
    arrays: tuple[Array, ...]


@dataclass(frozen=True)
class Switching:
    """Controls whose cost has no curvature, so that their law jumps: `arrays` under one bound
    (`kind` "box", "l1" or "l2", from `low` to `high`), at `weight` per unit of their norm."""

    arrays: tuple[Array, ...]
    kind: str
    weight: sp.Expr
    low: sp.Expr
    high: sp.Expr


@dataclass(frozen=True)
class ControlLaw:
    """The minimiser: `expressions` for every control, or None; `numeric`: left to a linear solve.

    `sparse`: "l1", "l2norm", "elastic_net" where the cost is not smooth, else None.
    """

    expressions: tuple[Array, ...] | None
    numeric: bool
    sparse: str | None
    facts: tuple[str, ...]
    switching: tuple[Switching, ...] = ()


def control_law(
    g: Algebra,
    controls: Sequence[Array],
    stationarity: Sequence[Array],
    prices: Sequence[Price],
    bounds: Sequence[Bound],
    place: Place | None,
) -> ControlLaw:
    """The law u(x, p) that minimises H, from q = H_u(0) and the curvature of H in u."""
    nothing = {u: g.full(u.shape, ZERO) if u.shape else g.scalar(ZERO) for u in controls}
    moves = {u: g.leaf(f"d {u.data}", u.shape) for u in controls}
    force = g.rebuild(stationarity, nothing)
    curvature = {
        (k, u): along(g, [row], {u: moves[u]})[0]
        for k, row in enumerate(stationarity)
        for u in controls
    }
    if any(g.depends(c, controls) for c in curvature.values()):
        if prices or bounds:
            raise Refusal(
                "the control enters beyond the second order and the cost has bounds or norms of "
                "it; make the dynamics affine in the control and its cost quadratic",
                place,
            )
        return ControlLaw(
            None, False, None, ("no closed control law: H is not quadratic in the control",)
        )
    _require_smooth(g, controls, stationarity, place)
    mixed = any(
        not g.is_zero(g.split(c)[1]) and g.split(c)[0] != 0
        for (k, u), c in curvature.items()
        if controls[k] is not u
    )
    own = [curvature[k, u] for k, u in enumerate(controls)]
    weights = [entrywise(g, c, moves[u]) for c, u in zip(own, controls, strict=True)]
    held = {a for b in bounds for a in b.arrays} | {a for p in prices for a in p.arrays}
    for u, c in zip(controls, own, strict=True):
        if g.is_zero(c) and u not in held and not mixed:
            raise Refusal(
                f"H_uu is singular: the control {u.data} has no quadratic cost and no bound; add "
                f"one, for instance beta / 2 * squared_norm({u.data})",
                place,
            )
    if not held:
        return _quadratic(g, controls, force, own, moves, weights, mixed, place)
    if mixed or any(w is None for w in weights):
        raise Refusal(
            "the maximum law with bounds or norms needs a quadratic cost entry by entry", place
        )
    return _with_norms(g, controls, force, weights, prices, bounds, place)  # type: ignore[arg-type]


def _require_smooth(
    g: Algebra, controls: Sequence[Array], stationarity: Sequence[Array], place: Place | None
) -> None:
    """Refuses a gradient with steps in the controls and a curvature that sees none of them."""
    for node in (a for row in stationarity for a in walk(row)):
        if node.op != "function" or not node.data[1].expr.has(sp.Heaviside, sp.sign):
            continue
        if inside := [u for u in controls if g.depends(node, [u])]:
            named = ", ".join(str(u.data) for u in inside)
            raise Refusal(
                f"the control {named} stands inside of a function with a kink (relu or abs, say), "
                "and where that kink is the minimum of H over the control is none of H_u = 0; "
                "write a smooth function (gelu, softplus, sqrt(z**2 + eps) for |z|), or let the "
                f"function be of states and data alone, as relu(A @ x) with {inside[0].data} "
                "beside it; a cost of the norm is written l1_norm(u) or l2_norm(u)",
                place,
            )


def _quadratic(
    g: Algebra,
    controls: Sequence[Array],
    force: Sequence[Array],
    own: Sequence[Array],
    moves: dict[Array, Array],
    weights: Sequence[Array | None],
    mixed: bool,
    place: Place | None,
) -> ControlLaw:
    solved: list[Array] = []
    for u, q, c, weight in zip(controls, force, own, weights, strict=True):
        if mixed:
            break
        minus = g.scale(sp.Integer(-1), q)
        if weight is not None:
            coefficient, core = g.split(weight)
            _refuse_negative(coefficient if core.op == "full" else None, u, place)
            if core.op == "full":
                factor = 1 / (coefficient * core.data)
                terms = {t: factor * c for t, c in g.terms(minus).items()}
                out = g.combine(terms, u.shape)
            else:
                out = g.multiply(minus, g.function("reciprocal", weight))
            solved.append(g.spread(out, u.shape))
            continue
        coefficient, core = g.split(c)
        if core.op == "matmul" and core.args[0] in g.symmetric and core.args[1] is moves[u]:
            out = g.word("linear_solve", core.args[0], minus)
            solved.append(g.scale(1 / coefficient, out))
            continue
        break
    if len(solved) == len(controls):
        return ControlLaw(
            tuple(solved), False, None, ("control law: H_u = 0 solved for the control",)
        )
    return ControlLaw(
        None,
        True,
        None,
        ("control law: H_u = 0 is linear in the control and solved numerically with H_uu",),
    )


def _refuse_negative(coefficient: sp.Expr | None, u: Array, place: Place | None) -> None:
    if coefficient is not None and coefficient.is_nonpositive:
        raise Refusal(
            f"H_uu is not positive definite: the control {u.data} has {coefficient}", place
        )


def entrywise(g: Algebra, curvature: Array, move: Array) -> Array | None:
    """The weight w with curvature = w * move, entry by entry, or None."""
    parts = []
    for term, coefficient in g.terms(curvature).items():
        factors = g.factors(term)
        if factors.pop(move, ZERO) != 1:
            return None
        rest = g.product(factors)
        if g.depends(rest, [move]):
            return None
        parts.append(g.scale(coefficient, rest))
    return reduce(g.add, parts) if parts else g.scalar(ZERO)


def radius(weight: sp.Expr, curvature: sp.Expr, limit: sp.Expr | None) -> sp.Expr:
    """argmin over 0 <= r <= limit of weight r + curvature r^2 / 2 - r x, for x >= 0.

    The stationary point by SymPy, clipped to the interval; without curvature the minimum of a
    linear function, at an end.  This is the derivative of the convex conjugate.
    """
    r = sp.Symbol("r", real=True)
    slope = sp.diff(weight * r + curvature * r**2 / 2 - r * x_symbol, r)
    stationary = sp.solve(slope, r)
    if not stationary:
        if limit is None:
            raise Refusal("the cost grows no faster than linearly and nothing bounds the control")
        return limit * sp.Heaviside(-slope, 0)
    found = sp.factor_terms(stationary[0])
    inside = sp.Max(found, 0)
    return inside if limit is None else sp.Min(inside, limit)


def _with_norms(
    g: Algebra,
    controls: Sequence[Array],
    force: Sequence[Array],
    weights: Sequence[Array],
    prices: Sequence[Price],
    bounds: Sequence[Bound],
    place: Place | None,
) -> ControlLaw:
    pull = dict(zip(controls, force, strict=True))
    curve: dict[Array, sp.Expr] = {}
    for u, weight in zip(controls, weights, strict=True):
        coefficient, core = g.split(weight)
        if core.op != "full":
            raise Refusal("a bounded or sparse control needs a constant quadratic weight", place)
        curve[u] = coefficient * core.data
    groups = _groups(controls, prices, bounds, place)
    out: dict[Array, Array] = {}
    facts, sparse = [], None
    jumps: list[Switching] = []
    for group, price, bound in groups:
        curves = {curve[u] for u in group}
        if len(curves) != 1:
            raise Refusal("controls under one norm need one quadratic weight", place)
        (quadratic,) = curves
        weight = price.weight if price else ZERO
        if quadratic == 0 and bound is not None:
            low, high = sp.sympify(bound.low), sp.sympify(bound.high)
            jumps.append(Switching(tuple(group), bound.kind, weight, low, high))
        kind = price.kind if price else bound.kind if bound else ""
        if price:
            sparse = {"l1": "l1", "l2": "l2norm"}[price.kind]
            if quadratic != 0:
                sparse = "elastic_net"
        if bound is None or bound.kind == "box":
            if kind == "l2":
                if bound is not None:
                    raise Refusal("the norm |u|_2 with a box has no closed law", place)
                _radial(g, group, pull, "l2", radius(weight, quadratic, None), out)
            else:
                for u in group:
                    out[u] = _entries(g, pull[u], weight, quadratic, bound, place)
        elif kind != bound.kind:
            raise Refusal(
                f"the norm {kind} in the cost and the bound {bound.kind} have no common law; use "
                "one norm for both",
                place,
            )
        else:
            if bound.kind == "l1" and quadratic != 0:
                raise Refusal(
                    "a quadratic cost under |u|_1 <= M has no closed law; use box(...) or drop "
                    "the quadratic cost",
                    place,
                )
            _radial(g, group, pull, bound.kind, radius(weight, quadratic, bound.high), out)
        facts.append(
            f"control law of {', '.join(u.data for u in group)}: minimiser of H, from the convex "
            f"conjugate of the {kind} cost"
        )
    laws = tuple(out[u] for u in controls)
    return ControlLaw(laws, False, sparse, tuple(facts), tuple(jumps))


def _groups(
    controls: Sequence[Array],
    prices: Sequence[Price],
    bounds: Sequence[Bound],
    place: Place | None,
) -> list[tuple[tuple[Array, ...], Price | None, Bound | None]]:
    """Controls that one norm or bound holds together."""
    out: list[tuple[tuple[Array, ...], Price | None, Bound | None]] = []
    left = list(controls)
    while left:
        u = left[0]
        own_price = [p for p in prices if u in p.arrays]
        own_bound = [b for b in bounds if u in b.arrays]
        if len(own_price) > 1 or len(own_bound) > 1:
            raise Refusal(f"the control {u.data} stands in several norms or bounds", place)
        price = own_price[0] if own_price else None
        bound = own_bound[0] if own_bound else None
        group = price.arrays if price else bound.arrays if bound else (u,)
        if price and bound and set(bound.arrays) != set(price.arrays):
            apart = price.kind == "l1" and bound.kind == "box"
            if not apart:
                raise Refusal("a norm and a bound must hold the same controls", place)
            group = bound.arrays
        out.append((tuple(group), price, bound))
        left = [v for v in left if v not in group]
    return out


def _radial(
    g: Algebra,
    group: tuple[Array, ...],
    pull: dict[Array, Array],
    kind: str,
    size: sp.Expr,
    out: dict[Array, Array],
) -> None:
    """u = - r(|q|_*) times the subgradient of the dual norm |.|_* at q."""
    forces = tuple(pull[u] for u in group)
    l1 = kind == "l1"
    norm = g.word("linf_norm" if l1 else "l2_norm_of", *forces)
    g.names.setdefault(norm, "pull")
    length = write(g, size, norm)
    for position, u in enumerate(group):
        direction = g.word("l1_vertex" if l1 else "l2_direction", *forces, position)
        out[u] = g.scale(sp.Integer(-1), g.multiply(length, direction))


def _entries(
    g: Algebra,
    force: Array,
    weight: sp.Expr,
    quadratic: sp.Expr,
    bound: Bound | None,
    place: Place | None,
) -> Array:
    """Entry by entry: the pull in either direction, each with its own limit."""
    low, high = (None, None) if bound is None else (sp.sympify(bound.low), sp.sympify(bound.high))
    if weight == 0 and quadratic != 0 and low is not None and high is not None:
        free = -x_symbol / quadratic
        return write(g, sp.Min(sp.Max(free, low, evaluate=False), high, evaluate=False), force)
    if low is not None and high is not None and (low.is_positive or high.is_negative):
        raise DefinitionError("a sparse cost needs bounds around zero", place)
    up = radius(weight, quadratic, high)
    down = radius(weight, quadratic, None if low is None else -low)
    towards = g.scale(sp.Integer(-1), force)
    if up == down:
        size = write(g, up, g.function("abs", force))
        return g.scale(sp.Integer(-1), g.multiply(size, g.function("sign", force)))
    part = write(g, up, g.function("relu", towards))
    return g.add(part, g.scale(sp.Integer(-1), write(g, down, g.function("relu", force))))
