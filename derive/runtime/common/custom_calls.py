"""The library calls that programs of this package make on a GPU, and how to list those of one.

`targets` lowers a jitted program for a platform that need not be at hand; tests hold every kernel
and every loop to the tables below.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from derive.runtime.common import small_matrices

RANDOM = {"cu_threefry2x32_ffi": "random numbers: JAX's own kernel, one call a draw"}
LARGE = {
    "cusolver_potrf_ffi": "Cholesky factors",
    "cusolver_getrf_ffi": "LU factors",
    "cu_lu_pivots_to_permutation": "LU factors: their row exchanges as a permutation",
    "cusolver_syevd_ffi": "eigenvalues of symmetric matrices",
    "cublas_trsm": "triangular systems",
}  # of matrices with more than `small_matrices.LARGEST` rows


def targets(program: Any, *arguments: Any, platform: str = "cuda") -> set[str]:
    """Names of the custom calls of a jitted `program`, lowered for `platform` and not compiled.

    `arguments`: arrays, or jax.ShapeDtypeStruct for each of them.
    """
    here = platform == "cpu" or small_matrices._for_gpu.get()
    with contextlib.nullcontext() if here else small_matrices.for_gpu():
        text = program.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    return called(text)


def called(text: str) -> set[str]:
    """Names of the library calls in the text of a lowered program."""
    found = set(re.findall(r'custom_call @"?([\w.$]+)', text))
    found |= set(re.findall(r'call_target_name = "([^"]+)"', text))
    if "stablehlo.triangular_solve" in text:
        found.add("cublas_trsm")  # what XLA makes of it on a GPU
    return found
