"""The rate that chooses the simulator's step, against draws of the layer itself.

Input: a derivation.  Output: drawn over derived, of the variance per unit time of the random
token-by-token coefficients and of what they do to the tokens.  The layer's graph is run in NumPy
on random weights at one width; its series, limits and expectations take no part.

A rate chooses the length of steps and stands in no law, so that a factor of two is all that the
check asks for: draws and the finite width leave 25 % at most, so there are no false alarms; what it
kills is a rate that is lost, or a step that is many times too long.

Not supported: layers without such coefficients (nothing is compared).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from derive.calculus.index.evaluate import evaluate
from derive.draws import generator
from derive.methods.covariance_sde.block import Block
from derive.methods.covariance_sde.instances import divisible
from derive.methods.covariance_sde.result import CovarianceSDE
from derive.notation.common.arrays import Array, walk
from derive.notation.common.graph import value
from derive.notation.common.scalars import Param, number, size
from derive.verify.covariance_sde.instance import CovarianceInstance, instance

DRAWS, WIDTH, TOKENS, SEED = 600, 96, 3, 73
WITHIN = 2.0


def mixing_ratios(result: CovarianceSDE) -> dict[str, float]:
    """Drawn over derived, for rate and effect; empty where no coefficient is random."""
    if result.diffusion.is_zero:  # an ODE: what fluctuates vanishes with the width
        return {}
    one = instance(result, TOKENS, SEED)
    drawn = sum((_drawn(result, block, one) for block in result.blocks), np.zeros(2))
    arrays = {"V": one.V}
    derived = np.array(
        [
            float(evaluate(e, arrays, one.numbers))
            for e in (result.mixing_rate, result.mixing_effect[0])
        ]
    )
    names = ("mixing rate, drawn / derived", "mixing effect, drawn / derived")
    least = 1e-9 * max(1.0, float(derived.max()))
    return {
        n: float(d / w) if w > 0 else float("inf")
        for n, d, w in zip(names, drawn, derived, strict=True)
        if max(d, w) > least
    }


def _drawn(result: CovarianceSDE, block: Block, one: CovarianceInstance) -> np.ndarray:
    """Sums of variances and of the diagonal of B V B^T, per unit of time, (2,)."""
    trace, model = block.trace, result.model
    token, width = model.state_dims
    numbers: dict[Any, float] = {d: one.numbers.get(d, 3.0) for d in model.dims}
    numbers |= {d: float(WIDTH) for d in model.dims if d.scaling == "proportional"}
    numbers |= one.numbers
    numbers |= {token: float(TOKENS), model.clock: float(WIDTH)}
    if model.clock == width:
        numbers[width] = float(WIDTH)
    divisible(trace, numbers)
    parts = _coefficients(trace.output, token)
    if not parts:
        return np.zeros(2)
    rng = generator(SEED)
    found: list[list[np.ndarray]] = []
    for _ in range(DRAWS):
        leaves = {
            a: rng.standard_normal([size(d, numbers) for d in a.shape]) for _, a in trace.weights
        }
        leaves[trace.state] = _state(one.V, int(numbers[width]), numbers, model)
        found.append([f * value(a, leaves, numbers) for a, f in _weighted(parts, numbers)])
    B = np.array(found)
    B = B - B.mean(axis=0)
    unit = float(WIDTH) ** float(model.pace)
    effect = np.einsum("kpij,jl,kpil->", B, one.V, B) / DRAWS
    return unit * np.array([float((B**2).sum()) / DRAWS, float(effect)])


def _state(V: np.ndarray, columns: int, numbers: dict[Any, Any], model: Any) -> np.ndarray:
    weight = columns if model.clock == model.state_dims[1] else 1
    X = np.zeros((len(V), columns))
    X[:, : len(V)] = np.sqrt(weight) * np.linalg.cholesky(V)
    return X


def _weighted(parts: list[tuple[Array, Any]], numbers: dict[Any, Any]) -> list[tuple[Array, float]]:
    return [(a, float(number(sp.sympify(f), numbers))) for a, f in parts]


def _coefficients(output: Array, token: sp.Symbol) -> list[tuple[Array, Any]]:
    """The token-by-token summands of factors of products, without the weights of branches."""
    out: dict[tuple[Array, Any], None] = {}
    for node in walk(output):
        if node.op == "matmul":
            for factor in node.args:
                for part in _summands(factor, sp.Integer(1)):
                    if part[0].shape == (token, token):
                        out[part] = None
    return list(out)


def _summands(array: Array, factor: Any) -> list[tuple[Array, Any]]:
    if array.op == "add":
        return [p for a in array.args for p in _summands(a, factor)]
    if array.op == "multiply" and array.args[0].op == "full" and array.args[0].shape == ():
        weight = sp.sympify(array.args[0].data)
        if all(isinstance(s, Param) for s in weight.free_symbols):  # no power of the width
            weight = sp.Mul(*(a for a in sp.Mul.make_args(weight) if not a.free_symbols))
        return _summands(array.args[1], factor * weight)
    return [(array, factor)]
