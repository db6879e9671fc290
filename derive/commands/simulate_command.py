"""Simulate a model: the SDE beside the finite network, from your own tokens.

Writes PREFIX.npz and PREFIX.png: percentiles of covariances and correlations against depth /
width, and the share of paths that left the radius.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from derive.errors import RequestError
from derive.registry import find, generated_folder, shown

if TYPE_CHECKING:
    import numpy as np


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE.npy",
        help="token matrix (m, n), or covariance (m, m); default: m = 3, all "
        "covariances .2, variances 1",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter; repeat for more (default: a third of its range)",
    )
    parser.add_argument(
        "--t1",
        type=float,
        default=0.5,
        help="final time, depth / width on the usual clock (default .5)",
    )
    parser.add_argument("--paths", type=int, default=4096)
    parser.add_argument("--width", type=int, default=128, help="of the network; 0: no network")
    parser.add_argument("--saves", type=int, default=41, help="number of save times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dt", type=float, help="fixed step (default: the step follows the state)")
    parser.add_argument(
        "--radius",
        type=float,
        default=1e4,
        help="a path exits when max |V| passes this (default 1e4)",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=12,
        metavar="M",
        help="use at most M tokens of the file (default 12)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results"), help="folder (default results)"
    )


def run(options: argparse.Namespace) -> int:
    import numpy as np

    from derive.verify.ladder import load_module

    entry = find(options.model)
    if entry.method != "covariance_sde":
        raise RequestError(
            f"{entry.name} is a {entry.method} model; simulate draws covariance SDEs. From Python: "
            f"derive.generated.{entry.name}.solve(...)"
        )
    file = generated_folder() / f"{entry.name}.py"
    if not file.exists():
        raise RequestError(f"{shown(file)} does not exist; run: derive build {entry.argument}")
    plot = _plotting()
    module = load_module(file)
    params = _params(module, options.param)
    V0, _ = _start(options)
    times = np.linspace(0, options.t1, options.saves)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RequestError(f"cannot write to {options.out}: {problem.strerror}") from None
    sde = module.simulate(
        V0,
        params,
        t1=options.t1,
        paths=options.paths,
        seed=options.seed,
        dt=options.dt,
        saves=times,
        exit_radius=options.radius,
        progress=True,
    )
    network = None
    if options.width:
        unit = module._SPEC.unit(options.width)
        depth = max(1, round(options.t1 * unit))
        layers = np.unique(np.round(times * unit).astype(int).clip(0, depth))
        chain = getattr(module, "reduced_network", module.network)
        network = chain(
            V0,
            params,
            width=options.width,
            depth=depth,
            paths=options.paths,
            seed=options.seed + 1,
            saves=layers,
            exit_radius=options.radius,
            progress=True,
        )
    prefix = options.out / entry.name
    arrays: dict[str, Any] = {"V0": V0, "times": sde.times, "V": sde.V, "exit_time": sde.exit_time}
    arrays.update({f"param_{k}": v for k, v in params._asdict().items()})
    if network is not None:
        arrays |= {
            "network_times": network.times,
            "network_V": network.V,
            "network_exit_time": network.exit_time,
            "width": options.width,
        }
    np.savez_compressed(prefix.with_suffix(".npz"), **arrays)
    plot(
        prefix.with_suffix(".png"), entry.name, params, sde, network, options.width, _clock(module)
    )
    shares = f"SDE {sde.exited:.2%}"
    if network is not None:
        shares += f", network {network.exited:.2%}"
    print(f"left the radius {options.radius:g}: {shares}")
    print(f"{prefix.with_suffix('.npz')}\n{prefix.with_suffix('.png')}")
    return 0


def _clock(module: ModuleType) -> str:
    """What the depth is divided by, on the axis of the picture."""
    pace = module._SPEC.pace
    return "width" if pace == 1 else f"width$^{{{pace:.3g}}}$"


def _plotting():  # type: ignore[no-untyped-def]
    try:
        from derive.commands.picture import covariance_picture
    except ImportError:
        raise RequestError("pictures need matplotlib; pip install 'derive[plot]'") from None
    return covariance_picture


def _params(module: ModuleType, given: list[str]) -> Any:
    import numpy as np

    names = module.Params._fields
    values: dict[str, float] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in names:
            raise RequestError(f"--param {text}: write NAME=VALUE with NAME in {', '.join(names)}")
        try:
            values[name] = float(value)
        except ValueError:
            raise RequestError(f"--param {text}: {value!r} is not a number") from None
    for name in names:
        low, high, *_ = module._SPEC.ranges.get(name, ("0.0", "3.0"))
        low, high = float(low), float(high)
        low = -1.0 if np.isinf(low) else low
        values.setdefault(name, low + (min(high, low + 3.0) - low) / 3)
    from derive.runtime import inputs

    return inputs.parameters(values, module.Params, module._SPEC.ranges)


def _start(options: argparse.Namespace) -> tuple[np.ndarray, list[str] | None]:
    import numpy as np

    if options.tokens is None:
        return 0.2 + 0.8 * np.eye(3), None
    try:
        tokens = np.load(options.tokens, allow_pickle=False)
    except (OSError, ValueError) as problem:
        raise RequestError(
            f"--tokens {options.tokens}: cannot be read as .npy ({problem})"
        ) from None
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.floating) or not tokens.size:
        raise RequestError(
            f"--tokens {options.tokens}: shape {tokens.shape} of {tokens.dtype}; wanted floats, a "
            "token matrix (m, n) or a covariance (m, m)"
        )
    if not np.all(np.isfinite(tokens)):
        raise RequestError(f"--tokens {options.tokens}: has entries that are not finite")
    tokens = tokens.astype(float)
    kept = min(options.max_tokens, len(tokens))
    if kept < len(tokens):
        print(f"using the first {kept} of {len(tokens)} tokens (--max-tokens)", file=sys.stderr)
    if tokens.shape[0] == tokens.shape[1] and np.allclose(tokens, tokens.T):
        return tokens[:kept, :kept], None
    tokens = tokens[:kept]
    V0 = tokens @ tokens.T / tokens.shape[1]
    scale = np.trace(V0) / len(V0)
    print(f"tokens scaled to unit mean variance (it was {scale:.3g})", file=sys.stderr)
    return V0 / scale, None
