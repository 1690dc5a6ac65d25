"""What a raw folder is: a published set, list files, a class tree, or just recordings.

Order: a set that is named or has its names for files, list files, ``[split/]class/recording``
trees, then recordings without labels. What stays ambiguous is refused with the candidates;
``--layout`` decides.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from eventkit.errors import MissingDataError, SettingsError
from eventkit.location import Location, RemotePath
from pipelines.datasets.faults import Refuse, SetFault, at_once
from pipelines.datasets.files import Pair, find_pairs, stem_of
from pipelines.datasets.lists import class_names, find_lists, read_list
from pipelines.datasets.named import named_set
from pipelines.datasets.named_files import guess_set
from pipelines.datasets.named_sets import discover_named
from pipelines.datasets.spec import Discovery as Discovery
from pipelines.datasets.spec import RecordingSpec as RecordingSpec
from pipelines.datasets.splits import BY_RECORDING, SplitRule, split_recordings
from pipelines.datasets.tonic_sets import discover_tonic, is_sample

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


def discover(
    sources: Sequence[Location],
    *,
    layout: Layout = "auto",
    rule: SplitRule = BY_RECORDING,
    refuse: Refuse = at_once,
    dataset: str | None = None,
) -> Discovery:
    """Understand a folder, several folders or single files.

    Parameters
    ----------
    sources : sequence of Path
    layout : {"auto", "list", "tree", "flat"}
    rule : SplitRule
        Of the splits that no list or folder names.
    refuse : callable
        What is done about a fault of the set, as a line of a list that cannot be read: raised. If
        it returns, the set is understood without what is at fault.
    dataset : str, optional
        Name of a published set (`pipelines.datasets.named`), or ``tonic:NAME`` with the folder that
        tonic keeps its sets in as the one source. Without it the names of files tell, unless
        ``layout`` says another thing.

    Raises
    ------
    MissingDataError
        If a path does not exist or holds no recording.
    SettingsError
        If the layout is ambiguous.
    """
    if dataset is not None and layout != "auto":
        msg = f"expected --dataset or --layout, got both ({dataset}, {layout}); leave one out"
        raise SettingsError(msg)
    sources = [_looked_up(source) for source in sources]
    root = _root(sources)
    if is_sample(dataset):
        if not isinstance(root, Path):
            msg = f"{root}: expected a folder of this disk for {dataset}, got a URL; copy it here"
            raise SettingsError(msg)
        return discover_tonic(root, str(dataset), rule=rule)
    places = [source.resolve() for source in sources]
    guessed = guess_set(root, places) if dataset is None and layout == "auto" else None
    named = guessed if dataset is None else named_set(dataset)
    if named is not None:
        found = discover_named(root, places, named, rule=rule, refuse=refuse)
        told = (
            f"taken for {named.title} by the names of its files; --layout list, tree or flat reads "
            "it as any other"
        )
        return replace(found, notes=(told, *found.notes)) if guessed else found
    pairs, unknown = find_pairs(root, places, refuse=refuse)
    lists = find_lists(root) if layout in ("auto", "list") else {}
    if layout == "list" and not lists:
        msg = f"{root}: expected train_label.txt, val_label.txt or test_label.txt, found none"
        raise MissingDataError(msg)
    if lists:
        # A list beside single files names others too; only those that were asked for count.
        whole = any(source.is_dir() for source in sources)
        found = _from_lists(root, pairs, lists, rule, refuse, whole=whole)
    else:
        found = _from_tree(root, pairs, layout, rule, refuse)
    return replace(found, unknown=dict(sorted(unknown.items())))


def _looked_up(source: Location) -> Location:
    """Return a source that is there; behind a URL with all that lies beside and below it."""
    if not source.exists():
        msg = f"{source}: no such file or folder"
        raise MissingDataError(msg)
    if isinstance(source, Path):
        return source
    return source.parent.listed() / source.name if source.is_file() else source.listed()


def _root(sources: Sequence[Location]) -> Location:
    folders = [s.resolve() if s.is_dir() else s.resolve().parent for s in sources]
    if len(folders) == 1:
        return folders[0]
    here = [folder for folder in folders if isinstance(folder, Path)]
    if len(here) == len(folders):
        return Path(os.path.commonpath(here))
    there = [folder for folder in folders if isinstance(folder, RemotePath)]
    above = [{each, *each.parents} for each in there]
    common = set.intersection(*above) if not here else set()
    if not common:
        names = ", ".join(str(source) for source in sources)
        msg = f"expected folders of one disk or one bucket, got {names}; convert each apart"
        raise SettingsError(msg)
    return max(common, key=lambda each: len(each.parts)).listed()


def _from_lists(
    root: Location,
    pairs: list[Pair],
    lists: dict[str, Location],
    rule: SplitRule,
    refuse: Refuse,
    *,
    whole: bool,
) -> Discovery:
    entries = [
        entry for split, path in lists.items() for entry in read_list(path, split, refuse=refuse)
    ]
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
            others = (found.id, recordings[found.id].split, entry.split)
            refuse(SetFault(msg, reason="listed_twice", where=entry.where, others=others))
            continue
        recordings[found.id] = RecordingSpec(
            found.id, found.events, found.rgb, entry.split, entry.label, names[entry.label]
        )
    if not recordings and missing:
        msg = (
            f"{root}: none of the {len(entries)} recordings of "
            f"{', '.join(path.name for path in lists.values())} is there, as {missing[0][0]}"
        )
        refuse(SetFault(msg, reason="missing", where=missing[0][1]))
    split, words = split_recordings(list(recordings.values()), rule, official="list files")
    return Discovery(
        root=root,
        layout=f"list files {', '.join(path.name for path in lists.values())}",
        recordings=tuple(sorted(split, key=lambda r: r.id)),
        classes=names,
        missing=tuple(missing) if whole else (),
        unlisted=tuple(pair for pair in pairs if pair.id not in recordings),
        split_rule=words,
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


def _from_tree(
    root: Location, pairs: list[Pair], layout: Layout, rule: SplitRule, refuse: Refuse
) -> Discovery:
    parts = {pair.id: pair.id.split("/") for pair in pairs}
    split_of: dict[str, str] = {}
    if layout != "flat" and all(
        p[0].lower() in _SPLIT_FOLDERS and len(p) > 1 for p in parts.values()
    ):
        split_of = {i: _SPLIT_FOLDERS[p[0].lower()] for i, p in parts.items()}
        parts = {i: p[1:] for i, p in parts.items()}
    labelled = _is_class_tree(root, parts, layout, refuse, has_splits=bool(split_of))
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
    official = "split folders" if split_of else None
    recordings, split_rule = split_recordings(recordings, rule, official=official)
    words = ("split folders, " if split_of else "") + (
        "one folder a class" if labelled else "no labels"
    )
    return Discovery(root, words, tuple(recordings), classes, split_rule=split_rule)


def _is_class_tree(
    root: Location, parts: dict[str, list[str]], layout: Layout, refuse: Refuse, *, has_splits: bool
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
    refuse(SetFault(msg, reason="layout", where="."))
    return False


def _sorted_names(names: set[str]) -> list[str]:
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
