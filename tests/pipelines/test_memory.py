"""Peak memory of `eventkit convert`: that of one clip, whatever the length of the recording."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

WIDTH, HEIGHT = 1280, 720
PROBE = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from eventkit.cli import main
sys.argv = ["eventkit", *sys.argv[1:]]
try:
    main()
finally:
    # Of this program alone: `ru_maxrss` begins with what the parent held at the fork.
    status = Path("/proc/self/status").read_text()
    print(*(status.split(name)[1].split()[0] for name in ("VmHWM:", "RssFile:")), file=sys.stderr)
"""


def write_evt2(path: Path, *, megabytes: int) -> None:
    """Write EVT2: a TIME_HIGH word (64 us), then 100 events of that time, and again."""
    rng = np.random.default_rng(0)
    words = np.empty((1 << 12, 101), np.uint32)
    shape = (len(words), 100)
    place = rng.integers(0, WIDTH, shape) << 11 | rng.integers(0, HEIGHT, shape)
    words[:, 1:] = rng.integers(0, 2, shape) << 28 | place
    with path.open("wb") as file:
        file.write(f"% evt 2.0\n% geometry {WIDTH}x{HEIGHT}\n% end\n".encode())
        for block in range(megabytes * 1_000_000 // words.nbytes):
            words[:, 0] = 8 << 28 | np.arange(len(words)) + block * len(words)
            file.write(words.data)


def peak_of_convert(raw: Path, out: Path) -> tuple[int, int]:
    """Convert in a process of its own; return its peak of memory in bytes, whole and its own.

    Its own leaves the pages of the libraries out: they are 60 to 117 MB by how the file system's
    cache holds them, and can be let go.
    """
    command = ["convert", raw, "--out", out, "--clip-us", "1000000"]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    peak, libraries = (int(word) * 1024 for word in done.stderr.split()[-2:])
    return peak, peak - libraries


@pytest.mark.long
def test_a_large_recording_takes_200_megabytes_beside_the_libraries(
    tmp_path: Path,
) -> None:
    for name, megabytes in (("small", 20), ("large", 200)):
        write_evt2(tmp_path / f"{name}.raw", megabytes=megabytes)
    peak_of_convert(tmp_path / "small.raw", tmp_path / "warm")  # compiles what is not compiled yet

    _, small = peak_of_convert(tmp_path / "small.raw", tmp_path / "small")
    _, large = peak_of_convert(tmp_path / "large.raw", tmp_path / "large")

    assert large < 200e6
    # Ten times the clips; what is left is how the allocator places them.
    assert large < small + 40e6
