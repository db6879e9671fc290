"""Simulate a covariance SDE beside the finite network, from tokens of one's own.

Writes PREFIX.npz and PREFIX.png: percentiles of covariances and correlations against depth /
width, and the share of paths that left the radius.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from derive.entry import Entry
from derive.errors import RequestError
from derive.files import require_writable
from derive.kernels import kernel_of
from derive.kinds import requests
from derive.kinds.requests import count

if TYPE_CHECKING:
    import numpy as np


def arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--as",
        dest="meaning",
        choices=("tokens", "covariance"),
        help="what a square file holds (default: a covariance, if it is symmetric)",
    )
    parser.add_argument("--paths", type=count(1), default=4096)
    parser.add_argument("--width", type=count(0), default=128, help="of the network; 0: no network")
    parser.add_argument("--saves", type=count(2), default=41, help="number of save times")
    parser.add_argument("--dt", type=float, help="fixed step (default: the step follows the state)")
    parser.add_argument(
        "--radius",
        type=float,
        default=1e8,
        help="a path exits when max |V| passes this (default 1e8)",
    )
    parser.add_argument(
        "--max-tokens",
        type=count(1),
        default=12,
        metavar="M",
        help="use at most M tokens of the file (default 12)",
    )


def run(entry: Entry, options: argparse.Namespace) -> int:
    from derive.runtime.common import inputs

    plot = requests.picture("derive.kinds.covariance_sde.picture").covariance_picture
    module = kernel_of(entry, options.kernels)
    params = parameters(module, options.param)
    V0 = inputs.covariance(start(options))
    times = inputs.times(options.saves, options.t1)
    require_writable(options.out)
    sde, network = _simulated(module, V0, params, times, options)
    arrays: dict[str, Any] = {"V0": V0, "times": sde.times, "V": sde.V, "exit_time": sde.exit_time}
    arrays.update({f"param_{k}": v for k, v in params._asdict().items()})
    if network is not None:
        arrays |= {
            "network_times": network.times,
            "network_V": network.V,
            "network_exit_time": network.exit_time,
            "width": options.width,
        }
    files = requests.write(
        entry,
        options.out,
        arrays,
        lambda: plot(entry.name, params, sde, network, options.width, _clock(module)),
    )
    shares = f"SDE {sde.exited:.2%}"
    if network is not None:
        shares += f", network {network.exited:.2%}"
    print(f"left the radius {options.radius:g}: {shares}")
    for name, paths in (("SDE", sde), ("network", network)):
        if paths is not None and (said := paths.caution()):
            print(f"{name}: {said}")
    print("\n".join(map(str, files)))
    return 0


def _simulated(
    module: ModuleType, V0: np.ndarray, params: Any, times: np.ndarray, options: argparse.Namespace
) -> tuple[Any, Any]:
    """Paths of the SDE and of the network, or None for it."""
    from derive.runtime.paths.results import LEFT

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*{LEFT}")  # printed with the results
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
        if not options.width:
            return sde, None
        unit = module._SPEC.unit(options.width)
        depth = max(1, round(options.t1 * unit))
        layers = _numpy().unique(_numpy().round(times * unit).astype(int).clip(0, depth))
        chain = getattr(module, "reduced_network", module.network)
        return sde, chain(
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


def _numpy() -> Any:
    """NumPy, which the other commands do without."""
    import numpy

    return numpy


def _clock(module: ModuleType) -> str:
    """What the depth is divided by, on the axis of the picture."""
    pace = module._SPEC.pace
    return "width" if pace == 1 else f"width$^{{{pace:.3g}}}$"


def parameters(module: ModuleType, given: list[str]) -> Any:
    import numpy as np

    from derive.runtime.common import inputs

    names = module.Params._fields
    values = requests.given("--param", given, dict.fromkeys(names, ()))
    for name in names:
        if module._SPEC.ranges.get(name) == inputs.PATTERN:
            raise RequestError(
                f"{name} is an array; from Python: derive.compile(...).simulate(...)"
            )
        low, high, *_ = module._SPEC.ranges.get(name, ("0.0", "3.0"))
        low, high = float(low), float(high)
        low = -1.0 if np.isinf(low) else low
        values.setdefault(name, low + (min(high, low + 3.0) - low) / 3)
    return inputs.parameters(values, module.Params, module._SPEC.ranges)


def start(options: argparse.Namespace) -> np.ndarray:
    """The covariance to start from: of the file's tokens, scaled, or as it stands there."""
    import numpy as np

    if options.tokens is None:
        return 0.2 + 0.8 * np.eye(3)
    array = _stored(options.tokens)
    m, n = array.shape
    kept = min(options.max_tokens, m)
    meaning = options.meaning or _meaning(array, options.tokens)
    if meaning == "covariance" and m != n:
        raise RequestError(f"--tokens {options.tokens}: a covariance is square, this is ({m}, {n})")
    part = np.array(array[:kept, :kept] if meaning == "covariance" else array[:kept], dtype=float)
    if not np.all(np.isfinite(part)):
        a, b = np.argwhere(~np.isfinite(part))[0]
        raise RequestError(
            f"--tokens {options.tokens}: has entries that are not finite, [{a}, {b}] = "
            f"{part[a, b]} the first of them"
        )
    if not part.any():
        raise RequestError(f"--tokens {options.tokens}: all entries are zero; there is no token")
    if kept < m:
        print(f"using the first {kept} of {m} tokens (--max-tokens)", file=sys.stderr)
    if meaning == "covariance":
        return part
    largest = np.max(np.abs(part))
    unit = part / largest  # squares of what is large or small stay numbers
    V0 = unit @ unit.T / n
    scale = np.trace(V0) / len(V0)
    with np.errstate(over="ignore", under="ignore"):
        size = scale * largest * largest
    print(
        f"tokens scaled to unit mean variance (it was {size:.3g})",
        file=sys.stderr,
    )
    return V0 / scale


def _stored(file: Path) -> np.ndarray:
    """A matrix of floats; what is not needed of a large file stays there."""
    import numpy as np

    found = requests.stored(f"--tokens {file}", file)
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.floating) or not found.size:
        raise RequestError(
            f"--tokens {file}: shape {found.shape} of {found.dtype}; wanted floats, a "
            "token matrix (m, n) or a covariance (m, m)"
        )
    return found


LARGEST_SQUARE = 4096  # rows of a square file that are looked at as a covariance


def _meaning(array: np.ndarray, file: Path) -> str:
    """Tokens (m, n), or a covariance (m, m); a square file that could be either is asked about."""
    import numpy as np

    m, n = array.shape
    if m != n:
        return "tokens"
    part = np.array(array[:LARGEST_SQUARE, :LARGEST_SQUARE], dtype=float)
    if np.allclose(part, part.T, rtol=0, atol=1e-6 * np.max(np.abs(part)), equal_nan=True):
        return "covariance"
    a, b = np.unravel_index(np.nanargmax(np.abs(part - part.T)), part.shape)
    raise RequestError(
        f"--tokens {file}: is square, ({m}, {n}), and not symmetric ([{a}, {b}] = "
        f"{part[a, b]:.4g}, [{b}, {a}] = {part[b, a]:.4g}): for {m} tokens of width {n} say "
        "--as tokens; a covariance is symmetric"
    )
