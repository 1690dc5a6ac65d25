"""Three-column list files: PokerEvent, HARDVS, N-MNIST pairs.

One recording a line, ``<path without suffix> <number of frames> <label id>``; the path usually is
``<class folder>/<recording>``. Class names come from the class folders where name and id go
together one to one, else they are the ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from eventkit.errors import SettingsError

SPLITS = ("train", "val", "test")
_FRAMES = re.compile(r"-?[0-9]+")
_LABEL = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list file."""

    path: str
    label: int
    split: str
    where: str


def find_lists(root: Path) -> dict[str, Path]:
    """Return split -> list file: ``train_label.txt`` or ``train.txt``, and so on."""
    found: dict[str, Path] = {}
    for split in SPLITS:
        for name in (f"{split}_label.txt", f"{split}.txt"):
            path = root / name
            if path.is_file() and split not in found:
                found[split] = path
    return found


def read_list(path: Path, split: str) -> list[Entry]:
    """Read one list file.

    Raises
    ------
    SettingsError
        For a line that has not three columns or a label that is no number; names file and line.
    """
    entries = []
    for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        cells = line.rsplit(None, 2)
        if len(cells) != 3 or not _FRAMES.fullmatch(cells[1]) or not _LABEL.fullmatch(cells[2]):
            msg = f"{path}:{number}: expected '<recording> <frames> <label>', got {line.strip()!r}"
            raise SettingsError(msg)
        name = str(PurePosixPath(cells[0].strip().replace("\\", "/")))
        entries.append(Entry(name, int(cells[2]), split, f"{path.name}:{number}"))
    if not entries:
        msg = f"{path}: expected lines '<recording> <frames> <label>', the file is empty"
        raise SettingsError(msg)
    return entries


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
