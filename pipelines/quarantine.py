"""What was set aside: collected into one list, and looked at again.

A store belongs to one plan. To look again makes a revision of that plan: its packs stay as they are
and keep their receipts, recordings that are whole now become further packs at the end, the others
keep a line in the list, with one attempt more. A revision has the id of the inputs as they are
then, so that the plain command finds its plan again; packs keep the id of the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from eventkit.errors import SettingsError
from eventkit.location import Location
from eventkit.samples import encode_json
from pipelines.datasets.discover import Discovery, RecordingSpec
from pipelines.datasets.files import stem_of
from pipelines.datasets.spec import splits_of
from pipelines.executors import Pool
from pipelines.pack_task import PackJob, RecordingFailed, recording_clips
from pipelines.plan import (
    differing_settings,
    inputs_digest,
    other_plan,
    pack_file,
    plan_id,
    read_list,
    scan_quarantine,
    write_packs,
)
from pipelines.put import put, take_away
from pipelines.receipts import HIDDEN, read_json, receipt_path, write_plan
from pipelines.scan import death_fault

QUARANTINE = f"{HIDDEN}/quarantine.jsonl"
_TOO_MANY = f"{HIDDEN}/too_many_bad.json"
_DEATHS = ("decoder_crash", "killed")


class TooManyBadError(SettingsError):
    """More quarantined recordings than ``--max-bad`` allows."""

    exit_code = 3


def quarantined(store: Location, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the scan and the finished packs set aside, sorted by recording.

    Returns
    -------
    list of dict
        ``recording``; ``stage`` (scan or convert); ``reason``, a code; ``file``, relative to the
        raw folder, and ``offset``, bytes, of the first fault; ``time_us`` of the event there, on
        the clock of the recording; ``message``; ``attempts``; ``files``, path and sha256 of each
        input. What is not known is None. Nothing depends on the machine or on the time of day.
    """
    retried: Mapping[str, Any] = plan.get("revision", {}).get("retried", {})
    entries = [*plan["quarantine"], *_of_packs(store, plan, retried)]
    for entry in entries:
        known = retried.get(entry["recording"], {"attempts": 0})
        entry["attempts"] = 1 + known["attempts"] + (entry["reason"] in _DEATHS)
    return sorted(
        ({"time_us": None, "files": [], **entry} for entry in entries),
        key=lambda entry: str(entry["recording"]),
    )


def _of_packs(
    store: Location, plan: Mapping[str, Any], retried: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield what packs left out, but for recordings that were looked at again since."""
    for pack in plan["packs"]:
        receipt = read_json(receipt_path(store, pack["name"]))
        left_out = (receipt or {}).get("quarantine", [])
        files = _inputs(store, pack["name"]) if left_out else {}
        for entry in left_out:
            again = retried.get(entry["recording"])
            if again is None or again["pack"] == pack["name"]:
                yield {**entry, "files": files.get(entry["recording"], [])}


def _inputs(store: Location, pack: str) -> dict[str, list[dict[str, str]]]:
    return {e["spec"]["id"]: _hashes(e["scan"]) for e in read_list(pack_file(store, pack))}


def _hashes(scan: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"path": file["path"], "sha256": file["sha256"]} for file in scan["files"]]


def collect_quarantine(store: Location, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write ``quarantine.jsonl``, a line an entry of `quarantined`, and return them."""
    bad = quarantined(store, plan)
    path = store / QUARANTINE
    data = b"".join(encode_json(entry) + b"\n" for entry in bad)
    if not path.is_file() or path.read_bytes() != data:
        put(path, data)
    return bad


def check_max_bad(store: Location, bad: int, total: int, *, max_bad: float) -> None:
    """Refuse a store with more bad recordings than ``max_bad`` percent; no shards are made of it.

    Raises
    ------
    TooManyBadError
    """
    mark = store / _TOO_MANY
    if not total or 100 * bad / total <= max_bad:
        take_away(mark)
        return
    put(mark, encode_json({"bad": bad, "total": total, "max_bad": max_bad}))
    msg = (
        f"{bad} of {total} recordings are bad, more than --max-bad {max_bad:g}%; "
        f"{store / QUARANTINE} says why; mend them and add --retry-quarantined, or allow more"
    )
    raise TooManyBadError(msg)


def too_many_bad(store: Location) -> str | None:
    """Return why a store is refused, in words, or None."""
    mark = read_json(store / _TOO_MANY)
    if mark is None:
        return None
    return (
        f"{mark['bad']} of its {mark['total']} recordings are bad, more than --max-bad "
        f"{mark['max_bad']:g}% of its last convert; mend them and convert with "
        "--retry-quarantined, or with a larger --max-bad"
    )


@dataclass(frozen=True, slots=True)
class _Try:
    """A recording to decode whole."""

    job: PackJob
    spec: RecordingSpec
    scan: dict[str, Any]


def revise(
    store: Location,
    plan: dict[str, Any],
    settings: dict[str, Any],
    found: Discovery,
    scans: list[dict[str, Any]],
    *,
    job: PackJob,
    pool: Pool,
) -> dict[str, Any]:
    """Return the plan with a verdict anew on everything that was set aside, and write it.

    Each of them was scanned anew and is decoded whole here before it gets a place in a pack.

    Parameters
    ----------
    store : Location
    plan : dict
        As it is.
    settings, found, scans
        See `pipelines.plan.freeze`; ``scans`` are fresh for what was set aside.
    job : PackJob
        How to decode; its name does not matter.
    pool : Pool

    Raises
    ------
    SettingsError
        If anything else changed: the settings, or a recording that was not set aside.
    """
    bad = {str(entry["recording"]): entry for entry in quarantined(store, plan)}
    again = _set_aside(store, plan, bad, settings, found, scans)
    broken = _try_out(again, job, pool)
    good = [(spec, scan) for spec, scan in again if scan["fault"] is None and spec.id not in broken]
    specs = [spec for spec, _ in good]
    packs = write_packs(store, specs, [scan for _, scan in good], first=len(plan["packs"]))
    judged = {spec.id for spec, _ in again} | bad.keys()
    revised = {
        **plan,
        "classes": {str(label): name for label, name in found.classes.items()},
        "packs": [*plan["packs"], *packs],
        "recordings": len(found.recordings),
        "splits": splits_of(found),
        "inputs": inputs_digest(scans),
        "quarantine": [
            *(entry for entry in scan_quarantine(found, scans) if entry["recording"] in judged),
            *broken.values(),
        ],
        "revision": _revision(store, plan, judged, packs)
        | {"plan_id": plan_id(settings, found, scans)},
    }
    write_plan(store, revised)
    return revised


def _revision(
    store: Location, plan: dict[str, Any], judged: Iterable[str], packs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return its number, and how often and where each recording was looked at again."""
    old = plan.get("revision", {"number": 0, "retried": {}})
    home = {
        entry["spec"]["id"]: pack["name"]
        for pack in packs
        for entry in read_list(pack_file(store, pack["name"]))
    }
    retried = dict(old["retried"])
    for name in judged:
        attempts = retried.get(name, {"attempts": 0})["attempts"] + 1
        retried[name] = {"attempts": attempts, "pack": home.get(name)}
    return {"number": old["number"] + 1, "retried": retried}


def _set_aside(
    store: Location,
    plan: dict[str, Any],
    bad: Mapping[str, Any],
    settings: dict[str, Any],
    found: Discovery,
    scans: list[dict[str, Any]],
) -> list[tuple[RecordingSpec, dict[str, Any]]]:
    """Return what was set aside and is there; refuse any other change."""
    entries = [e for pack in plan["packs"] for e in read_list(pack_file(store, pack["name"]))]
    packed = {
        e["spec"]["id"]: encode_json([e["spec"], _hashes(e["scan"])])
        for e in entries
        if e["spec"]["id"] not in bad
    }
    same = not differing_settings(plan["settings"], settings)
    same &= all(name in bad for name, _ in found.missing)
    again = []
    for spec, scan in zip(found.recordings, scans, strict=True):
        if spec.id in packed:
            same &= packed.pop(spec.id) == encode_json([asdict(spec), _hashes(scan)])
        else:
            again.append((spec, scan))
            same &= _is_among(spec, bad)
    if packed or not same:
        cure = "Only what was set aside may differ; choose another --out for the rest"
        raise other_plan(store, plan, settings, scans, cure=cure)
    return again


def _is_among(spec: RecordingSpec, bad: Mapping[str, Any]) -> bool:
    """Tell whether a recording was set aside; a missing one has the name its list gave it."""
    if spec.id in bad:
        return True
    names = [name for name, entry in bad.items() if entry["reason"] == "missing"]
    return any(f"/{spec.id}".endswith(f"/{stem}") for n in names for stem in (n, stem_of(n)))


def _try_out(
    again: list[tuple[RecordingSpec, dict[str, Any]]], job: PackJob, pool: Pool
) -> dict[str, dict[str, Any]]:
    """Decode whole what the scan found no fault with; return what breaks, by recording."""
    job = replace(job, name="")
    tries = [_Try(job, spec, scan) for spec, scan in again if scan["fault"] is None]
    results = pool.run(_decode, tries, died=lambda item, death: death_fault(item.spec, death))
    faults = {item.spec.id: fault for item, fault in results if fault is not None}
    return {
        spec.id: {
            "recording": spec.id,
            "stage": "convert",
            "files": _hashes(scan),
            **faults[spec.id],
        }
        for spec, scan in again
        if spec.id in faults
    }


def _decode(item: _Try) -> dict[str, Any] | None:
    """Return what is wrong with a recording, if anything."""
    try:
        for _ in recording_clips(item.job, item.spec, item.scan):
            pass
    except RecordingFailed as failed:
        return failed.fault
    return None
