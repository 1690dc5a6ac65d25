"""Where a folder was made from, relative to it: a hint for `verify --deep`, in no hash."""

from __future__ import annotations

import os
from pathlib import Path

from eventkit.atomic import write_atomic
from eventkit.errors import SettingsError
from eventkit.samples import encode_json
from pipelines.receipts import HIDDEN, read_json

ORIGIN = f"{HIDDEN}/origin.json"


def note_origin(folder: Path, origin: Path) -> None:
    """Note where a folder is made from; the last place counts, as both may be moved."""
    content = {"origin": Path(os.path.relpath(origin.resolve(), folder.resolve())).as_posix()}
    if read_json(folder / ORIGIN) != content:
        write_atomic(folder / ORIGIN, encode_json(content))


def find_origin(folder: Path, given: Path | None, *, option: str) -> Path:
    """Return where a folder was made from: as given, or as noted.

    Raises
    ------
    SettingsError
        If there is no such folder; ``option`` is the cure.
    """
    noted = (read_json(folder / ORIGIN) or {}).get("origin")
    origin = given or (folder / str(noted) if noted else None)
    if origin is None or not origin.is_dir():
        got = "none is noted" if origin is None else f"{origin} is no folder"
        msg = f"{folder}: expected what it was made from for --deep, {got}; give {option}"
        raise SettingsError(msg)
    return origin
