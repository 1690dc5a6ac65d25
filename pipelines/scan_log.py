"""What a scan noted, a line a recording, so that a scan that was stopped goes on.

Lines are appended as results come in. At the end they are brought into the order of the recordings:
the file is the same after any number of crashes. It holds times of change, so it is not the same
for another copy of the raw folder, and belongs to no hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eventkit.atomic import committed
from eventkit.samples import encode_json
from pipelines.receipts import HIDDEN

SCAN_FILE = f"{HIDDEN}/scan.jsonl"


def kept_scans(folder: Path | None) -> dict[str, dict[str, Any]]:
    """Return stamp -> result of every recording that was looked at for a store."""
    if folder is None:
        return {}
    return {entry.pop("stamp"): entry for entry in _lines(folder / SCAN_FILE)}


def scan_line(stamp: str, result: Mapping[str, Any]) -> bytes:
    """Return a line of the file."""
    return encode_json({"stamp": stamp, **result}) + b"\n"


def put_in_order(folder: Path, scans: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the notes of a finished scan in its order; those of other files and settings stay.

    Parameters
    ----------
    folder : Path
    scans : mapping stamp -> result
        In order.
    """
    kept = kept_scans(folder)
    others = sorted(kept.keys() - scans.keys())
    with committed(folder / SCAN_FILE) as temporary, temporary.open("wb") as file:
        file.writelines(scan_line(stamp, result) for stamp, result in scans.items())
        file.writelines(scan_line(stamp, kept[stamp]) for stamp in others)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a killed scan
                continue
            if isinstance(entry, dict) and "stamp" in entry:
                yield entry
