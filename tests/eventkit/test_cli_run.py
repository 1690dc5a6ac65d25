"""From a command to an exit code: closed streams, interruptions, a broken place to write to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ENTRY, ROOT

from eventkit.cli.run import GO_ON, exit_codes


def recording(path: Path) -> Path:
    i = np.arange(50)
    np.savez(path, x=i, y=i, t=100 * i, p=i % 2, sensor_size=np.array([50, 50]))
    return path


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", [["info", "a.npz"], ["export", "a.npz", "b.npz"]])
def test_a_closed_output_is_no_fault(tmp_path: Path, command: list[str], closed: str) -> None:
    recording(tmp_path / "a.npz")

    done = subprocess.run(
        ["bash", "-c", f'"$@" {closed}', "bash", sys.executable, "-c", ENTRY["eventkit"], *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if command[0] == "export":
        with np.load(tmp_path / "b.npz") as written:
            assert written["t"].tolist() == list(range(0, 5000, 100))


def test_what_is_stopped_says_whether_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    for how in ("", GO_ON):
        with pytest.raises(SystemExit) as terminated, exit_codes(go_on=how):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit) as interrupted, exit_codes(go_on=how):
            raise KeyboardInterrupt
        assert (terminated.value.code, interrupted.value.code) == (143, 130)

    assert capsys.readouterr().err.splitlines() == [
        "error: terminated; the same command starts from the beginning",
        "error: interrupted; the same command starts from the beginning",
        f"error: terminated; {GO_ON}",
        f"error: interrupted; {GO_ON}",
    ]


def test_a_disk_fault_is_said_with_a_way_on_only_where_there_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> Any:
        return Path("/proc/none/a").read_bytes()

    with pytest.raises(SystemExit) as alone, exit_codes():
        fail()
    with pytest.raises(SystemExit) as kept, exit_codes(go_on=GO_ON):
        fail()

    first, second = capsys.readouterr().err.splitlines()
    assert alone.value.code == kept.value.code == 6
    assert first == "error: /proc/none/a: No such file or directory"
    assert second == f"{first}; {GO_ON}"
