"""The kernels of the SDE of a finite width, and how the module binds them."""

from __future__ import annotations

from dataclasses import replace

from derive.emit.common.kernel import Kernel
from derive.emit.common.names import words_in
from derive.emit.common.scalars import python
from derive.emit.covariance_sde.kernels import (
    congruence_kernel,
    expression_kernel,
    noise_kernel,
)
from derive.emit.covariance_sde.names import parameters, tuple_text, unpacked
from derive.methods.covariance_sde.corrected import Corrected


def at_width_kernels(found: Corrected) -> list[Kernel]:
    """Kernels of the SDE of a finite width; what the width does not change is not written again."""
    sde = found.sde
    what = "at the width of the network: parameters `ParamsAtWidth`.\n\nV: (..., m, m)."
    out = [
        expression_kernel(
            sde,
            "drift_at_width",
            f"Drift of the SDE {what}  Returns (..., m, m) per unit of depth / width.",
            sde.drift,
        )
    ]
    if found.sizes:
        out.append(
            expression_kernel(
                sde,
                "diffusion_at_width",
                f"Covariance of the noise {what}  Returns (..., m, m, m, m).",
                sde.diffusion,
            )
        )
        noise, _ = noise_kernel(sde)
        out.append(replace(noise, name="noise_from_at_width"))
        out.append(_sizes(found))
    step, _ = congruence_kernel(sde)
    out.append(replace(step, name="step_layer_at_width"))
    out.append(
        expression_kernel(
            sde,
            "lift_at_width",
            "What a step adds to the congruence, per unit of depth / width; the step keeps V\n"
            "positive semi-definite where this is.\n\nV: (..., m, m).  Returns (..., m, m).",
            sde.step.lift,
        )
    )
    return out


def _sizes(found: Corrected) -> Kernel:
    kernel = Kernel(
        "field_sizes_at_width",
        "params, t=0.0",
        "Squared sizes of the noise's fields relative to the limit; negative: there is no SDE.",
    )
    words = [python(s) for s in found.sizes]
    kernel.body = unpacked(found.sde, words_in(words))
    kernel.result = tuple_text(words)
    return kernel


def at_width_params(found: Corrected) -> list[str]:
    return [p.name for p in parameters(found.sde)]


def at_width_entry(found: Corrected) -> tuple[str, str]:
    """The entry of the specification that binds the kernels of a finite width."""
    drawn = ", ".join(
        f'"{f.drawn.name}": runtime.Block("{"symmetric" if f.drawn.symmetric else "gaussian"}")'
        for f in found.sde.noise.fields
    )
    words = {
        "params": "ParamsAtWidth",
        "width": f'"{found.width.name}"',
        "drift": "drift_at_width",
        "step_layer": "step_layer_at_width",
        "step_blocks": "{" + drawn + "}",
        "lift": "lift_at_width",
    }
    if found.sizes:
        words |= {
            "diffusion": "diffusion_at_width",
            "noise_from": "noise_from_at_width",
            "field_sizes": "field_sizes_at_width",
        }
    return "at_width", f"runtime.AtWidth({', '.join(f'{k}={w}' for k, w in words.items())})"
