"""Commands, schedulers and workers as subprocesses, with the reader of `poison` installed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
from helpers import ENTRY, ROOT

HERE = Path(__file__).parent
RECORD = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "u1")])
DASK = Path(sys.executable).with_name("dask")
PATIENCE = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "4s",
    "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "6s",
}


def install_poison(folder: Path) -> dict[str, str]:
    """Make the entry point of the poison reader; returns the environment that has it."""
    info = folder / "poison-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: poison\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[eventkit.readers]\npoison = poison:PoisonReader\n")
    paths = [folder, HERE, ROOT / "examples" / "reader_plugin", ROOT]
    return {"PYTHONPATH": os.pathsep.join(map(str, paths)), **PATIENCE}


def start(*arguments: object, cwd: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start ``eventkit`` with more in its environment."""
    return subprocess.Popen(
        [sys.executable, "-c", ENTRY["eventkit"], *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background inherits an ignored SIGINT and would pass it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def run(
    *arguments: object, cwd: Path, env: dict[str, str], timeout: float = 120
) -> tuple[int, str, str]:
    """Run ``eventkit``; returns exit code, standard output and standard error."""
    process = start(*arguments, cwd=cwd, env=env)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, without_progress(err)


def end_of(process: subprocess.Popen[str], *, timeout: float = 120) -> tuple[int, str]:
    """Wait for a command; returns exit code and standard error."""
    try:
        _, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, without_progress(err)


def without_progress(errors: str) -> str:
    """Leave out the lines that a long run says every ten seconds."""
    return re.sub(r"(?m)^\w+: [\d,]+ of [\d,]+ .* left\n", "", errors)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Cluster:
    """A real scheduler and real workers, each with its nanny, on this machine."""

    def __init__(self, folder: Path, env: dict[str, str], *, options: tuple[str, ...] = ()) -> None:
        self.folder, self.env, self.options = folder, env, options
        protocol = options[1] if options[:1] == ("--protocol",) else "tcp"
        self.port = free_port()
        self.address = f"{protocol}://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> None:
        where = ("--host", f"{self.address.rpartition(':')[0]}", "--port", self.port)
        self.scheduler = self._start("scheduler", *where, "--no-show", *self.options)

    def start_worker(self, *options: str, env: dict[str, str] | None = None) -> None:
        threads = ("--nthreads", "1")
        self.workers.append(
            self._start("worker", self.address, *threads, *options, *self.options, env=env)
        )

    def _start(
        self, *arguments: object, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{arguments[0]}.log").open("ab")
        with log:
            return subprocess.Popen(
                [DASK, *map(str, arguments), "--no-dashboard"],
                cwd=self.folder,
                env={**os.environ, **self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def nanny_children(self) -> list[psutil.Process]:
        """The processes that do the work: those of the workers' children that spawned."""
        found = []
        for worker in self.workers:
            if worker.poll() is None:
                children = psutil.Process(worker.pid).children()
                found.extend(c for c in children if "spawn_main" in " ".join(c.cmdline()))
        return found

    def count_workers(self) -> int:
        """How many workers the scheduler knows."""
        code = (
            "import sys, distributed\n"
            "with distributed.Client(sys.argv[1]) as client: print(client.nthreads().__len__())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, self.address],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    def stop_worker(self) -> None:
        """Kill the newest nanny and what it watches."""
        _kill(self.workers.pop())

    def stop_scheduler(self) -> None:
        assert self.scheduler is not None
        _kill(self.scheduler)

    def close(self) -> None:
        for process in [*self.workers, *filter(None, [self.scheduler])]:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    children = []
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
    process.kill()  # first, or it would start its children again
    process.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def make_certificates(folder: Path) -> dict[str, str]:
    """Make a certificate that signs itself; returns dask's settings for it."""
    folder.mkdir()
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )  # fmt: skip
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    pairs = {f"{prefix}{who}__{what}": path for who in ("SCHEDULER", "WORKER", "CLIENT")
             for what, path in (("KEY", key), ("CERT", cert))}  # fmt: skip
    return {**{name: str(path) for name, path in pairs.items()}, f"{prefix}CA_FILE": str(cert)}


@contextmanager
def cluster(
    folder: Path, env: dict[str, str], *, workers: int = 2, options: tuple[str, ...] = ()
) -> Iterator[Cluster]:
    folder.mkdir(parents=True, exist_ok=True)
    made = Cluster(folder, env, options=options)
    try:
        made.start_scheduler()
        for _ in range(workers):
            made.start_worker()
        yield made
    finally:
        made.close()


def wait_until(true: Callable[[], object], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def quarantine(store: Path) -> dict[str, str]:
    """Return recording -> reason."""
    lines = (store / ".eventkit" / "quarantine.jsonl").read_text().splitlines()
    return {entry["recording"]: entry["reason"] for entry in map(json.loads, lines)}


def scanned(store: Path) -> int:
    """How many recordings the scan has written down."""
    log = store / ".eventkit" / "scan.jsonl"
    return len(re.findall(r"\n", log.read_text())) if log.is_file() else 0


def write_toy(path: Path, *, seed: int, events: int = 200, side: int = 34) -> None:
    """Write a recording of a square sensor."""
    rng = np.random.default_rng(seed)
    records = np.zeros(events, RECORD)
    records["t"] = np.sort(rng.integers(0, 300_000, events))
    records["x"], records["y"] = rng.integers(0, side, (2, events))
    records["p"] = rng.integers(0, 2, events)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"TOY1" + np.array([side, side], "<u2").tobytes() + records.tobytes())
