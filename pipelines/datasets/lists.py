"""Three-column list files: PokerEvent, HARDVS, N-MNIST pairs.

One recording a line, ``<path without suffix> <number of frames> <label id>``; the path usually is
``<class folder>/<recording>``. Class names come from the class folders where name and id go
together one to one, else they are the ids.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from eventkit.location import Location
from pipelines.datasets.faults import Refuse, SetFault, at_once

SPLITS = ("train", "val", "test")
LINE = "<recording> <frames> <label>"
MAX_LIST_BYTES = 1 << 28
"""3,000,000 recordings at 85 characters each."""
_LONGEST_LINE = 1 << 14
_FRAMES = re.compile(r"-?[0-9]+")
_LABEL = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list file."""

    path: str
    label: int
    split: str
    where: str


def find_lists(root: Location) -> dict[str, Location]:
    """Return split -> list file: ``train_label.txt`` or ``train.txt``, and so on."""
    found: dict[str, Location] = {}
    for split in SPLITS:
        for name in (f"{split}_label.txt", f"{split}.txt"):
            path = root / name
            if path.is_file() and split not in found:
                found[split] = path
    return found


def read_list(path: Location, split: str, *, refuse: Refuse = at_once) -> list[Entry]:
    """Read one list file.

    Parameters
    ----------
    path : Location
    split : str
    refuse : callable
        Is given a `SetFault` for a line that has not three columns or a label that is no number,
        for a file without lines, and for one that is too large to be a list; names file and line.
    """
    entries = []
    for number, line in numbered_lines(path, refuse, wanted=LINE):
        cells = line.rsplit(None, 2)
        if len(cells) != 3 or not _FRAMES.fullmatch(cells[1]) or not _LABEL.fullmatch(cells[2]):
            got = shown(line)
            msg = f"{path}:{number}: expected '{LINE}', got {got}"
            refuse(SetFault(msg, reason="bad_line", where=f"{path.name}:{number}"))
            continue
        name = str(PurePosixPath(cells[0].strip().replace("\\", "/")))
        entries.append(Entry(name, int(cells[2]), split, f"{path.name}:{number}"))
    if not entries:
        msg = f"{path}: expected lines '{LINE}', the file is empty"
        refuse(SetFault(msg, reason="bad_line", where=path.name))
    return entries


def shown(line: str) -> str:
    """Return a line as messages show it."""
    got = line.strip()
    return f"{got[:200]!r}..." if len(got) > 200 else repr(got)


def numbered_lines(path: Location, refuse: Refuse, *, wanted: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines that hold anything, in memory for one of them.

    Parameters
    ----------
    path : Location
    refuse : callable
        Is given a `SetFault` for a file or a line that is too large for a list.
    wanted : str
        What a line is to be, for messages.
    """
    size = path.stat().st_size
    if size > MAX_LIST_BYTES:
        msg = f"{path}: expected a list of at most {MAX_LIST_BYTES:,} bytes, got {size:,}; cut it"
        refuse(SetFault(msg, reason="bad_line", where=path.name))
        return
    with io.TextIOWrapper(path.open("rb"), encoding="utf-8-sig", errors="replace") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE and line[-1] != "\n":
                msg = (
                    f"{path}:{number}: expected '{wanted}', got a line of "
                    f"{_LONGEST_LINE:,} characters or more; is it a list?"
                )
                refuse(SetFault(msg, reason="bad_line", where=f"{path.name}:{number}"))
                return
            if line.strip():
                yield number, line


def class_names(entries: list[Entry]) -> dict[int, str]:
    """Return label id -> name."""
    folders: dict[int, set[str]] = {}
    for entry in entries:
        folders.setdefault(entry.label, set()).add(PurePosixPath(entry.path).parent.name)
    one_each = all(len(names) == 1 and "" not in names for names in folders.values())
    distinct = len({name for names in folders.values() for name in names}) == len(folders)
    if one_each and distinct:
        return {label: next(iter(folders[label])) for label in sorted(folders)}
    return {label: str(label) for label in sorted(folders)}
