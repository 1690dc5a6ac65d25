"""Writing to where a set is kept: on a disk by a rename, behind a URL by one put.

Either way a reader finds the old content or the new one, whole. What is made of many parts, a tar
or a pack, is made on this machine first and put when it is there; a put that fails leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventkit.atomic import committed, make_folder, sync_folder, write_atomic
from eventkit.faults import at
from eventkit.location import Location, RemotePath
from pipelines.scratch import scratch_folder


def put(path: Location, data: bytes) -> None:
    """Write a file or object; its folder is made."""
    if isinstance(path, Path):
        write_atomic(path, data)
        return
    at("rename")
    path.write_bytes(data)
    at("folder")


def put_unless_there(path: Location, data: bytes) -> bool:
    """Write a file or object that nobody else writes; returns whether ``data`` stands there now.

    Behind a URL the store decides between several that put at a time. On a disk the caller holds
    what they take turns with, and what is there is replaced.
    """
    if isinstance(path, Path):
        write_atomic(path, data)
        return True
    at("rename")
    ours = path.create(data)
    at("folder")
    return ours


@contextmanager
def building(path: Location) -> Iterator[Path]:
    """Give the name of a file to write; at the end of the block it gets to its place.

    After an error nothing of it is left.
    """
    if isinstance(path, Path):
        make_folder(path.parent)
        with committed(path) as temporary:
            yield temporary
        return
    with scratch_folder() as folder:
        file = folder / path.name
        yield file
        at("rename")
        path.take(file)
        at("folder")


@contextmanager
def workplace(folder: Location) -> Iterator[Path]:
    """Give the folder of this machine that parts of ``folder`` are made in: itself, on a disk."""
    if isinstance(folder, Path):
        yield folder
        return
    with scratch_folder() as here:
        yield here


def bring(here: Path, folder: Location, files: Iterable[Mapping[str, Any]], *, below: str) -> None:
    """Put what was made in a workplace; what else lies under ``folder/below`` goes.

    Parameters
    ----------
    here : Path
        What `workplace` gave.
    folder : Path or RemotePath
    files : iterable of mapping
        With the ``path`` of each.
    below : str
    """
    if not isinstance(folder, RemotePath):
        return
    names = [str(entry["path"]) for entry in files]
    for name in names:
        at("rename")
        (folder / name).take(here / name)
    left = {path.relative_to(folder).as_posix() for path in (folder / below).rglob("*")}
    for name in sorted(left.difference(names)):  # of an attempt with another outcome
        (folder / name).unlink(missing_ok=True)
    at("folder")


def take_away(path: Location) -> None:
    """Remove a file or object, if it is there, for good."""
    if isinstance(path, RemotePath):
        path.unlink(missing_ok=True)
    elif path.exists():
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
