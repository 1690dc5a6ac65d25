"""Where a folder was made from, relative to it: a hint for `verify --deep`, in no hash."""

from __future__ import annotations

import os
from pathlib import Path

from eventkit.errors import SettingsError
from eventkit.location import Location, RemotePath, location
from eventkit.samples import encode_json
from pipelines.put import put
from pipelines.receipts import HIDDEN, read_json

ORIGIN = f"{HIDDEN}/origin.json"


def note_origin(folder: Location, origin: Location) -> None:
    """Note where a folder is made from; the last place counts, as both may be moved."""
    content = {"origin": _way(folder.resolve(), origin.resolve())}
    if read_json(folder / ORIGIN) != content:
        put(folder / ORIGIN, encode_json(content))


def _way(folder: Location, origin: Location) -> str:
    """Return the way from one to the other; from a disk to a URL or back there is only a name."""
    if isinstance(folder, Path) and isinstance(origin, Path):
        return Path(os.path.relpath(origin, folder)).as_posix()
    return origin.as_posix()


def find_origin(folder: Location, given: Location | None, *, option: str) -> Location:
    """Return where a folder was made from: as given, or as noted.

    Raises
    ------
    SettingsError
        If there is no such folder; ``option`` is the cure.
    """
    noted = (read_json(folder / ORIGIN) or {}).get("origin")
    origin = given or (_follow(folder, str(noted)) if noted else None)
    if origin is None or not origin.is_dir():
        got = "none is noted" if origin is None else f"{origin} is no folder"
        msg = f"{folder}: expected what it was made from for --deep, {got}; give {option}"
        raise SettingsError(msg)
    return origin


def _follow(folder: Location, way: str) -> Location:
    named = location(way)
    if isinstance(named, RemotePath) or named.is_absolute():
        return named
    return folder / way
