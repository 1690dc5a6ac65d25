"""Whole files into arrays: EVT2, EVT3, DAT, and EVT3 to 8 frames, beside others; one thread.

The files are real recordings, repeated: TIME_HIGH words, or the times of DAT, are moved on so
that every tile goes on where the last one ended. They are read from the page cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np

import eventkit
from eventkit.columns import Columns
from eventkit.readers.prophesee.header import parse
from eventkit.sources import Source

DATA = Path(__file__).resolve().parents[2] / "shared/data"
HD = (1280, 720)
# What, target into fresh arrays, target into reused ones; None where only fresh ones are promised.
TARGETS: dict[str, dict[str, tuple[float, float | None]]] = {
    "evt2": {"expelliarmus": (1.4, 2.7), "evutils": (1.0, None)},
    "evt3": {"evt3": (1.6, 2.4), "evutils": (1.2, None)},
    "dat": {"expelliarmus": (1.3, 1.8)},
}


def _tiled(words: np.ndarray, shift: int, mask: int, times: int) -> Iterator[np.ndarray]:
    """Repeat EVT words from the first TIME_HIGH (kind 8 above ``shift``) on."""
    words = words[int(np.argmax(words >> shift == 8)) :]
    high = words >> shift == 8
    raw = (words[high] & mask).astype(np.int64)
    half = (mask + 1) // 2
    steps = int(((np.diff(raw) + half) % (mask + 1) - half).sum()) + 1
    for k in range(times):
        tile = words.copy()
        tile[high] = 8 << shift | ((raw + k * steps) & mask)
        yield tile


def _evt(folder: Path, name: str, dtype: str, shift: int, mask: int, times: int) -> Path:
    raw = (DATA / "evt" / name).read_bytes()
    size = parse(Source(DATA / "evt" / name)).size
    path = folder / name
    whole = (len(raw) - size) // np.dtype(dtype).itemsize
    with path.open("wb") as file:
        file.write(raw[:size])
        words = np.frombuffer(raw, dtype, whole, size)
        for tile in _tiled(words, shift, mask, times):
            file.write(tile.data)
    return path


def _dat(folder: Path, times: int) -> Path:
    source = DATA / "dat/same_recording_as_evt3_1280x720.dat"
    raw, records = source.read_bytes(), len(eventkit.open(source).events)
    words = np.frombuffer(raw, "<u4", offset=len(raw) - 8 * records).reshape(-1, 2)
    span = int(words[-1, 0]) - int(words[0, 0]) + 1
    path = folder / source.name
    with path.open("wb") as file:
        file.write(raw[: len(raw) - 8 * records])
        for k in range(times):
            file.write((words + np.array([k * span, 0], np.uint32)).astype("<u4").data)
    return path


def rows_of(kind: str, path: Path) -> common.Rows:
    """Return a row for every library that reads the format; each gives all events."""
    kept = Columns.empty(len(eventkit.open(path).events))
    for column in kept:
        column.fill(0)  # first touch of its pages
    rows: common.Rows = {
        "eventkit": lambda: eventkit.open(path).load(),
        "eventkit, reused": lambda: eventkit.open(path).load(out=kept),
    }
    # Its EVT3 times are wrong, so that its speed there says nothing.
    if kind != "evt3" and common.peer("expelliarmus"):
        from expelliarmus import Wizard

        rows["expelliarmus"] = lambda: Wizard(kind).read(str(path))
    if kind == "evt3" and (evt3 := common.peer("evt3")):
        rows["evt3"] = lambda: evt3.decode_file(str(path))
    if common.peer("evutils"):
        from evutils.io import EventReader

        rows["evutils"] = lambda: EventReader(str(path)).read_all()
    return rows


def frame_rows(path: Path) -> common.Rows:
    """Return rows of EVT3 file to 8 count frames."""
    rows: common.Rows = {
        "eventkit": lambda: eventkit.count_frames(
            eventkit.open(path).load(), sensor_size=HD, bins=8
        )
    }
    if common.peer("expelliarmus") and common.peer("tonic"):
        from expelliarmus import Wizard
        from tonic.transforms import ToFrame

        frame = ToFrame((*HD, 2), n_time_bins=8)
        rows["expelliarmus + tonic"] = lambda: frame(Wizard("evt3").read(str(path)))
    return rows


def main(report: common.Report, *, rounds: int = 9) -> None:
    if not DATA.is_dir():
        print(f"left out: decoders (real recordings are not here: {DATA})")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made: dict[str, Callable[[], Path]] = {
            "evt2": lambda: _evt(folder, "evt2_640x480.raw", "<u4", 28, 0xFFFFFFF, 12),
            "evt3": lambda: _evt(folder, "evt3_1280x720.raw", "<u2", 12, 0xFFF, 6),
            "dat": lambda: _dat(folder, 6),
        }
        for kind, make in made.items():
            path = make()
            ratios = common.compare(
                f"decode {kind}", rows_of(kind, path), against="eventkit", rounds=rounds
            )
            reused = ratios["eventkit, reused"]
            for beside, (fresh, kept) in TARGETS[kind].items():
                got: Any = ratios.get(beside)
                report.add(f"decode {kind}", beside, "fresh arrays", got, fresh)
                if kept is not None:
                    again = None if got is None else got / reused
                    report.add(f"decode {kind}", beside, "reused arrays", again, kept)
        ratios = common.compare(
            "EVT3 file to 8 frames",
            frame_rows(DATA / "evt/evt3_1280x720.raw"),
            against="eventkit",
            rounds=rounds,
        )
        both = ratios.get("expelliarmus + tonic")
        report.add("EVT3 to 8 frames", "expelliarmus + tonic", "real", both, 9)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
