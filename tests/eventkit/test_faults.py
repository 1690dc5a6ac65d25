"""Faults on purpose: the named point, the n-th time, in one process only; nothing unless asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from eventkit.faults import POINTS, at

WRITE = "import sys; from pathlib import Path; from eventkit.atomic import write_atomic\n"
WRITE += "for name in 'abc': write_atomic(Path(name), name.encode())"


def write_three(folder: Path, fault: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WRITE],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EVENTKIT_FAULT": fault},
        capture_output=True,
        text=True,
        check=False,
    )


def names(folder: Path) -> list[str]:
    return sorted(p.name[:5] for p in folder.iterdir())


def test_nothing_happens_unless_it_is_asked_for() -> None:
    assert "EVENTKIT_FAULT" not in os.environ
    for point in POINTS:
        at(point)


@pytest.mark.parametrize(
    ("point", "left"),
    [("fsync", [".tmp-", "a"]), ("rename", [".tmp-", "a"]), ("folder", ["a", "b"])],
)
def test_a_kill_leaves_what_there_is_at_its_point(
    tmp_path: Path, point: str, left: list[str]
) -> None:
    done = write_three(tmp_path, f"{point}:2:kill")

    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path) == left


@pytest.mark.parametrize(("action", "words"), [("enospc", "No space left"), ("eio", "Input/outp")])
def test_an_error_of_the_disk_names_the_file_and_leaves_no_part_of_it(
    tmp_path: Path, action: str, words: str
) -> None:
    done = write_three(tmp_path, f"fsync:2:{action}")

    assert words in done.stderr
    assert "'.tmp-" in done.stderr
    assert names(tmp_path) == ["a"]


def test_of_processes_that_share_a_token_one_is_struck(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch()
    first, second = (write_three(tmp_path, f"rename:1:kill:{token}") for _ in range(2))

    assert (first.returncode, second.returncode) == (-signal.SIGKILL, 0)


@pytest.mark.parametrize("fault", ["rename", "rename:x:kill", "lunch:1:kill", "rename:1:dance"])
def test_a_fault_that_is_none_is_refused(tmp_path: Path, fault: str) -> None:
    done = write_three(tmp_path, fault)

    assert "expected EVENTKIT_FAULT=POINT:NTH:ACTION" in done.stderr
    assert names(tmp_path) == []
