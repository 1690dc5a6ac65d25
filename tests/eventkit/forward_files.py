"""Compressed files that refuse a step back, for which all would be inflated once more."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import pytest

from eventkit.sources import Source


class Forward:
    """An open file whose next place is never before the last one."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def seek(self, offset: int) -> int:
        at = self._file.tell()
        assert offset >= at, f"a step back from byte {at} to {offset}"
        return int(self._file.seek(offset))


def forbid_steps_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let what is compressed be read forwards only; return the list of what is opened from then."""
    opened = Source.open
    names: list[str] = []

    def forward(self: Source) -> Any:
        if not self.is_sequential:
            return opened(self)
        names.append(self.name)
        return Forward(opened(self))

    monkeypatch.setattr(Source, "open", forward)
    return names


def packed(path: Path, kind: str) -> str | Path:
    """Pack a file as ``gz`` or ``zip``, or leave it ``plain``; return the name to open it by."""
    if kind == "gz":
        there = path.with_name(f"{path.name}.gz")
        there.write_bytes(gzip.compress(path.read_bytes(), 1))
        return there
    if kind == "zip":
        with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
        return f"zip://{path.name}::{path.with_suffix('.zip')}"
    return path
