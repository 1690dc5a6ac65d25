"""What a scan noted, a line a recording, so that a scan that was stopped goes on.

Lines are appended as results come in. At the end they are brought into the order of the recordings:
the file is the same after any number of crashes. It holds times of change, so it is not the same
for another copy of the raw folder, and belongs to no hash. To an object nothing can be appended:
behind a URL what came in is put as a further object every `PUT_S`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from eventkit.location import Location, RemotePath
from eventkit.samples import encode_json
from pipelines.briefly import briefly
from pipelines.put import building
from pipelines.receipts import HIDDEN
from pipelines.scratch import on_disk

SCAN_FILE = f"{HIDDEN}/scan.jsonl"
PUT_S = 30.0
_PARTS = f"{HIDDEN}/scan"
_END_S = 1.0
"""How long a scan that was interrupted tries to keep what it has found since the last put."""


def kept_scans(folder: Location | None) -> dict[str, dict[str, Any]]:
    """Return stamp -> result of every recording that was looked at for a store."""
    if folder is None:
        return {}
    return {entry.pop("stamp"): entry for entry in _entries(folder)}


@contextmanager
def noting(folder: Location) -> Iterator[Callable[[bytes], None]]:
    """Give what appends a line to the notes of a scan."""
    if isinstance(folder, RemotePath):
        yield from _to_parts(folder)
        return
    (folder / HIDDEN).mkdir(parents=True, exist_ok=True)
    with (folder / SCAN_FILE).open("ab") as file:

        def append(line: bytes) -> None:
            file.write(line)
            file.flush()

        yield append


def _to_parts(folder: RemotePath) -> Iterator[Callable[[bytes], None]]:
    waiting: list[bytes] = []
    number, last = len(_parts(folder)), time.monotonic()

    def put_all() -> None:
        nonlocal number, last
        (folder / _PARTS / f"{number:06d}.jsonl").write_bytes(b"".join(waiting))
        waiting.clear()
        number, last = number + 1, time.monotonic()

    def append(line: bytes) -> None:
        waiting.append(line)
        if time.monotonic() - last > PUT_S:
            put_all()

    try:
        yield append
    except BaseException as err:
        if waiting:
            interrupted = not isinstance(err, Exception)
            briefly(put_all, seconds=_END_S if interrupted else PUT_S)
        raise
    if waiting:
        put_all()


def _parts(folder: Location) -> list[RemotePath]:
    return list((folder / _PARTS).rglob("*")) if isinstance(folder, RemotePath) else []


def scan_line(stamp: str, result: Mapping[str, Any]) -> bytes:
    """Return a line of the file."""
    return encode_json({"stamp": stamp, **result}) + b"\n"


def put_in_order(folder: Location, scans: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the notes of a finished scan in its order; those of other files and settings stay.

    Parameters
    ----------
    folder : Path or RemotePath
    scans : mapping stamp -> result
        In order.
    """
    # A line at a time: all of them once more would double the memory of a large scan.
    others = {e.pop("stamp"): e for e in _entries(folder) if e["stamp"] not in scans}
    with building(folder / SCAN_FILE) as temporary, temporary.open("wb") as file:
        file.writelines(scan_line(stamp, result) for stamp, result in scans.items())
        file.writelines(scan_line(stamp, others[stamp]) for stamp in sorted(others))
    for part in _parts(folder):
        part.unlink(missing_ok=True)


def _entries(folder: Location) -> Iterator[dict[str, Any]]:
    for file in (folder / SCAN_FILE, *_parts(folder)):
        yield from _lines(file)


def _lines(path: Location) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with on_disk(path) as here, here.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a killed scan
                continue
            if isinstance(entry, dict) and "stamp" in entry:
                yield entry
