"""First-order systems and turnpike rates of control problems, worked out by hand, in NumPy.

Convention: minimise the integral of L plus phi; H = L + p.f; p' = -H_x; H_u = 0.  Sums over
samples, tokens and entries are written as loops, so that nothing here looks like a kernel.
Sources: Geshkovski and Zuazua (2022), arXiv 2202.04097; Esteve, Geshkovski, Pighin and Zuazua
(2020), arXiv 2008.02491; the softmax and covariance systems follow by the chain rule.
"""

from __future__ import annotations

import numpy as np

Arrays = dict[str, np.ndarray]


def mean(m: np.ndarray, p: np.ndarray, c: Arrays) -> Arrays:
    """Linear-quadratic tracking: costate rate, control, end value."""
    return {
        "costate_rate": -c["G"].T @ p - c["Q_cost"] @ (m - c["goal"]),
        "control": -np.linalg.inv(c["R_cost"]) @ c["B"].T @ p,
        "end": c["Q_end"] @ (m - c["m_end"]),
    }


def neural_ode(x: np.ndarray, p: np.ndarray, W: np.ndarray, c: Arrays) -> Arrays:
    """x_i' = W tanh(x_i) + b with shared W, b."""
    alpha, beta, N = c["alpha"], c["beta"], len(x)
    rate = np.empty_like(x)
    W_law, b_law = np.array(c["W_ref"]), np.zeros(x.shape[1])
    for i in range(N):
        slope = np.diag(1 - np.tanh(x[i]) ** 2)
        rate[i] = -alpha / N * (x[i] - c["goal"][i]) - slope @ W.T @ p[i]
        W_law -= np.outer(p[i], np.tanh(x[i])) / beta
        b_law -= p[i] / beta
    return {"costate_rate": rate, "W": W_law, "b": b_law}


def attention(
    x: np.ndarray, p: np.ndarray, V: np.ndarray, c: Arrays, *, sphere: bool = False
) -> Arrays:
    """x_i' = [P_{x_i}] V m_i, weights softmax_j <A x_i, x_j>: value, query and key parts of p'."""
    A, alpha, beta, n = c["A"], c["alpha"], c["beta"], len(x)
    w, m = np.empty((n, n)), np.zeros_like(x)
    for i in range(n):
        score = np.array([A @ x[i] @ x[j] for j in range(n)])
        w[i] = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
        m[i] = sum(w[i, j] * x[j] for j in range(n))
    flat = [p[i] - (x[i] @ p[i]) * x[i] if sphere else p[i] for i in range(n)]
    q = [V.T @ flat[i] for i in range(n)]
    rate = np.empty_like(x)
    for k in range(n):
        spread = sum(w[k, j] * np.outer(x[j] - m[k], x[j] - m[k]) for j in range(n))
        out = alpha / n * (x[k] - c["goal"][k])
        for i in range(n):
            out = out + w[i, k] * q[i] + w[i, k] * (q[i] @ (x[k] - m[i])) * (A @ x[i])
        out = out + A.T @ spread @ q[k]
        if sphere:
            out = out - (x[k] @ (V @ m[k])) * p[k] - (x[k] @ p[k]) * (V @ m[k])
        rate[k] = -out
    law = np.array(c["V_ref"])
    query = np.zeros_like(A)
    for i in range(n):
        spread = sum(w[i, j] * np.outer(x[j] - m[i], x[j] - m[i]) for j in range(n))
        law = law - np.outer(flat[i], m[i]) / beta
        query = query + np.outer(spread @ q[i], x[i])
    return {"costate_rate": rate, "control": law, "by A": query, "mean": m}


def covariance(S: np.ndarray, P: np.ndarray, V: np.ndarray, A: np.ndarray, c: Arrays) -> Arrays:
    """S' = V S A S + transpose, with P symmetric and the Frobenius pairing."""
    alpha, beta = c["alpha"], c["beta"]
    one = A @ S @ P @ V
    two = P @ V @ S @ A
    out = {"costate_rate": -alpha * (S - c["goal"]) - (one + one.T + two + two.T)}
    if "V_ref" in c:
        out["control"] = c["V_ref"] - 2 / beta * P @ S @ A.T @ S
    if "A_ref" in c:
        out["control"] = c["A_ref"] - 2 / beta * S @ V.T @ P @ S
    return out


# turnpike rates


def driftless_rates(F: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """x' = F(x) u with |x - goal|^2 alpha/2 + |u|^2 beta/2: sqrt(alpha/beta) s_k(F(goal))."""
    return np.sort(np.sqrt(alpha / beta) * np.linalg.svd(F, compute_uv=False))


def neural_ode_rates(goal: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """sqrt(alpha/(N beta) lambda_k(S S^T + 1 1^T)), S_i = tanh(goal_i)."""
    S = np.tanh(goal)
    gram = S @ S.T + np.ones((len(S), len(S)))
    return np.sort(np.sqrt(alpha / (len(S) * beta) * np.linalg.eigvalsh(gram)))


def attention_rates(goal: np.ndarray, A: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """sqrt(alpha/(n beta) lambda_k[m_i . m_j]), each d times."""
    n, d = goal.shape
    dummy = {"A": A, "alpha": 1.0, "beta": 1.0, "goal": goal, "V_ref": np.zeros((d, d))}
    m = attention(goal, np.zeros_like(goal), np.eye(d), dummy)["mean"]
    values = np.sqrt(alpha / (n * beta) * np.linalg.eigvalsh(m @ m.T))
    return np.sort(np.repeat(values, d))


def covariance_rates(goal: np.ndarray, A: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Control V, V_ref = 0: sqrt(alpha/beta) sqrt(2 (g_i^2 + g_j^2)), g = s(S A S), i <= j."""
    g = np.linalg.svd(goal @ A @ goal, compute_uv=False)
    pairs = [2 * (g[i] ** 2 + g[j] ** 2) for i in range(len(g)) for j in range(i + 1)]
    return np.sort(np.sqrt(alpha / beta * np.array(pairs)))


def query_rates(goal: np.ndarray, V: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Control A, A_ref = 0: eigenvalues of P -> 2 (W P S2 + S2 P W), W = V S2 V^T, S2 = goal^2."""
    d = len(goal)
    S2 = goal @ goal
    W = V @ S2 @ V.T
    basis = []
    for i in range(d):
        for j in range(i + 1):
            E = np.zeros((d, d))
            E[i, j] = E[j, i] = 1.0
            basis.append(E / np.linalg.norm(E))
    rows = [[np.sum(F * 2 * (W @ E @ S2 + S2 @ E @ W)) for E in basis] for F in basis]
    return np.sort(np.sqrt(alpha / beta * np.linalg.eigvalsh(np.array(rows))))


def field_rate(sigma_squared: float, alpha: float, beta: float) -> float:
    """Continuous space-time network: every rate is sqrt(alpha/beta (|sigma(goal)|^2_{L2} + 1))."""
    return float(np.sqrt(alpha / beta * (sigma_squared + 1)))


def stopping_time_scalar(T: float, lam: float) -> float:
    """x' = u, E = (x - 1)^2 / 2, x0 = 0, M = 2: the root of (1 - 2 t)(T - t) = lam below 1/2."""
    roots = np.roots([2.0, -(1.0 + 2.0 * T), T - lam])
    return float(min(roots.real))
