"""Small instances of the registered control models, for pictures of their turnpikes."""

from __future__ import annotations

from typing import Any

# Without any import that costs time: the catalogue reads this.
TITLES = {
    "mean_tracking": "a mean steered by one actuator",
    "neural_ode_tracking": "samples of a neural ODE steered to their goals",
    "attention_tracking": "tokens under softmax attention steered to their goals",
    "sphere_attention_tracking": "tokens on the circle under softmax attention",
    "gaussian_tracking": "a Gaussian covariance steered by the value matrix",
    "gaussian_query_tracking": "a Gaussian covariance steered by the query-key matrix",
    "space_time_network": "a network continuous in depth and width",
    "sparse_neural_ode": "samples steered by few weights at a time, then by none",
    "large_time_resnet": "a network trained by its last state alone",
}


def instance(name: str) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Parameters, initial state and horizon of a model's picture."""
    import numpy as np

    one = np.eye(2)
    A = np.array([[1.0, 0.5], [-0.3, 0.8]])
    S = np.array([[1.5, 0.5], [0.5, 1.0]])
    weights = {"alpha": 1.0, "beta": 0.5}
    if name == "mean_tracking":
        actuator, goal = np.array([[0.0], [1.0]]), np.array([1.0, 0.0])
        G = np.array([[-0.5, 1.0], [-0.4, 0.2]])
        costs = {"Q_cost": one, "R_cost": one[:1, :1], "Q_end": 4 * one, "m_end": -goal}
        return {"G": G, "B": actuator, "goal": goal, **costs}, {"m": np.array([2.0, -1.0])}, 20.0
    if name in ("gaussian_tracking", "gaussian_query_tracking"):
        steered = name == "gaussian_tracking"
        given = {"A": A, "V_ref": 0.3 * one} if steered else {"V": A, "A_ref": -0.2 * one}
        return {**weights, "goal": S, **given}, {"S": 0.5 * one}, 12.0
    goal = np.array([[1.0, 0.4], [-0.6, 1.2]])
    first = np.array([[0.3, -0.8], [0.9, 0.5]])
    if name == "neural_ode_tracking":
        return {**weights, "goal": goal, "W_ref": A}, {"x": first}, 20.0
    if name == "sparse_neural_ode":
        return {"lam": 0.05, "M": 2.0, "goal": [[0.2, 1.4]]}, {"x": np.array([[0.8, 0.3]])}, 1.6
    if name == "large_time_resnet":
        return {"lam": 0.1, "goal": goal}, {"x": first}, 20.0
    if name == "attention_tracking":
        return {**weights, "A": A, "goal": goal, "V_ref": 0.3 * one}, {"x": first}, 24.0
    if name == "sphere_attention_tracking":
        angles = np.array([0.2, 1.5, 3.0])
        ring = np.stack([np.cos(angles), np.sin(angles)], -1)
        later = np.stack([np.cos(angles + 0.5), np.sin(angles - 0.4)], -1)
        later /= np.linalg.norm(later, axis=-1, keepdims=True)
        return {**weights, "A": A, "goal": ring, "V_ref": 0.4 * A}, {"x": later}, 30.0
    if name == "space_time_network":
        nodes, omega = np.polynomial.legendre.leggauss(5)
        z, omega = (nodes + 1) / 2, omega / 2
        return (
            {**weights, "omega": omega, "goal": np.sin(2 * np.pi * z)},
            {"x": 1 - 2 * z},
            10.0,
        )
    raise KeyError(name)
