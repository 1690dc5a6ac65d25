"""The frozen plan of a store: inputs, settings, and which pack holds which recording.

A store belongs to one plan. The plan's id is the hash of the settings and of every input's
relative path and content, its label and split; no absolute path, time or version is in it.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from eventkit.clip_settings import ClipSettings
from eventkit.errors import DamageError, SettingsError
from eventkit.location import Location
from eventkit.pack_layout import check_version
from eventkit.samples import encode_json
from eventkit.store import STORE_VERSION
from pipelines.datasets.discover import Discovery, RecordingSpec
from pipelines.datasets.spec import splits_of
from pipelines.opening import ReadSettings
from pipelines.put import put
from pipelines.receipts import HIDDEN, PLAN, hash_file, read_plan, write_plan
from pipelines.scan import raw_clip_bytes

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
    content = encode_json([STORE_VERSION, settings, recordings, missing])
    return hashlib.sha256(content).hexdigest()


def freeze(
    store: Location, settings: dict[str, Any], found: Discovery, scans: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write the plan, or check that the one that is there is the same.

    Raises
    ------
    SettingsError
        If the store belongs to another plan; lists what differs and the cure.
    """
    old = read_plan(store)
    if old is not None and not replaceable(old, settings, found, scans):
        refuse_other_settings(store, old, settings)
        refuse_other_inputs(store, old, settings, found, scans)
        _mend_lists(store, old, found.recordings, scans)
        return old
    plan = {
        "version": STORE_VERSION,
        "plan_id": plan_id(settings, found, scans),
        "settings": settings,
        "classes": {str(label): name for label, name in found.classes.items()},
        "layout": found.layout,
        "split_rule": found.split_rule,
        "splits": splits_of(found),
        "packs": write_packs(store, found.recordings, scans),
        "recordings": len(found.recordings),
        "inputs": inputs_digest(scans),
        "quarantine": scan_quarantine(found, scans),
    }
    write_plan(store, plan)
    return plan


def replaceable(
    plan: dict[str, Any], settings: dict[str, Any], found: Discovery, scans: list[dict[str, Any]]
) -> bool:
    """Tell whether a plan of other inputs or settings holds nothing: all of it was set aside."""
    if plan["packs"]:
        return False  # before the id is worked out, 0.1 ms a recording
    return bool(plan.get("revision", plan)["plan_id"] != plan_id(settings, found, scans))


def refuse_other_settings(store: Location, plan: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to work on a store of other settings; asked before anything is read.

    A plan without packs, of which everything was set aside, binds nobody.

    Raises
    ------
    SettingsError
        Lists what differs.
    UnsupportedFormatError
        If a newer version wrote the plan.
    """
    check_version(store / PLAN, plan["version"], known=STORE_VERSION)
    differing = "; ".join(differing_settings(plan["settings"], settings))
    if differing and plan["packs"]:
        msg = (
            f"{store} was made from something else: {differing}. Choose another --out or remove it"
        )
        raise SettingsError(msg)


def refuse_other_inputs(
    store: Location,
    plan: dict[str, Any],
    settings: dict[str, Any],
    found: Discovery,
    scans: list[dict[str, Any]],
) -> None:
    """Refuse to work on a store of other recordings, labels or splits.

    Raises
    ------
    SettingsError
        Says what differs, and the cure.
    """
    same = plan.get("revision", plan)["plan_id"] == plan_id(settings, found, scans)
    if plan["packs"] and not same:
        cure = (
            f"Give --out NEW --reuse {shlex.quote(str(store))}, which takes over what is the same; "
            "if only recordings that were set aside have changed, add --retry-quarantined"
        )
        raise other_plan(store, plan, settings, scans, cure=cure)


def differing_settings(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs, in words; compared as JSON, which knows no tuples."""
    return [
        f"{key} {there.get(key)} there, {now.get(key)} now"
        for key in sorted(set(there) | set(now))
        if encode_json(there.get(key)) != encode_json(now.get(key))
    ]


def pack_file(store: Location, name: str) -> Location:
    """Where the recordings of a pack are listed."""
    return store / HIDDEN / "packs" / f"{name}.json"


def read_list(path: Location) -> list[dict[str, Any]]:
    """Return what `write_packs` wrote of a pack: spec and scan of each recording.

    Raises
    ------
    DamageError
    """
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError) as err:
        got = "none" if isinstance(err, FileNotFoundError) else f"a damaged one ({err})"
        msg = (
            f"{path}: expected the list of a pack, got {got}; the same `eventkit convert` without "
            "--retry-quarantined writes it again"
        )
        raise DamageError(msg) from err
    return entries


def write_packs(
    store: Location, specs: Sequence[RecordingSpec], scans: list[dict[str, Any]], *, first: int = 0
) -> list[dict[str, Any]]:
    """Write which pack holds which recording, from number ``first`` on; faulty ones get no place.

    Returns
    -------
    list of dict
        Name, number of recordings and of planned clips of each pack, sha256 of its list.
    """
    packs = []
    for number, members in enumerate(group_packs(specs, scans), start=first):
        name = f"pack-{number:05d}"
        entries = [{"spec": asdict(spec), "scan": scan} for spec, scan in members]
        data = encode_json(entries)
        put(pack_file(store, name), data)
        pack = {
            "name": name,
            "recordings": len(entries),
            "clips": sum(scan["clips"] for _, scan in members),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        packs.append(pack)
    return packs


def _mend_lists(
    store: Location,
    plan: dict[str, Any],
    specs: Sequence[RecordingSpec],
    scans: list[dict[str, Any]],
) -> None:
    """Write lists of packs anew that were lost or damaged since.

    Raises
    ------
    DamageError
        If what the scan finds does not give them.
    """
    if all(_list_is_whole(store, pack) for pack in plan["packs"]):
        return
    if "revision" in plan or write_packs(store, specs, scans) != plan["packs"]:
        lost = [pack["name"] for pack in plan["packs"] if not _list_is_whole(store, pack)]
        msg = (
            f"{pack_file(store, lost[0] if lost else '')}: expected the list that the plan names, "
            "got a damaged one or none; choose another --out"
        )
        raise DamageError(msg)


def _list_is_whole(store: Location, pack: dict[str, Any]) -> bool:
    file = pack_file(store, pack["name"])
    return file.is_file() and hash_file(file) == pack.get("sha256", hash_file(file))


def group_packs(
    specs: Sequence[RecordingSpec], scans: list[dict[str, Any]]
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


def scan_quarantine(found: Discovery, scans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the scan set aside, and what a list names and is not there."""
    bad = [
        {
            "recording": spec.id,
            "stage": "scan",
            "files": [{"path": f["path"], "sha256": f["sha256"]} for f in scan["files"]],
            **scan["fault"],
        }
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


def inputs_digest(scans: list[dict[str, Any]]) -> str:
    """Return the hash of path and content of every input."""
    inputs = sorted((f["path"], f["sha256"]) for scan in scans for f in scan["files"])
    return hashlib.sha256(encode_json(inputs)).hexdigest()


def other_plan(
    store: Location,
    old: dict[str, Any],
    settings: dict[str, Any],
    scans: list[dict[str, Any]],
    *,
    cure: str,
) -> SettingsError:
    """Return the error that says what differs from the plan of a store, and the cure."""
    differing = differing_settings(old["settings"], settings)
    if inputs_digest(scans) != old["inputs"]:
        differing.append(f"the recordings ({_changes(store, old, scans)})")
    if not differing:
        differing.append("labels or splits")
    msg = f"{store} was made from something else: {'; '.join(differing)}. {cure}"
    return SettingsError(msg)


def _changes(store: Location, plan: dict[str, Any], scans: list[dict[str, Any]]) -> str:
    """Return how many recordings came, went and changed, and the first of each."""
    whole = (pack_file(store, p["name"]) for p in plan["packs"] if _list_is_whole(store, p))
    lists = [json.loads(file.read_bytes()) for file in whole]
    there = {entry["spec"]["id"]: _hashes(entry["scan"]) for each in lists for entry in each}
    there |= {e["recording"]: _hashes(e) for e in plan["quarantine"] if e["reason"] != "missing"}
    now = {scan["id"]: _hashes(scan) for scan in scans}
    kinds = {
        "added": now.keys() - there.keys(),
        "removed": there.keys() - now.keys(),
        "changed": {name for name in now.keys() & there.keys() if now[name] != there[name]},
    }
    words = [f"{len(names):,} {kind}, as {min(names)}" for kind, names in kinds.items() if names]
    return "; ".join(words) or "added, removed or changed"


def _hashes(scan: dict[str, Any]) -> list[str]:
    return sorted(file["sha256"] for file in scan.get("files", ()))
