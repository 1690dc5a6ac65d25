"""What a raw folder is: list files, a class tree, or just recordings.

Order: list files, then ``[split/]class/recording`` trees, then recordings without labels. What
stays ambiguous is refused with the candidates; ``--layout`` decides.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from eventkit.errors import MissingDataError, SettingsError
from pipelines.datasets.files import Pair, find_pairs, stem_of
from pipelines.datasets.lists import class_names, find_lists, read_list

Layout = Literal["auto", "list", "tree", "flat"]
LAYOUTS = ("auto", "list", "tree", "flat")
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
VAL_SHARE = 0.1
TEST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RecordingSpec:
    """One recording: files relative to the root, label and split."""

    id: str
    events: str | None
    rgb: str | None
    split: str
    label: int
    label_name: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was understood.

    Parameters
    ----------
    root : Path
    layout : str
        In words, for the user.
    recordings : tuple of RecordingSpec
        Sorted by id.
    classes : dict label -> name
    missing : tuple of (name, where)
        Lines of list files without a recording.
    unlisted : int
        Recordings in no list file.
    split_rule : str
    unknown : dict suffix -> count
        Files that no reader knows.
    """

    root: Path
    layout: str
    recordings: tuple[RecordingSpec, ...]
    classes: dict[int, str]
    missing: tuple[tuple[str, str], ...] = ()
    unlisted: int = 0
    split_rule: str = ""
    unknown: dict[str, int] = field(default_factory=dict)


def discover(sources: Sequence[Path], *, layout: Layout = "auto") -> Discovery:
    """Understand a folder, several folders or single files.

    Raises
    ------
    MissingDataError
        If a path does not exist or holds no recording.
    SettingsError
        If the layout is ambiguous.
    """
    for source in sources:
        if not source.exists():
            msg = f"{source}: no such file or folder"
            raise MissingDataError(msg)
    root = _root(sources)
    pairs, unknown = find_pairs(root, [source.resolve() for source in sources])
    lists = find_lists(root) if layout in ("auto", "list") else {}
    if layout == "list" and not lists:
        msg = f"{root}: expected train_label.txt, val_label.txt or test_label.txt, found none"
        raise MissingDataError(msg)
    if lists:
        # A list beside single files names others too; only those that were asked for count.
        whole = any(source.is_dir() for source in sources)
        found = _from_lists(root, pairs, lists, whole=whole)
    else:
        found = _from_tree(root, pairs, layout)
    return replace(found, unknown=dict(sorted(unknown.items())))


def _root(sources: Sequence[Path]) -> Path:
    folders = [s.resolve() if s.is_dir() else s.resolve().parent for s in sources]
    return Path(os.path.commonpath(folders))


def _from_lists(root: Path, pairs: list[Pair], lists: dict[str, Path], *, whole: bool) -> Discovery:
    entries = [entry for split, path in lists.items() for entry in read_list(path, split)]
    names = class_names(entries)
    find = _finder(pairs)
    recordings: dict[str, RecordingSpec] = {}
    missing = []
    for entry in entries:
        found = find(entry.path)
        if found is None:
            missing.append((entry.path, entry.where))
            continue
        if found.id in recordings:
            msg = f"{entry.where}: {entry.path!r} is listed more than once; keep one of the lines"
            raise SettingsError(msg)
        recordings[found.id] = RecordingSpec(
            found.id, found.events, found.rgb, entry.split, entry.label, names[entry.label]
        )
    if not recordings:
        msg = (
            f"{root}: none of the {len(entries)} recordings of "
            f"{', '.join(path.name for path in lists.values())} is there, as {missing[0][0]}"
        )
        raise MissingDataError(msg)
    split, rule = _carve_val(list(recordings.values()), "list files")
    return Discovery(
        root=root,
        layout=f"list files {', '.join(path.name for path in lists.values())}",
        recordings=tuple(sorted(split, key=lambda r: r.id)),
        classes=names,
        missing=tuple(missing) if whole else (),
        unlisted=sum(pair.id not in recordings for pair in pairs),
        split_rule=rule,
    )


def _finder(pairs: list[Pair]) -> Callable[[str], Pair | None]:
    """Return what finds a recording by its path, with or without suffix, or by the path's end.

    Lists often leave out the folder that the recordings were unpacked into; an end that fits more
    than one recording finds none.
    """
    by_id = {pair.id: pair for pair in pairs}
    by_ending: dict[str, list[Pair]] = {}
    for pair in pairs:
        parts = pair.id.split("/")
        for i in range(1, len(parts)):
            by_ending.setdefault("/".join(parts[i:]), []).append(pair)

    def find(name: str) -> Pair | None:
        for candidate in (name, stem_of(name)):
            if candidate in by_id:
                return by_id[candidate]
            endings = by_ending.get(candidate, [])
            if len(endings) == 1:
                return endings[0]
        return None

    return find


def _from_tree(root: Path, pairs: list[Pair], layout: Layout) -> Discovery:
    parts = {pair.id: pair.id.split("/") for pair in pairs}
    split_of: dict[str, str] = {}
    if layout != "flat" and all(
        p[0].lower() in _SPLIT_FOLDERS and len(p) > 1 for p in parts.values()
    ):
        split_of = {i: _SPLIT_FOLDERS[p[0].lower()] for i, p in parts.items()}
        parts = {i: p[1:] for i, p in parts.items()}
    labelled = _is_class_tree(root, parts, layout, has_splits=bool(split_of))
    classes: dict[int, str] = {}
    label_of: dict[str, int] = {}
    if labelled:
        names = _sorted_names({p[0] for p in parts.values()})
        classes = dict(enumerate(names))
        ids = {name: label for label, name in classes.items()}
        label_of = {i: ids[p[0]] for i, p in parts.items()}
    recordings = [
        RecordingSpec(
            pair.id,
            pair.events,
            pair.rgb,
            split_of.get(pair.id, ""),
            label_of.get(pair.id, -1),
            classes.get(label_of.get(pair.id, -1), ""),
        )
        for pair in pairs
    ]
    if split_of:
        recordings, rule = _carve_val(recordings, "split folders")
    else:
        recordings = [replace(r, split=_hashed_split(r.id)) for r in recordings]
        rule = "80/10/10 by hash of the recording"
    words = ("split folders, " if split_of else "") + (
        "one folder a class" if labelled else "no labels"
    )
    return Discovery(root, words, tuple(recordings), classes, split_rule=rule)


def _is_class_tree(
    root: Path, parts: dict[str, list[str]], layout: Layout, *, has_splits: bool
) -> bool:
    if layout == "flat":
        return False
    depths = Counter(len(p) for p in parts.values())
    tops = {p[0] for p in parts.values() if len(p) > 1}
    if layout == "tree":
        if 1 in depths:
            bare = next(i for i, p in parts.items() if len(p) == 1)
            msg = f"--layout tree: expected class/recording, {bare!r} is in no class folder"
            raise SettingsError(msg)
        return True
    if set(depths) == {1}:
        return False
    if set(depths) == {2} and (len(tops) > 1 or has_splits):
        return True
    examples = [next(i for i, p in parts.items() if len(p) == depth) for depth in sorted(depths)]
    msg = (
        f"{root}: cannot tell classes from sessions ({', '.join(examples)}); "
        "--layout tree takes the first folder as the class, --layout flat takes none"
    )
    raise SettingsError(msg)


def _sorted_names(names: set[str]) -> list[str]:
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _share(salt: str, name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone, so new data moves nothing."""
    digest = hashlib.sha256(f"{salt}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _hashed_split(name: str) -> str:
    u = _share("eventkit-split", name)
    if u < 1 - VAL_SHARE - TEST_SHARE:
        return "train"
    return "val" if u < 1 - TEST_SHARE else "test"


def _carve_val(recordings: list[RecordingSpec], source: str) -> tuple[list[RecordingSpec], str]:
    """Take a val split out of train where there is none, so that nobody selects on test."""
    splits = {recording.split for recording in recordings}
    if "val" in splits or "train" not in splits:
        return recordings, source
    carved = [
        replace(r, split="val")
        if r.split == "train" and _share("eventkit-val", r.id) < VAL_SHARE
        else r
        for r in recordings
    ]
    if all(recording.split != "train" for recording in carved):
        return recordings, f"{source}; too few recordings for a val split"
    return carved, f"{source}; val is {VAL_SHARE:.0%} of train by hash of the recording"
