"""Rates that need a quadrature: a Fourier integral or a cubature, with estimates of their error."""

from __future__ import annotations

from derive.calculus.index.defined import Book
from derive.emit.common import scalars
from derive.emit.common.kernel import Kernel
from derive.emit.gaussian_closure.code import Code
from derive.emit.gaussian_closure.kernels import EDGE_OF_NODES, Parts, add_kernel, add_pair
from derive.methods.gaussian_closure.key_nodes import has_nodes
from derive.methods.gaussian_closure.result import FOURIER, GaussianClosure, Wave

LAW = "mean, cov, params"


def add_fourier(parts: Parts, result: GaussianClosure, docs: dict[str, str]) -> None:
    """Rates as sums of integrals over Fourier transforms, and of a part in closed form."""
    parts.words |= {"fourier_mean"}
    waves = enumerate(result.waves, 1)
    calls = [_wave(parts, result, position, wave) for position, wave in waves]
    if result.mean_rate.terms or result.jacobian.terms:
        doc = "Rates of the part without functions that need an integral."
        add_pair(parts, result, "_base", LAW, result.mean_rate, result.jacobian, doc)
        calls.insert(0, f"_base({LAW})")
    names = [f"part_{n}" for n, _ in enumerate(calls, 1)]
    body, whole = [], calls[0]
    if len(calls) > 1:
        parts.words.add("total")
        body = [f"{name} = {call}" for name, call in zip(names, calls, strict=True)]
        sums = (f"total({', '.join(f'{name}[{k}]' for name in names)})" for k in (0, 1))
        whole = ", ".join(sums)
    _add_rates(parts, docs, body, whole)


def _wave(parts: Parts, result: GaussianClosure, position: int, wave: Wave) -> str:
    """The kernels of one Fourier integral; returns the text of its rates."""
    name = wave.rule.name
    doc = f"Rates of mean and gradient with exp(i u s) for {name}(s); complex."
    add_pair(parts, result, f"_wave_{position}", f"u, {LAW}", wave.mean, wave.jacobian, doc)
    for j, (mean, jacobian) in enumerate(wave.powers):
        doc = f"Rates of mean and gradient with s^{j} for {name}(s)."
        add_pair(parts, result, f"_power_{position}_{j}", LAW, mean, jacobian, doc)
    doc = f"E s^2 of the argument of {name}."
    add_kernel(parts, result, f"_size_{position}", LAW, doc, wave.size)
    return _call(parts, position, wave)


def _add_rates(parts: Parts, docs: dict[str, str], body: list[str], whole: str) -> None:
    """Both rates at once, and each of them."""
    doc = "Rate of the mean and mean gradient."
    parts.kernels.append(Kernel("_rates", LAW, doc, body, whole))
    for position, name in enumerate(("mean_rate", "jacobian")):
        one = f"_rates({LAW})[{position}]"
        parts.kernels.append(Kernel(name, LAW, docs[name], [], one))


def add_cubature(parts: Parts, result: GaussianClosure, docs: dict[str, str]) -> None:
    """Rates by cubature over the law of what the velocity sees of x; the rest in closed form."""
    assert result.cubature is not None
    whole = result.cubature == result.velocity
    field_ = "velocity" if whole else "_rest"
    if not whole:
        doc = "The part of the velocity whose average has no closed form."
        add_kernel(parts, result, "_rest", f"x, {LAW}", doc, result.cubature, {"x": "x"})
    rows = ", ".join(
        f"(params.{name}, {axes}, {token})" for name, axes, token in result.through or ()
    )
    through = f", [{rows}]" if rows else ""
    if result.singular is not None:
        places = []
        for number, q in enumerate(result.singular, 1):
            doc = "Zero where the velocity has a kink, a jump or a pole in x."
            places.append(f"_place_{number}")
            add_kernel(parts, result, places[-1], f"x, {LAW}", doc, q, {"x": "x"})
        through = f"{through or ', None'}, [{', '.join(places)}]"
    axes = "(2, 3)" if result.model.positional else "(1, 2)"
    parts.words |= {"cubature_rates", "cubature_error"}
    body: list[str] = []
    rates = f"cubature_rates({field_}, {LAW}{through})"
    if not whole:
        parts.words.add("total")
        doc = "Rates of the part with a closed form."
        add_pair(parts, result, "_base", LAW, result.mean_rate, result.jacobian, doc)
        body = [f"base = _base({LAW})", f"part = {rates}"]
        rates = "total(base[0], part[0]), total(base[1], part[1])"
    _add_rates(parts, {name: doc + EDGE_OF_NODES for name, doc in docs.items()}, body, rates)
    error = f"cubature_error({field_}, {LAW}, {axes}{through})"
    if has_nodes(result.velocity, result.book):
        parts.words |= {"maximum", "quadrature_error"}
        error = f"maximum({error}, quadrature_error(velocity, {axes[:2]},), mean, {LAW}))"
    doc = (
        "Relative error of the cubature in mean_rate, jacobian and cov_rate, (...): four times the "
        "distance to finer rules, or three standard errors over random shifts."
    )
    parts.kernels.append(Kernel("rate_error", LAW, doc, [], error))


def add_errors(parts: Parts, result: GaussianClosure) -> None:
    """Estimates of the quadratures' errors, where a kernel holds one."""
    inner, outer = ("(2,)", "(2, 3)") if result.model.positional else ("(1,)", "(1, 2)")
    doc = "Relative error of the quadrature in {}, (...): the distance to twice the nodes."
    by_name = {k.name: "\n".join(k.lines) for k in parts.kernels}

    def add(name: str, arguments: str, of: str, function: str, axes: str) -> None:
        parts.words.add("quadrature_error")
        call = f"quadrature_error({function}, {axes}, {arguments})"
        parts.kernels.append(Kernel(name, arguments, doc.format(of), [], call))

    if any(word in by_name["velocity"] for word in ("gaussian_mean(", "law_nodes(")):
        add("velocity_error", f"x, {LAW}", "velocity", "velocity", inner)
    if "rate_error" in by_name:
        return
    if result.route == FOURIER:
        both = "_rates"
    elif any("gaussian_mean(" in by_name[n] for n in ("mean_rate", "jacobian")):
        both = "lambda *law: (mean_rate(*law), jacobian(*law))"
    else:
        return
    if result.model.centred:  # the mean rests: what is computed of its rate is rounding
        add("rate_error", LAW, "jacobian", "lambda *law: (jacobian(*law),)", "(2,)")
        return
    add("rate_error", LAW, "mean_rate and jacobian", both, outer)


def _call(parts: Parts, position: int, wave: Wave) -> str:
    rule = wave.rule
    function = Code(Book(), functions=parts.functions).function(rule.rule, rule.order)
    powers = ", ".join(f"_power_{position}_{j}({LAW})" for j in range(rule.order))
    taylor = ", ".join(
        scalars.python(c) if c.is_Rational else repr(float(c.evalf(20))) for c in rule.taylor
    )
    return (
        f"fourier_mean(lambda u: _wave_{position}(u, {LAW}), [{powers}], [{taylor}], "
        f"{function}, _size_{position}({LAW}), "
        f"{rule.reach}, {rule.support}, {rule.nodes})"
    )
