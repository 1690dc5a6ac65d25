"""The lock of a folder: who holds it, who is refused, and whose is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

from eventkit.errors import LockedError, SettingsError
from pipelines import lock
from pipelines.lock import LOCK, STALE_S, locked

HOLD = "import sys, time; from pathlib import Path; from pipelines.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of ``tmp_path / "out"``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def sign_for(folder: Path, *, silent_s: float, **changes: object) -> Path:
    """Write the lock file of a holder on another machine."""
    file = folder / LOCK
    file.parent.mkdir(parents=True)
    sign = {"host": "far", "machine": "0", "pid": 7, "since": "2026-11-02 10:00:00", "token": "x"}
    file.write_text(json.dumps({**sign, **changes}))
    then = time.time() - silent_s
    os.utime(file, (then, then))
    return file


def test_a_second_process_is_told_who_holds_it_since_when_and_the_last_sign(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    message = (
        rf"nobody works on, got the lock of process {holder.pid} on \S+, since "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, last heard of \d+ s ago; wait for it, or"
    )
    with pytest.raises(LockedError, match=message) as refused, locked(tmp_path / "out"):
        pass

    assert refused.value.exit_code == 5


def test_the_lock_of_a_killed_process_is_taken_over_with_a_message(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    holder.kill()
    holder.wait()

    with locked(tmp_path / "out"):
        mine = json.loads((tmp_path / "out" / LOCK).read_text())

    assert mine["pid"] == os.getpid()
    assert f"the run of process {holder.pid} on" in caplog.text
    assert "taken over" in caplog.text


def test_a_lock_that_was_let_go_of_is_nobodys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with locked(tmp_path / "out"):
            pass

    assert (tmp_path / "out" / LOCK).read_bytes() == b""
    assert caplog.text == ""


def test_another_machine_that_gave_a_sign_lately_is_believed(tmp_path: Path) -> None:
    file = sign_for(tmp_path / "out", silent_s=STALE_S - 30)
    before = file.read_bytes()

    with (
        pytest.raises(LockedError, match=r"process 7 on far.*last heard of 9\d s ago.*is free"),
        locked(tmp_path / "out"),
    ):
        pass

    assert file.read_bytes() == before


def test_another_machine_that_was_silent_too_long_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sign_for(tmp_path / "out", silent_s=STALE_S + 30)

    with locked(tmp_path / "out"):
        pass

    assert "the run of process 7 on far" in caplog.text


def test_where_the_disk_cannot_lock_a_living_process_of_this_machine_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    sign_for(tmp_path / "out", silent_s=1, machine=lock.machine(), pid=os.getppid())
    with pytest.raises(LockedError, match="last heard of"), locked(tmp_path / "out"):
        pass

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    sign_for(tmp_path / "other", silent_s=1, machine=lock.machine(), pid=dead.pid)
    with locked(tmp_path / "other"):
        pass


def test_the_holder_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    with locked(tmp_path / "out"):
        file = tmp_path / "out" / LOCK
        os.utime(file, (0, 0))
        until = time.monotonic() + 10
        while not file.stat().st_mtime and time.monotonic() < until:
            time.sleep(0.02)

        assert file.stat().st_mtime > 0


def test_a_holder_that_was_taken_over_stops_and_leaves_the_lock_to_the_other(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipelines import lock\n"
        "from eventkit.cli.run import exit_codes\n"
        "lock.BEAT_S = 0.05\n"
        "with exit_codes(), lock.locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    for _ in range(600): time.sleep(0.1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    file = tmp_path / "out" / LOCK
    theirs = json.dumps({**json.loads(file.read_text()), "host": "far", "token": "other"})
    file.write_text(theirs)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 5, errors
    assert "on far" in errors
    assert file.read_text() == theirs


def test_temporary_files_are_gone_before_the_block_and_after_it(tmp_path: Path) -> None:
    left = tmp_path / "out" / "train" / ".tmp-0-1-2"
    left.parent.mkdir(parents=True)
    left.touch()

    with locked(tmp_path / "out"):
        assert not left.exists()
        left.touch()

    assert not left.exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SettingsError, match="expected a folder"), locked(tmp_path / "out"):
        pass


def test_threads_that_beat_end_with_the_block(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        assert "eventkit-lock" in {thread.name for thread in threading.enumerate()}

    assert "eventkit-lock" not in {thread.name for thread in threading.enumerate()}
