"""The report of a Gaussian closure: its equations, what is said of them, its steps."""

from __future__ import annotations

from derive.emit.common.document import Document
from derive.emit.common.equations_shown import report
from derive.emit.gaussian_closure.equations import of_equation, written
from derive.emit.gaussian_closure.module import model_signature
from derive.methods.gaussian_closure.result import GaussianClosure

HEADINGS = {
    "velocity": "Velocity under a Gaussian law",
    "mean_rate": "Rate of the mean",
    "jacobian": "Mean gradient of the velocity",
    "cov_rate": "Rate of the covariance",
    "noise": "Covariance rate of the noise",
}


def document(result: GaussianClosure, steps: bool = False) -> Document:
    """The report, with the record of the steps or with the equations alone."""
    model = result.model
    verdict = "exact closure" if result.exact else f"projected closure ({result.route})"
    intro = f"  tokens {model.state}[{model.state_dim}] with law {model.law_text}; {verdict}"
    data = {
        "signature": model_signature(result),
        "exact": result.exact,
        "route": result.route,
    }
    return report(result, written, of_equation, HEADINGS, [intro], data, steps)
