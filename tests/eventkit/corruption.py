"""Read damaged files of one format, in a process of its own: what must not happen is its death.

``python corruption.py FORMAT,FORMAT... MODE SEED COUNT FOLDER`` prints the outcomes of each format
as JSON; the case at hand stands in ``FOLDER/turn``, for whoever finds the process dead.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
from format_files import FORMATS

import eventkit
from eventkit.errors import MissingDependencyError
from eventkit.events import Events
from eventkit.recording import OnError, Recording
from eventkit.testing.damage import Damage, damaged, forged_sizes
from eventkit.testing.reading import check_reading, read_all

POLICIES: tuple[OnError, ...] = ("raise", "skip", "repair")
MEMORY_BYTES = 512 << 20
"""Beside what the process holds after reading the sound file: a forged header takes no memory."""


class Case:
    """One format: its sound file, and how damaged ones are read and judged."""

    def __init__(self, name: str, folder: Path) -> None:
        self.kind = FORMATS[name]()
        self.folder = folder
        self.events = self.kind.events(120)
        self.path = folder / f"damaged{self.kind.suffix}"
        with tempfile.TemporaryDirectory(dir=folder) as there:
            self.whole = self.kind.written(self.events, Path(there)).read_bytes()
        self.size = None if self.kind.holds_geometry else self.kind.sensor_size

    def open(self, path: Path, on_error: OnError, *, named: bool = True) -> Recording:
        return eventkit.open(
            path,
            on_error=on_error,
            sensor_size=self.size,
            format=self.kind.format if named else None,
            **self.kind.options,
        )

    def check(self, damage: Damage, on_error: OnError, *, named: bool) -> str:
        """Read one damaged file; return how it ended."""
        self.path.write_bytes(damage.data)
        reading = read_all(lambda p, how: self.open(p, how, named=named), self.path, on_error)
        recording = reading.recording
        same = recording is None or recording.format == self.kind.format
        check_reading(
            reading,
            self.path,
            on_error=on_error,
            max_events_per_byte=self.kind.max_events_per_byte if same else None,
        )
        if on_error == "raise" and same and recording is not None:
            self._check_prefix(damage, reading.events, recording.t_offset_us)
        if reading.error is not None:
            return type(reading.error).__name__
        return "read" if len(reading.events) else "read as empty"

    def _check_prefix(self, damage: Damage, found: Events, offset_us: int) -> None:
        """What stands before the damage, and is handed on, is right."""
        if not len(found):
            return
        self.path.write_bytes(self.whole[: damage.at])
        before = read_all(self.open, self.path, "skip")
        n = min(len(before.events), len(found))
        if before.recording is None or before.recording.t_offset_us != offset_us:
            return
        assert found[:n] == before.events[:n], f"{n} events before the damage are not right"


def damages(case: Case, mode: str, seed: int, count: int) -> Iterator[tuple[int, Damage]]:
    """Yield numbered damages: drawn ones, or every forged size (``count`` of them, evenly)."""
    if mode == "drawn":
        for turn in range(count):
            yield turn, damaged(case.whole, np.random.default_rng([seed, turn]))
        return
    step = max(1, sum(1 for _ in forged_sizes(case.whole)) // count)
    yield from islice(enumerate(forged_sizes(case.whole)), 0, None, step)


def run(name: str, mode: str, seed: int, count: int, folder: Path) -> dict[str, Any]:
    """Read ``count`` damaged files; raises with the number of the case that went wrong."""
    case = Case(name, folder)
    outcomes: Counter[str] = Counter()
    mark = os.open(folder / "turn", os.O_CREAT | os.O_WRONLY)
    for turn, damage in damages(case, mode, seed, count):
        on_error = POLICIES[turn % 3]
        os.pwrite(mark, f"{name} {mode} {seed} {turn:<20}".encode(), 0)
        try:
            outcomes[case.check(damage, on_error, named=turn % 4 != 3)] += 1
        except Exception as err:
            msg = (
                f"{name}, {mode}, seed {seed}, turn {turn}: {damage.kind} at byte {damage.at}, "
                f"on_error={on_error}: {type(err).__name__}: {err}"
            )
            raise AssertionError(msg) from err
    os.close(mark)
    return {"outcomes": dict(outcomes), "files": outcomes.total()}


def warm_up(name: str, folder: Path) -> None:
    """Read the sound file, so that all is imported and compiled before memory is limited."""
    case = Case(name, folder)
    case.path.write_bytes(case.whole)
    for on_error in POLICIES:
        _ = case.open(case.path, on_error).events


def limit_memory() -> None:
    """Allow little more memory than the process has now."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        held = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES, held + MEMORY_BYTES))


def main() -> None:
    names, mode, seed, count, folder = sys.argv[1:]
    found: dict[str, Any] = {}
    for name in names.split(","):
        try:
            warm_up(name, Path(folder))
        except (SkipTest, MissingDependencyError) as err:
            found[name] = {"skipped": str(err)}
    limit_memory()
    for name in names.split(","):
        if name not in found:
            found[name] = run(name, mode, int(seed), int(count), Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
