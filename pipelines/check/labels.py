"""What is wrong with classes, lists and names: told by the discovery, without opening a file."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from eventkit.samples import sample_key
from pipelines.check.findings import Finding
from pipelines.datasets.discover import Discovery, RecordingSpec
from pipelines.datasets.faults import SetFault
from pipelines.datasets.lists import SPLITS
from pipelines.datasets.splits import group_of

_MOSTLY = 0.8


def judge_set(found: Discovery, faults: Sequence[SetFault], *, by: str | None) -> Iterator[Finding]:
    """Yield what the names, lists and folders of a set tell; ``by`` is that of the `SplitRule`."""
    yield from map(_fault, (fault for fault in faults if fault.reason != "missing"))
    yield from _lines_without_files(found)
    yield from _files_without_lines(found)
    yield from _keys(found.recordings)
    yield from _torn_groups(found.recordings, by)
    yield from _orphans(found.recordings)
    yield from _classes(found)
    yield from _label_conflicts(found.recordings)
    for suffix, count in found.unknown.items():
        message = (
            f"expected files of known formats, got {count:,} with {suffix}; they are left out, "
            "`eventkit info` on one of them says more"
        )
        yield Finding("unknown", ".", message)


def _fault(fault: SetFault) -> Finding:
    if fault.reason != "listed_twice":
        place, at, rest = str(fault).partition(": expected")  # the place has a column of its own
        message = f"expected{rest}" if at else place
        return Finding(fault.reason, fault.where, message, others=fault.others)
    name, first, second = fault.others
    if first == second:
        message = f"expected {name} on one line, got it on another as well; keep one of them"
        return Finding("listed_twice", fault.where, message, others=(name,))
    message = (
        f"expected {name} in one split, got it in the lists of {first} and {second}: scores would "
        "count what was trained on; keep one of the lines"
    )
    return Finding("shared", fault.where, message, others=(name,))


def _lines_without_files(found: Discovery) -> Iterator[Finding]:
    for name, where in found.missing:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            message = f"expected a recording below {found.root}, got {name!r}; nothing else is read"
            yield Finding("bad_line", where, message)
        else:
            message = (
                f"expected the recording that {where} lists, got no such file; download it or "
                "take the line out"
            )
            yield Finding("missing", name, message, others=(where,))


def _files_without_lines(found: Discovery) -> Iterator[Finding]:
    for pair in found.unlisted:
        message = "expected a line in a list, got none; it is left out, add a line or move it away"
        yield Finding("unlisted", str(pair.events or pair.rgb), message)


def _keys(recordings: Sequence[RecordingSpec]) -> Iterator[Finding]:
    """Samples are named by letters, digits, ``-`` and ``_``: two names may come to one."""
    keys: dict[str, str] = {}
    for spec in recordings:
        other = keys.setdefault(sample_key(spec.id, 0), spec.id)
        if other != spec.id:
            message = f"expected names that differ as keys of samples, got {other!r}; rename one"
            yield Finding("same_name", spec.id, message, others=(other,))


def _torn_groups(recordings: Sequence[RecordingSpec], by: str | None) -> Iterator[Finding]:
    """A subject or session that was trained on must not be tested on."""
    groups: dict[str, Counter[str]] = {}
    if by is not None:
        for spec in recordings:
            groups.setdefault(group_of(spec.id, by), Counter())[spec.split] += 1
    for group, splits in groups.items():
        if len(splits) > 1:
            got = " and ".join(f"{splits[s]:,} in {s}" for s in SPLITS if splits[s])
            message = (
                f"expected the recordings of a group in one split, got {got}: scores would count "
                "what was trained on; move them, or mind it when numbers are compared"
            )
            yield Finding("shared", group, message)


def _orphans(recordings: Sequence[RecordingSpec]) -> Iterator[Finding]:
    alone = [spec for spec in recordings if spec.events is None]
    if 2 * len(alone) >= len(recordings):  # pictures are what this set is made of
        return
    for spec in alone:
        message = (
            "expected an event file of this name beside the pictures, got none; it would be a "
            "recording of RGB alone"
        )
        yield Finding("orphan", str(spec.rgb), message)


def _classes(found: Discovery) -> Iterator[Finding]:
    counts = Counter(spec.label for spec in found.recordings)
    if found.recordings and set(counts) == {-1}:
        message = "expected classes (folders or lists), got none; training needs labels"
        yield Finding("unlabelled", ".", message)
        return
    for label, count in sorted(counts.items()):
        if count == 1 and len(found.recordings) > 1:
            name = found.classes.get(label, str(label))
            message = (
                f"expected several recordings of a class, got one of {name!r} (label {label}): it "
                "cannot be in train and in test; add recordings or leave the class out"
            )
            yield Finding("one_recording", name, message)
    yield from _alike(found)
    yield from _ids(found)


def _alike(found: Discovery) -> Iterator[Finding]:
    """Two folders of one class, as systems that do not tell case apart leave them."""
    groups: dict[str, set[str]] = {}
    for name in found.classes.values():
        plain = unicodedata.normalize("NFKC", name).casefold()
        groups.setdefault(plain.translate(_BLANKS), set()).add(name)
    for names in groups.values():
        if len(names) > 1:
            first, *others = sorted(names)
            message = (
                f"expected class names that differ by more than case and blanks, got {first!r} and "
                f"{', '.join(map(repr, others))}; join the folders or rename one"
            )
            yield Finding("case", first, message, others=tuple(others))


_BLANKS = str.maketrans("", "", " -_")


def _ids(found: Discovery) -> Iterator[Finding]:
    labels = sorted(found.classes)
    if not labels or labels == list(range(len(labels))):
        return
    start = labels[0]
    if labels == list(range(start, start + len(labels))):
        got = f"{start} to {labels[-1]}"
    else:
        absent = set(range(labels[-1] + 1)).difference(labels) if labels[-1] < 1 << 20 else set()
        got = f"{len(labels):,} ids up to {labels[-1]:,}" + (
            f", without {', '.join(map(str, sorted(absent)[:5]))}"
            + (" ..." if len(absent) > 5 else "")
            if absent
            else ""
        )
    message = (
        f"expected class ids 0 to {len(labels) - 1}, got {got}: a trainer that counts classes "
        f"fails at id {labels[-1]}; number them from 0, or tell it of {labels[-1] + 1} classes"
    )
    yield Finding("label_ids", ".", message)


def _label_conflicts(recordings: Sequence[RecordingSpec]) -> Iterator[Finding]:
    """Where folders go with labels, a recording with another label than its folder is a slip."""
    folders: dict[str, Counter[int]] = {}
    for spec in recordings:
        folders.setdefault(str(PurePosixPath(spec.id).parent), Counter())[spec.label] += 1
    pure = sum(len(labels) == 1 for labels in folders.values())
    if len(folders) < 2 or pure < _MOSTLY * len(folders):
        return
    for spec in recordings:
        folder = str(PurePosixPath(spec.id).parent)
        (usual, count), *others = folders[folder].most_common()
        if others and spec.label != usual and count > others[0][1]:
            message = (
                f"expected label {usual} as of {count:,} other recordings in {folder}, got "
                f"{spec.label}; correct its line"
            )
            yield Finding("label_conflict", spec.id, message)
