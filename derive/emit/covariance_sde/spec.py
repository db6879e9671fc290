"""The specification of a covariance SDE's module: what the runtime is told of the model."""

from __future__ import annotations

from fractions import Fraction

from derive.calculus.limit.scaling import ratio
from derive.emit.common.kernel import Kernel
from derive.emit.common.names import words_in
from derive.emit.covariance_sde.names import layer_shaped, patterns, sizes_of
from derive.methods.covariance_sde.reduce import Chain
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import Array, shares
from derive.notation.common.scalars import Param
from derive.notation.common.words.word import WORDS
from derive.notation.layers.blocks import BlockLaw

_OPS = {word.calls for word in WORDS.values() if word.runtime == "ops"} | {
    "arcsin", "at", "causal", "constant", "diagonal", "eye", "full", "gaussian_mean", "identity",
    "matvec", "of_correlation", "permuted", "pi", "rows_scaled",
}  # fmt: skip


_MEANS = {"normal_mean", "normal_nodes", "over_nodes", "psd_root"}


def words_of_runtime(kernels: list[Kernel]) -> tuple[list[str], list[str]]:
    """Words of `runtime.common.ops`, and of `runtime.common.normal_nodes`."""
    used = words_in(line for k in kernels for line in k.lines)
    return sorted(_OPS & used), sorted(_MEANS & used)


def specification(result: CovarianceSDE) -> list[tuple[str, str]]:
    noise = {
        f.drawn.name: "symmetric" if f.drawn.symmetric else "gaussian" for f in result.noise.fields
    }
    out = [
        ("params", "Params"),
        ("dims", "Dims"),
        ("weights", "Weights"),
        ("width", repr(result.model.width.name)),
        ("clock", repr(result.model.clock.name)),
        *([("pace", _quotient_text(result.model.pace))] if result.model.pace != 1 else []),
        (
            "ranges",
            repr(
                {p.name: _range(p) for p in result.model.params}
                | {
                    p.name: "rows sum to one" if p.rows else "square matrix"
                    for p in patterns(result)
                    if p.given
                }
            ),
        ),
        (
            "ratios",
            repr(
                {
                    d.name: ratio(d).name
                    for d in sizes_of(result)
                    if d in result.law.scaling.proportional
                }
            ),
        ),
        (
            "weight_shapes",
            repr({n: tuple(str(d) for d in a.shape) for n, a in result.trace.weights}),
        ),
        *_shares(result),
        *([("unit_rows", "True")] if result.model.unit_rows else []),
        ("noise_fields", repr(noise)),
        ("drift", "drift"),
        ("diffusion", "diffusion"),
        ("noise_from", "noise_from"),
        ("mixing_rate", "mixing_rate"),
        ("mixing_effect", "mixing_effect"),
        ("volatility", "volatility"),
        ("layer", "layer"),
    ]
    if result.reduction is not None:
        out += [
            ("reduced_layer", "reduced_layer"),
            ("reduced_blocks", _blocks(result.reduction.exact)),
        ]
    if layer_shaped(result):
        assert result.reduction is not None and result.reduction.step is not None
        out += [("step_layer", "step_layer"), ("step_blocks", _blocks(result.reduction.step))]
    else:
        every = noise | dict.fromkeys(result.step.blocks, "gaussian")
        drawn = ", ".join(f'"{n}": runtime.Block("{kind}")' for n, kind in every.items())
        out += [("step_layer", "step_layer"), ("step_blocks", "{" + drawn + "}")]
    return [(name, value.replace("'", '"')) for name, value in out]


def _quotient_text(value: Fraction) -> str:
    return f"{value.numerator} / {value.denominator}"


def _shares(result: CovarianceSDE) -> list[tuple[str, str]]:
    """Sizes that are quotients of others, for the layers alone."""
    found = {str(s): (str(s.whole), str(s.count)) for s in shares(result.trace.output)}
    return [("shares", repr(found))] if found else []


def _range(parameter: Param) -> tuple[object, ...]:
    r = parameter.range
    plain = (repr(r.low), repr(r.high), r.low_open, r.high_open, r.text)
    return (*plain, True) if parameter.varying else plain


def _blocks(chain: Chain) -> str:
    def shown(array: Array) -> str:
        law: BlockLaw = array.data
        if law.kind == "gaussian":
            return 'runtime.Block("gaussian")'
        return f'runtime.Block("{law.kind}", "{law.dim}", {law.used})'

    return "{" + ", ".join(f'"{n}": {shown(a)}' for n, a in chain.blocks) + "}"
