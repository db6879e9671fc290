"""What `match` returns: parameters over time that send N laws to N targets, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from derive.runtime.common.progress import Progress
from derive.runtime.flows.match.distances import w2, worst
from derive.runtime.flows.match.laws import Laws, laws
from derive.runtime.flows.match.moving import advance
from derive.runtime.flows.match.pieces import Piece
from derive.runtime.flows.specification import FlowModel


class Arrival(NamedTuple):
    """Where N laws end: `w2` (N,) and `worst` (N,), largest distance of a token from its target."""

    laws: Laws
    w2: np.ndarray
    worst: np.ndarray


@dataclass(frozen=True, eq=False)
class Plan:
    """Piecewise constant parameters theta(t) of one flow.

    `pieces`: in their order.  `inputs`, `targets`: the laws it was made for.  `tolerance`: of W_2.
    `restored`: largest distance of a token from where it was, after a split and its reverse;
    nan: not known, the pieces are no splits and reverses any more.
    `findings`: what `certify` found, by name.
    """

    spec: FlowModel
    pieces: tuple[Piece, ...]
    inputs: Laws
    targets: Laws
    tolerance: float
    restored: float
    findings: dict[str, Any] = field(default_factory=dict)

    @property
    def times(self) -> np.ndarray:
        """Times (pieces + 1,) at which the parameters change, from 0."""
        return np.append(0.0, np.cumsum([p.duration for p in self.pieces]))

    @property
    def theta(self) -> Any:
        """The parameters, every array with a first axis over the pieces."""
        columns = zip(*(p.params for p in self.pieces), strict=True)
        return self.spec.params(*(np.stack([np.asarray(x) for x in c]) for c in columns))

    @property
    def largest(self) -> float:
        """sup over time of the largest entry of any parameter."""
        return max(float(np.abs(x).max()) for x in self.theta)

    @property
    def energy(self) -> float:
        """Integral over time of the sum of squares of the parameters."""
        squares = sum((x**2).reshape(len(x), -1).sum(1) for x in self.theta)
        return float(np.diff(self.times) @ squares)

    def counts(self) -> dict[str, int]:
        """Pieces by what they are for, in the order of the plan."""
        found: dict[str, int] = {}
        for p in self.pieces:
            found[stage(p)] = found.get(stage(p), 0) + 1
        return found

    def states(self, given: Laws | None = None, rtol: float = 1e-12) -> Iterator[Laws]:
        """Laws (None: the inputs) at the end of every piece."""
        state = self.inputs if given is None else given
        for piece in self.pieces:
            state = advance(self.spec, state, piece.params, piece.duration, rtol)
            yield state

    def run(self, given: Laws, rtol: float = 1e-12) -> Laws:
        """Laws moved through all pieces."""
        *_, last = self.states(given, rtol)
        return last

    def apply(self, x: Any, masses: Any = None, *, rtol: float = 1e-12) -> np.ndarray:
        """Tokens (n, d) of one law, with masses (n,), at the end of the plan, (n, d)."""
        one = laws("x", [x], None if masses is None else [masses])
        if one.x.shape[2] != self.inputs.x.shape[2]:
            raise ValueError(
                f"x has {one.x.shape[2]} entries a token, the plan's laws {self.inputs.x.shape[2]}"
            )
        kept = np.ones(len(np.atleast_2d(x)), bool) if masses is None else np.asarray(masses) > 0
        out = np.full(np.atleast_2d(x).shape, np.nan)
        out[kept] = self.run(one, rtol).own(0)
        return out

    def arrive(self, given: Laws, rtol: float = 1e-12) -> Arrival:
        """Where laws end that stand for the inputs, one for one."""
        moved = self.run(given, rtol)
        return Arrival(moved, *distances(moved, self.targets))

    def table(self) -> str:
        """One line a piece: from, to, what it is, the largest entry of its parameters."""
        rows = [f"{'from':>10}  {'to':>10}  {'sup':>8}  kind     what for"]
        times = self.times
        for i, p in enumerate(self.pieces):
            top = max(float(np.abs(np.asarray(x)).max()) for x in p.params)
            rows.append(
                f"{times[i]:10.4f}  {times[i + 1]:10.4f}  {top:8.3g}  {p.kind:<8} {p.words}"
            )
        return "\n".join(rows)

    def latex(self) -> str:
        """The same as a LaTeX table, with the arrays that are not zero."""
        names = self.spec.params._fields
        rows = []
        for i, p in enumerate(self.pieces):
            arrays = ",\\; ".join(
                f"{n} = {_array(np.asarray(x))}"
                for n, x in zip(names, p.params, strict=True)
                if np.any(x)
            )
            rows.append(f"{self.times[i]:.4f} & {self.times[i + 1]:.4f} & ${arrays}$ \\\\")
        head = "\\begin{tabular}{rrl}\nfrom & to & $\\theta$ \\\\ \\hline\n"
        return head + "\n".join(rows) + "\n\\end{tabular}\n"

    def save(self, path: str | Path) -> Path:
        """Pieces, laws and findings as one .npz file, which `load_plan` of the kernel reads."""
        from derive.runtime.flows.match.saved import save

        return save(self, Path(path))

    def module(self, steps: int = 64) -> Any:
        """A pure function of x (n, d), masses (n,): for jit, vmap, grad; `steps` a piece."""
        from derive.runtime.flows.match.exported import module

        return module(self, steps)

    def shortened(self, progress: bool | None | Progress = None) -> Plan:
        """The same in fewer pieces, by descent through the replay: seconds to minutes."""
        from derive.runtime.flows.match.shortening import shorten

        return shorten(self, progress)

    def __repr__(self) -> str:
        n, d = self.inputs.counts, self.inputs.x.shape[2]
        lines = [
            f"Plan: {len(n)} laws of {n.min()} to {n.max()} tokens in {d} dimensions, "
            f"{len(self.pieces)} pieces, time {self.times[-1]:.4g}, sup |theta| "
            f"{self.largest:.3g}"
            + (f", restored to {self.restored:.1e}" if np.isfinite(self.restored) else ""),
            "  " + ", ".join(f"{k}: {v}" for k, v in self.counts().items()),
        ]
        lines += [f"  {k}: {_said(v)}" for k, v in self.findings.items()]
        return "\n".join(lines)


def stage(piece: Piece) -> str:
    """What a piece is for, without its law and number."""
    return piece.words.split(" ")[0] if piece.words else piece.kind


def distances(
    reached: Laws, targets: Laws, measure: Callable[..., float] = w2
) -> tuple[np.ndarray, np.ndarray]:
    """W_2 (N,) and the worst token's distance (N,), law by law."""
    each = range(len(targets.x))
    masses = lambda ls, k: ls.masses[k, : ls.counts[k]]  # noqa: E731
    return (
        np.array(
            [
                measure(reached.own(k), masses(reached, k), targets.own(k), masses(targets, k))
                for k in each
            ]
        ),
        np.array([worst(reached.own(k), targets.own(k)) for k in each]),
    )


def _array(x: np.ndarray) -> str:
    body = " \\\\ ".join(" & ".join(f"{v:.4g}" for v in row) for row in np.atleast_2d(x))
    return f"\\begin{{pmatrix}} {body} \\end{{pmatrix}}"


def _said(value: Any) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(_said(v) for v in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
