"""The frozen plan of a store: inputs, settings, and which pack holds which recording.

A store belongs to one plan. The plan's id is the hash of the settings and of every input's
relative path and content, its label and split; no absolute path, time or version is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eventkit.atomic import write_atomic
from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.samples import encode_json
from pipelines.datasets.discover import Discovery, RecordingSpec
from pipelines.receipts import HIDDEN, read_plan
from pipelines.scan import ReadSettings, raw_clip_bytes

PLAN_VERSION = 1
PACK_BYTES = 256 << 20
PACK_CLIPS = 512


def settings_dict(clip: ClipSettings, read: ReadSettings, layout: str) -> dict[str, Any]:
    """Return what decides the bytes of the output."""
    return {**clip.as_dict(), **asdict(read), "layout": layout}


def plan_id(settings: dict[str, Any], found: Discovery, scans: list[dict[str, Any]]) -> str:
    """Return the id of a plan."""
    recordings = [
        [asdict(spec), [[f["path"], f["sha256"]] for f in scan["files"]]]
        for spec, scan in zip(found.recordings, scans, strict=True)
    ]
    missing = [list(entry) for entry in found.missing]
    content = encode_json([PLAN_VERSION, settings, recordings, missing])
    return hashlib.sha256(content).hexdigest()


def freeze(
    store: Path, settings: dict[str, Any], found: Discovery, scans: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write the plan, or check that the one that is there is the same.

    Raises
    ------
    SettingsError
        If the store belongs to another plan; lists what differs and the cure.
    """
    identity = plan_id(settings, found, scans)
    old = read_plan(store)
    if old is not None:
        if old["plan_id"] != identity:
            raise _other_plan(store, old, settings, scans)
        return old
    packs = []
    for number, members in enumerate(_packs(found.recordings, scans)):
        name = f"pack-{number:05d}"
        entries = [{"spec": asdict(spec), "scan": scan} for spec, scan in members]
        write_atomic(pack_file(store, name), encode_json(entries))
        clips = sum(scan["clips"] for _, scan in members)
        packs.append({"name": name, "recordings": len(entries), "clips": clips})
    plan = {
        "version": PLAN_VERSION,
        "plan_id": identity,
        "settings": settings,
        "classes": {str(label): name for label, name in found.classes.items()},
        "layout": found.layout,
        "split_rule": found.split_rule,
        "packs": packs,
        "recordings": len(found.recordings),
        "inputs": hashlib.sha256(encode_json(sorted(_inputs(scans)))).hexdigest(),
        "quarantine": _quarantine(found, scans),
    }
    write_atomic(store / HIDDEN / "plan.json", encode_json(plan))
    return plan


def differing_settings(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs, in words; compared as JSON, which knows no tuples."""
    return [
        f"{key} {there.get(key)} there, {now.get(key)} now"
        for key in sorted(set(there) | set(now))
        if encode_json(there.get(key)) != encode_json(now.get(key))
    ]


def pack_file(store: Path, name: str) -> Path:
    """Where the recordings of a pack are listed."""
    return store / HIDDEN / "packs" / f"{name}.json"


def _packs(
    specs: tuple[RecordingSpec, ...], scans: list[dict[str, Any]]
) -> Iterator[list[tuple[RecordingSpec, dict[str, Any]]]]:
    """Group recordings of one shape, in order of id, up to the size of a pack."""
    groups: dict[tuple[Any, ...], list[tuple[RecordingSpec, dict[str, Any]]]] = {}
    for spec, scan in zip(specs, scans, strict=True):
        if scan["fault"] is None:
            groups.setdefault(_shape(scan), []).append((spec, scan))
    for members in groups.values():
        pack: list[tuple[RecordingSpec, dict[str, Any]]] = []
        size = clips = 0
        for spec, scan in members:
            more = scan["clips"] * raw_clip_bytes(scan)
            if pack and (size + more > PACK_BYTES or clips + scan["clips"] > PACK_CLIPS):
                yield pack
                pack, size, clips = [], 0, 0
            pack.append((spec, scan))
            size, clips = size + more, clips + scan["clips"]
        yield pack


def _shape(scan: dict[str, Any]) -> tuple[Any, ...]:
    return (
        tuple(scan["events_shape"]),
        scan["events_dtype"],
        tuple(scan["rgb_shape"]),
        scan["rgb_suffix"],
    )


def _quarantine(found: Discovery, scans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bad = [
        {"recording": spec.id, "stage": "scan", **scan["fault"]}
        for spec, scan in zip(found.recordings, scans, strict=True)
        if scan["fault"] is not None
    ]
    for name, where in found.missing:
        message = f"listed in {where}, no such recording; download it or take the line out"
        bad.append(
            {
                "recording": name,
                "stage": "scan",
                "file": None,
                "reason": "missing",
                "offset": None,
                "message": message,
            }
        )
    return sorted(bad, key=lambda entry: str(entry["recording"]))


def _inputs(scans: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(f["path"], f["sha256"]) for scan in scans for f in scan["files"]]


def _other_plan(
    store: Path, old: dict[str, Any], settings: dict[str, Any], scans: list[dict[str, Any]]
) -> SettingsError:
    differing = differing_settings(old["settings"], settings)
    inputs = hashlib.sha256(encode_json(sorted(_inputs(scans)))).hexdigest()
    if inputs != old["inputs"]:
        differing.append("the recordings (added, removed or changed)")
    if not differing:
        differing.append("labels or splits")
    msg = (
        f"{store} was made from something else: {'; '.join(differing)}. "
        "Choose another --out, or remove the store"
    )
    return SettingsError(msg)
