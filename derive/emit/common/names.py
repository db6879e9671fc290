"""Names inside kernels: what a definition names never meets what the emitter names.

Input: a name of a definition.  Output: the name of the local variable that holds it.  A kernel's
text is made of words (of the runtime, of Python, arguments, temporaries that the emitters write
out), of names of the definition, and of temporaries made while lowering.  Words are listed here;
a definition's name that is one of them is written with an underscore behind it; temporaries are
drawn apart from both.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable
from functools import cache

from derive.notation.common.words.word import WORDS as NOTATION

#: names that templates and runtime bring into a module, and arguments; the one-letter ones (V, L,
#: t, h; x, y, m, S, u, p) and the arguments of closures and controls no definition may take
_KERNEL_WORDS = """
    annotations NamedTuple np runtime jax scalars_only
    MODEL SIGNATURE CERTIFICATE EQUATIONS EXACT
    Params ParamsAtWidth Dims Weights Paths Moments Particles
    State Costate Control Extremal Trajectory Turnpike
    params dims weights blocks fields
    drift diffusion mixing_rate mixing_effect volatility noise_from noise layer reduced_layer
    step_layer simulate network reduced_network path flow terms
    drift_at_width diffusion_at_width noise_from_at_width field_sizes_at_width
    step_layer_at_width lift_at_width
    velocity mean_rate jacobian cov_rate margin rate_error velocity_error particle_velocity solve
    particles
    running_cost terminal_cost terminal_rate hamiltonian state_rate costate_rate stationarity
    control control_law h_xx h_xu h_ux h_uu h_px h_pu static_residual turnpike extremal
    pi arcsin gaussian_mean of_correlation diagonal matvec permuted rows_scaled eye at constant
    identity causal full solved_control minimising_control over_batches
    contract dot outer exact i_times real total along det_root gate mask factor spectral sandwich
    smallest_eigenvalue rate step finer quadrature_error fourier_mean cubature_rates cubature_error
    inner weighted_average log_average weighted_sum row_normalised sinkhorn_average
    sinkhorn_potentials
    tangent towards with_transpose equal_masses uniform_mean growth_rate energy gram_rate
    cluster_rate growth equal_angle_rate attention_matrix solve_clusters Flow Clusters masses rho
    degree contraction cosines sines circle_rate
    elementary filled positive_part time_by_roots time_of_exponentials vectors uniform_velocity
    split reversed_piece split_rate pull_rates split_time pull_time
    in_frame in_frame_of_average rescaled_velocity frame_matrix score_matrix limit_object
"""
_CALLED = {word.calls for word in NOTATION.values() if word.calls}
WORDS = frozenset([*_KERNEL_WORDS.split(), *_CALLED, *keyword.kwlist, *dir(builtins)])

_WRITTEN = """
    half root push pull lift rate start base first one g r v
    scalar vector matrix array mixing size pair spread delta pattern
"""
#: locals that emitters write out themselves, and arguments of lambdas
TEMPORARIES = frozenset(_WRITTEN.split())
_FAMILIES = re.compile(
    r"(?:G|F|S|C|scalar|vector|matrix|array|part|inner|head|value|score|weight|half|mixing|size"
    r"|pair|spread|delta|pattern|t|one)_\d+(?:_\w+)?|argument_"
)
NAME = re.compile(r"[^\W\d]\w*")


@cache
def local(name: str) -> str:
    """The local variable that holds what a definition calls `name`: one for each name.

    Never a word, nor a temporary written out by an emitter.
    """
    bare = name.rstrip("_")
    taken = bare in WORDS or bare in TEMPORARIES or bool(_FAMILIES.fullmatch(bare))
    return f"{name}_" if taken else name


def words_in(texts: Iterable[str]) -> set[str]:
    """The identifiers that occur in texts of code."""
    return {w for t in texts for w in NAME.findall(t)}


def fresh(wish: str, taken: Iterable[str]) -> str:
    """The wish, or the wish with the first free number behind it."""
    taken = set(taken)
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name
