"""The lock of a folder behind a URL: numbered objects, of which the highest one holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict

import fsspec
import pytest
from helpers import ROOT
from s3_helpers import BUCKET, ObjectStore, object_store

from eventkit.errors import LockedError
from eventkit.location import RemotePath
from pipelines import remote_lock
from pipelines.executors.fit import _PROBE
from pipelines.holder import Holder
from pipelines.lock import locked
from pipelines.remote_lock import LOCKS

BEAT_S, STALE_S, LOOK_S = 0.1, 1.0, 0.05
FAR = Holder(host="far", machine="0", pid=7, since="2026-11-02 10:00:00", token="x")

# A coordinator in a process of its own, that works for as long as it is let.
HOLD = f"""
import sys, time
from eventkit.cli.run import exit_codes
from eventkit.location import location
from pipelines import remote_lock
from pipelines.lock import locked
remote_lock.BEAT_S, remote_lock.STALE_S, remote_lock.LOOK_S = {BEAT_S}, {STALE_S}, {LOOK_S}
with exit_codes(go_on="run it again"):
    with locked(location(sys.argv[1])):
        print("held", flush=True)
        until = time.monotonic() + float(sys.argv[2])
        while time.monotonic() < until:
            time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture
def out(bucket: ObjectStore, request: pytest.FixtureRequest) -> RemotePath:
    """A prefix of this test alone."""
    return RemotePath(f"s3://{BUCKET}/{request.node.name.replace('[', '-').replace(']', '')}/out")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats and patience of fractions of a second."""
    for name, value in (("BEAT_S", BEAT_S), ("STALE_S", STALE_S), ("LOOK_S", LOOK_S)):
        monkeypatch.setattr(remote_lock, name, value)


def start(out: RemotePath, *, seconds: float = 60) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@contextmanager
def holding(out: RemotePath) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = start(out)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def sign_for(out: RemotePath, number: int, holder: Holder, *, beat: int = 0) -> RemotePath:
    """Put the lock of a holder."""
    path = out / LOCKS / f"{number:08d}"
    path.write_bytes(json.dumps({"holder": asdict(holder), "beat": beat}).encode())
    return path


def locks(out: RemotePath) -> list[str]:
    return [path.name for path in (out / LOCKS).rglob("*")]


def test_a_lock_that_was_let_go_of_leaves_nothing(out: RemotePath) -> None:
    with locked(out):
        assert locks(out) == ["00000001"]
    assert list(out.rglob("*")) == []
    with pytest.raises(ZeroDivisionError), locked(out):
        _ = 1 // 0
    assert list(out.rglob("*")) == []


def test_a_second_one_is_refused_while_the_first_lives(quick: None, out: RemotePath) -> None:
    with holding(out) as holder:
        message = f"nobody works on, got the lock of process {holder.pid} on .*, which is alive"
        with pytest.raises(LockedError, match=message) as refused, locked(out):
            pass
        assert refused.value.exit_code == 5
        assert holder.poll() is None
        assert locks(out) == ["00000001"]


def test_a_dead_one_of_this_machine_is_taken_over_at_once(
    out: RemotePath, caplog: pytest.LogCaptureFixture
) -> None:
    with holding(out) as holder:
        holder.kill()
        holder.wait()
        began = time.monotonic()
        with locked(out):
            assert locks(out) == ["00000001", "00000002"]
        assert time.monotonic() - began < remote_lock.BEAT_S
    assert f"the run of process {holder.pid} on" in caplog.text
    assert "taken over" in caplog.text
    assert list(out.rglob("*")) == []


def test_a_silent_one_of_another_machine_is_watched_and_taken_over(
    quick: None, out: RemotePath, caplog: pytest.LogCaptureFixture
) -> None:
    sign_for(out, 3, FAR)
    began = time.monotonic()
    with locked(out):
        assert time.monotonic() - began >= STALE_S
        assert locks(out) == ["00000003", "00000004"]
    assert "watching 1 s for a sign of process 7 on far" in caplog.text
    assert list(out.rglob("*")) == []


def test_one_that_lets_go_while_it_is_watched_makes_room(quick: None, out: RemotePath) -> None:
    path = sign_for(out, 3, FAR)
    timer = threading.Timer(STALE_S / 3, path.unlink)
    timer.start()
    began = time.monotonic()
    with locked(out):
        assert time.monotonic() - began < STALE_S
        assert locks(out) == ["00000001"]
    timer.join()


def test_a_lock_that_cannot_be_read_is_watched_too(quick: None, out: RemotePath) -> None:
    (out / LOCKS / "00000001").write_bytes(b"{}")
    began = time.monotonic()
    with locked(out):
        assert time.monotonic() - began >= STALE_S
        assert locks(out) == ["00000001", "00000002"]
    assert locks(out) == []


def test_of_several_that_come_at_once_one_succeeds(quick: None, out: RemotePath) -> None:
    sign_for(out, 1, FAR)
    several = threading.Barrier(6)
    held: list[int] = []

    def come(number: int) -> bool:
        several.wait()
        with suppress(LockedError), locked(out):
            held.append(number)
            time.sleep(2 * STALE_S)
            return True
        return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(come, range(6))) == 1
    assert len(held) == 1
    assert list(out.rglob("*")) == []


@pytest.mark.parametrize("then", ["holds on", "lets go"])
def test_a_holder_that_was_away_finds_another_and_stops(
    quick: None, bucket: ObjectStore, then: str
) -> None:
    out = RemotePath(f"s3://{BUCKET}/away-{then.replace(' ', '-')}/out")
    with holding(out) as away:
        away.send_signal(signal.SIGSTOP)
        sleeping = start(out, seconds=60 if then == "holds on" else 0)
        try:
            assert sleeping.stdout is not None
            assert sleeping.stdout.readline() == "held\n"
            if then == "lets go":
                assert sleeping.wait(timeout=20) == 0
            away.send_signal(signal.SIGCONT)
            _, errors = away.communicate(timeout=20)
            assert away.returncode == 5, errors
            assert "Traceback" not in errors
            assert f"{out}: expected to hold its lock, got that of " in errors.splitlines()[-1]
            if then == "holds on":
                assert sleeping.poll() is None
                assert f"process {sleeping.pid} on" in errors
                assert "00000002" in locks(out)
            else:
                assert locks(out) == []
        finally:
            sleeping.kill()
            sleeping.wait()


def test_a_number_that_was_taken_and_let_go_of_meanwhile_says_nothing(
    quick: None, out: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead lock 1 is seen, another run takes it over and ends, a third holds 1 anew."""
    dead = sign_for(out, 1, FAR)
    is_dead = remote_lock._is_dead

    def slowly(folder: RemotePath, there: remote_lock._Lock) -> bool:
        found = is_dead(folder, there)
        if there.holder == FAR:
            dead.unlink()
            sign_for(out, 1, Holder.here())
        return found

    monkeypatch.setattr(remote_lock, "_is_dead", slowly)
    began = time.monotonic()
    with locked(out):  # the third is silent as well, and was given its time
        assert time.monotonic() - began >= 2 * STALE_S


def test_a_store_that_is_away_for_a_moment_costs_nothing(
    quick: None, bucket: ObjectStore, out: RemotePath
) -> None:
    with holding(out) as holder:
        before = (out / LOCKS / "00000001").read_bytes()
        bucket.cut()
        time.sleep(4 * BEAT_S)
        bucket.connect()
        until = time.monotonic() + 30
        while (out / LOCKS / "00000001").read_bytes() == before:
            assert time.monotonic() < until
            time.sleep(BEAT_S)
        assert holder.poll() is None


def test_credentials_that_run_out_are_no_traceback_and_no_end_of_the_beat(
    quick: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    out = RemotePath("memory://run-out/out")
    put = type(memory).pipe_file
    refused = threading.Event()

    def refuse(self: object, path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "overwrite" and not refused.is_set():
            refused.set()
            msg = "ExpiredToken"
            raise PermissionError(msg)
        put(memory, path, value, mode=mode)

    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    with locked(out):
        assert refused.wait(10)
        before = (out / LOCKS / "00000001").read_bytes()
        time.sleep(5 * BEAT_S)
        assert (out / LOCKS / "00000001").read_bytes() != before
    assert "Traceback" not in capfd.readouterr().err
    assert list(out.rglob("*")) == []


def test_probes_of_a_killed_run_are_cleared_away(out: RemotePath) -> None:
    (out / _PROBE).write_bytes(b"token")
    (out / f"{_PROBE}-host-7").write_bytes(b"")
    (out / ".eventkit/plan.json").write_bytes(b"{}")
    with locked(out):
        pass
    assert [path.name for path in out.rglob("*")] == ["plan.json"]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)],
)
def test_an_interrupt_ends_in_time_also_where_the_store_hangs(
    bucket: ObjectStore, out: RemotePath, number: signal.Signals, code: int
) -> None:
    with holding(out) as holder:
        for wire in bucket.wires:
            wire.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            holder.send_signal(number)
            _, errors = holder.communicate(timeout=60)
            assert time.monotonic() - began < 5
        finally:
            for wire in bucket.wires:
                wire.send_signal(signal.SIGCONT)
    assert holder.returncode == code, errors
    assert errors.splitlines()[-1].endswith("run it again")
    began = time.monotonic()
    with locked(out):
        assert time.monotonic() - began < remote_lock.BEAT_S
