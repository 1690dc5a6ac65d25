"""Long files: EVT3 to 10^8 events, and the memory that a 4 GB EVT2 file takes.

Times an event must not grow with the length, memory must not grow at all.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import common  # first: one thread a library
import numpy as np
from growth import peak_mib, reset_peak, resident_mib

import eventkit
from eventkit.ledger import Ledger

WIDTH, HEIGHT = 640, 480
EVENTS_A_HIGH = 100
"""Events between two TIME_HIGH words: 1.6 Mev/s at the 64 us that one stands for."""


def write_evt2(path: Path, *, gigabytes: float) -> int:
    """Write random EVT2 events in time order; returns their number."""
    rng = np.random.default_rng(0)
    highs = 1 << 14
    words = np.empty((highs, EVENTS_A_HIGH + 1), np.uint32)
    shape = (highs, EVENTS_A_HIGH)
    low = np.sort(rng.integers(0, 64, shape), axis=1) << 22
    place = rng.integers(0, WIDTH, shape) << 11 | rng.integers(0, HEIGHT, shape)
    words[:, 1:] = rng.integers(0, 2, shape) << 28 | low | place
    blocks = int(gigabytes * 1e9) // words.nbytes
    with path.open("wb") as file:
        file.write(f"% evt 2.0\n% geometry {WIDTH}x{HEIGHT}\n% end\n".encode())
        for block in range(blocks):
            words[:, 0] = 8 << 28 | (np.arange(highs) + block * highs)
            file.write(words.data)
    return blocks * highs * EVENTS_A_HIGH


def write_evt3(path: Path, *, events: int) -> int:
    """Write EVT3 events in time order, 16 to a TIME_LOW; returns their number."""
    rng = np.random.default_rng(0)
    lows, each = 4096, 16
    highs = max(1, events // (lows * each))
    words = np.empty((lows, each, 2), np.uint16)
    words[:, :, 0] = rng.integers(0, HEIGHT, (lows, each))
    places = rng.integers(0, 2, (lows, each)) << 11 | rng.integers(0, WIDTH, (lows, each))
    words[:, :, 1] = 2 << 12 | places
    low = (6 << 12 | np.arange(lows)).astype(np.uint16)[:, None]
    block = np.concatenate([low, words.reshape(lows, 2 * each)], axis=1)
    with path.open("wb") as file:
        file.write(f"% evt 3.0\n% geometry {WIDTH}x{HEIGHT}\n% end\n".encode())
        for high in range(highs):
            file.write(np.uint16(8 << 12 | high % 4096).tobytes())
            file.write(block.data)
    return highs * lows * each


def growth(folder: Path) -> None:
    """Print nanoseconds an event and memory by the length of an EVT3 file."""
    print("\n### EVT3 by length, in chunks\n\n| events | file MB | ns an event | MiB beside |")
    print("|---|---|---|---|")
    for events in (10**6, 10**7, 10**8):
        path = folder / "long.raw"
        written = write_evt3(path, events=events)
        recording = eventkit.open(path)
        next(recording.stream())  # compiles or loads the kernels
        reset_peak()
        before, began = resident_mib(), time.perf_counter()
        ledger = Ledger()
        seen = sum(len(chunk.events) for chunk in recording.stream(ledger))
        spent = time.perf_counter() - began
        assert seen == written == ledger.kept
        print(
            f"| {written:,} | {path.stat().st_size / 1e6:.0f} | {spent / written * 1e9:.2f} | "
            f"{peak_mib() - before:.0f} |"
        )


def memory(folder: Path, *, gigabytes: float) -> None:
    """Print the peak memory of the commands, and the time of two looks into the middle."""
    path = folder / "large.raw"
    events = write_evt2(path, gigabytes=gigabytes)
    size = path.stat().st_size / 1e9
    both = folder / "both"
    both.mkdir()
    for name in ("one.raw", "two.raw"):
        (both / name).hardlink_to(path)
    print(f"\n### {size:.1f} GB of EVT2, {events:,} events")
    print("\n| command | peak MiB | s |\n|---|---|---|")
    cut = ("--clip-us", "1000000")
    for command in (
        ("info", path),
        ("convert", path, *cut, "--no-diffs"),
        ("convert", path, *cut),
        ("convert", both, *cut, "--workers", "1"),
        ("convert", both, *cut, "--workers", "2"),
    ):
        out = ("--out", folder / "store") if command[0] == "convert" else ()
        peak, seconds = common.tool_peak(*command, *out)
        shutil.rmtree(folder / "store", ignore_errors=True)
        print(f"| {' '.join(getattr(v, 'name', v) for v in command)} | {peak} | {seconds:.0f} |")
    recording = eventkit.open(path)
    last = events // EVENTS_A_HIGH * 64
    for turn in ("first", "second"):
        reset_peak()
        began = time.perf_counter()
        found = recording.between(last // 2, last // 2 + 100_000)
        spent = time.perf_counter() - began
        print(f"| between(), {turn} call, {len(found):,} events | {peak_mib():.0f} | {spent:.2f} |")


def main(*, gigabytes: float = 4.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        growth(Path(folder))
        memory(Path(folder), gigabytes=gigabytes)


if __name__ == "__main__":
    main()
