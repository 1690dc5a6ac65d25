"""What the tars hold by the standard library alone: the truth that every reader is held against."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard

SUFFIX = {"gz": "npy.gz", "raw": "npy", "zst": "npy.zst"}


@dataclass
class Row:
    """One sample."""

    label: int
    sum: int
    shape: tuple[int, ...]
    members: dict[str, bytes]


def unpack(data: bytes, suffix: str) -> np.ndarray:
    if suffix.endswith(".gz"):
        data = gzip.decompress(data)
    elif suffix.endswith(".zst"):
        data = zstandard.ZstdDecompressor().decompress(data)
    return np.load(io.BytesIO(data))


@dataclass
class Truth:
    """One set."""

    name: str
    path: Path
    manifest: dict

    @property
    def field(self) -> str:
        return f"events.{SUFFIX[self.name]}"

    @property
    def picture(self) -> str:
        return next(m for m in self.manifest["members"] if m.startswith("rgb00"))

    def tars(self, split: str) -> list[Path]:
        return sorted((self.path / split).glob("*.tar"))

    def rows(self, split: str) -> dict[str, Row]:
        """Return key -> sample, in the order of the tars."""
        members: dict[str, dict[str, bytes]] = {}
        for path in self.tars(split):
            with tarfile.open(path) as tar:
                for info in tar:
                    key, _, suffix = info.name.partition(".")
                    members.setdefault(key, {})[suffix] = tar.extractfile(info).read()
        found = {}
        for key, parts in members.items():
            events = unpack(parts[self.field], self.field)
            found[key] = Row(int(parts["cls"]), int(events.sum()), events.shape, parts)
        return found
