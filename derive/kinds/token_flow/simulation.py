"""Move tokens by a token flow from a start of one's own, beside the equal-angle curve.

Writes NAME.npz and NAME.png: the tokens, the cosines of all pairs in time, the energy.  What the
user does not give, tokens, matrices and parameters, is drawn at random from --seed.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from derive.entry import Entry
from derive.errors import RequestError
from derive.files import require_writable
from derive.kernels import kernel_of
from derive.kinds import requests

if TYPE_CHECKING:
    import numpy as np

    from derive.notation.flows.model import FlowDefinition


NOISY = 40  # steps between two saves under noise
STEPS, AGREED = (50, 200, 800, 3200, 12_800), 1e-7  # between two saves; of the cosine


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE.npy",
        help="tokens of the start (n, d); default: drawn, uniform on the sphere or normal in R^d",
    )
    parser.add_argument(
        "--angles",
        type=float,
        metavar="COSINE",
        help="start with all pairs of tokens at this cosine, in as many dimensions as tokens",
    )
    requests.sized(parser)
    parser.add_argument("--t1", type=float, default=10.0, help="final time (default 10)")
    parser.add_argument(
        "--tokens", type=requests.count(2), default=32, metavar="N", help="how many (default 32)"
    )
    parser.add_argument(
        "--saves", type=requests.count(3), default=101, help="number of save times (default 101)"
    )
    parser.add_argument(
        "--project", action="store_true", help="divide the tokens of --start by their lengths"
    )


def run(entry: Entry, options: argparse.Namespace) -> int:
    import numpy as np

    from derive.registry import load

    draw = requests.picture("derive.kinds.token_flow.picture").flow_picture
    if not (math.isfinite(options.t1) and options.t1 > 0):
        raise RequestError(f"--t1 {options.t1:g}: it must be a positive, finite time")
    model = load(entry)
    x0, values, drawn = _start(model, options)
    module = kernel_of(entry, options.kernels)
    known = {**values, model.state_dim.name: float(x0.shape[1])}
    params = module.Params(**{n: known[n] for n in module.Params._fields})
    require_writable(options.out)
    times = np.linspace(0, options.t1, options.saves)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RuntimeWarning)
        if hasattr(module, "path"):
            found = _noisy(module, x0, params, times, options)
        else:
            found = module.solve(
                x0, params, t1=options.t1, saves=times, project=options.project, progress=True
            )
    for text in dict.fromkeys(str(w.message) for w in said):
        print(text)
    arrays = _arrays(module, params, found, options)
    files = requests.write(
        entry, options.out, arrays, lambda: draw(entry.name, arrays, model.sphere)
    )
    counts = found.counts
    words = f"clusters: {int(counts[0])} at the start, {int(counts[-1])} at t = {options.t1:g}"
    limit = ""
    if hasattr(module, "limit_object"):
        told = module.limit_object(found.x[0], params)
        limit = f"as t -> oo: {told.kind} ({told.words})"
    print("\n".join([*filter(None, [drawn, words, limit]), *map(str, files)]))
    return 0


def _noisy(
    module: ModuleType, x0: np.ndarray, params: Any, times: np.ndarray, options: argparse.Namespace
) -> Any:
    """One path under noise, NOISY steps between two saves."""
    import jax
    import numpy as np

    from derive.runtime.flows.components import labels
    from derive.runtime.flows.results import Flow

    steps = NOISY * (len(times) - 1)
    with jax.enable_x64(True):
        key = jax.random.key(options.seed)
        way = module.path(key, np.asarray(x0, float), params, t1=float(times[-1]), steps=steps)
        x = np.asarray(way)[::NOISY]
        energy = None
        if hasattr(module, "energy"):
            energy = np.asarray(jax.lax.map(lambda at: module.energy(at, params), x))
    unknown = np.full(len(times), np.nan)
    return Flow(times, x, energy, unknown, labels(x, 1e-6), np.array(np.inf), np.array(steps))


def _start(
    model: FlowDefinition, options: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any], str]:
    """Tokens (n, d), parameters and matrices by name, and what was drawn in words."""
    import numpy as np

    from derive.methods.token_flow.instances import instance, on_home

    d = model.state_dim.name
    shapes: dict[str, tuple[str, ...]] = {
        **{m.data: tuple(s.name for s in m.shape) for m in model.matrices},
        **{p.name: () for p in model.params},
    }
    given = requests.given("--param", options.param, shapes)
    arrays, all_shapes = dict(given), {**shapes, "x": ("n", d)}
    if options.start is not None:
        if options.angles is not None:
            raise RequestError("--start and --angles both say where tokens start; give one")
        arrays["x"] = requests.array(f"--start {options.start}", options.start, ("n", d))
    sizes = requests.sizes(options.size, arrays, all_shapes)
    n = sizes.get("n", options.tokens)
    if options.angles is not None:
        if sizes.get(d, n) != n:
            raise RequestError(f"--angles needs {d} = n = {n}, and {d} is {sizes[d]}")
        sizes[d] = n
    one = instance(model, options.seed, n, sizes.get(d, 3), given=sizes)
    values: dict[str, Any] = {**one.params, **{m.data: one.arrays[m.data] for m in model.matrices}}
    values |= given
    for p in model.params:
        if values[p.name] not in p.range:
            raise RequestError(
                f"--param {p.name}={values[p.name]:g}: outside its range, {p.range.text}"
            )
    drawn = requests.said_drawn(values, given, options.seed)
    if "x" in arrays:
        return arrays["x"], values, drawn
    if options.angles is not None:
        if not -1 / (n - 1) < options.angles < 1:
            raise RequestError(
                f"--angles {options.angles:g}: {n} tokens have one cosine between "
                f"{-1 / (n - 1):.3g} and 1"
            )
        root = np.linalg.cholesky((1 - options.angles) * np.eye(n) + options.angles)
        return on_home(model, root), values, drawn
    return one.x, values, "; ".join(filter(None, [drawn, f"tokens {one.x.shape} drawn"]))


def _arrays(
    module: ModuleType, params: Any, found: Any, options: argparse.Namespace
) -> dict[str, Any]:
    import numpy as np

    arrays: dict[str, Any] = {
        "times": found.times,
        "tokens": found.x,
        "error": found.error,
        "clusters": found.clusters,
        "blow_up_time": found.blow_up_time,
        **{f"param_{n}": np.asarray(v) for n, v in params._asdict().items()},
    }
    if found.energy is not None:
        arrays["energy"] = found.energy
    if options.angles is not None and hasattr(module, "equal_angle_rate"):
        curve = _settled(module, params, found, options.angles)
        if curve is None:
            print("the reduced equation is too steep for equal steps: its curve is not drawn")
        else:
            arrays["equal_angle"] = curve
    return arrays


def _settled(module: ModuleType, params: Any, found: Any, cosine: float) -> np.ndarray | None:
    """The reduced equation's cosine, by ever more steps until two agree; None if none do."""
    import numpy as np

    known = _reduced(module, params, found, cosine, STEPS[0])
    for within in STEPS[1:]:
        finer = _reduced(module, params, found, cosine, within)
        if np.max(np.abs(finer - known)) < AGREED:
            return finer
        known = finer
    return None


def _reduced(module: ModuleType, params: Any, found: Any, cosine: float, within: int) -> np.ndarray:
    """The cosine of the reduced equation at the saves, by `within` Runge-Kutta steps between."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    n = found.x.shape[1]
    radius = float(np.linalg.norm(found.x[0, 0]))
    free = module._SPEC.sphere is False
    with jax.enable_x64(True):

        def rate(y: Any) -> Any:
            if free:
                return jnp.stack(module.equal_angle_rate(y[0], y[1], n, params))
            return jnp.stack([module.equal_angle_rate(y[0], n, params), 0.0 * y[1]])

        def step(y: Any, h: Any) -> tuple[Any, Any]:
            one = rate(y)
            two = rate(y + h / 2 * one)
            three = rate(y + h / 2 * two)
            new = y + h * (one + 2 * two + 2 * three + rate(y + h * three)) / 6
            return new, new

        h = jnp.asarray(np.repeat(np.diff(found.times), within) / within)
        _, way = jax.jit(lambda: jax.lax.scan(step, jnp.asarray([cosine, radius]), h))()
    return np.concatenate([[cosine], np.asarray(way)[within - 1 :: within, 0]])
