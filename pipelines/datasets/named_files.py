"""Which files of a folder are a published set's; and which set a folder is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from eventkit.location import Location
from eventkit.readers import suffixes
from pipelines.datasets.faults import Refuse, SetFault, at_once
from pipelines.datasets.files import (
    SIDE_SUFFIXES,
    TABLES,
    Pair,
    relative_name,
    stem_of,
    suffix_of,
    walk,
)
from pipelines.datasets.named import NamedSet, named_sets

_LOOKED_AT = 256
"""Files by which a set is guessed; whether all others are its too is seen when they are listed."""


class Thing(NamedTuple):
    """A file, or a folder of pictures.

    ``path`` is relative to the root; ``name`` has the root's own name before it, which may be a
    part of a pattern.
    """

    path: str
    name: str
    kind: str


@dataclass(slots=True)
class Take:
    """A recording of the set before its label; ``groups`` are those of its path."""

    id: str
    groups: dict[str, str]
    events: str | None = None
    rgb: str | None = None


@dataclass(slots=True)
class SetFiles:
    """What is there of a set, by what it is.

    Parameters
    ----------
    takes : dict id -> Take
    lists : dict split -> path
    spans : dict id -> path
    class_list : path, optional
    ignored : int
    others : list of Pair
        Recordings whose names are not the set's.
    unknown : counter suffix -> files
    """

    takes: dict[str, Take] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    spans: dict[str, str] = field(default_factory=dict)
    class_list: str | None = None
    ignored: int = 0
    others: list[Pair] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)


def guess_set(root: Location, sources: Sequence[Location]) -> NamedSet | None:
    """Return the set whose names the first files have, or None; looks into no file."""
    left = list(named_sets().values())
    met = False
    kinds = ("events", "pictures")
    found = (thing for thing in _things(root, sources, _keep_silent) if thing.kind in kinds)
    for thing in islice(found, _LOOKED_AT):
        left = [named for named in left if _is_of(named, thing)]
        if not left:
            return None
        met = met or any(_is_recording(named, thing) for named in left)
    return left[0] if met and len(left) == 1 else None


def collect(
    root: Location, sources: Sequence[Location], named: NamedSet, *, refuse: Refuse = at_once
) -> SetFiles:
    """Sort the files below ``sources``.

    Parameters
    ----------
    root : Location
    sources : sequence of Path
    named : NamedSet
    refuse : callable
        Is given a `SetFault` for two files of one id, and for two lists of a split. If it returns,
        the first one is taken.
    """
    found = SetFiles()
    for thing in _things(root, sources, refuse):
        _sort(found, named, thing, refuse)
    for take in found.takes.values():
        if named.own_rgb and take.events is not None:
            take.rgb = None
    order = named.lists.files if named.lists is not None else {}
    found.lists = {split: found.lists[split] for split in order if split in found.lists}
    return found


def _keep_silent(fault: SetFault) -> None:
    """A folder that cannot be listed is told when the set is."""


def _things(root: Location, sources: Sequence[Location], refuse: Refuse) -> Iterator[Thing]:
    """Yield what is below ``sources``, each once; nothing of a folder of pictures but itself."""
    events, frames = suffixes("events"), suffixes("frames")
    seen: set[str] = set()
    for source in sources:
        single = [(source.parent, [source.name])]
        for folder, files in single if source.is_file() else walk(source, refuse=refuse):
            here = relative_name(root, folder)
            names = [name for name in files if not name.startswith(".")]
            if source.is_dir() and any(_is_still(name, frames) for name in names):
                path = here if here != "." else root.name
                yield Thing(here, f"{root.name}/{here}" if here != "." else path, "pictures")
            for name in names:
                path = name if here == "." else f"{here}/{name}"
                if path in seen or _is_still(name, frames):
                    continue
                seen.add(path)
                suffix = suffix_of(name)
                kind = "events" if suffix in events and suffix not in TABLES else "file"
                yield Thing(path, f"{root.name}/{path}", kind)


def _is_still(name: str, frames: Mapping[str, str]) -> bool:
    return frames.get(suffix_of(name)) == "image"


def _is_recording(named: NamedSet, thing: Thing) -> bool:
    pattern = named.events if thing.kind == "events" else named.rgb
    return pattern is not None and pattern.fullmatch(thing.name) is not None


def _is_of(named: NamedSet, thing: Thing) -> bool:
    ignored = named.ignored is not None and named.ignored.fullmatch(thing.name) is not None
    return ignored or _is_recording(named, thing)


def _sort(found: SetFiles, named: NamedSet, thing: Thing, refuse: Refuse) -> None:
    if named.ignored is not None and named.ignored.fullmatch(thing.name):
        found.ignored += 1
    elif thing.kind == "pictures":
        match = None if named.rgb is None else named.rgb.fullmatch(thing.name)
        if match is None:
            found.others.append(Pair(thing.path, None, thing.path))
        else:
            _take(found, named, match.groupdict(), thing, refuse)
    elif match := named.events.fullmatch(thing.name):
        _take(found, named, match.groupdict(), thing, refuse)
    elif thing.kind == "events":
        found.others.append(Pair(stem_of(thing.path), thing.path, None))
    elif not _is_side_file(found, named, thing, refuse):
        suffix = suffix_of(thing.path)
        if suffix not in SIDE_SUFFIXES:
            found.unknown[suffix or "no suffix"] += 1


def _take(
    found: SetFiles,
    named: NamedSet,
    matched: Mapping[str, str | None],
    thing: Thing,
    refuse: Refuse,
) -> None:
    groups = {key: value for key, value in matched.items() if value is not None}
    take = found.takes.setdefault(named.id_of(groups), Take(named.id_of(groups), groups))
    side = "rgb" if thing.kind == "pictures" else "events"
    other = getattr(take, side)
    if other is not None:
        msg = f"two recordings have one name, {take.id!r}: {other} and {thing.path}; keep one"
        refuse(SetFault(msg, reason="same_name", where=take.id, others=(other, thing.path)))
        return
    setattr(take, side, thing.path)


def _is_side_file(found: SetFiles, named: NamedSet, thing: Thing, refuse: Refuse) -> bool:
    """Keep a list, a table of spans or the names of classes; returns whether it is one."""
    for split, pattern in (named.lists.files if named.lists else {}).items():
        if pattern.fullmatch(thing.name):
            other = found.lists.setdefault(split, thing.path)
            if other != thing.path:
                msg = f"expected one {split} list of {named.title}, got {other} and {thing.path}"
                fault = SetFault(f"{msg}; keep one", reason="same_name", where=thing.path)
                refuse(fault)
            return True
    if named.spans is not None and (match := named.spans.file.fullmatch(thing.name)):
        found.spans.setdefault(named.id_of(match.groupdict()), thing.path)
        return True
    if named.class_list is not None and named.class_list.fullmatch(thing.name):
        found.class_list = found.class_list or thing.path
        return True
    return False
