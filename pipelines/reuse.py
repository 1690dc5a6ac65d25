"""Taking over from another store what would come out the same: clips of unchanged recordings.

A pack of the same recordings is linked, file by file. New recordings move the borders of those that
come after them, whose clips are then read out of the other store, where checksums hold them, and
written as if they had been made of the raw files. Either way the bytes are those of a fresh
conversion. What is not quite the same, or damaged, is converted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eventkit.cli.text import counted
from eventkit.clips import Clip
from eventkit.errors import DamageError, MissingDataError, SettingsError
from eventkit.pack_layout import check_version
from eventkit.samples import encode_json
from eventkit.store import STORE_VERSION, Pack, StoredClip
from pipelines.datasets.discover import RecordingSpec
from pipelines.kinds import refuse_kind
from pipelines.plan import differing_settings, pack_file
from pipelines.receipts import PLAN, hash_file, read_plan, read_receipt
from pipelines.versions import code_versions

logger = logging.getLogger(__name__)

# Where a recording goes and how a set was understood do not touch its clips.
_OF_THE_SET = ("split", "label", "label_name")
_NOT_OF_CLIPS = ("layout",)

Entry = tuple[RecordingSpec, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Loan:
    """What the task of one pack may take from another store; small enough to travel.

    Parameters
    ----------
    store, plan_id : str
    packs : tuple of (recording, pack there)
    same : str, optional
        The pack there that holds these recordings and no others.
    """

    store: str
    plan_id: str
    packs: tuple[tuple[str, str], ...]
    same: str | None = None


@dataclass(frozen=True, slots=True)
class Lender:
    """A store to take from.

    Parameters
    ----------
    store : Path
    plan_id : str
    found : mapping
        Fingerprint of a recording -> the pack that holds it.
    same : mapping
        sha256 of the list of a pack -> the pack.
    notes : tuple of str
        What of it cannot be taken, and why.
    """

    store: Path
    plan_id: str
    found: Mapping[bytes, str] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def loan(self, entries: Sequence[Entry], *, list_sha256: str = "") -> Loan | None:
        """Return what there is of the recordings of a pack, None if there is nothing."""
        pairs = ((spec.id, self.found.get(_fingerprint(spec, scan))) for spec, scan in entries)
        packs = tuple((name, pack) for name, pack in pairs if pack is not None)
        same = self.same.get(list_sha256)
        return Loan(str(self.store.resolve()), self.plan_id, packs, same) if packs else None


def open_lender(store: Path, settings: dict[str, Any], *, out: Path) -> Lender:
    """Look up what a store holds whole.

    Raises
    ------
    MissingDataError
        If it is none.
    SettingsError
        If it was made with other settings: nothing of it would be the same. Lists them.
    """
    if store.resolve() == out.resolve():
        msg = f"expected --reuse with another store than --out, got {store} twice; leave one out"
        raise SettingsError(msg)
    refuse_kind(store, "shards", cure="give --reuse a folder that `eventkit convert` made")
    plan = read_plan(store)
    if plan is None:
        msg = f"--reuse {store}: expected a store of `eventkit convert`, found no plan in it"
        raise MissingDataError(msg)
    check_version(store / PLAN, plan["version"], known=STORE_VERSION)
    differing = differing_settings(_of_clips(plan["settings"]), _of_clips(settings))
    if differing:
        msg = (
            f"--reuse {store} was made with other settings: {'; '.join(differing)}. Nothing of it "
            "would be the same; give those settings, or leave --reuse out"
        )
        raise SettingsError(msg)
    found: dict[bytes, str] = {}
    same: dict[str, str] = {}
    left: Counter[str] = Counter()
    for pack in plan["packs"]:
        try:
            whole = _whole_recordings(store, pack, plan["plan_id"])
        except (DamageError, OSError, ValueError, KeyError) as err:
            logger.warning("%s: %s; its recordings are converted", store / pack["name"], err)
            left["damaged"] += 1
            continue
        if isinstance(whole, str):
            left[whole] += 1
        else:
            found.update(dict.fromkeys(whole, pack["name"]))
            if len(whole) == pack["recordings"]:
                same[pack["sha256"]] = pack["name"]
    notes = tuple(
        f"{counted(count, 'packs')} of {store}: {why}" for why, count in sorted(left.items())
    )
    return Lender(store, plan["plan_id"], found, same, notes)


def tell_reuse(
    lender: Lender, loans: Sequence[tuple[Loan | None, int]], say: Callable[[str], None]
) -> None:
    """Say how much is taken over, and what is not and why.

    Parameters
    ----------
    lender : Lender
    loans : sequence of (Loan or None, int)
        Of every pack that is to be made, and how many recordings it has.
    say : callable
    """
    taken = sum(len(loan.packs) for loan, _ in loans if loan is not None)
    total = sum(count for _, count in loans)
    say(
        f"  reuse: {taken:,} of {total:,} recordings are taken over from {lender.store}, "
        f"{total - taken:,} are converted"
    )
    for note in lender.notes:
        say(f"    {note}")


def _whole_recordings(store: Path, pack: dict[str, Any], plan_id: str) -> list[bytes] | str:
    """Return the fingerprints of the recordings that a pack holds whole, or why it is no use."""
    name = pack["name"]
    receipt = read_receipt(store, name, plan_id=plan_id)
    if receipt is None:
        return "not finished"
    if not receipt["files"]:
        return []
    path = f"{name}.zarr/zarr.json"
    metadata = (store / path).read_bytes()
    hashes = {entry["path"]: entry["sha256"] for entry in receipt["files"]}
    listed = pack_file(store, name)
    if hashlib.sha256(metadata).hexdigest() != hashes[path] or hash_file(listed) != pack["sha256"]:
        return "damaged"
    attributes = json.loads(metadata)["attributes"]
    if attributes["code"] != code_versions():
        return "of other versions of the libraries, whose bytes may differ"
    # A clip of neither events nor pictures is not stored, and what it dropped would be lost.
    clips = Counter(facts["recording"] for facts in attributes["clips"])
    entries = [(RecordingSpec(**e["spec"]), e["scan"]) for e in json.loads(listed.read_bytes())]
    return [_fingerprint(s, scan) for s, scan in entries if clips[s.id] == scan["clips"]]


def _fingerprint(spec: RecordingSpec, scan: Mapping[str, Any]) -> bytes:
    """Return a hash of what decides the clips of a recording, but for the settings of the set."""
    kept = {key: value for key, value in asdict(spec).items() if key not in _OF_THE_SET}
    return hashlib.sha256(encode_json([kept, scan])).digest()[:16]


def _of_clips(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _NOT_OF_CLIPS}


def link_pack(loan: Loan, *, store: Path, name: str, plan_id: str) -> dict[str, Any]:
    """Make a pack of the files of the one that is the same; returns what its receipt says.

    The id of the plan, which stands in its attributes, is exchanged.

    Raises
    ------
    DamageError
        If a file is not the one that its receipt names.
    """
    other = Path(loan.store)
    receipt = read_receipt(other, str(loan.same), plan_id=loan.plan_id)
    if receipt is None:
        msg = f"{other}: expected the receipt of {loan.same}, got none that holds"
        raise DamageError(msg)
    for entry in receipt["files"]:
        source = other / entry["path"]
        inside = entry["path"].split("/", 1)[1]
        target = store / f"{name}.zarr" / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        if hash_file(source) != entry["sha256"]:
            msg = f"{source}: expected the bytes of its receipt, got others"
            raise DamageError(msg)
        if inside == "zarr.json":
            text = source.read_bytes()
            target.write_bytes(text.replace(loan.plan_id.encode(), plan_id.encode()))
        else:
            _link(source, target)
    kept = {key: value for key, value in receipt.items() if key not in ("digest", "files")}
    return {**kept, "name": name, "plan_id": plan_id}


def _link(source: Path, target: Path) -> None:
    """Link a file, which nothing of ours changes in its place; copy it to another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class LentClips:
    """Reads the clips of a loan; packs stay open for as long as it is held."""

    def __init__(self, loan: Loan | None) -> None:
        self._store = Path("" if loan is None else loan.store)
        self._homes = dict(() if loan is None else loan.packs)
        self._packs: dict[str, tuple[Pack, dict[str, list[int]]]] = {}

    def __contains__(self, recording: str) -> bool:
        return recording in self._homes

    def of(self, recording: str) -> Iterator[Clip]:
        """Yield the clips of a recording, in order.

        Raises
        ------
        DamageError
        """
        pack, places = self._opened(self._homes[recording])
        for number in places[recording]:
            yield clip_again(pack.clip(number))

    def _opened(self, name: str) -> tuple[Pack, dict[str, list[int]]]:
        if name not in self._packs:
            pack = Pack(self._store / f"{name}.zarr")
            places: dict[str, list[int]] = {}
            for number, facts in enumerate(pack.facts):
                places.setdefault(facts["recording"], []).append(number)
            self._packs[name] = pack, places
        return self._packs[name]


def clip_again(stored: StoredClip) -> Clip:
    """Return a stored clip as it was before it was stored.

    Where the files of the pictures are kept, their pixels are left out: nobody writes them.
    """
    facts, columns = stored.facts, stored.columns
    span = facts.get("span_us")
    placeholder = np.broadcast_to(np.uint8(0), (len(stored.window_us), 1, 1, 1))
    return Clip(
        index=int(facts["clip"]),
        events=stored.events,
        rgb=placeholder if stored.rgb is None else stored.rgb,
        windows_us=stored.window_us,
        exposure_us=stored.exposure_us,
        rgb_index=columns["rgb_index"],
        binned=columns["binned"],
        clipped=columns["clipped"],
        decoded=int(columns["decoded"]),
        dropped=dict(facts["dropped"]),
        has_events=stored.has_events,
        has_rgb=stored.has_rgb,
        rgb_static=facts["rgb_static"],
        rgb_times=facts["rgb_times"],
        encoded=stored.encoded,
        rgb_suffix=facts["rgb_suffix"],
        diff_events=stored.diff_events,
        diff_rgb=stored.diff_rgb,
        flags=tuple(facts["flags"]),
        raw_events=stored.raw_events if stored.has_raw_events else None,
        span_us=None if span is None else (int(span[0]), int(span[1])),
    )
