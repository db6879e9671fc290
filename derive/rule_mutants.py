"""Rules of the calculus and of the runtime, each broken in its typical way, and who notices.

Input: a rule's name and a model that uses it.  Output: which rung kills the mutant.  A mutant is
one function replaced wherever it is bound; the model is derived, emitted and checked anew in a
process of its own (`python -m derive.rule_mutants RULE`), so that nothing broken stays.  No
golden file and no theorem takes part.  The rungs are those that take seconds: the derivation's own
refusals, L1, the gate (L3), L2, and the steps of the solvers written again (L5).  Rules for what
is said in words count: no kernel holds them, and L1 checks each.
"""

from __future__ import annotations

import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sympy as sp

RUNGS = ("derivation", "L1", "L3", "L2", "L5")
Function = Callable[..., Any]


@dataclass(frozen=True)
class Mutant:
    """`target` is module:function or module:Class.method; `broken` makes the wrong one of it.

    `note`: why a mutant may live, where it may.
    """

    rule: str
    how: str
    target: str
    broken: Callable[[Function], Function]
    model: str
    note: str = ""


def _times(factor: float) -> Callable[[Function], Function]:
    return lambda f: lambda *a, **k: factor * f(*a, **k)


def _lost_pairing(f: Function) -> Function:
    return lambda count: list(f(count))[: -1 if count > 2 else None]


def _coefficient(factor: sp.Expr, least: int) -> Callable[[Function], Function]:
    """The derivative of an order wrong by a factor."""

    def broken(f: Function) -> Function:
        def derivative(body: Any, start: Any, times: int, array: Any) -> Any:
            found = f(body, start, times, array)
            return factor * found if times == least else found

        return derivative

    return broken


def _without_noise(f: Function) -> Function:
    return lambda drift, diffusion, *a: f(drift, diffusion.scaled(sp.Integer(0)), *a)


def _one_less(f: Function) -> Function:
    return lambda self, expression, order: f(self, expression, order - 1)


def _scaled(factor: sp.Expr) -> Callable[[Function], Function]:
    return lambda f: lambda *a: tuple(e.scaled(factor) for e in f(*a))


def _covariance_lost(f: Function) -> Function:
    return lambda at, mean, cov, i, j: f(at, mean, cov.scaled(sp.Integer(0)), i, j)


def _joint_twice(f: Function) -> Function:
    def broken(coefficient: Any, factors: Any, free: Any) -> Any:
        found, left = f(coefficient, factors, free)
        return (found if len(left) == len(factors) else 2 * found), left

    return broken


def _shrunk_factor(f: Function) -> Function:
    def rate(*arguments: Any) -> Any:
        mean, factor = f(*arguments)
        return mean, 0.98 * factor

    return rate


def _of_a_longer_step(f: Function) -> Function:
    return lambda spec, width, params: f(spec, width / 1.05, params)


def _negated(f: Function) -> Function:
    return lambda g, *a, **k: [g.scale(sp.Integer(-1), x) for x in f(g, *a, **k)]


def _without_determinant(f: Function) -> Function:
    from dataclasses import replace

    return lambda *a: replace(f(*a), det=None)


def _wide_noise(f: Function) -> Function:
    """Feller's test with the exponent of the noise off by one."""
    return lambda drift, square, name: f(drift, name * square, name)


def _nothing_held(f: Function) -> Function:
    return lambda law, traced, limits: f(law, traced, ())


def _other_end(f: Function) -> Function:
    return lambda result: "fixed end: p(T) is free" if not result.fixed_end else f(result)


MUTANTS = (
    Mutant("Isserlis", "a pairing of four or more is lost", "derive.calculus.gaussian:pairings",
           _lost_pairing, "linear_attention"),
    Mutant("Isserlis", "a symmetric tensor: one covariance", "derive.calculus.gaussian:covariance",
           lambda f: lambda a, b: f(a, b)[:1], "shaped_attention"),
    Mutant("Gram contraction", "X X^T counts twice", "derive.calculus.gaussian:contract_gram",
           lambda f: lambda e, r, g, w: f(e, r, g, 2 * w), "linear_attention"),
    Mutant("Taylor", "the second derivative counts twice", "derive.calculus.series:_derivative",
           _coefficient(sp.Integer(2), 2), "shaped_attention"),
    Mutant("Taylor", "the slope has the other sign", "derive.calculus.series:_derivative",
           _coefficient(sp.Integer(-1), 1), "shaped_attention"),
    Mutant("power counting", "one order of the series is cut", "derive.calculus.order:Law.up_to",
           _one_less, "shaped_attention"),
    Mutant("Price", "off by one order", "derive.calculus.kinks:price",
           lambda f: lambda order: f(order + 1 if order == 1 else 1), "shaped_relu_mlp"),
    Mutant("Ito", "the second-order term of the projection is lost",
           "derive.methods.project:projected_drift", _without_noise, "post_norm_shaped_attention"),
    Mutant("heads", "a sum over heads side by side counts twice",
           "derive.calculus.joints:contract_joints", _joint_twice, "concatenated_shaped_attention"),
    Mutant("step of the SDE", "the Wishart root's shift loses (m + 1)/4",
           "derive.notation.blocks:root_shift",
           lambda f: lambda law, token: f(law, token) + (token + 1) / sp.Integer(4),
           "shaped_attention"),
    Mutant("step control", "mixing_rate by 1/20", "derive.methods.step_control:mixing",
           _scaled(sp.Rational(1, 20)), "shaped_attention",
           "the rate chooses the length of steps and stands in no law; no rung here compares it "
           "with the text"),
    Mutant("square", "a covariance beside means is lost", "derive.calculus.tilt:isserlis",
           _covariance_lost, "linear_closure"),
    Mutant("tilt", "the determinant is lost", "derive.calculus.tilt:complete_square",
           _without_determinant, "l2_closure",
           "a normalised weight divides by the same determinant: equal in value"),
    Mutant("adjoint", "gradients have the other sign", "derive.calculus.array_derivative:gradient",
           _negated, "gaussian_tracking"),
    Mutant("explosion", "Feller's test off by one power", "derive.methods.one_dimension:_explosion",
           _wide_noise, "shaped_attention"),
    Mutant("explosion", "the sign of the condition is lost",
           "derive.methods.one_dimension:_open_sign",
           lambda f: lambda scalar: -f(scalar), "linear_attention"),
    Mutant("what drops out", "every parameter is said to", "derive.methods.dropped:dimension_facts",
           _nothing_held, "shaped_attention"),
    Mutant("rank", "noise is said to conserve it", "derive.methods.gaussian_closure:_rank",
           lambda f: lambda noise: f(None if noise else True), "softmax_closure"),
    Mutant("transversality", "the end is said to be fixed",
           "derive.methods.optimal_control:_end", _other_end, "neural_ode_tracking"),
    Mutant("runtime: blocks", "the Wishart root by 1.05", "derive.runtime.blocks:root_shift",
           _times(1.05), "shaped_attention"),
    Mutant("runtime: steps", "the width of a step of 1.05 h", "derive.runtime.stepping:_dims",
           _of_a_longer_step, "shaped_attention"),
    Mutant("runtime: normals", "by 1.05", "derive.runtime.normals:normals",
           _times(1.05), "linear_attention"),
    Mutant("runtime: factor", "F' by .98", "derive.runtime.closure_state:_factor_rate",
           _shrunk_factor, "softmax_closure"),
)  # fmt: skip


def break_rule(mutant: Mutant) -> None:
    """Replace the function wherever a module of ours holds it."""
    place, _, name = mutant.target.partition(":")
    for needed in ("derive.emit.covariance_sde", "derive.emit.gaussian_closure",
                   "derive.emit.optimal_control", "derive.verify.ladder",
                   "derive.verify.gaussian_closure", "derive.verify.optimal_control"):  # fmt: skip
        importlib.import_module(needed)
    home: Any = importlib.import_module(place)
    *owners, attribute = name.split(".")
    for owner in owners:
        home = getattr(home, owner)
    right = getattr(home, attribute)
    wrong = functools.wraps(right)(mutant.broken(right))
    setattr(home, attribute, wrong)
    for module in [m for n, m in list(sys.modules.items()) if n.startswith("derive.")]:
        for key, value in list(vars(module).items()):
            if value is right:
                setattr(module, key, wrong)


def outcome(mutant: Mutant) -> dict[str, str]:
    """What each rung says of the broken rule, in this process; later rungs only while it lives."""
    break_rule(mutant)
    from derive.derivation import derived, rendered
    from derive.errors import CheckFailed
    from derive.registry import find

    entry, found = find(mutant.model), {}
    try:
        result = derived(entry)
    except Exception as problem:  # a refusal, or an expression that no rule takes
        return {"derivation": f"{type(problem).__name__}: {problem}"}
    found["derivation"] = ""
    for rung, says in _rungs(entry.method, result):
        if rung == "L1":
            try:
                text = rendered(entry, result)
            except CheckFailed as problem:
                return {**found, "L1": str(problem)}
            says = functools.partial(says, text)
        try:
            found[rung] = says()
        except Exception as problem:  # a kernel that does not run
            found[rung] = f"{type(problem).__name__}: {problem}"
        if found[rung]:
            break
    return found


def _rungs(method: str, result: Any) -> Iterator[tuple[str, Callable[..., str]]]:
    from derive.dispatch import ladder
    from derive.verify import rungs
    from derive.verify.compare import module_of
    from derive.verify.sde_replay import replayed

    module: list[Any] = []

    def emitted(text: str) -> str:
        module.append(module_of(text, "mutant"))
        return ""

    def gate() -> str:
        return "; ".join(
            str(f) for f in ladder(method).gate(result, module[0]) if not f.error <= f.allowed
        )

    def told(rung: Any) -> str:
        return str(rung.figures) if rung.failed else ""

    yield "L1", emitted
    yield "L3", gate
    if method == "covariance_sde":
        yield "L2", lambda: told(rungs.independent(result))
        yield "L5", lambda: told(replayed(result, module[0]))
    elif method == "gaussian_closure":
        from derive.verify import closure_solver, gaussian_closure

        yield "L2", lambda: told(gaussian_closure.second_route(result, module[0]))
        yield "L5", lambda: told(closure_solver.solver(result, module[0]))


def tried(position: int, seconds: float = 300) -> dict[str, str]:
    """The outcome of one mutant in a process of its own."""
    command = [sys.executable, "-m", "derive.rule_mutants", str(position)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        return dict(json.loads(run.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return {"derivation": f"no end within {seconds:g} s"}
    except (IndexError, ValueError):
        return {"derivation": f"the process ended: {run.stderr.strip().splitlines()[-1:]}"}


def killer(found: dict[str, str]) -> str:
    """The rung that kills, or nothing."""
    return next((r for r in RUNGS if found.get(r)), "")


def table(outcomes: list[dict[str, str]]) -> str:
    """The matrix rule x rung: x kills, . lives, nothing was run behind a kill."""
    head = "| rule | broken how | model | " + " | ".join(RUNGS) + " |\n"
    head += "|---|---|---|" + "---|" * len(RUNGS) + "\n"
    rows, notes = [], []
    for mutant, found in zip(MUTANTS, outcomes, strict=True):
        cells = [("x" if found[r] else ".") if r in found else "" for r in RUNGS]
        rows.append(f"| {mutant.rule} | {mutant.how} | {mutant.model} | {' | '.join(cells)} |")
        if not killer(found):
            why = mutant.note or "lives, and no reason is known why it may"
            notes.append(f"- {mutant.rule}, {mutant.how}: {why}.")
    killed = sum(bool(killer(f)) for f in outcomes)
    return (
        f"# Rules broken, and the rungs that notice\n\n{killed} of {len(MUTANTS)} mutants are "
        "killed; `x` kills, `.` does not, behind a kill nothing is run.\n\n"
        + head + "\n".join(rows) + ("\n\n" + "\n".join(notes) if notes else "") + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(outcome(MUTANTS[int(sys.argv[1])])))
