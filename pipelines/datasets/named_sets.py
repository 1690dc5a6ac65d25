"""From the files of a published set to its recordings: ids, labels, splits, parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from eventkit.errors import MissingDataError
from eventkit.location import Location
from pipelines.datasets.faults import Refuse, SetFault, at_once
from pipelines.datasets.files import Pair
from pipelines.datasets.lists import numbered_lines, shown
from pipelines.datasets.named import NamedSet
from pipelines.datasets.named_files import SetFiles, collect
from pipelines.datasets.spec import Discovery, RecordingSpec
from pipelines.datasets.splits import BY_RECORDING, SplitRule, split_recordings

_ROW = re.compile(r"\s*(\d{1,6})\s*,\s*(\d{1,18})\s*,\s*(\d{1,18})\s*", re.ASCII)
_ROW_WANTED = "<label>,<start>,<stop> in microseconds"


@dataclass(slots=True)
class Line:
    """One line of a list."""

    id: str
    groups: dict[str, str]
    label: int | None
    split: str
    where: str


def discover_named(
    root: Location,
    sources: Sequence[Location],
    named: NamedSet,
    *,
    rule: SplitRule = BY_RECORDING,
    refuse: Refuse = at_once,
) -> Discovery:
    """Understand a published set.

    Parameters
    ----------
    root : Location
    sources : sequence of Path
    named : NamedSet
    rule : SplitRule
        Of the splits that the set does not name; by the set's own groups unless it has one.
    refuse : callable
        See `pipelines.datasets.discover.discover`.

    Raises
    ------
    MissingDataError
        If no file has a name of the set.
    """
    files = collect(root, sources, named, refuse=refuse)
    if not files.takes:
        others = [f", but {pair.id} and {len(files.others):,} such" for pair in files.others[:1]]
        msg = (
            f"{root}: expected {named.title}, files like {named.example}, found none"
            f"{''.join(others)}; get it from {named.homepage}, or leave --dataset out"
        )
        raise MissingDataError(msg)
    lines: list[Line] = []
    missing: list[tuple[str, str]] = []
    notes: list[str] = []
    for split, path in files.lists.items():
        lines += _read_list(root / path, split, named, refuse)
    listed = _by_id(lines, refuse)
    labels, classes, told = _labels(root, named, files, listed, refuse)
    notes += told
    if files.ignored:
        notes.append(f"left out: {files.ignored:,} {named.ignored_as}")
    splits, official = _splits(named, files, listed)
    specs: dict[str, RecordingSpec] = {}
    unlisted = list(files.others)
    for take in files.takes.values():
        if official is not None and take.id not in splits:
            unlisted.append(Pair(take.id, take.events, take.rgb))
            continue
        label = labels.get(take.id, -1)
        name = classes.get(label, "")
        spec = RecordingSpec(take.id, take.events, take.rgb, splits.get(take.id, ""), label, name)
        specs[take.id] = spec
    if any(source.is_dir() for source in sources):
        missing += [(name, line.where) for name, line in listed.items() if name not in files.takes]
    if not specs and missing:
        first, where = missing[0]
        msg = f"{root}: none of the {len(listed)} recordings of the lists is there, as {first}"
        refuse(SetFault(msg, reason="missing", where=where))
    recordings = list(specs.values())
    if named.spans is not None:
        recordings, absent = _parts(root, named, files, recordings, refuse)
        missing += absent
        classes = dict(enumerate(named.classes))
    if rule.by is None and named.split_by is not None:
        rule = replace(rule, by=named.split_by)
    recordings, words = split_recordings(recordings, rule, official=official)
    names = ", ".join(PurePosixPath(path).name for path in files.lists.values())
    return Discovery(
        root=root,
        layout=f"{named.title}: {f'lists {names}' if names else official or 'no lists'}",
        recordings=tuple(sorted(recordings, key=lambda spec: spec.id)),
        classes=classes,
        missing=tuple(missing),
        unlisted=tuple(sorted(unlisted, key=lambda pair: pair.id)),
        split_rule=words,
        unknown=dict(sorted(files.unknown.items())),
        named=named,
        notes=tuple(notes),
    )


def _read_list(path: Location, split: str, named: NamedSet, refuse: Refuse) -> Iterator[Line]:
    assert named.lists is not None
    for number, line in numbered_lines(path, refuse, wanted=named.lists.wanted):
        where = f"{path.name}:{number}"
        match = named.lists.line.fullmatch(line.strip().replace("\\", "/"))
        if match is None:
            msg = f"{path}:{number}: expected '{named.lists.wanted}', got {shown(line)}"
            refuse(SetFault(msg, reason="bad_line", where=where))
            continue
        groups = {key: value for key, value in match.groupdict().items() if value is not None}
        label = int(groups["label"]) if "label" in groups else None
        yield Line(named.id_of(groups), groups, label, split, where)


def _by_id(lines: Sequence[Line], refuse: Refuse) -> dict[str, Line]:
    found: dict[str, Line] = {}
    for line in lines:
        first = found.setdefault(line.id, line)
        if first is not line:
            msg = f"{line.where}: {line.id!r} is listed more than once; keep one of the lines"
            others = (line.id, first.split, line.split)
            refuse(SetFault(msg, reason="listed_twice", where=line.where, others=others))
    return found


def _splits(
    named: NamedSet, files: SetFiles, listed: Mapping[str, Line]
) -> tuple[dict[str, str], str | None]:
    """Return id -> split, and what says so; None where nothing does."""
    if files.lists:
        return {name: line.split for name, line in listed.items()}, "list files"
    takes = files.takes.values()
    if named.splits:
        return {t.id: named.splits[t.groups["split"]] for t in takes}, "split folders"
    if named.groups:
        known = {t.id: named.groups[g] for t in takes if (g := t.groups["group"]) in named.groups}
        return known, "the published subjects"
    return {}, None


def _labels(
    root: Location,
    named: NamedSet,
    files: SetFiles,
    listed: Mapping[str, Line],
    refuse: Refuse,
) -> tuple[dict[str, int], dict[int, str], list[str]]:
    """Return id -> label, label -> name, and notes.

    The label of a list wins; then the number in the name; then the place of the class among the
    names, which are those of the set or, sorted, those that are met in folders and lists.
    """
    if named.spans is not None:
        return {}, {}, []
    by_list, notes = _listed_labels(named, listed)
    met: dict[str, dict[str, str]] = {name: line.groups for name, line in listed.items()}
    met |= {take.id: take.groups for take in files.takes.values()}
    folders = named.folders or tuple(sorted({g["class"] for g in met.values() if "class" in g}))
    places = {folder: place for place, folder in enumerate(folders)}
    labels: dict[str, int] = {}
    folders_of: dict[int, set[str]] = {}
    for name, groups in met.items():
        if name in by_list:
            label = by_list[name]
        elif "number" in groups:
            label = int(groups["number"]) - named.labels_from
        else:
            label = places[groups["class"]]
        labels[name] = label
        folders_of.setdefault(label, set()).add(groups.get("class", groups.get("number", "")))
    names = _names(root, named, files, folders_of, refuse)
    return labels, names, notes


def _listed_labels(named: NamedSet, listed: Mapping[str, Line]) -> tuple[dict[str, int], list[str]]:
    """Return the labels of the lists, from 0."""
    labels = {name: line.label for name, line in listed.items() if line.label is not None}
    steps = Counter(
        label - int(number)
        for name, label in labels.items()
        if (number := listed[name].groups.get("number")) is not None
    )
    if named.labels_from and set(steps) == {0}:
        note = f"labels of the lists count from {named.labels_from}, as folders do; kept from 0"
        return {name: label - named.labels_from for name, label in labels.items()}, [note]
    odd = steps.total() - steps[-named.labels_from]
    if odd:
        note = f"{odd:,} lines have another label than the name says; the list counts"
        return labels, [note]
    return labels, []


def _names(
    root: Location,
    named: NamedSet,
    files: SetFiles,
    folders: Mapping[int, set[str]],
    refuse: Refuse,
) -> dict[int, str]:
    """Return label -> name: of the set, of its file of names, else the folder where that is one."""
    given = dict(enumerate(named.classes))
    if files.class_list is not None and named.class_line is not None:
        wanted = "<class> <name>"
        for _, line in numbered_lines(root / files.class_list, refuse, wanted=wanted):
            if match := named.class_line.fullmatch(line.strip()):
                given[int(match["number"]) - named.labels_from] = match["name"]
    one_each = all(len(names) == 1 for names in folders.values())
    distinct = len({name for names in folders.values() for name in names}) == len(folders)
    usable = one_each and distinct
    labels = sorted({*folders, *range(len(named.classes))})
    return {
        label: given.get(label) or (next(iter(folders[label])) if usable else str(label))
        for label in labels
    }


def _parts(
    root: Location,
    named: NamedSet,
    files: SetFiles,
    whole: Sequence[RecordingSpec],
    refuse: Refuse,
) -> tuple[list[RecordingSpec], list[tuple[str, str]]]:
    """Cut recordings by their tables; returns the parts, and the tables that are not there."""
    assert named.spans is not None
    parts: list[RecordingSpec] = []
    absent = []
    for spec in whole:
        table = files.spans.get(spec.id)
        if table is None:
            absent.append((f"{spec.id} (its table of labels)", str(spec.events)))
            continue
        parts += _cut(root / table, spec, named, refuse)
    return parts, absent


def _cut(
    path: Location, spec: RecordingSpec, named: NamedSet, refuse: Refuse
) -> Iterator[RecordingSpec]:
    assert named.spans is not None
    count = 0
    for number, line in numbered_lines(path, refuse, wanted=_ROW_WANTED):
        match = _ROW.fullmatch(line)
        if match is None and number == 1:  # the names of the columns
            continue
        label = int(match[1]) - named.labels_from if match else -1
        start, stop = (int(match[2]), int(match[3])) if match else (0, 0)
        if not 0 <= label < named.spans.count or stop <= start:
            low, high = named.labels_from, named.labels_from + named.spans.count - 1
            msg = (
                f"{path}:{number}: expected {_ROW_WANTED}, a label of {low} to {high} and a stop "
                f"after the start, got {shown(line)}"
            )
            refuse(SetFault(msg, reason="bad_line", where=f"{path.name}:{number}"))
            continue
        name = named.classes[label]
        part = replace(spec, id=f"{spec.id}/{count:02d}", label=label, label_name=name)
        yield replace(part, start_us=start, stop_us=stop)
        count += 1
