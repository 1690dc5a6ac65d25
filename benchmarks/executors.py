"""What a second worker is worth, by format and executor, and what a unit costs that does nothing.

Pools are open before the clock runs: starting processes takes seconds, once a command, and is
printed apart. A unit is what the scan does with a recording, hash included, on four files of a
million events each, from the page cache.
"""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import common
import h5py
import numpy as np
from streams import DAVIS, clustered

import eventkit
from eventkit.clip_settings import ClipSettings
from pipelines.datasets.discover import discover
from pipelines.executors import Pool, Site, open_pool
from pipelines.opening import ReadSettings
from pipelines.scan import ScanJob, scan_recording

FILES = 4
EVENTS = 10**6
FORMATS = {".raw": "evt3"}
UNITS = 5000
POOLS = (("inline", 1), ("threads", 1), ("threads", 2), ("processes", 1), ("processes", 2))
PORT = 18786
LIMITS = {"inline": 5.0, "threads": 5.0, "processes": 15.0, "cluster": 15.0}


def main(report: common.Report, *, rounds: int = 9) -> None:
    starts: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        pools: dict[str, Pool] = {}
        for executor, workers in POOLS:
            began = time.perf_counter()
            site = Site(folder=folder / f"{executor}{workers}")
            pool = open_pool(executor, workers=workers, site=site)
            pools[f"{executor} {workers}"] = stack.enter_context(pool)
            starts[f"{executor} {workers}"] = time.perf_counter() - began
            print(f"start of {executor} {workers}: {time.perf_counter() - began:.2g} s")
        address = stack.enter_context(cluster(folder))
        began = time.perf_counter()
        pool = open_pool(address, site=Site(folder=folder / "cluster"))
        pools["cluster 2"] = stack.enter_context(pool)
        print(f"connecting to a cluster: {time.perf_counter() - began:.2g} s")

        for suffix in (".raw", ".aedat4"):
            names = ("threads 1", "threads 2")
            scaling(report, folder, suffix, pools, names, target=1.5, rounds=rounds)
        names = ("processes 1", "processes 2", "threads 2")
        spent = scaling(report, folder, ".h5", pools, names, target=1.6, rounds=min(rounds, 5))
        worth(folder / "h5", spent, start_s=starts["processes 2"])
        empty_units(
            report, {n: pools[n] for n in ("inline 1", "threads 2", "processes 2", "cluster 2")}
        )


def worth(raw: Path, spent: dict[str, float], *, start_s: float) -> None:
    """Say from how much HDF5 on two processes beat two threads, their start counted.

    A conversion reads a recording twice, in the scan and after the plan.
    """
    size = sum(path.stat().st_size for path in raw.iterdir())
    saved = 2 * (spent["threads 2"] - spent["processes 2"]) / size
    if saved <= 0:
        print("two processes are not faster than two threads on HDF5")
    else:
        print(f"two processes are worth their start from {start_s / saved / 1e6:.0f} MB of HDF5 on")


def scaling(
    report: common.Report,
    folder: Path,
    suffix: str,
    pools: dict[str, Pool],
    names: tuple[str, ...],
    *,
    target: float,
    rounds: int,
) -> dict[str, float]:
    """Compare pools over files of one format; the first has one worker, the second has two.

    Returns
    -------
    dict
        Seconds of each pool, by the ratios to the second one, whose seconds are measured once more.
    """
    raw = folder / suffix[1:]
    raw.mkdir()
    for seed in range(FILES):
        write(raw / f"{seed}{suffix}", seed=seed)
    found, read = discover([raw]), ReadSettings(sensor_size=DAVIS)
    jobs = [ScanJob(str(raw), s, ClipSettings(), read) for s in found.recordings]
    rows: common.Rows = {name: scan(pools[name], jobs) for name in names}
    one, two, *_ = names
    ratios = common.compare(f"scan of {FILES} {suffix}", rows, against=two, rounds=rounds)
    report.add(two, one, f"{suffix} files", ratios[one], target)
    began = time.perf_counter()
    rows[two]()
    spent = time.perf_counter() - began
    return {name: ratio * spent for name, ratio in ratios.items()}


def scan(pool: Pool, jobs: list[ScanJob]) -> Callable[[], None]:
    def row() -> None:
        for job, result in pool.run(scan_recording, jobs):
            assert result["fault"] is None, (job, result)

    return row


def write(path: Path, *, seed: int) -> None:
    ev = clustered(EVENTS, DAVIS, seed=seed)
    if path.suffix != ".h5":
        columns = path.with_name("columns.npz")
        np.savez(columns, x=ev.x, y=ev.y, t=ev.t, p=ev.p)
        eventkit.export(
            eventkit.open(columns, sensor_size=DAVIS),
            path,
            format=FORMATS.get(path.suffix),
            overwrite=True,
        )
        columns.unlink()
        return
    with h5py.File(path, "w") as file:  # as DSEC has it: gzip, chunks of some thousand events
        for name, values in {"x": ev.x, "y": ev.y, "t": ev.t.astype("u4"), "p": ev.p}.items():
            file.create_dataset(
                f"events/{name}", data=values, chunks=(1 << 13,), compression="gzip"
            )


def empty_units(report: common.Report, pools: dict[str, Pool]) -> None:
    # A function of a library travels by its name, as every task of ours does.
    print(f"\n### {UNITS:,} units that do nothing\n\n| executor | ms a unit |\n|---|---|")
    for name, pool in pools.items():
        began = time.perf_counter()
        assert sum(1 for _ in pool.run(operator.index, range(UNITS))) == UNITS
        spent = (time.perf_counter() - began) / UNITS * 1e3
        print(f"| {name} | {spent:.3g} |", flush=True)
        limit = LIMITS[name.split()[0]]
        report.add_limit("an empty unit", f"{limit:g} ms", name, spent / limit, 1)


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Run a scheduler and two workers as a user starts them."""
    address = f"tcp://127.0.0.1:{PORT}"
    dask = str(Path(sys.executable).with_name("dask"))
    # Workers look for the functions of this file too.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    commands = [["scheduler", "--host", "tcp://127.0.0.1", "--port", str(PORT), "--no-dashboard"]]
    commands += [["worker", address, "--nthreads", "1", "--no-dashboard"]] * 2
    running = [
        subprocess.Popen([dask, *c], cwd=folder, env=env, stderr=subprocess.DEVNULL)
        for c in commands
    ]
    try:
        yield address
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT, rounds=5)
    REPORT.print()
