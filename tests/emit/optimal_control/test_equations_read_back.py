"""The text of every shipped control problem's equations, read as a reader does, is its graph."""

from __future__ import annotations

import numpy as np
import pytest
from read_latex import translated
from read_matrices import read_matrices

from derive.calculus.written.dialect import LATEX, TEXT
from derive.derivation import derived
from derive.emit.common.array_matrices import Matrices
from derive.emit.optimal_control.module import equations, of_graph
from derive.emit.optimal_control.shortened import shortened
from derive.methods.optimal_control.instances import Point, graph_value
from derive.registry import find, registered

MODELS = [e for e in registered() if e.method == "optimal_control"]
DIALECTS = {"text": TEXT, "latex": LATEX}


def _point(model, seed):
    """Arrays of order one and both signs, no two sizes equal; unit rows on spheres."""
    rng = np.random.default_rng([77, seed])
    sizes = {d.name: k for k, d in enumerate(model.dims, 2)}
    arrays = {}
    for slot in (*model.states, *model.controls, *model.data):
        shape = [sizes[d.name] for d in slot.shape]
        for mark in ("", "p_", "d_"):
            value = rng.normal(0, 0.8, shape)
            if slot.kind == "symmetric":
                value = (value + value.T) / 2
            if slot.kind == "sphere" and not mark:
                value /= np.linalg.norm(value, axis=-1, keepdims=True)
            if slot.kind == "sphere" and mark:
                x = arrays[slot.name]
                value -= x * (x * value).sum(-1, keepdims=True)
            arrays[mark + slot.name] = value
    params = {q.name: rng.uniform(0.3, 0.9) for q in model.params}
    numbers = {d: float(sizes[d.name]) for d in model.dims}
    numbers |= {q: params[q.name] for q in model.params}
    return Point(arrays, {}, params, numbers)


def _in_text(tex):
    """LaTeX as the words that `read_matrices` knows; a change is called d_ as in text."""
    return translated(tex, indices=()).replace("delta ", "d_")


def _gap(result, dialect):
    """The largest relative distance of a text from its graph, and how many were compared."""
    shown, gaps = shortened(result), []
    graphs = {}
    forms = equations(shown, dialect)
    for name, parts in shown.equations.items():
        keys = [k for k in forms if k.partition(" of ")[0] == name]
        graphs |= {k: (forms[k], a) for k, a in zip(keys, parts, strict=bool(keys))}
    for name, parts in result.equations.items():  # second derivatives, as steps show them
        for k, array in enumerate(parts):
            graphs[f"{name} {k}"] = (of_graph(result, name, array, dialect), array)
    for seed in (0, 1):
        at = _point(result.model, seed)
        known = {**at.arrays, **{s.name: v for s, v in at.numbers.items()}}
        known["I"] = np.eye(int({d.name: size for d, size in at.numbers.items()}.get("d", 1)))
        for form, array in graphs.values():
            wanted = np.asarray(graph_value(shown, array, at))
            right, where = form.right, form.where
            if dialect.is_latex:
                right, where = ([_in_text(row) for row in rows] for rows in (right, where))
            found = read_matrices(right, where, known)
            wanted = wanted[:, None] if wanted.ndim == 1 else wanted
            gaps.append(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-3))
    return max(gaps), len(gaps)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("entry", MODELS, ids=lambda e: e.name)
def test_every_equation_reads_back_as_its_graph(entry, dialect):
    worst, compared = _gap(derived(entry), DIALECTS[dialect])
    assert compared >= 20 and worst < 1e-11


def _sign(writer):
    plain = writer.rows
    return lambda self, array, opposite=False: plain(self, array)


def _transpose(writer):
    return lambda self, array: self.text[array]


def _diagonal(writer):
    return lambda self, vector: self.tied(vector, 3)


BROKEN = {"rows": _sign, "turned": _transpose, "diagonal": _diagonal}


@pytest.mark.parametrize("method", BROKEN)
def test_a_flipped_sign_a_dropped_transpose_or_diagonal_does_not_read_back(method, monkeypatch):
    monkeypatch.setattr(Matrices, method, BROKEN[method](Matrices))
    result = derived(find("sphere_attention_tracking"))
    try:
        worst, _ = _gap(result, TEXT)
    except (AssertionError, ValueError):  # shapes do not fit
        return
    assert worst > 1e-2


UNSEEN = '''"""Words and ways to broadcast that no shipped problem has."""

from derive.notation import dims, exp, gelu, l2_norm, log, moment_rates, optimal_control, params
from derive.notation import problem, project, relu, sqrt, squared_norm, trace, inner, l1_norm, tanh
from derive.notation import box, l2_ball
from derive.notation.control.words import inverse, log_det
from derive.theory.l2_closure import l2_closure

n, d = dims("n: tokens", "d: width")
alpha, beta = params("alpha: in (0, 1)", "beta: positive")
DATA = "goal[n, d], R[d, d], r[d], s[n]"


@optimal_control(state="x[n, d]", control="W[d, d], b[d], c[n]", data=DATA)
def broadcast(x, W, b, c, goal, R, r, s):
    h = gelu(x @ W.T + b)
    wide = h / (1 + exp(h)) + s @ x * s.mean() + inverse(2 * R @ R.T + R) @ b * alpha
    rows = exp(x).sum(1, keepdims=True)
    wide = wide + x / rows + rows * r + tanh(x) * r - rows - r @ (R @ R + R).T
    dynamics = wide + project(x, goal) * c.sum()
    tracking = squared_norm(x - goal) ** alpha + (x * r).sum() + trace(x.T @ x @ W.T) * c.sum()
    own = squared_norm(W) + squared_norm(b) + squared_norm(c - r @ R @ r)
    return problem(dynamics=dynamics, running=tracking + own, terminal=l2_norm(x - goal, r))


@optimal_control(state="m[d], S[d, d] symmetric", control="u[d]", data="Q[d, d], K[d, d], V[d, d]")
def moments(m, S, u, Q, K, V):
    mean, cov = moment_rates(l2_closure, m, S, Q=Q, K=K, V=V)
    running = squared_norm(m) + squared_norm(u) + log(1 + squared_norm(S))
    return problem(dynamics=(mean + u, cov), running=running)


@optimal_control(state="x[n, d]", control="W[d, d], b[d]", data="goal[n, d]")
def priced(x, W, b, goal):
    running = squared_norm(x - goal) + beta * l2_norm(W, b) + squared_norm(W) + squared_norm(b)
    return problem(dynamics=relu(x) @ W.T + b, running=running, bounds=l2_ball(W, b, radius=2))


@optimal_control(state="x[n, d]", control="W[d, d], b[d]", data="goal[n, d]")
def boxed(x, W, b, goal):
    running = squared_norm(x - goal) + beta * l1_norm(W) + squared_norm(W) + squared_norm(b)
    bounds = (box(W, -1, alpha), box(b, 0, 1))
    return problem(dynamics=relu(x) @ W.T + b, running=running, bounds=bounds)
'''


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["broadcast", "moments", "priced", "boxed"])
def test_words_and_ways_to_broadcast_that_no_shipped_problem_has(name, dialect, tmp_path):
    (tmp_path / "own.py").write_text(UNSEEN)
    worst, compared = _gap(derived(find(f"{tmp_path / 'own.py'}:{name}")), DIALECTS[dialect])
    assert compared >= 20 and worst < 1e-9
