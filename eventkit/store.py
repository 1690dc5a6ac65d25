"""The Zarr store: packs of clips of one shape, readable with plain zarr.

``<store>/<pack>.zarr`` is a group. Arrays with a clip axis first: ``events`` (n, T, C, H, W),
``diff_events``, ``diff_rgb``, and either ``rgb`` (n, T, H, W, C) pixels or the untouched image
files of a PNG/JPEG source as ``rgb_bytes`` with ``rgb_offsets`` and ``rgb_slot`` (n, T). With
``--raw-events`` also the events, ``raw_x``, ``raw_y``, ``raw_t`` and ``raw_p`` end to end; clip i
has those from ``raw_offsets[i]`` to ``raw_offsets[i + 1]``. Small columns: windows, exposures,
counts, labels. Names, splits and drops stand in the attributes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import DamageError, InvalidEventsError, MissingDataError
from eventkit.events import Events

ENCODING = {"encoding-type": "eventkit-pack", "encoding-version": "1"}
COLUMNS = (
    "window_us",
    "exposure_us",
    "rgb_index",
    "binned",
    "clipped",
    "decoded",
    "label",
    "has_events",
    "has_rgb",
)

RAW_DTYPES = {"x": "u2", "y": "u2", "t": "i8", "p": "i1"}


@dataclass(frozen=True, slots=True)
class StoredClip:
    """One clip read back; the arrays of `eventkit.clips.Clip` and the facts of the data set."""

    events: NDArray[Any]
    rgb: NDArray[np.uint8] | None
    encoded: tuple[bytes, ...] | None
    diff_events: NDArray[Any] | None
    diff_rgb: NDArray[Any] | None
    columns: dict[str, Any]
    facts: dict[str, Any]
    _raw: Callable[[], Events] | None = None

    @property
    def raw_events(self) -> Events:
        """The events of the clip, in its windows or not; read when asked for.

        Raises
        ------
        MissingDataError
            If the store was made without ``--raw-events``.
        """
        if self._raw is None:
            msg = "this store holds no events, only frames; convert again with --raw-events"
            raise MissingDataError(msg)
        return self._raw()


class Pack:
    """One pack opened for reading."""

    def __init__(self, path: Path) -> None:
        zarr = require("zarr", extra="zarr", purpose="reading the store")
        if not (path / "zarr.json").is_file():
            msg = f"{path}: expected a Zarr group, found none; run `eventkit convert` again"
            raise DamageError(msg)
        self.path = path
        with _damage_of(path):
            group = zarr.open_group(str(path), mode="r", zarr_format=3)
            self.attributes: dict[str, Any] = dict(group.attrs)
        if any(self.attributes.get(key) != value for key, value in ENCODING.items()):
            msg = f"{path}: expected {ENCODING}, got another layout or version"
            raise DamageError(msg)
        with _damage_of(path):
            # Opening an array reads its metadata from the disk: once, not once a clip.
            self._arrays = dict(group.arrays())
            self._columns = {name: self._arrays[name][...] for name in COLUMNS}
            if "rgb_bytes" in self._arrays:
                self._offsets = self._arrays["rgb_offsets"][...]
                self._slots = self._arrays["rgb_slot"][...]
            if "raw_t" in self._arrays:
                self._raw_offsets = self._arrays["raw_offsets"][...]
            self.facts: list[dict[str, Any]] = self.attributes["clips"]

    def __len__(self) -> int:
        return len(self.facts)

    def clip(self, i: int, *, with_diffs: bool = True) -> StoredClip:
        """Read clip ``i``: one inner chunk of each array, the differences only if wanted."""
        wanted = ("rgb", "diff_events", "diff_rgb") if with_diffs else ("rgb",)
        with _damage_of(self.path):
            read = {name: self._arrays[name][i] for name in wanted if name in self._arrays}
            events = self._arrays["events"][i]
            encoded = self._images(i) if "rgb_bytes" in self._arrays else None
        return StoredClip(
            events,
            read.get("rgb"),
            encoded,
            read.get("diff_events"),
            read.get("diff_rgb"),
            {name: values[i] for name, values in self._columns.items()},
            self.facts[i],
            partial(self._events, i) if "raw_t" in self._arrays else None,
        )

    def _events(self, i: int) -> Events:
        """Return the events of a clip, checked anew."""
        with _damage_of(self.path):
            span = slice(int(self._raw_offsets[i]), int(self._raw_offsets[i + 1]))
            columns = {name: self._arrays[f"raw_{name}"][span] for name in RAW_DTYPES}
        try:
            return Events(**columns)
        except InvalidEventsError as err:
            msg = f"{self.path} is damaged, clip {i}: {err}"
            raise DamageError(msg) from err

    def _images(self, i: int) -> tuple[bytes, ...]:
        """Return the T image files of a clip; a repeated one is read once."""
        found: dict[int, bytes] = {}
        for slot in {int(slot) for slot in self._slots[i]}:
            span = slice(int(self._offsets[slot]), int(self._offsets[slot + 1]))
            found[slot] = self._arrays["rgb_bytes"][span].tobytes()
        return tuple(found[int(slot)] for slot in self._slots[i])


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Name the pack where a checksum or the metadata is wrong; Zarr's own errors name no file."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError) as err:
        msg = f"{path} is damaged ({err}); `eventkit verify` names the file"
        raise DamageError(msg) from err


class Store:
    """All finished packs of a store, as one sequence of clips."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path = path
        self.names = names
        self._packs: dict[str, Pack] = {}
        self._lengths = [len(self.pack(name)) for name in names]

    def __len__(self) -> int:
        return sum(self._lengths)

    def pack(self, name: str) -> Pack:
        """Return a pack by name."""
        if name not in self._packs:
            self._packs[name] = Pack(self.path / f"{name}.zarr")
        return self._packs[name]

    def __getitem__(self, i: int) -> StoredClip:
        position = i + len(self) if i < 0 else i
        for name, length in zip(self.names, self._lengths, strict=True):
            if 0 <= position < length:
                return self.pack(name).clip(position)
            position -= length
        msg = f"clip {i} of {len(self)}"
        raise IndexError(msg)

    def __iter__(self) -> Iterator[StoredClip]:
        return (self[i] for i in range(len(self)))


def open_store(path: str | Path) -> Store:
    """Open a store that `eventkit convert` wrote; clips are read when asked for.

    Every file of every pack must be there at its recorded size: Zarr reads a missing chunk as
    zeros, which would look like "no events".

    Raises
    ------
    MissingDataError
        If it is no store or a pack is not finished.
    DamageError
        If a file is missing or has another size.
    """
    folder = Path(path)
    plan = folder / ".eventkit" / "plan.json"
    if not plan.is_file():
        msg = f"{folder}: expected a store of `eventkit convert`, found no .eventkit/plan.json"
        raise MissingDataError(msg)
    identity, packs = _read_entries(plan, "packs")
    names = [str(pack["name"]) for pack in packs]
    finished = []
    for name in names:
        receipt = folder / ".eventkit" / "receipts" / f"{name}.json"
        if not receipt.is_file():
            msg = f"{folder}: pack {name} is not finished; run the same `eventkit convert` again"
            raise MissingDataError(msg)
        owner, files = _read_entries(receipt, "files")
        if owner != identity:
            msg = f"{folder}: pack {name} is of another plan; run the same `eventkit convert` again"
            raise DamageError(msg)
        check_files(folder, files)
        if files:
            finished.append(name)
    return Store(folder, finished)


def _read_entries(path: Path, key: str) -> tuple[str | None, list[dict[str, Any]]]:
    """Return the plan id and a list of objects from a JSON file of ours."""
    try:
        content = json.loads(path.read_bytes())
        entries = content[key]
        if not all(isinstance(entry, dict) for entry in entries):
            raise TypeError(key)
    except (ValueError, KeyError, TypeError) as err:
        msg = f"{path}: expected a JSON object with {key!r}, got a damaged file; convert again"
        raise DamageError(msg) from err
    return content.get("plan_id"), list(entries)


def check_files(folder: Path, files: list[dict[str, Any]]) -> None:
    """Raise `DamageError` for the first file that is missing or has another size."""
    for entry in files:
        file = folder / entry["path"]
        size = file.stat().st_size if file.is_file() else None
        if size != entry["bytes"]:
            got = "it is missing" if size is None else f"got {size}"
            msg = f"{file}: expected {entry['bytes']} bytes, {got}; run `eventkit verify {folder}`"
            raise DamageError(msg)
