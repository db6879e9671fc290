"""Simulate a Gaussian closure beside the finite system of tokens, from a law of one's own.

Writes NAME.npz and NAME.png: the covariance's ellipses over the tokens, its eigenvalues in time.
What the user does not give, law, matrices and parameters, is drawn at random from --seed.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from derive.entry import Entry
from derive.errors import RequestError
from derive.files import require_writable
from derive.kernels import kernel_of
from derive.kinds import requests

if TYPE_CHECKING:
    import numpy as np

    from derive.notation.closures.model import ClosureModel

SCALE = 0.7  # of the entries of matrices that are drawn
SHORT = 0.98  # share of the time up to a blow-up that is shown


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mean",
        type=Path,
        metavar="FILE.npy",
        help="mean of the start (d,), or (B, d) in models with positions; default: zero with "
        "--cov, else drawn",
    )
    parser.add_argument(
        "--cov",
        type=Path,
        metavar="FILE.npy",
        help="covariance of the start (d, d), or (B, d, d); default: drawn",
    )
    requests.sized(parser)
    parser.add_argument("--t1", type=float, default=2.0, help="final time (default 2)")
    parser.add_argument(
        "--tokens",
        type=requests.count(0),
        default=500,
        metavar="N",
        help="of the finite system (default 500); 0: the closure alone",
    )
    parser.add_argument(
        "--steps",
        type=requests.count(1),
        default=160,
        help="Runge-Kutta steps of the tokens, at least (default 160)",
    )
    parser.add_argument(
        "--saves", type=requests.count(3), default=41, help="number of save times (default 41)"
    )


class Start(NamedTuple):
    mean: np.ndarray
    cov: np.ndarray
    params: Any
    drawn: str  # what was drawn, in words


def run(entry: Entry, options: argparse.Namespace) -> int:
    from derive.registry import load

    draw = requests.picture("derive.kinds.gaussian_closure.picture").closure_picture
    if not (math.isfinite(options.t1) and options.t1 > 0):
        raise RequestError(f"--t1 {options.t1:g}: it must be a positive, finite time")
    model = load(entry)
    start = _start(model, options)
    module = kernel_of(entry, options.kernels)
    params = module.Params(**{n: start.params[n] for n in module.Params._fields})
    require_writable(options.out)
    closure, blow_up = _closure(module, start, params, options)
    tokens, why = _tokens(module, model, start, params, closure, options)
    arrays: dict[str, Any] = {
        "times": closure.times,
        "mean": closure.mean,
        "cov": closure.cov,
        "blow_up_time": blow_up,
        **{f"param_{n}": v for n, v in params._asdict().items()},
    }
    if tokens is not None:
        arrays |= {
            "tokens_times": tokens.times,
            "tokens": tokens.x,
            "tokens_mean": tokens.x.mean(axis=1),
            "tokens_cov": _covariances(tokens.x),
        }
    files = requests.write(
        entry, options.out, arrays, lambda: draw(entry.name, arrays, module.EXACT)
    )
    said = [start.drawn, f"blow-up at t = {blow_up:.6g}" if math.isfinite(blow_up) else "", why]
    if tokens is not None:
        said.append(_distance(arrays))
    print("\n".join([*filter(None, said), *map(str, files)]))
    return 0


def _start(model: ClosureModel, options: argparse.Namespace) -> Start:
    """Law and parameters: those given, and for the others a draw of the sizes that these have."""
    import numpy as np

    from derive.methods.gaussian_closure.instances import instance

    d, e = model.state_dim.name, model.key_dim.name
    block = ("B",) if model.positional else ()
    shapes: dict[str, tuple[str, ...]] = {
        **{m.data: tuple(s.name for s in m.shape) for m in model.matrices},
        **{p.name: () for p in model.params},
        **({"key_mean": (e,), "key_cov": (e, e)} if model.cross else {}),
        **({"theta": block} if block else {}),
    }
    given = requests.given("--param", options.param, shapes)
    law = {"mean": (*block, d), "cov": (*block, d, d)}
    for name, shape in law.items():
        file = getattr(options, name)
        if file is not None:
            given[name] = requests.array(f"--{name} {file}", file, shape)
    sizes = requests.sizes(options.size, given, {**shapes, **law})
    one = instance(model, options.seed, scale=SCALE, given=sizes)
    values: dict[str, Any] = {**one.params, **{n: one.arrays[n] for n in shapes if shapes[n]}}
    values |= {"mean": one.arrays["m"], "cov": one.arrays["S"]}
    if "cov" in given:
        values["mean"] = np.zeros_like(values["mean"])
    values |= given
    for p in model.params:
        if values[p.name] not in p.range:
            raise RequestError(
                f"--param {p.name}={values[p.name]:g}: outside its range, {p.range.text}"
            )
    fixed = [*given, *(["mean"] if "cov" in given else [])]
    drawn = requests.said_drawn(values, fixed, options.seed)
    mean, cov = values.pop("mean"), values.pop("cov")
    return Start(mean, cov, values, drawn)


def _closure(
    module: ModuleType, start: Start, params: Any, options: argparse.Namespace
) -> tuple[Any, float]:
    """Moments, and when they blow up (inf: not before the end); their times stop short of it."""
    import numpy as np

    def solved(t1: float) -> Any:
        times = np.linspace(0, t1, options.saves)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", RuntimeWarning)
            found = module.solve(start.mean, start.cov, params, t1=t1, saves=times, progress=True)
        _tell("closure", said)
        return found

    found = solved(options.t1)
    blow_up = float(found.blow_up_time)
    if not math.isfinite(blow_up):
        return found, blow_up
    return solved(SHORT * blow_up), blow_up


def _tokens(
    module: ModuleType,
    model: ClosureModel,
    start: Start,
    params: Any,
    closure: Any,
    options: argparse.Namespace,
) -> tuple[Any, str]:
    """The finite system, or None and the reason."""
    import numpy as np

    from derive.runtime.closures.inputs import factor

    if not options.tokens:
        return None, ""
    if module._SPEC.particle_velocity is None:
        return None, f"{model.name} defines no system of particles: the closure alone is drawn"
    if model.mixture:
        return None, (
            f"the components of {model.name} are drawn alone; tokens that start as any mixture: "
            f"derive.generated.{model.name}.particles(x0, params, t1=, steps=)"
        )
    if model.positional:
        return None, (
            f"a token of the finite system of {model.name} sees only what stands before it, one of "
            "the closure all of its block: the closure alone is drawn"
        )
    kept = int(np.isfinite(closure.mean).all(axis=-1).sum())  # saves before the numbers overflow
    if kept < 2:
        return None, "the closure has no second save: no tokens are drawn"
    rng = np.random.default_rng(options.seed)
    d = len(start.mean)
    x0 = start.mean + rng.standard_normal((options.tokens, d)) @ factor(start.cov).T
    steps = (kept - 1) * math.ceil(options.steps / (kept - 1))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RuntimeWarning)
        t1 = float(closure.times[kept - 1])
        found = module.particles(x0, params, t1=t1, steps=steps, saves=kept, progress=True)
    _tell("tokens", said)
    return found, ""


def _tell(what: str, said: list[warnings.WarningMessage]) -> None:
    for text in dict.fromkeys(str(w.message) for w in said):
        print(f"{what}: {text}")


def _covariances(x: np.ndarray) -> np.ndarray:
    """Of tokens (saves, N, d)."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred.swapaxes(1, 2) @ centred / x.shape[1]


def _distance(arrays: dict[str, Any]) -> str:
    """How far the tokens' covariance is from the closure's at the end, beside the start."""
    import numpy as np

    found = arrays["tokens_cov"]
    gap = [
        float(np.linalg.norm(found[k] - cov) / np.linalg.norm(cov))
        for k, cov in ((0, arrays["cov"][0]), (-1, arrays["cov"][len(found) - 1]))
    ]
    return (
        f"covariance of {arrays['tokens'].shape[1]} tokens, relative distance to the closure's: "
        f"{gap[0]:.2g} at the start (their draw), {gap[1]:.2g} at the end"
    )
