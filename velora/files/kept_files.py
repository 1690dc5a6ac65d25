"""Finished files take their place at once, and never that of something else."""

from __future__ import annotations

import filecmp
import os
from dataclasses import dataclass
from pathlib import Path

from eventkit.atomic import replaced
from eventkit.errors import SettingsError


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Where files or folders lie now; ``unchanged`` says that they lay there before."""

    paths: tuple[Path, ...]
    num_bytes: int
    unchanged: bool


def keep(folder: Path, out: Path) -> Kept:
    """Move all that lies in ``folder`` beside ``out``; what is there already must be the same.

    Raises
    ------
    SettingsError
        If a file of the name is another one; nothing is moved then.
    """
    names = sorted(path.name for path in folder.iterdir())
    targets = tuple(out.with_name(name) for name in names)
    num_bytes = sum(file.stat().st_size for name in names for file in _files(folder / name))
    there = [target for target in targets if target.exists()]
    if there:
        if not all(_same(folder / target.name, target) for target in targets):
            msg = f"{there[0]} is there already and is another; choose another --out or delete it"
            raise SettingsError(msg)
        return Kept(paths=targets, num_bytes=num_bytes, unchanged=True)
    with replaced(*targets) as places:
        for name, place in zip(names, places, strict=True):
            os.replace(folder / name, place)
    return Kept(paths=targets, num_bytes=num_bytes, unchanged=False)


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _same(a: Path, b: Path) -> bool:
    if a.is_dir() != b.is_dir() or not b.exists():
        return False
    ours, theirs = _files(a), _files(b)
    return [p.relative_to(a) for p in ours] == [p.relative_to(b) for p in theirs] and all(
        filecmp.cmp(x, y, shallow=False) for x, y in zip(ours, theirs, strict=True)
    )
