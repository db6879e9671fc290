"""Rules of the calculus and of the runtime, each broken in its typical way, and who notices.

Input: a rule's name and a model that uses it.  Output: which rung kills the mutant.  A mutant is
one function replaced wherever it is bound; the model is derived, emitted and checked anew in a
process of its own (`python -m derive.rule_mutants RULE`), so that nothing broken stays.  No
golden file and no theorem takes part.  The rungs are those that take seconds: the derivation's own
refusals, L1, the gate (L3), L2, and the steps of the solvers written again (L5).  They are climbed
until one kills, or all of them, which says which rungs notice and not only which notices first.
Rules for what is said in words count: no kernel holds them, and L1 checks each.
"""

from __future__ import annotations

import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

RUNGS = ("derivation", "L1", "L3", "L2", "L5")
Function = Callable[..., Any]


@dataclass(frozen=True)
class Mutant:
    """`target` is module:function or module:Class.method; `broken` makes the wrong one of it.

    `model`: a registered name, or that of a definition in `derive.mutant_models`.  `note`: why a
    mutant may live, where it may.
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


def _ends_at(factor: sp.Expr) -> Callable[[Function], Function]:
    """The costate at the end by a factor."""
    return lambda f: lambda g, *a: tuple(g.scale(factor, x) for x in f(g, *a))


def _wrong_weight(f: Function) -> Function:
    """The weight of the midpoint in the collocation by 1.02."""

    def equations(problem: Any, y: Any, h: Any, theta: Any) -> Any:
        from derive.runtime.boundary_value import WEIGHTS, stages

        first, inner, last = f(problem, y, h, theta)
        _, g = stages(problem, y, h, theta)
        return first, inner - 0.02 * WEIGHTS[4] * h[:, None] * g[4], last

    return equations


def _costate_of(share: float) -> Callable[[Function], Function]:
    """p' by a factor where the solver integrates it."""

    def broken(f: Function) -> Function:
        def problem(flat: Any, *a: Any) -> Any:
            import jax.numpy as jnp

            right = f(flat, *a)
            scale = np.concatenate([np.ones(flat.n), np.full(flat.n, share)])
            return right._replace(field=lambda y, theta: jnp.asarray(scale) * right.field(y, theta))

        return problem

    return broken


def _end_of(share: float) -> Callable[[Function], Function]:
    """The gradient of the terminal cost by a factor where the solver meets it."""

    def broken(f: Function) -> Function:
        def problem(flat: Any, *a: Any) -> Any:
            right = f(flat, *a)

            def end(y: Any, theta: Any) -> Any:
                gap = right.end(y, theta)  # q - gradient
                return gap - (share - 1) * (y[flat.n :] - gap)

            return right._replace(end=end)

        return problem

    return broken


def _few(nodes: int) -> Callable[[Function], Function]:
    """A Gauss-Hermite rule of so many nodes a direction."""

    def broken(f: Function) -> Function:
        def rule(r: int, level: int) -> Any:
            z, w = np.polynomial.hermite_e.hermegauss(nodes * level)
            grids = np.meshgrid(*[z] * r, indexing="ij")
            weights = np.meshgrid(*[w / w.sum()] * r, indexing="ij")
            return np.stack(grids, -1).reshape(-1, r), np.prod(weights, axis=0).reshape(-1)

        return rule

    return broken


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
           _scaled(sp.Rational(1, 20)), "shaped_attention"),
    Mutant("square", "a covariance beside means is lost", "derive.calculus.tilt:isserlis",
           _covariance_lost, "linear_closure"),
    Mutant("tilt", "the determinant is lost", "derive.calculus.tilt:complete_square",
           _without_determinant, "l2_closure",
           "a normalised weight divides by the same determinant: equal in value"),
    Mutant("tilt", "the determinant is lost, no normaliser",
           "derive.calculus.tilt:complete_square", _without_determinant, "unnormalised_closure"),
    Mutant("transversality", "p(T) is twice the gradient",
           "derive.methods.optimal_control:end_costate", _ends_at(sp.Integer(2)),
           "ending_tracking"),
    Mutant("transversality", "p(T) has the other sign",
           "derive.methods.optimal_control:end_costate", _ends_at(-sp.Integer(1)),
           "ending_tracking"),
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
    Mutant("runtime: cubature", "three nodes a direction",
           "derive.runtime.closure_cubature:_hermite", _few(3), "masked_softmax_closure"),
    Mutant("runtime: Fourier integral", "an eighth of the frequencies",
           "derive.runtime.closure_quadrature:_frequencies",
           lambda f: lambda *a: f(*a[:-1], a[-1] // 8), "sigmoid_closure"),
    Mutant("runtime: collocation", "a weight by 1.02", "derive.runtime.boundary_value:equations",
           _wrong_weight, "ending_tracking"),
    Mutant("runtime: costate", "p' by 0.98", "derive.runtime.extremals:problem",
           _costate_of(0.98), "ending_tracking"),
    Mutant("runtime: end", "p(T) by 1.05",
           "derive.runtime.extremals:problem", _end_of(1.05), "ending_tracking"),
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


def outcome(mutant: Mutant, every: bool = False) -> dict[str, str]:
    """What each rung says of the broken rule, in this process; `every`: behind a kill too."""
    break_rule(mutant)
    from derive.derivation import derived, rendered
    from derive.dispatch import emitter
    from derive.errors import CheckFailed

    entry, found = entry_of(mutant.model), {}
    try:
        result = derived(entry)
    except Exception as problem:  # a refusal, or an expression that no rule takes
        return {"derivation": f"{type(problem).__name__}: {problem}"}
    found["derivation"] = ""
    try:
        text = rendered(entry, result)
        found["L1"] = ""
    except CheckFailed as problem:
        found["L1"] = str(problem)
        if not every:
            return found
        text = emitter(entry.method).render(result, entry.source, entry.argument)
    for rung, says in _rungs(entry.method, result, text):
        try:
            found[rung] = says()
        except Exception as problem:  # a kernel that does not run
            found[rung] = f"{type(problem).__name__}: {problem}"
        if found[rung] and not every:
            break
    return found


def entry_of(model: str) -> Any:
    """The entry of a registered model, or of one of `mutant_models`, in a folder of its own."""
    import tempfile
    from pathlib import Path

    from derive.mutant_models import TEXTS
    from derive.registry import entries, find

    if model not in TEXTS:
        return find(model)
    file = Path(tempfile.mkdtemp()) / f"{model}.py"
    file.write_text(TEXTS[model], encoding="utf-8")
    (entry,) = entries(file)
    return entry


def _rungs(method: str, result: Any, text: str) -> Iterator[tuple[str, Callable[..., str]]]:
    from derive.dispatch import ladder
    from derive.verify import rungs
    from derive.verify.compare import module_of
    from derive.verify.sde_replay import replayed

    module = module_of(text, "mutant")

    def gate() -> str:
        return "; ".join(
            str(f) for f in ladder(method).gate(result, module) if not f.error <= f.allowed
        )

    def told(*found: Any) -> str:
        return "; ".join(str(rung.figures) for rung in found if rung.failed)

    yield "L3", gate
    if method == "covariance_sde":
        yield "L2", lambda: told(rungs.independent(result))
        yield "L5", lambda: told(replayed(result, module))
    elif method == "gaussian_closure":
        from derive.verify import closure_solver, gaussian_closure

        yield "L2", lambda: told(gaussian_closure.second_route(result, module))
        yield "L5", lambda: told(closure_solver.solver(result, module))
    else:
        from derive.verify import optimal_control as control

        def doubly(rung: Callable[[], Any]) -> str:
            import jax

            with jax.enable_x64(True):
                return told(rung())

        points = [control.inside(result.model, 10)]
        yield "L2", lambda: doubly(lambda: control.independent(result, module, points))

        def solved() -> str:
            """A solver that refuses every instance has noticed too: its own checks are a rung."""
            import jax

            with jax.enable_x64(True):
                rung = control.solver(result, module)
            return told(rung) or rung.unreached

        yield "L5", solved


def tried(position: int, seconds: float = 300, every: bool = False) -> dict[str, str]:
    """The outcome of one mutant in a process of its own; `every`: all rungs, behind a kill too."""
    command = [sys.executable, "-m", "derive.rule_mutants", str(position), *["all"] * every]
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


def table(
    outcomes: list[dict[str, str]], mutants: Sequence[Mutant] = MUTANTS, every: bool = False
) -> str:
    """The matrix rule x rung: x kills, . lives; empty where nothing was run, which is behind a
    kill, and, with `every`, behind a derivation that ends."""
    head = "| rule | broken how | model | " + " | ".join(RUNGS) + " |\n"
    head += "|---|---|---|" + "---|" * len(RUNGS) + "\n"
    rows, notes = [], []
    for mutant, found in zip(mutants, outcomes, strict=True):
        cells = [("x" if found[r] else ".") if r in found else "" for r in RUNGS]
        rows.append(f"| {mutant.rule} | {mutant.how} | {mutant.model} | {' | '.join(cells)} |")
        if not killer(found):
            why = mutant.note or "lives, and no reason is known why it may"
            notes.append(f"- {mutant.rule}, {mutant.how}: {why}.")
    killed = sum(bool(killer(f)) for f in outcomes)
    behind = "where no derivation is left" if every else "behind a kill"
    return (
        f"# Rules broken, and the rungs that notice\n\n{killed} of {len(mutants)} mutants are "
        f"killed; `x` kills, `.` does not, {behind} nothing is run.\n\n"
        + head + "\n".join(rows) + ("\n\n" + "\n".join(notes) if notes else "") + "\n"
    )  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(outcome(MUTANTS[int(sys.argv[1])], "all" in sys.argv[2:])))
