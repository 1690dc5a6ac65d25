"""What a user has to know of the readings of a set: what was lost, repaired and taken for granted.

Counts of one kind are told together with the number of recordings; the scan keeps each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from eventkit.cli.text import counted
from eventkit.errors import SettingsError
from eventkit.location import Location
from pipelines.scan import SCAN_FILE

# Other reasons are words that are no events: triggers, padding, time words, overflow markers.
_LOST = re.compile(r"bad_row|before_time_high|before_row|damaged.*")
_TOLD = re.compile(r"times (read|taken) as|columns read as|\b[xy] before [xy]\b|^--\S+ \S+ is left")
_NUMBER = re.compile(r"\d[\d.,e+-]*")
_MOST = 5


def scan_notes(scans: Sequence[Mapping[str, Any]], store: Location) -> list[str]:
    """Return a sentence for each kind of loss, repair, damage and assumption.

    Parameters
    ----------
    scans : sequence of dict
        See `pipelines.scan.scan_all`; those with a fault were set aside and are told elsewhere.
    store : Location
        Of the scan, which has what stands behind the numbers.
    """
    used = [scan for scan in scans if scan["fault"] is None]
    ledgers = [scan["ledger"] for scan in used]
    lost = [{r: n for r, n in each["skipped"].items() if _LOST.fullmatch(r)} for each in ledgers]
    notes = [
        *_counted("skipped", lost),
        *_counted("repaired", [each["repaired"] for each in ledgers]),
        *_damaged("are damaged at the end or inside", [each["faults"] for each in ledgers]),
        *_damaged(
            "have damaged frames, triggers or IMU samples", [e["side_faults"] for e in ledgers]
        ),
    ]
    where = [f"{store / SCAN_FILE} has each of these"] if notes else []
    return [*notes, *where, *_assumed(used)]


def refuse_hopeless(scans: Sequence[Mapping[str, Any]]) -> None:
    """Refuse settings that suit none of several recordings, before a store is planned with them.

    Raises
    ------
    SettingsError
        If every recording that is not damaged was set aside for the same reason.
    """
    faults = [scan["fault"] for scan in scans]
    usable = [fault for fault in faults if fault is None or fault["reason"] == "unusable"]
    if len(usable) < 2 or None in usable:
        return
    messages = {str(f["message"]).removeprefix(f"{f['file']}: ") for f in usable}
    if len(messages) == 1:
        msg = f"none of {len(usable):,} recordings can be converted so: {messages.pop()}"
        raise SettingsError(msg)


def _counted(verb: str, counts: Iterable[Mapping[str, int]]) -> Iterator[str]:
    totals: Counter[str] = Counter()
    recordings: Counter[str] = Counter()
    for each in counts:
        totals.update(each)
        recordings.update(each.keys())
    for reason in sorted(totals):
        yield f"{totals[reason]:,} {reason} {verb} in {counted(recordings[reason], 'recordings')}"


def _damaged(words: str, faults: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    reasons = sorted({str(fault["reason"]) for each in faults for fault in each})
    if reasons:
        told = counted(sum(map(bool, faults)), f"recordings {words}")
        yield f"{told} ({', '.join(reasons)})"


def _assumed(scans: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what evidence told; a rate or a number of rows makes no other assumption."""
    first: dict[str, tuple[str, str]] = {}
    recordings: Counter[str] = Counter()
    for scan in scans:
        told = {_NUMBER.sub("0", n): n for n in scan["notes"] if _TOLD.search(n)}
        recordings.update(told.keys())
        for kind, note in told.items():
            first.setdefault(kind, (scan["id"], note))
    for kind, number in recordings.most_common(_MOST):
        name, note = first[kind]
        yield f"{counted(number, 'recordings')}, {name} among them: {note}"
    if len(recordings) > _MOST:
        yield f"... and {len(recordings) - _MOST:,} other assumptions"


def empty_splits(planned: Mapping[str, int], filled: Container[str]) -> list[str]:
    """Return a sentence for each split that has recordings and no clip.

    Parameters
    ----------
    planned : dict
        Recordings of each split.
    filled : container of str
        Splits that have a clip.
    """
    return [
        f"{split} is empty: its {counted(number, 'recordings were')} set aside or gave no clip"
        for split, number in planned.items()
        if number and split not in filled
    ]
