"""Damaged files of every format: a right prefix or one of our errors, and the process lives.

What the long version reads, a million files, is printed at its end.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption import POLICIES, Case, damages, warm_up
from format_files import FORMATS, small_file

import eventkit
import eventkit.warmup
from eventkit.errors import FormatError

FULL = os.environ.get("EVENTKIT_LONG", "full") == "full"
SEED = int(os.environ.get("EVENTKIT_SEED", "0"))
WORKER = Path(__file__).with_name("corruption.py")

# Written and read by libraries, at 5 to 20 ms a file; the others take 1 to 2 ms.
SLOW = {"hdf5dsec", "hdf5xs", "hdf5ecf", "mcap", "ros2db3", "parquet", "npz", "mat", "aedat4"}
FILES = 1_000_000 if FULL else 10_000
SLOW_FILES = 10_000 if FULL else 100
BATCH = 10_000
FORGED = 1 << 20 if FULL else 300
HOLE_BYTES = 1 << 25


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """A damaged header may lead to a kernel that no sound file has met: 2.5 s of compiling."""
    eventkit.warmup.warm_up()


def read_damaged(
    names: list[str], mode: str, seed: int, count: int, folder: Path
) -> dict[str, Any]:
    """Run the worker; return what came of each format."""
    command = [sys.executable, WORKER, ",".join(names), mode, str(seed), str(count), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1400, check=False)
    turn = folder / "turn"
    last = turn.read_text() if turn.is_file() else "none was read"
    assert done.returncode == 0, f"ended with {done.returncode} at {last}: {done.stderr[-3000:]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("mode", ["drawn", "forged"])
def test_a_slice_of_damaged_files_of_every_format(tmp_path: Path, mode: str) -> None:
    found = read_damaged(list(FORMATS), mode, SEED, 60, tmp_path)

    read = {name: result for name, result in found.items() if "skipped" not in result}
    assert len(read) >= 8
    for name, result in read.items():
        assert result["files"] >= 60, name


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_ends_in_a_hole_is_passed_over_or_refused(tmp_path: Path, name: str) -> None:
    """A sound beginning, then a hole: what a download that was reserved and not filled leaves."""
    path, _ = small_file(name, tmp_path)
    head = path.read_bytes()[:300]
    path.write_bytes(head)
    with path.open("rb+") as file:
        file.truncate(HOLE_BYTES)

    begun = time.process_time()
    kind = FORMATS[name]
    size = None if kind.holds_geometry else kind.sensor_size
    events = 0
    try:
        recording = eventkit.open(
            path, on_error="skip", format=kind.format, sensor_size=size, **kind.options
        )
        for chunk in recording.stream():
            events += len(chunk.events)
            if time.process_time() - begun > 1:
                break  # zeros are events of some formats, and there are many of them
    except eventkit.EventKitError:
        pass

    assert time.process_time() - begun < 10


@pytest.fixture(scope="module")
def totals(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Files read of each format; printed at the end, captured or not."""
    counts: Counter[str] = Counter()
    yield counts
    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        print(
            f"\ncorruption: {counts.total():,} damaged files of {len(counts)} formats, seed {SEED}"
        )
        for name, number in sorted(counts.items()):
            print(f"  {name:10} {number:>9,}")


@pytest.mark.long
@pytest.mark.parametrize("name", FORMATS)
def test_many_damaged_files(name: str, tmp_path: Path, totals: Counter[str]) -> None:
    fast = len(FORMATS.keys() - SLOW)
    share = SLOW_FILES if name in SLOW else -(-(FILES - SLOW_FILES * len(SLOW)) // fast)
    for batch, start in enumerate(range(0, share, BATCH)):
        count = min(BATCH, share - start)
        result = read_damaged([name], "drawn", 1000 * SEED + batch, count, tmp_path)[name]
        if "skipped" in result:
            pytest.skip(result["skipped"])
        totals[name] += result["files"]
    totals[name] += read_damaged([name], "forged", SEED, FORGED, tmp_path)[name]["files"]


def test_swapped_records_are_named_dropped_or_moved_up(tmp_path: Path) -> None:
    """What each policy makes of it, said in numbers for a format of whole records."""
    path, events = small_file("dat", tmp_path)
    data = path.read_bytes()
    start = len(data) - 8 * len(events)
    i = int(np.argmax(np.diff(events.t) > 0))
    a = start + 8 * i
    path.write_bytes(data[:a] + data[a + 8 : a + 16] + data[a : a + 8] + data[a + 16 :])

    with pytest.raises(FormatError) as caught:
        _ = eventkit.open(path).events
    skipped, repaired = (eventkit.open(path, on_error=how) for how in ("skip", "repair"))

    assert caught.value.offset == a + 8
    assert skipped.ledger.dropped == {"jitter": 1}
    assert len(skipped.events) == len(events) - 1
    assert repaired.ledger.repaired == {"jitter": 1}
    assert len(repaired.events) == len(events)


def test_a_repeated_block_costs_what_is_there_twice(tmp_path: Path) -> None:
    path, events = small_file("dat", tmp_path, n=3_000, span_us=3_000_000)
    data = path.read_bytes()
    start = len(data) - 8 * len(events)
    a, b = start + 8 * 500, start + 8 * 700
    path.write_bytes(data[:b] + data[a:b] + data[b:])

    recording = eventkit.open(path, on_error="skip")

    assert recording.ledger.decoded == 3_200
    assert sum(recording.ledger.dropped.values()) >= 199
    assert recording.events[:700] == events[:700]
    assert recording.events[-2_300:] == events[-2_300:]


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_read_goes_with_its_error(tmp_path: Path, name: str) -> None:
    """An error that is kept with its traceback would keep 13 MB of columns until a collection."""
    warm_up(name, tmp_path)
    case = Case(name, tmp_path)
    left: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        for turn, damage in damages(case, "drawn", SEED, 30):
            case.check(damage, POLICIES[turn % 3], named=True)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left.update(type(it).__name__ for it in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert not {"EventStream", "Source", "FormatError", "Cleaner"} & left.keys(), left
