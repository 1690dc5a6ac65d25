"""Single files against what is noted of them, and files that nothing lists."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from eventkit.atomic import TEMPORARY
from eventkit.location import Location, RemotePath
from eventkit.samples import encode_json
from pipelines.receipts import HIDDEN, PLAN, hash_file, seal_holds
from pipelines.verify.verdict import Verdict

_OURS = ("lock", "origin.json", "scan.jsonl", "quarantine.jsonl", "too_many_bad.json")
_OURS_BELOW = ("running/", "lock/", "scan/")
REPORT = "report.html"


def check_files(
    folder: Location, files: Iterable[dict[str, Any]], *, noted_in: str, cure: str
) -> Iterator[str]:
    """Yield what is wrong with files by their path, bytes and sha256."""
    for entry in files:
        path = folder / entry["path"]
        if not path.is_file():
            yield f"{path}: missing; {cure}"
        elif path.stat().st_size != entry["bytes"]:
            yield f"{path}: expected {entry['bytes']} bytes, got {path.stat().st_size}; {cure}"
        elif hash_file(path) != entry["sha256"]:
            yield f"{path}: its sha256 is not the one in the {noted_in}; remove it, then {cure}"


def check_sealed(
    path: Location, *, cure: str, end: bytes = b""
) -> tuple[dict[str, Any], list[str]]:
    """Read an object that holds its own digest, byte for byte as it was written.

    Returns
    -------
    dict
        Empty if it cannot be trusted.
    list of str
        What is wrong.
    """
    if not path.is_file():
        return {}, [f"{path}: missing; {cure}"]
    data = path.read_bytes()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as err:
        return {}, [f"{path}: expected a JSON object, got a damaged file ({err}); {cure}"]
    if not isinstance(content, dict) or "digest" not in content:
        return {}, [f"{path}: expected an object with a digest of its content, got none; {cure}"]
    if not seal_holds(content):
        return {}, [f"{path}: its digest is not that of its content; {cure}"]
    if encode_json(content) + end != data:
        return {}, [f"{path}: expected the bytes of its content, got others; {cure}"]
    return content, []


def find_strays(
    folder: Location,
    *,
    listed: set[str],
    hidden: set[str],
    is_read: Callable[[str], bool],
    unlisted: Container[str] = (),
) -> Verdict:
    """Name files that nothing lists.

    Parameters
    ----------
    folder : Path or RemotePath
    listed : set of str
        Paths in it, relative, with ``/``.
    hidden : set of str
        Receipts and lists of its units, relative to ``.eventkit``.
    is_read : function of str
        Whether a reader of data would take a path for part of the set. Such a file is a problem,
        any other one a note; names that begin with a dot belong to other tools.
    unlisted : container of str
        Folders in it whose list is lost.
    """
    found = Verdict()
    for path in _walk(folder):
        if path in listed or path.split("/")[0] in unlisted or _is_ours(path, hidden):
            continue
        where = folder / path
        name = path.rsplit("/", 1)[-1]
        if name.startswith(TEMPORARY):
            found.problems.append(f"{where}: left by a run that was killed; run it again")
        elif path.startswith(f"{HIDDEN}/") or is_read(path):
            found.problems.append(f"{where}: nothing lists it; remove it")
        elif not any(part.startswith(".") for part in path.split("/")) and path != REPORT:
            found.notes.append(f"{where}: nothing lists it")
    return found


def _walk(folder: Location) -> Iterator[str]:
    if isinstance(folder, RemotePath):
        yield from (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        return
    for base, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            yield (Path(base) / name).relative_to(folder).as_posix()


def _is_ours(path: str, hidden: set[str]) -> bool:
    rest = path.removeprefix(f"{HIDDEN}/")
    if rest == path:
        return False
    return path == PLAN or rest in _OURS or rest in hidden or rest.startswith(_OURS_BELOW)
