"""Plans as .npz files."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from derive.runtime.common.whole_files import write_whole
from derive.runtime.flows.match.laws import Laws
from derive.runtime.flows.match.pieces import Piece
from derive.runtime.flows.match.plan import Plan
from derive.runtime.flows.specification import FlowModel


def save(plan: Plan, path: Path) -> Path:
    """Write the plan; arrays: times, theta_NAME, the laws; words as JSON."""
    names = plan.spec.params._fields
    words = {
        "kinds": [p.kind for p in plan.pieces],
        "laws": [p.law for p in plan.pieces],
        "words": [p.words for p in plan.pieces],
        "durations": [p.duration.hex() for p in plan.pieces],
        "tolerance": plan.tolerance,
        "restored": plan.restored,
        "findings": {
            k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in plan.findings.items()
        },
    }
    arrays = {f"theta_{n}": x for n, x in zip(names, plan.theta, strict=True)}
    for name, given in (("inputs", plan.inputs), ("targets", plan.targets)):
        arrays |= {f"{name}_{f}": x for f, x in zip(Laws._fields, given, strict=True)}
    stream = io.BytesIO()
    np.savez_compressed(stream, times=plan.times, words=np.array(json.dumps(words)), **arrays)
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    write_whole(path, stream.getvalue())
    return path


def arrays_in(path: str | Path) -> dict[str, np.ndarray]:
    """What an .npz file holds.  Raises ValueError for other files."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it holds one array without a name; np.savez writes .npz files")
        with file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, BadZipFile, zlib.error) as why:
        raise ValueError(f"{path} is no .npz file of arrays: {why}") from None


def load_plan(spec: FlowModel, path: str | Path) -> Plan:
    """The plan in a file.  Raises ValueError for a file that holds none of this model."""
    held = arrays_in(path)
    names = [f"theta_{n}" for n in spec.params._fields]
    missing = [n for n in ("times", "words", *names) if n not in held]
    if missing:
        raise ValueError(f"{path} holds no plan of this model: {', '.join(missing)} missing")
    words = json.loads(str(held["words"]))
    pieces = tuple(
        Piece(kind, spec.params(*(held[n][i] for n in names)), float.fromhex(t), law, said)
        for i, (kind, t, law, said) in enumerate(
            zip(words["kinds"], words["durations"], words["laws"], words["words"], strict=True)
        )
    )
    first, last = (
        Laws(*(held[f"{name}_{f}"] for f in Laws._fields)) for name in ("inputs", "targets")
    )
    findings: dict[str, Any] = {
        k: np.array(v) if isinstance(v, list) else v for k, v in words["findings"].items()
    }
    return Plan(spec, pieces, first, last, words["tolerance"], words["restored"], findings)
