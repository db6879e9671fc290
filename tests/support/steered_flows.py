"""Flows on the sphere with levers that move whole laws, written in ways that differ, and flows
that lack one."""

from __future__ import annotations

from derive.notation import (
    average,
    dims,
    exp,
    gelu,
    integral,
    matrices,
    params,
    relu,
    sigmoid,
    space,
    sphere,
    sqrt,
    sum_over,
    token_flow,
)

d, w, e, H = dims("d: token dimension", "w: width", "e: key dimension", "H: heads")
V, B, U, W, b = matrices(V=(d, d), B=(d, d), U=(w, d), W=(d, w), b=(w,))
U_s, W_s, b_s = matrices(U_s=(d, d), W_s=(d, d), b_s=(d,))
U_2, W_2, b_2 = matrices(U_2=(e, d), W_2=(d, e), b_2=(e,))
Q, K_y = matrices(Q=(e, d), K_y=(e, d))
V_h, Q_h, K_h = matrices(V_h=(H, d, d), Q_h=(H, e, d), K_h=(H, e, d))
alpha, omega, filled = matrices(alpha=(d, d), omega=(d, w), filled=(w,))
c, beta, gamma, scale = params("c: positive", "beta: positive", "gamma: in (0, 0.5)", "scale: real")


@token_flow(state="x[d]", on=sphere)
def plain(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def square(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W_s @ relu(U_s @ x + b_s)


@token_flow(state="p[d]", on=sphere)
def other_names(p, q):
    return omega @ relu(U @ p - filled) + alpha.T @ average(q, exp((Q @ p) @ (K_y @ q)))


@token_flow(state="x[d]", on=sphere)
def scaled(x, y):
    weights = exp(beta * ((B @ x) @ y) / sqrt(d))
    return c * (V @ average(y, weights)) - W @ relu(gamma * (U @ x) + 3 * b) / sqrt(w)


@token_flow(state="x[d]", on=sphere)
def two_gates(x, y):
    gates = W @ relu(U @ x + b) + W_2 @ relu(U_2 @ x + b_2)
    return V @ average(y, exp((B @ x) @ y)) + gates + x


@token_flow(state="x[d]", on=sphere)
def heads(x, y):
    scores = lambda h: exp((Q_h[h] @ x) @ (K_h[h] @ y))  # noqa: E731
    values = sum_over(H, lambda h: V_h[h] @ average(y, scores(h)))
    return values + W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def unnormalised(x, y):
    return integral(V @ y, sigmoid((B @ x) @ y)) + W @ relu(U @ x + b)


STEERED = [plain, square, other_names, scaled, two_gates, heads, unnormalised]


@token_flow(state="x[d]", on=sphere)
def smooth_gate(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W @ gelu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def bent_gate(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W @ (relu(U @ x + b) ** 2)


@token_flow(state="x[d]", on=sphere)
def identity_values(x, y):
    return average(y, exp((B @ x) @ y)) + W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def no_average(x, y):
    return W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def no_gate(x, y):
    return V @ average(y, exp((B @ x) @ y))


@token_flow(state="x[d]", on=sphere)
def no_offset(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W @ relu(U @ x)


@token_flow(state="x[d]", on=sphere)
def scores_that_stay(x, y):
    return V @ average(y, exp(beta * (x @ y))) + W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def tied_layers(x, y):
    return V @ average(y, exp((B @ x) @ y)) + U.T @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def values_in_scores(x, y):
    return V @ average(y, exp((V @ x) @ y)) + W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def a_term_that_stays(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W @ relu(U @ x + b) + average(y, exp((B @ x) @ y))


@token_flow(state="x[d]", on=space)
def in_space(x, y):
    return V @ average(y, exp((B @ x) @ y)) + W @ relu(U @ x + b)


@token_flow(state="x[d]", on=sphere)
def in_order(x, y, s, tau):
    return V @ average(y, exp((B @ x) @ y) * (tau <= s)) + W @ relu(U @ x + b)


REFUSED = {
    smooth_gate: "gelu does not vanish for negative arguments",
    bent_gate: "no gate",
    identity_values: "no one matrix stands before the mean",
    no_average: "no one matrix stands before the mean",
    no_gate: "no gate",
    no_offset: "no offset",
    scores_that_stay: "weights that no matrix makes equal",
    tied_layers: "not turned around by its outer matrices",
    values_in_scores: "no one matrix stands before the mean",
    a_term_that_stays: "no matrix turns",
    in_space: "no sphere",
    in_order: "in order",
}
