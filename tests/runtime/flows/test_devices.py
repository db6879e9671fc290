"""Results do not depend on how many devices the systems are spread over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SUPPORT = Path(__file__).parents[2] / "support"
CODE = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
import jax, numpy as np
from flow_models import Beta, sa, sphere
from derive.runtime.flows.entry import solve
assert jax.local_device_count() == int(sys.argv[1])
rng = np.random.default_rng(19)
x, betas = sphere(rng, 300, 6, 3), rng.uniform(1, 9, size=300)
out = solve(sa, x, Beta(betas), t1=12.0, saves=4)
np.savez(sys.argv[2], *(np.asarray(y) for y in out))
"""


def _content(devices: int, file: Path) -> dict[str, bytes]:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-c", CODE, str(devices), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(file) as stored:
        return {name: stored[name].tobytes() for name in stored.files}


@pytest.mark.slow
def test_eight_devices_give_the_bits_of_one(tmp_path: Path) -> None:
    one, eight = (_content(k, tmp_path / f"{k}.npz") for k in (1, 8))
    assert len(one) == 7 and one == eight
