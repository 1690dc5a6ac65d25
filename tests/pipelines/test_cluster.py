"""A real scheduler and real workers on this machine, shot at while a run goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cluster_helpers as at
import pytest
from helpers import ROOT
from pipelines_helpers import tree_bytes, write_recording

RECORDINGS = 24
SHARDS = ("shard", "--num-shards", "4")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return at.install_poison(tmp_path_factory.mktemp("poison"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of several shapes, so several packs; each sleeps a little when it is opened."""
    root = tmp_path_factory.mktemp("slow") / "raw"
    for i in range(RECORDINGS):
        at.write_toy(root / f"r{i:02d}-slow.poison", seed=i, side=30 + i % 6)
    return root


@pytest.fixture(scope="module")
def clean(
    raw: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The bytes of one run without any trouble, in one process."""
    folder = tmp_path_factory.mktemp("clean")
    for command in (("convert", raw), SHARDS):
        code, _, errors = at.run(*command, "--executor", "inline", cwd=folder, env=env)
        assert code == 0, errors
    return outputs(folder)


@pytest.fixture(scope="module")
def dask(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[at.Cluster]:
    with at.cluster(tmp_path_factory.mktemp("dask"), env) as cluster:
        yield cluster


def outputs(folder: Path) -> dict[str, bytes]:
    """Return every byte of store and shards; nothing that a run leaves only while it runs."""
    assert not list(folder.rglob(".tmp-*"))
    assert not list(folder.rglob("probe*"))
    found = {}
    for name in ("store", "shards"):
        found.update({f"{name}/{k}": data for k, data in tree_bytes(folder / name).items()})
    return found


def finish(folder: Path, raw: Path, address: str, env: dict[str, str]) -> dict[str, bytes]:
    """Run convert, again if it was stopped, and shard; returns the bytes."""
    for command in (("convert", raw), SHARDS):
        code, _, errors = at.run(*command, "--executor", address, cwd=folder, env=env)
        assert code == 0, errors
    return outputs(folder)


def in_the_middle(process: subprocess.Popen[str], folder: Path, act: Callable[[], None]) -> None:
    """Do something when the scan is half done."""
    at.wait_until(lambda: at.scanned(folder / "store") >= 6 or process.poll() is not None)
    assert process.poll() is None
    act()


def test_a_worker_killed_in_the_middle_changes_no_byte(
    dask: at.Cluster, raw: Path, env: dict[str, str], clean: dict[str, bytes], tmp_path: Path
) -> None:
    process = at.start("convert", raw, "--executor", dask.address, cwd=tmp_path, env=env)

    in_the_middle(process, tmp_path, lambda: dask.nanny_children()[0].kill())
    assert at.end_of(process) == (0, "")
    assert finish(tmp_path, raw, dask.address, env) == clean
    code, out, errors = at.run("verify", "--executor", dask.address, cwd=tmp_path, env=env)
    assert (code, errors) == (0, "")
    assert f"{RECORDINGS} samples" in out


def test_where_no_scheduler_answers_the_cure_is_told(
    raw: Path, env: dict[str, str], tmp_path: Path
) -> None:
    address = f"tcp://127.0.0.1:{at.free_port()}"

    code, _, errors = at.run("convert", raw, "--executor", address, cwd=tmp_path, env=env)

    assert code == 6
    assert re.fullmatch(
        rf"error: {address}: expected a dask scheduler, none answers .*'dask scheduler'.*\n", errors
    )


def test_a_worker_with_other_code_is_refused_before_the_first_task(
    dask: at.Cluster, raw: Path, env: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for package in ("eventkit", "pipelines"):
        shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("*.nb*"))
    (other / "eventkit" / "clips.py").open("a").write("# changed\n")
    paths = env["PYTHONPATH"].replace(str(ROOT), "")
    first = {"PYTHONPATH": f"{other}{os.pathsep}{paths}"}
    dask.start_worker("--name", "other", env=first)
    try:
        at.wait_until(lambda: len(dask.nanny_children()) == 3)
        at.wait_until(lambda: dask.count_workers() == 3)

        code, _, errors = at.run("convert", raw, "--executor", dask.address, cwd=tmp_path, env=env)
    finally:
        dask.stop_worker()

    assert code == 6
    assert re.search(r"worker tcp://\S+: expected source code \w{12}, got \w{12}; install", errors)
    assert errors.count("\n") == 1
    assert not (tmp_path / "store" / ".eventkit" / "scan.jsonl").exists()


def test_certificates_that_are_not_there_are_asked_for(
    raw: Path, env: dict[str, str], tmp_path: Path
) -> None:
    address = f"tls://127.0.0.1:{at.free_port()}"

    code, _, errors = at.run("convert", raw, "--executor", address, cwd=tmp_path, env=env)

    assert code == 6
    assert "expected certificates in the configuration of dask, got none" in errors
    assert "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT" in errors


@pytest.mark.long
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    commands = re.search(r"## Try it on one machine\n.*?```sh\n(.*?)```", page, re.DOTALL)
    assert commands is not None
    for i in range(4):
        write_recording(tmp_path / "raw" / f"{i}", seed=i)
    script = commands[1].replace("8786", str(at.free_port()))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{at.DASK.parent}{os.pathsep}{os.environ['PATH']}",
    }

    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "4 samples" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("executor", "workers"),
    [
        ("inline", 1),
        *(("threads", n) for n in (2, 3)),
        *(("processes", n) for n in (1, 3)),
        *(("cluster", n) for n in (1, 2, 3)),
    ],
)
def test_every_executor_worker_count_and_order_gives_the_same_bytes(
    raw: Path,
    env: dict[str, str],
    clean: dict[str, bytes],
    tmp_path: Path,
    executor: str,
    workers: int,
) -> None:
    env = {**env, "POISON_SEED": f"{executor}{workers}"}  # recordings sleep for other times
    if executor == "cluster":
        with at.cluster(tmp_path / "dask", env, workers=workers) as cluster:
            assert finish(tmp_path, raw, cluster.address, env) == clean
        return
    for command in (("convert", raw), SHARDS):
        how = ("--executor", executor, "--workers", workers)
        code, _, errors = at.run(*command, *how, cwd=tmp_path, env=env)
        assert (code, errors) == (0, "")
    assert outputs(tmp_path) == clean


@pytest.mark.long
def test_a_nanny_that_is_killed_with_its_worker_is_done_without(
    raw: Path, env: dict[str, str], clean: dict[str, bytes], tmp_path: Path
) -> None:
    with at.cluster(tmp_path / "dask", env) as cluster:
        process = at.start("convert", raw, "--executor", cluster.address, cwd=tmp_path, env=env)

        in_the_middle(process, tmp_path, cluster.stop_worker)
        assert at.end_of(process) == (0, "")
        assert finish(tmp_path, raw, cluster.address, env) == clean


@pytest.mark.long
def test_without_any_worker_left_the_run_ends_with_a_sentence_and_goes_on_later(
    raw: Path, env: dict[str, str], clean: dict[str, bytes], tmp_path: Path
) -> None:
    with at.cluster(tmp_path / "dask", env, workers=1) as cluster:
        process = at.start("convert", raw, "--executor", cluster.address, cwd=tmp_path, env=env)

        in_the_middle(process, tmp_path, cluster.stop_worker)
        code, errors = at.end_of(process)

        assert code == 6
        assert re.fullmatch(
            rf"error: {cluster.address}: no worker for 6 s; .*run the same command again.*\n",
            errors,
        )
        cluster.start_worker()
        assert finish(tmp_path, raw, cluster.address, env) == clean


@pytest.mark.long
def test_a_scheduler_that_comes_back_gets_the_rest_of_the_work(
    raw: Path, env: dict[str, str], clean: dict[str, bytes], tmp_path: Path
) -> None:
    def restart() -> None:
        cluster.stop_scheduler()
        cluster.start_scheduler()
        cluster.start_worker()

    with at.cluster(tmp_path / "dask", env) as cluster:
        process = at.start("convert", raw, "--executor", cluster.address, cwd=tmp_path, env=env)

        in_the_middle(process, tmp_path, restart)
        assert at.end_of(process) == (0, "")
        assert finish(tmp_path, raw, cluster.address, env) == clean


@pytest.mark.long
def test_a_scheduler_that_stays_away_ends_the_run_with_a_sentence(
    raw: Path, env: dict[str, str], clean: dict[str, bytes], tmp_path: Path
) -> None:
    with at.cluster(tmp_path / "dask", env) as cluster:
        process = at.start("convert", raw, "--executor", cluster.address, cwd=tmp_path, env=env)

        in_the_middle(process, tmp_path, cluster.stop_scheduler)
        code, errors = at.end_of(process)

        assert code == 6
        assert re.fullmatch(
            rf"error: {cluster.address}: the scheduler went away; .*run the same command again.*\n",
            errors,
        )
        cluster.start_scheduler()
        cluster.start_worker()
        assert finish(tmp_path, raw, cluster.address, env) == clean


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_client_that_goes_away_leaves_work_that_the_next_one_finishes(
    dask: at.Cluster,
    raw: Path,
    env: dict[str, str],
    clean: dict[str, bytes],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    process = at.start("convert", raw, "--executor", dask.address, cwd=tmp_path, env=env)

    in_the_middle(process, tmp_path, lambda: process.send_signal(number))
    code, errors = at.end_of(process, timeout=60)

    assert code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number], errors
    assert "Traceback" not in errors
    assert ("run the same command again" in errors) == (number != signal.SIGKILL)
    assert finish(tmp_path, raw, dask.address, env) == clean


@pytest.mark.long
def test_a_deadly_recording_costs_a_cluster_that_recording(
    env: dict[str, str], tmp_path: Path
) -> None:
    names = ("a", "b", "c-segfault", "d", "e-kill-later", "f", "g")
    for seed, name in enumerate(names):
        at.write_toy(tmp_path / "raw" / f"{name}.poison", seed=seed)

    with at.cluster(tmp_path / "dask", env) as cluster:
        code, out, errors = at.run(
            "convert", "raw", "--executor", cluster.address, cwd=tmp_path, env=env, timeout=250
        )

    assert code == 3, errors
    assert "Traceback" not in errors
    assert "5 clips" in out
    assert at.quarantine(tmp_path / "store") == {
        "c-segfault": "decoder_crash",
        "e-kill-later": "killed",
    }


@pytest.mark.long
def test_an_encrypted_cluster_gives_the_same_bytes(
    raw: Path, env: dict[str, str], clean: dict[str, bytes], tmp_path: Path
) -> None:
    secure = {**env, **at.make_certificates(tmp_path / "keys")}

    with at.cluster(tmp_path / "dask", secure, options=("--protocol", "tls")) as cluster:
        assert cluster.address.startswith("tls://")
        assert finish(tmp_path, raw, cluster.address, secure) == clean
        plain = cluster.address.replace("tls", "tcp")
        code, _, errors = at.run("convert", raw, "--executor", plain, cwd=tmp_path, env=env)

    assert code == 6
    assert "expected a dask scheduler, none answers" in errors
