"""Train, val and test: by group, never by clip.

Official lists and folders win. Else a group goes where the hash of its name falls, so that new
recordings move none of those that are there; ``stratified`` gives every class its share instead,
and new recordings may then move others.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from eventkit.errors import SettingsError

if TYPE_CHECKING:
    from pipelines.datasets.spec import RecordingSpec

SplitMethod = Literal["hash", "stratified"]
SPLIT_METHODS = ("hash", "stratified")
_ALL = {"train": 8, "val": 1, "test": 1}
_CARVED = {"train": 9, "val": 1}
_TENTHS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How recordings are split where no list or folder says it.

    Parameters
    ----------
    by : str, optional
        What makes a group: the level of a folder in the recording's path (1 is the first), or a
        regular expression whose groups, or whole match, name it. Without it every recording is one.
    method : {"hash", "stratified"}
    """

    by: str | None = None
    method: SplitMethod = "hash"


BY_RECORDING = SplitRule()


def group_of(recording: str, by: str | None) -> str:
    """Return the group of a recording.

    Raises
    ------
    SettingsError
        If the rule names none for it.

    Examples
    --------
    >>> group_of("walk/anna/3", "2"), group_of("walk/anna_3", "/([a-z]+)_")
    ('anna', 'anna')
    """
    if by is None:
        return recording
    if by.isascii() and by.isdigit():
        folders, level = recording.split("/")[:-1], int(by)
        if not 1 <= level <= len(folders):
            msg = (
                f"--split-by {by}: expected at least {max(level, 1)} folders above every recording "
                f"and a level from 1, got {recording!r}"
            )
            raise SettingsError(msg)
        return folders[level - 1]
    try:
        found = re.search(by, recording)
    except re.error as err:
        msg = f"--split-by: expected a level or a regular expression, got {by!r} ({err})"
        raise SettingsError(msg) from err
    if found is None:
        msg = (
            f"--split-by: expected {by!r} to match the path of every recording, got {recording!r}; "
            "widen the expression"
        )
        raise SettingsError(msg)
    parts = found.groups() or (found[0],)
    return "\0".join(part or "" for part in parts)


def split_recordings(
    recordings: Sequence[RecordingSpec], rule: SplitRule, *, official: str | None
) -> tuple[list[RecordingSpec], str]:
    """Return the recordings with their splits, and the rule in words.

    Parameters
    ----------
    recordings : sequence of RecordingSpec
        With their split where there are official ones.
    rule : SplitRule
    official : str, optional
        What the splits are from. Without a val split one is taken out of train, so that nobody
        selects on test.
    """
    groups = {r.id: group_of(r.id, rule.by) for r in recordings}
    how = "by hash of the" if rule.method == "hash" else "stratified by"
    what = f"{how} {'recording' if rule.by is None else f'group ({rule.by})'}"
    if official is None:
        places = _places(recordings, groups, rule, _ALL)
        found = [replace(r, split=places[groups[r.id]]) for r in recordings]
        return found, f"80/10/10 {what}{_lacking(places, _ALL)}"
    words = official + _shared(recordings, groups)
    splits = {r.split for r in recordings}
    if "val" in splits or "train" not in splits:
        return list(recordings), words
    trained = [r for r in recordings if r.split == "train"]
    places = _places(trained, groups, rule, _CARVED)
    if "train" not in places.values():
        return list(recordings), f"{words}; too few recordings for a val split"
    carved = [
        replace(r, split=places[groups[r.id]]) if r.split == "train" else r for r in recordings
    ]
    return carved, f"{words}; val is 10% of train {what}{_lacking(places, _CARVED)}"


def _shared(recordings: Sequence[RecordingSpec], groups: Mapping[str, str]) -> str:
    """Say how many groups the official splits tear apart."""
    splits: dict[str, set[str]] = {}
    for r in recordings:
        splits.setdefault(groups[r.id], set()).add(r.split)
    torn = sum(len(names) > 1 for names in splits.values())
    return f", {torn} groups in more than one split" if torn else ""


def _lacking(places: Mapping[str, str], tenths: Mapping[str, int]) -> str:
    """Say which splits got nothing."""
    empty = [split for split in tenths if split not in places.values()]
    return f"; none in {', '.join(empty)}: --split stratified deals them out" if empty else ""


def _places(
    recordings: Sequence[RecordingSpec],
    groups: Mapping[str, str],
    rule: SplitRule,
    tenths: Mapping[str, int],
) -> dict[str, str]:
    """Return group -> split."""
    names = {groups[r.id] for r in recordings}
    if rule.method == "hash":
        return {name: _hashed(name, tenths) for name in names}
    labels: dict[str, Counter[int]] = {}
    for r in recordings:
        labels.setdefault(groups[r.id], Counter())[r.label] += 1
    return _dealt(labels, tenths)


def _hashed(name: str, tenths: Mapping[str, int]) -> str:
    if tenths is _CARVED:
        return "val" if _share("eventkit-val", name) < tenths["val"] / _TENTHS else "train"
    u = _share("eventkit-split", name)
    if u < tenths["train"] / _TENTHS:
        return "train"
    return "val" if u < 1 - tenths["test"] / _TENTHS else "test"


def _share(salt: str, name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone, so new data moves nothing."""
    # Names of files need not be UTF-8; `os.fsencode` has the bytes that the file system has.
    digest = hashlib.sha256(os.fsencode(f"{salt}\0{name}")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _dealt(labels: Mapping[str, Counter[int]], tenths: Mapping[str, int]) -> dict[str, str]:
    """Deal groups out, one class after the other, each to the split that is owed most.

    Any stretch of the order, so any class, gets its shares to within a group. A group of several
    classes counts as one of its most frequent.
    """

    def place(name: str) -> tuple[int, float]:
        most = min(labels[name], key=lambda label: (-labels[name][label], label))
        return most, _share("eventkit-stratified", name)

    owed = dict.fromkeys(tenths, 0)
    places = {}
    for name in sorted(labels, key=place):
        weight = labels[name].total()
        for split, share in tenths.items():
            owed[split] += share * weight
        places[name] = max(owed, key=lambda split: owed[split])
        owed[places[name]] -= _TENTHS * weight
    return places
