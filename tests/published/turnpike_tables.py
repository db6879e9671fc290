"""Numbers and closed formulas of turnpike problems, to be matched and never derived from.

Rates of driftless problems: x' = F(x) u with cost alpha / 2 |x - xd|^2 + beta / 2 |u|^2 has the
Hamiltonian matrix [[0, -F F^T / beta], [-alpha, 0]] at xd, hence the rates
sqrt(alpha / beta) s_k(F(xd)).  The instances a1 ... e3 and their figures were computed once by
independent routes (closed forms, CasADi + IPOPT on refined meshes).  Background: E. Trelat,
E. Zuazua, J. Differential Equations 258 (2015) 81-114; B. Geshkovski, E. Zuazua, Acta Numerica 31
(2022) 135-263; C. Esteve-Yague, B. Geshkovski, Systems & Control Letters 172 (2023) 105452.
"""

from __future__ import annotations

import numpy as np

# Linear-quadratic tracking on mean equations: (static state, costate, slowest rate).
A1_STATIC = ((0.0, 0.25), (0.125, -0.5), -0.5)
A1_RATE = 1.35219345
A2_STATIC = ((0.575023, -0.317637), (0.366152, -0.621258))
A2_RATES = (1.43786583, 2.15456)

# Neural ODE with two samples; with a bias alone.
B1_RATES = (1.80019803, 1.80019803, 2.85673104, 2.85673104)
B1_COST = 2.2731068
B2_STATIC = ((0.97357619, -0.25646318), (0.45069932, 0.22494739))
B2_RATE = 1.28097989

# Softmax attention on the circle and on the sphere.
C1_RATES = (0.4967, 0.983795, 1.347649)
C1_COST = 0.0820844
C3_RATES = (0.162847, 0.567842, 1.080377, 1.530404, 1.898157, 1.898157)
C3_NAIVE = (0.164627, 1.935536)  # ambient matrix without multipliers: what must not come out
C3_COST = 0.0235545
# The next two local minima; 10^4 random starts found 63 static points and none between.
C3_SECOND_COST, C3_THIRD_COST = 0.029760, 0.045362

# Gaussian covariance: rates, cost.
D1_RATES, D1_COST = (0.439663, 3.241513, 4.56306), 0.21978043
D2_RATE, D2_COST, D2_STATIC_COST = 0.48667300, 12.038086, 0.133857
D2_STATE = ((1.008853, 0.379557), (0.379557, 0.709286))
D2_CONTROL = ((-0.059523, 0.13989), (-0.068487, 0.09365))
D3_RATE, D3_COST = 0.59474437, 0.21659669

# Sparse control of x' = u: horizon and stopping time, roots of (1 - 2 s)(T - s) = 0.05.
E1_TABLE = {1.0: 0.454196, 2.0: 0.483515, 5.0: 0.494451, 10.0: 0.497369, 50.0: 0.499495}
E3_STOP = 0.7607
E3_TABLE = {2.0: 0.7439, 4.0: 0.7563, 8.0: 0.7606, 16.0: 0.7623, 32.0: 0.7633}


def driftless_rates(F: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Rates of a driftless problem from F at the target (n, m), ascending."""
    return np.sqrt(alpha / beta) * np.sort(np.linalg.svd(F, compute_uv=False))


def scalar_tracking(g: float, q: float, r: float, goal: float) -> tuple[float, float, float]:
    """m' = g m + u, cost q / 2 (m - goal)^2 + r / 2 u^2: static state, costate, rate."""
    below = q + r * g**2
    return q * goal / below, q * r * g * goal / below, float(np.sqrt(g**2 + q / r))


def stopping_time(T: float, weight: float, radius: float, distance: float) -> float:
    """T* of x' = u, E = (x - distance)^2 / 2, x(0) = 0: (distance - M s)(T - s) = weight."""
    # M s^2 - (distance + M T) s + distance T - weight = 0, the smaller root
    b, c = distance + radius * T, distance * T - weight
    return (b - np.sqrt(b**2 - 4 * radius * c)) / (2 * radius)


def long_horizon_limit(
    p: np.ndarray, away: np.ndarray, stable: np.ndarray, antistable: np.ndarray
) -> float:
    """Limit of J - T V_s, linear-quadratic with a free end and no terminal cost.

    `p`: static costate; `away`: x0 - xb; the stabilising and the antistabilising Riccati solution.
    """
    return float(p @ away + away @ stable @ away / 2 + p @ np.linalg.solve(antistable, p) / 2)
