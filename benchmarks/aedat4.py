"""AEDAT4 (LZ4): events as arrays beside dv-processing and aedat, one thread and two files on two.

dv-processing hands out packets of its own; arrays of the whole are what a user asks for next, so
both are timed: ``numpy()`` of every packet, joined, and the packets alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common
import numpy as np

import eventkit
from eventkit.columns import Columns
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.writers.aedat4 import Aedat4Writer

EVENTS = 3_000_000


def made(path: Path, *, seed: int = 1) -> Path:
    """Write noise over a 1280x720 sensor, which compresses by half as real streams do."""
    rng = np.random.default_rng(seed)
    events = Events(
        x=rng.integers(0, 1280, EVENTS),
        y=rng.integers(0, 720, EVENTS),
        t=10**15 + np.cumsum(rng.integers(0, 2, EVENTS)),
        p=rng.integers(0, 2, EVENTS),
    )
    size = (1280, 720)
    recording = Recording(path, "made", size, "given", lambda _: iter([Chunk(events)]))
    Aedat4Writer().write(recording, path, ledger=Ledger())
    return path


def ours(path: Path) -> int:
    return len(eventkit.open(path).load())


def batches(dv: Any, path: Path) -> list[Any]:
    recording, found = dv.io.MonoCameraRecording(str(path)), []
    while (batch := recording.getNextEventBatch()) is not None:
        found.append(batch)
    return found


def on_two(read: Callable[[Path], object], files: tuple[Path, Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, files))


def one(path: Path) -> common.Rows:
    used = Columns.empty(EVENTS)
    for column in used:
        column[:] = 1
    rows: common.Rows = {
        "eventkit": lambda: ours(path),
        "eventkit, columns used before": lambda: eventkit.open(path).load(out=used),
    }
    if dv := common.peer("dv_processing"):
        rows["dv-processing, packets"] = lambda: batches(dv, path)
        rows["dv-processing, arrays"] = lambda: np.concatenate(
            [batch.numpy() for batch in batches(dv, path)]
        )
    if aedat := common.peer("aedat"):
        rows["aedat, packets"] = lambda: [p["events"] for p in aedat.Decoder(str(path))]
    return rows


def two(files: tuple[Path, Path]) -> common.Rows:
    return {
        "one after the other": lambda: [ours(path) for path in files],
        "on two threads": lambda: on_two(ours, files),
    }


def main(report: common.Report, *, rounds: int = 9) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = tuple(made(Path(folder) / f"{i}.aedat4", seed=i) for i in (1, 2))
        label = f"{EVENTS / 1e6:.0f} M events, LZ4"
        ratios = common.compare(
            f"AEDAT4, {label}", one(files[0]), against="eventkit", rounds=rounds
        )
        packets = ratios.get("dv-processing, packets")
        report.add("AEDAT4", "dv-processing, arrays", label, ratios.get("dv-processing, arrays"), 1)
        used = ratios["eventkit, columns used before"]
        reused = None if packets is None else packets / used
        report.add("AEDAT4, fresh columns", "dv-processing, packets", label, packets, 0.85)
        report.add("AEDAT4, used columns", "dv-processing, packets", label, reused, 0.85)
        ratios = common.compare(
            f"two files, {label}", two(files), against="on two threads", rounds=rounds
        )
        ratio = ratios["one after the other"]
        report.add("AEDAT4 on two threads", "one after the other", label, ratio, 1.5)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
