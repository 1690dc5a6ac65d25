"""Executors: the window, the choice, and tasks that take their process down."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cluster_helpers as at
import numpy as np
import pytest
from helpers import ROOT

from eventkit.errors import SettingsError
from eventkit.store import open_store
from pipelines.choice import WORTH_BYTES, choose
from pipelines.datasets.discover import discover
from pipelines.executors import Death, RunSettings, Site, WorkerDiedError, checked_name, open_pool
from pipelines.executors.alone import run_alone
from pipelines.executors.fit import misfit, probed
from pipelines.turns import in_turn


def double(number: int) -> int:
    return 2 * number


def end(how: str) -> None:
    if how == "exit 0":
        os._exit(0)
    if how == "raise":
        msg = "expected something else"
        raise SettingsError(msg)
    os.kill(os.getpid(), getattr(signal, how))


def end_if_odd(number: int) -> int:
    if number % 2:
        os._exit(7)
    return number


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return at.install_poison(tmp_path_factory.mktemp("poison"))


@pytest.mark.parametrize("name", ["inline", "threads"])
def test_a_pool_runs_everything_and_never_takes_more_than_its_window(name: str) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    results = {}
    with open_pool(name, workers=3) as pool:
        for item, result in pool.run(double, items()):
            results[item] = result
            assert taken - len(results) <= 6

    assert results == {number: 2 * number for number in range(100)}


def test_a_name_that_is_no_executor_is_refused_with_those_that_are() -> None:
    for name in ("auto", "tcp://node-1:8786", "tls://10.0.0.1:8786"):
        assert checked_name(name) == name
    for name in ("dask", "tcp://node-1", "http://node-1:80"):
        with pytest.raises(SettingsError, match="processes, tcp://HOST:PORT"):
            checked_name(name)


@pytest.mark.parametrize(
    ("suffix", "size", "workers", "executor"),
    [
        (".h5", WORTH_BYTES, 2, "processes"),
        (".h5", WORTH_BYTES - 1, 2, "threads"),
        (".h5", WORTH_BYTES, 1, "inline"),
        (".raw", WORTH_BYTES, 2, "threads"),
    ],
)
def test_auto_takes_processes_for_enough_of_hdf5(
    tmp_path: Path, suffix: str, size: int, workers: int, executor: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}{suffix}").touch()
        os.truncate(tmp_path / f"{name}{suffix}", -(-size // 2) - (size % 2 and name == "a"))
    found = discover([tmp_path])

    assert choose(found, RunSettings(workers=workers))[0] == executor
    assert choose(found, RunSettings(workers=workers, executor="threads")) == ("threads", "")


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ("SIGSEGV", -signal.SIGSEGV, "decoder_crash"),
        ("SIGKILL", -signal.SIGKILL, "killed"),
        ("exit 0", 0, "decoder_crash"),
    ],
)
def test_the_end_of_a_process_is_told_from_a_result(how: str, code: int, reason: str) -> None:
    death = run_alone(end, how)

    assert death == Death(code)
    assert death.reason == reason


def test_a_task_alone_returns_and_raises_as_it_does_elsewhere() -> None:
    assert run_alone(double, 1 << 20) == 1 << 21
    with pytest.raises(SettingsError, match="expected something else"):
        run_alone(end, "raise")


def test_a_task_alone_ends_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    code = f"""
from pipelines.executors.alone import run_alone
from test_executors import nap
run_alone(nap, {str(tmp_path / "pid")!r})
"""
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent), str(ROOT / "tests"), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}
    )
    at.wait_until((tmp_path / "pid").exists)
    child = int((tmp_path / "pid").read_text())

    process.kill()
    process.wait()

    at.wait_until(lambda: not Path(f"/proc/{child}").exists(), seconds=10)


def nap(note: str) -> None:
    Path(f"{note}.part").write_text(str(os.getpid()))
    Path(f"{note}.part").rename(note)
    time.sleep(60)


def die_inline(folder: Path) -> None:
    with open_pool("inline", site=Site(folder=folder)) as pool:
        dict(pool.run(end_if_odd, [2, 3, 4]))


def test_a_unit_that_killed_an_earlier_process_is_run_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_alone(die_inline, tmp_path) == Death(7)
    assert len(list((tmp_path / ".eventkit" / "running").iterdir())) == 1

    with open_pool("inline", site=Site(folder=tmp_path)) as pool:
        results = dict(pool.run(end_if_odd, [2, 3, 4], died=lambda item, death: -death.code))

    assert results == {2: 2, 3: -7, 4: 4}
    assert "an earlier run died while it worked on 1 units" in caplog.text
    assert not (tmp_path / ".eventkit" / "running").exists()


def test_without_an_answer_for_it_a_deadly_task_ends_in_one_sentence(tmp_path: Path) -> None:
    run_alone(die_inline, tmp_path)

    with (
        open_pool("inline", site=Site(folder=tmp_path)) as pool,
        pytest.raises(WorkerDiedError, match="expected a result of 3, got exit code 7"),
    ):
        dict(pool.run(end_if_odd, [3]))


def test_two_that_do_the_same_work_do_it_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "pack.json"
    path.touch()
    seen: list[bool] = []

    with open_pool("threads", workers=4) as pool:
        for _ in pool.run(partial(_in_turn, path, seen), range(12)):
            pass

    assert len(seen) == 12
    assert all(seen)


def _in_turn(path: Path, seen: list[bool], number: int) -> None:
    with in_turn(path):
        mark = path.with_suffix(".busy")
        seen.append(not mark.exists())
        mark.touch()
        time.sleep(0.01)
        mark.unlink()


@dataclass(frozen=True)
class Lie:
    """What of a `Fit` is changed, and what is said about it."""

    change: dict[str, object]
    words: str


@pytest.mark.parametrize(
    "lie",
    [
        Lie({"versions": (("eventkit", "0.0.1"),)}, "expected .*eventkit 0.0.1, got .*; install"),
        Lie({"folder": "/nowhere"}, "expected to see the folder /nowhere .* No such file"),
        Lie({"token": "other"}, "got another one of that name; --out must lie on a disk"),
        Lie({"inputs": (("/nowhere/a.raw", 3, ""),)}, "expected to see /nowhere/a.raw"),
        Lie({"inputs": ((__file__, 3, ""),)}, "with 3 bytes .* got another file of"),
    ],
)
def test_what_does_not_fit_is_named_with_the_cure(tmp_path: Path, lie: Lie) -> None:
    with probed(Site(folder=tmp_path, inputs=(Path(__file__),))) as fit:
        assert misfit(fit) is None
        assert re.search(lie.words, str(misfit(replace(fit, **lie.change))))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_crash_in_a_thread_costs_its_recording_and_no_endless_loop(
    env: dict[str, str], tmp_path: Path
) -> None:
    for seed, name in enumerate(("a", "b-segfault", "c", "d-exit-later")):
        at.write_toy(tmp_path / "raw" / f"{name}.poison", seed=seed)
    command = ("convert", "raw", "--executor", "threads", "--workers", "2")

    runs = [at.run(*command, cwd=tmp_path, env=env) for _ in range(3)]

    # One run dies in the scan, one in the conversion; each tells the next what it was about.
    assert [code for code, _, _ in runs] == [-signal.SIGSEGV, 7, 3], runs
    assert "died while it worked on" in runs[1][2]
    assert at.quarantine(tmp_path / "store") == dict.fromkeys(
        ("b-segfault", "d-exit-later"), "decoder_crash"
    )


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("a", "b-segfault", "c", "d-exit-later"), id="two"),
        pytest.param(
            ("a", "b-segfault", "c", "d-exit-later", "e", "f-kill", "g", "h-abort-later"),
            marks=pytest.mark.long,
            id="four",
        ),
    ],
)
def test_a_crash_in_a_worker_costs_its_recording_and_nothing_else(
    names: tuple[str, ...], env: dict[str, str], tmp_path: Path
) -> None:
    for seed, name in enumerate(names):
        at.write_toy(tmp_path / "raw" / f"{name}.poison", seed=seed)
        if "-" not in name:
            at.write_toy(tmp_path / "clean" / f"{name}.poison", seed=seed)
    command = ("convert", "--executor")

    code, _, errors = at.run(*command, "processes", "--workers", "2", "raw", cwd=tmp_path, env=env)

    assert code == 3, errors
    assert "Traceback" not in errors
    assert at.quarantine(tmp_path / "store") == {
        name: "killed" if "kill" in name else "decoder_crash" for name in names if "-" in name
    }
    assert at.run(*command, "inline", "clean", "--out", "whole", cwd=tmp_path, env=env)[0] == 0
    for kept, whole in zip(
        open_store(tmp_path / "store"), open_store(tmp_path / "whole"), strict=True
    ):
        assert kept.facts["recording"] == whole.facts["recording"]
        np.testing.assert_array_equal(kept.events, whole.events)
