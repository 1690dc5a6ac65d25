"""The Zarr store: packs of clips of one shape, readable with plain zarr.

``<store>/<pack>.zarr`` is a group. Arrays with a clip axis first: ``events`` (n, T, C, H, W),
``diff_events``, ``diff_rgb``, and either ``rgb`` (n, T, H, W, C) pixels or the untouched image
files of a PNG/JPEG source as ``rgb_bytes`` with ``rgb_offsets`` and ``rgb_slot`` (n, T). With
``--raw-events`` also the events, ``raw_x``, ``raw_y``, ``raw_t`` and ``raw_p`` end to end; clip i
has those from ``raw_offsets[i]`` to ``raw_offsets[i + 1]``. Small columns: windows, exposures,
counts, labels. Names, splits and drops stand in the attributes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError, MissingDataError
from eventkit.guarded_array import cure_of
from eventkit.location import Location, location, now
from eventkit.pack_layout import COLUMNS as COLUMNS
from eventkit.pack_layout import ENCODING as ENCODING
from eventkit.pack_layout import RAW_DTYPES as RAW_DTYPES
from eventkit.pack_layout import check_version
from eventkit.pack_reader import Pack as Pack
from eventkit.pack_reader import StoredClip as StoredClip
from eventkit.parts import near
from eventkit.samples import encode_json
from eventkit.stored_clips import Clips, some

STORE_VERSION = 1
"""Of the plan and the receipts; the packs have `eventkit.pack_layout.PACK_VERSION`."""

_HIDDEN = ".eventkit"
_KEPT = 128
"""Packs that stay open: what is known of the clips of one takes up to a megabyte."""
_AGAIN = "run the same `eventkit convert` again"


@dataclass(frozen=True, slots=True)
class PackReceipt:
    """What a finished pack says of itself: ``files`` have path, bytes and sha256."""

    clips: int
    files: list[dict[str, Any]]

    def check(self, store: Location, pack: Location) -> None:
        """Raise `DamageError` unless the metadata of the pack is as it was written."""
        for entry in self.files:
            path = store / entry["path"]
            if path.name != "zarr.json" or "sha256" not in entry:
                continue
            if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
                msg = f"{path}: expected the bytes of its receipt, got others; {cure_of(pack)}"
                raise DamageError(msg)


class Store(Clips):
    """All clips of the packs of a store; packs are opened when a clip of theirs is asked for.

    Parameters
    ----------
    path : Path or RemotePath
    names : list of str
        Of the packs.
    receipts : mapping, optional
        Name -> receipt, which has the number of clips and the hashes of the metadata.
    classes : mapping, optional
        Class id -> name.
    """

    def __init__(
        self,
        path: Location,
        names: list[str],
        *,
        receipts: Mapping[str, PackReceipt] | None = None,
        classes: Mapping[int, str] | None = None,
    ) -> None:
        self.path, self.names = path, names
        self.classes = dict(classes or {})
        self._receipts = dict(receipts or {})
        self._packs: dict[str, Pack] = {}
        lengths = [
            self._receipts[n].clips if n in self._receipts else len(self.pack(n)) for n in names
        ]
        self._ends = np.cumsum([0, *lengths])
        super().__init__(self, range(int(self._ends[-1])))

    def pack(self, name: str) -> Pack:
        """Return a pack by name; its metadata, which has no checksum, is hashed the first time."""
        found = self._packs.get(name)
        if found is None:
            found = self._packs[name] = self._open(name)
            if len(self._packs) > _KEPT:
                self._packs.pop(next(iter(self._packs)), None)
        return found

    def _open(self, name: str) -> Pack:
        path = near(self.path / f"{name}.zarr")
        receipt = self._receipts.get(name)
        if receipt is not None:
            receipt.check(path.parent, path)
        opened = Pack(path)
        if receipt is not None and len(opened) != receipt.clips:
            msg = f"{path}: expected {receipt.clips} clips, got {len(opened)}; {cure_of(path)}"
            raise DamageError(msg)
        return opened

    def clip_at(self, place: int) -> StoredClip:
        """Return a clip by its place among all of the store."""
        position = int(np.searchsorted(self._ends, place, side="right")) - 1
        return self.pack(self.names[position]).clip(place - int(self._ends[position]))

    @cached_property
    def all_facts(self) -> list[dict[str, Any]]:
        """What is noted of every clip; opens every pack."""
        return [facts for name in self.names for facts in self.pack(name).facts]

    @cached_property
    def all_labels(self) -> NDArray[np.int64]:
        """(N,) class ids of every clip; opens every pack."""
        parts = [self.pack(name).labels for name in self.names]
        return np.concatenate([np.zeros(0, np.int64), *parts])


def open_store(path: str | Location, *, partial: bool = False) -> Store:
    """Open a store that `eventkit convert` wrote; clips are read when asked for.

    Every file of every pack must be there at its recorded size: Zarr reads a missing chunk as
    zeros, which would look like "no events".

    Parameters
    ----------
    path : str or Path
        Or a URL that fsspec opens, as ``s3://bucket/store``.
    partial : bool
        Open what is finished of a store that is not.

    Raises
    ------
    MissingDataError
        If it is no store or, without ``partial``, not finished; says what is missing.
    DamageError
        If a file is missing or has another size.
    UnsupportedFormatError
        If a newer version wrote it.

    Examples
    --------
    ::

        store = eventkit.open_store("store")
        store                                   # how many, which splits and classes, of what shape
        clip = store[0]                         # or store["train/walk/0001"][0], store[-10:]
        clip.label_name, clip.window_us, clip.events.shape, clip.pictures[0]
        for clip in store.select(split="train", label="walk"):
            ...
    """
    folder = location(path)
    there = now(folder)
    plan = _read_plan(there)
    receipts: dict[str, PackReceipt] = {}
    unfinished = []
    for pack in plan["packs"]:
        receipt = _read_receipt(there, str(pack["name"]), plan.get("plan_id"))
        if receipt is None:
            unfinished.append(pack)
        else:
            check_files(there, receipt.files)
            receipts[str(pack["name"])] = receipt
    if unfinished and not partial:
        raise _not_finished(folder, unfinished, len(plan["packs"]))
    classes = {int(label): str(name) for label, name in plan.get("classes", {}).items()}
    names = [name for name, receipt in receipts.items() if receipt.files]
    return Store(folder, names, receipts=receipts, classes=classes)


def check_files(folder: Location, files: list[dict[str, Any]]) -> None:
    """Raise `DamageError` for the first file that is missing or has another size."""
    for entry in files:
        file = folder / entry["path"]
        size = file.stat().st_size if file.is_file() else None
        if size != entry["bytes"]:
            got = "it is missing" if size is None else f"got {size}"
            msg = (
                f"{file}: expected {entry['bytes']} bytes, {got}; run `eventkit verify {folder}`, "
                "or the same `eventkit convert`, which makes its pack anew"
            )
            raise DamageError(msg)


def _not_finished(
    folder: Location, unfinished: list[dict[str, Any]], packs: int
) -> MissingDataError:
    names = some([str(pack["name"]) for pack in unfinished])
    clips = sum(int(pack.get("clips", 0)) for pack in unfinished)
    msg = (
        f"{folder}: expected a finished store, {len(unfinished)} of {packs} packs ({names}) with "
        f"{clips:,} clips are missing; {_AGAIN}, or take what is there with "
        "open_store(path, partial=True)"
    )
    return MissingDataError(msg)


def _read_plan(folder: Location) -> dict[str, Any]:
    path = folder / _HIDDEN / "plan.json"
    if not path.is_file():
        scanned = (folder / _HIDDEN / "scan.jsonl").is_file()
        got = f"only its scan; {_AGAIN}" if scanned else "no .eventkit/plan.json"
        msg = f"{folder}: expected a store of `eventkit convert`, found {got}"
        raise MissingDataError(msg)
    plan = _read_object(path)
    version = plan.get("version", STORE_VERSION)
    if isinstance(version, int):  # before the rest, which may be of another form
        check_version(path, version, known=STORE_VERSION)
    _check_entries(path, plan, "packs", {"name"})
    return plan


def _read_receipt(folder: Location, name: str, plan_id: str | None) -> PackReceipt | None:
    """Return the receipt of a pack, None if it is not finished."""
    path = folder / _HIDDEN / "receipts" / f"{name}.json"
    if not path.is_file():
        return None
    content = _read_object(path)
    _check_entries(path, content, "files", {"path", "bytes"})
    if content.get("plan_id") != plan_id:
        msg = f"{folder}: pack {name} is of another plan; {_AGAIN}"
        raise DamageError(msg)
    return PackReceipt(int(content.get("clips", 0)), content["files"])


def _read_object(path: Location) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise TypeError(path)
    except (ValueError, TypeError, RecursionError) as err:
        msg = f"{path}: expected a JSON object, got a damaged file; {_AGAIN}"
        raise DamageError(msg) from err
    return content


def _check_entries(path: Location, content: dict[str, Any], key: str, needed: set[str]) -> None:
    """Refuse a plan or receipt that is not as it was sealed, or has no such list."""
    entries = content.get(key)
    rest = {name: value for name, value in content.items() if name != "digest"}
    digest = hashlib.sha256(encode_json(rest)).hexdigest()
    if (
        content.get("digest", digest) != digest
        or not isinstance(entries, list)
        or not all(isinstance(entry, dict) and needed <= entry.keys() for entry in entries)
    ):
        msg = f"{path}: expected {key!r} in it as they were written, got a damaged file; {_AGAIN}"
        raise DamageError(msg)
