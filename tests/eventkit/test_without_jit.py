"""The kernels run as plain Python too, and then NumPy warns of every overflow that Numba wraps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Where kernels meet their twins and goldens, on small data.
FILES = (
    "test_golden.py",
    "test_representations.py",
    "test_voxels.py",
    "test_stacks.py",
    "test_surfaces.py",
    "test_hats.py",
    "test_tore.py",
    "test_event_pictures.py",
    "test_binary.py",
    "test_differences.py",
    "test_filters.py",
    "test_adaptive.py",
)
CHOSEN = "golden or twin or (blocks and seam) or full_cells or clipped_is or is_named or stay_full"


def test_the_kernels_pass_their_tests_without_a_compiler() -> None:
    code = (
        "import numba; assert numba.config.DISABLE_JIT; import pytest, sys; sys.exit(pytest.main())"
    )
    files = [str(HERE / name) for name in FILES if (HERE / name).is_file()]
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", CHOSEN]

    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *files],
        cwd=HERE.parent.parent,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = int(done.stdout.rpartition(" passed")[0].split()[-1])
    assert passed > 100, done.stdout[-400:]
