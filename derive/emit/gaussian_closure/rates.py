"""Rates that need a quadrature: a Fourier integral or a cubature, with estimates of their error."""

from __future__ import annotations

from derive.calculus.index.defined import Book
from derive.emit.common import scalars
from derive.emit.gaussian_closure.code import Code
from derive.emit.gaussian_closure.kernels import Kernel, Parts, add_kernel, add_pair
from derive.methods.gaussian_closure.result import FOURIER, GaussianClosure, Wave


def add_fourier(parts: Parts, result: GaussianClosure, docs: dict[str, str]) -> None:
    law = "mean, cov, params"
    parts.words |= {"fourier_mean"}
    calls = []
    for position, wave in enumerate(result.waves, 1):
        add_pair(
            parts,
            result,
            f"_wave_{position}",
            f"u, {law}",
            wave.mean,
            wave.jacobian,
            f"Rates of mean and gradient with exp(i u s) for {wave.rule.name}(s); complex.",
        )
        for j, (mean, jacobian) in enumerate(wave.powers):
            add_pair(
                parts,
                result,
                f"_power_{position}_{j}",
                law,
                mean,
                jacobian,
                f"Rates of mean and gradient with s^{j} for {wave.rule.name}(s).",
            )
        add_kernel(
            parts,
            result,
            f"_size_{position}",
            law,
            f"E s^2 of the argument of {wave.rule.name}.",
            wave.size,
        )
        calls.append(_call(parts, position, wave))
    body = []
    base = [
        n for n, e in (("mean_rate", result.mean_rate), ("jacobian", result.jacobian)) if e.terms
    ]
    if base:
        add_pair(
            parts,
            result,
            "_base",
            law,
            result.mean_rate,
            result.jacobian,
            "Rates of the part without functions that need an integral.",
        )
        calls.insert(0, "_base(mean, cov, params)")
    if len(calls) == 1:
        body = [f"return {calls[0]}"]
    else:
        parts.words.add("total")
        body = [f"part_{n} = {c}" for n, c in enumerate(calls, 1)]
        sums = [
            f"total({', '.join(f'part_{n}[{k}]' for n in range(1, len(calls) + 1))})"
            for k in (0, 1)
        ]
        body.append(f"return {sums[0]}, {sums[1]}")
    parts.kernels.append(Kernel("_rates", law, "Rate of the mean and mean gradient.", body))
    for position, name in enumerate(("mean_rate", "jacobian")):
        parts.kernels.append(
            Kernel(name, law, docs[name], [f"return _rates(mean, cov, params)[{position}]"])
        )


def add_cubature(parts: Parts, result: GaussianClosure, docs: dict[str, str]) -> None:
    """Rates by cubature over the law of what the velocity sees of x; the rest in closed form."""
    law = "mean, cov, params"
    assert result.cubature is not None
    whole = result.cubature == result.velocity
    field_ = "velocity" if whole else "_rest"
    if not whole:
        doc = "The part of the velocity whose average has no closed form."
        add_kernel(parts, result, "_rest", f"x, {law}", doc, result.cubature, {"x": "x"})
    rows = ", ".join(
        f"(params.{name}, {axes}, {token})" for name, axes, token in result.through or ()
    )
    through = f", [{rows}]" if rows else ""
    if result.singular is not None:
        places = []
        for number, q in enumerate(result.singular, 1):
            doc = "Zero where the velocity has a kink, a jump or a pole in x."
            places.append(f"_place_{number}")
            add_kernel(parts, result, places[-1], f"x, {law}", doc, q, {"x": "x"})
        through = f"{through or ', None'}, [{', '.join(places)}]"
    axes = "(2, 3)" if result.model.positional else "(1, 2)"
    parts.words |= {"cubature_rates", "cubature_error"}
    call = f"cubature_rates({field_}, mean, cov, params{through})"
    body = [f"return {call}"]
    if not whole:
        parts.words.add("total")
        add_pair(
            parts,
            result,
            "_base",
            law,
            result.mean_rate,
            result.jacobian,
            "Rates of the part with a closed form.",
        )
        body = [
            "base = _base(mean, cov, params)",
            f"part = {call}",
            "return total(base[0], part[0]), total(base[1], part[1])",
        ]
    parts.kernels.append(Kernel("_rates", law, "Rate of the mean and mean gradient.", body))
    # the root of cov that places the nodes has no others
    edge = (
        "\n\nDerivatives by cov: the first alone, and where cov is regular; at a singular cov only "
        "those along changes that keep its range are right."
    )
    for position, name in enumerate(("mean_rate", "jacobian")):
        line = f"return _rates(mean, cov, params)[{position}]"
        parts.kernels.append(Kernel(name, law, docs[name] + edge, [line]))
    error = f"cubature_error({field_}, mean, cov, params, {axes}{through})"
    doc = (
        "Relative error of the cubature in mean_rate, jacobian and cov_rate, (...): four times the "
        "distance to finer rules, or three standard errors over random shifts."
    )
    parts.kernels.append(Kernel("rate_error", law, doc, [f"return {error}"]))


def add_errors(parts: Parts, result: GaussianClosure, law: str) -> None:
    """Estimates of the quadratures' errors, where a kernel holds one."""
    inner, outer = ("(2,)", "(2, 3)") if result.model.positional else ("(1,)", "(1, 2)")
    doc = "Relative error of the quadrature in {}, (...): the distance to twice the nodes."
    by_name = {k.name: "\n".join(k.body) for k in parts.kernels}
    if "gaussian_mean(" in by_name["velocity"]:
        parts.words.add("quadrature_error")
        call = f"return quadrature_error(velocity, {inner}, x, mean, cov, params)"
        parts.kernels.append(Kernel("velocity_error", f"x, {law}", doc.format("velocity"), [call]))
    if "rate_error" in by_name:
        return
    if result.route == FOURIER:
        parts.words.add("quadrature_error")
        call = f"return quadrature_error(_rates, {outer}, mean, cov, params)"
    elif any("gaussian_mean(" in by_name[n] for n in ("mean_rate", "jacobian")):
        parts.words.add("quadrature_error")
        both = "lambda *law: (mean_rate(*law), jacobian(*law))"
        call = f"return quadrature_error({both}, {outer}, mean, cov, params)"
    else:
        return
    title = doc.format("mean_rate and jacobian")
    parts.kernels.append(Kernel("rate_error", law, title, [call]))


def _call(parts: Parts, position: int, wave: Wave) -> str:
    rule = wave.rule
    function = Code(Book(), functions=parts.functions).function(rule.rule, rule.order)
    powers = ", ".join(f"_power_{position}_{j}(mean, cov, params)" for j in range(rule.order))
    taylor = ", ".join(
        scalars.python(c) if c.is_Rational else repr(float(c.evalf(20))) for c in rule.taylor
    )
    return (
        f"fourier_mean(lambda u: _wave_{position}(u, mean, cov, params), [{powers}], [{taylor}], "
        f"{function}, _size_{position}(mean, cov, params), "
        f"{rule.reach}, {rule.support}, {rule.nodes})"
    )
