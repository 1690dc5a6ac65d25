"""Peak memory of `eventkit convert` by length of an AEDAT4 file, events and frames.

The files are written by dv-processing where it is installed (an optional peer).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common
import numpy as np

WIDTH, HEIGHT, RATE = 346, 260, 1_000_000


def write_recording(path: Path, *, seconds: int) -> int:
    """Write a DAVIS346 recording of 10^6 events and 30 frames a second; returns the events."""
    import dv_processing as dv

    rng = np.random.default_rng(0)
    config = dv.io.MonoCameraWriter.DAVISConfig("DAVIS346_bench", (WIDTH, HEIGHT))
    writer = dv.io.MonoCameraWriter(str(path), config)
    frame = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for piece in range(seconds * 30):
        start = piece * 1_000_000 // 30
        n = RATE // 30
        store = dv.EventStore()
        times = np.sort(rng.integers(start, start + 33_000, n))
        for t, x, y, p in zip(
            times.tolist(),
            rng.integers(0, WIDTH, n).tolist(),
            rng.integers(0, HEIGHT, n).tolist(),
            rng.integers(0, 2, n).tolist(),
            strict=True,
        ):
            store.push_back(t, x, y, bool(p))
        writer.writeEvents(store)
        shot = dv.Frame(start, 5000, 0, 0, frame, dv.FrameSource.SENSOR)
        writer.writeFrame(shot)
    return seconds * 30 * (RATE // 30)


def main(*, lengths: tuple[int, ...] = (4, 40)) -> None:
    if common.peer("dv_processing") is None:
        return
    print("\n### peak memory of convert, AEDAT4\n")
    print("| events | file MB | cut | peak MiB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in lengths:
            path = Path(folder) / f"{seconds}.aedat4"
            events = write_recording(path, seconds=seconds)
            for cut in ([], ["--clip-us", "300000"]):
                store = Path(folder) / f"store-{seconds}-{len(cut)}"
                peak, _ = common.tool_peak("convert", path, "--out", store, *cut)
                size = path.stat().st_size / 1e6
                print(f"| {events:,} | {size:.0f} | {' '.join(cut) or 'one clip'} | {peak} |")


if __name__ == "__main__":
    main()
