"""Recordings out of tonic's data sets: ``tonic:NMNIST``, any class of `tonic.datasets` with events.

tonic (GPL-3) is optional and is loaded when a set of it is named. Its classes download in their
constructors; here they may not: `_offline` takes the look for archives and the download out of
them, and a set without files is refused with what tonic wants.

A recording is ``tonic:<set>/<split>/<key>``; the key is the path of its file below the root where
tonic keeps one a recording, else its number. tonic lists some folders as the file system does, so
its own numbers differ from machine to machine, and paths do not.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from eventkit._optional import require
from eventkit.errors import FormatError, MissingDataError, SettingsError
from pipelines.datasets.spec import Discovery, RecordingSpec
from pipelines.datasets.splits import BY_RECORDING, SplitRule, split_recordings

PREFIX = "tonic:"
_SET = re.compile(r"(\w+)((?:,\w+=[^,/]*)*)", re.ASCII)
_SPLITS = {"SSC": ("train", "valid", "test"), "ThreeET_Eyetracking": ("train", "val")}
_OURS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
_ONLINE = ("DSEC",)
"""Go to the network before they look for files; their HDF5 files are read without tonic."""
_ANY = "all"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A set of one split."""

    dataset: Any
    location: Path
    places: Mapping[str, int]


class _AbsentError(Exception):
    """tonic would download."""


def is_sample(events: str | None) -> bool:
    """Whether the event side of a recording is a sample of tonic rather than a file."""
    return events is not None and events.startswith(PREFIX)


def discover_tonic(root: Path, name: str, *, rule: SplitRule = BY_RECORDING) -> Discovery:
    """Understand a set of tonic.

    Parameters
    ----------
    root : Path
        What tonic calls ``save_to``: the folder with the set's own folder in it.
    name : str
        ``tonic:NAME`` or ``tonic:NAME,SETTING=VALUE...`` with settings of the class.
    rule : SplitRule
        Of a set that tonic does not split.

    Raises
    ------
    SettingsError
        If there is no such set, or one of its settings is missing or strange.
    MissingDataError
        If its files are not there.
    """
    cls, settings = _class_of(name)
    sides = {side: load_set(str(root), name, side) for side in _sides_of(cls, settings)}
    there = {side: loaded for side, loaded in sides.items() if loaded.places}
    if not there:
        raise _nothing(root, cls, next(iter(sides.values())).dataset, "none")
    targets = {
        (side, key): target
        for side, loaded in there.items()
        for key, target in _targets(loaded).items()
    }
    classes, labels = _number(next(iter(there.values())).dataset, targets)
    specs = []
    for side, loaded in there.items():
        for key in loaded.places:
            label = labels.get((side, key), -1)
            events = f"{name}/{side}/{key}"
            spec_id = _id_of(side, key, loaded, root)
            split = _OURS.get(side, "")
            specs.append(RecordingSpec(spec_id, events, None, split, label, classes.get(label, "")))
    official = "tonic's splits" if all(side in _OURS for side in there) else None
    recordings, words = split_recordings(specs, rule, official=official)
    notes = [f"none of the {side} split is there" for side in sides if side not in there]
    return Discovery(
        root=root,
        layout=f"{name}: {', '.join(f'{len(s.places):,} {side}' for side, s in there.items())}",
        recordings=tuple(sorted(recordings, key=lambda spec: spec.id)),
        classes=classes,
        split_rule=words,
        notes=tuple(notes),
    )


def _class_of(name: str) -> tuple[Any, dict[str, Any]]:
    """Return the class of a set and the settings in its name."""
    match = _SET.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        msg = f"expected tonic:NAME or tonic:NAME,SETTING=VALUE..., got {name!r}"
        raise SettingsError(msg)
    require("tonic", extra="tonic", purpose="reading tonic's data sets")
    datasets = require("tonic.datasets", extra="tonic", purpose="reading tonic's data sets")
    base = require("tonic.dataset", extra="tonic", purpose="reading tonic's data sets").Dataset
    known = {
        each: found
        for each in sorted(datasets.__all__)
        if issubclass(found := getattr(datasets, each), base) and each not in _ONLINE
    }
    if match[1] not in known:
        msg = f"expected a set of tonic among {', '.join(known)}, got {match[1]!r}"
        raise SettingsError(msg)
    settings = {}
    for pair in filter(None, match[2].split(",")):
        key, _, value = pair.partition("=")
        settings[key] = _value(value)
    _check_settings(known[match[1]], settings)
    return known[match[1]], settings


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text


def _check_settings(cls: Any, settings: Mapping[str, Any]) -> None:
    takes = {
        key: parameter
        for key, parameter in inspect.signature(cls).parameters.items()
        if key != "save_to" and "transform" not in key
    }
    strange = sorted(set(settings) - set(takes))
    if strange:
        known = ", ".join(takes) or "none"
        msg = f"expected settings of tonic's {cls.__name__} among {known}, got {strange[0]!r}"
        raise SettingsError(msg)
    needed = [key for key, each in takes.items() if each.default is each.empty]
    missing = [key for key in needed if key not in settings]
    if missing:
        name = cls.__name__
        msg = (
            f"expected {missing[0]} for tonic's {name}, got none; {PREFIX}{name},{missing[0]}=VALUE"
        )
        raise SettingsError(msg)


def _sides_of(cls: Any, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return split -> the settings that choose it; ``all`` where tonic splits nothing."""
    takes = inspect.signature(cls).parameters
    if "train" in settings:
        return {"train" if settings["train"] else "test": {}}
    if "split" in settings:
        return {str(settings["split"]): {}}
    if "train" in takes:
        return {"train": {"train": True}, "test": {"train": False}}
    if cls.__name__ in _SPLITS:
        return {side: {"split": side} for side in _SPLITS[cls.__name__]}
    return {_ANY: {}}


def _offline(cls: Any) -> Any:
    """Return the class without its ways to get files; under its name, which is its folder's."""

    def refuse(self: Any, *_: Any) -> None:
        raise _AbsentError

    def there(self: Any, *_: Any) -> bool:
        # tonic asks for the archive too, which many remove after unpacking it.
        return True

    return type(cls.__name__, (cls,), {"download": refuse, "_check_exists": there})


@cache
def load_set(root: str, name: str, side: str) -> Loaded:
    """Make tonic's object for a split; it lists its folder, a second for 60,000 files."""
    cls, settings = _class_of(name)
    chosen = {**settings, **_sides_of(cls, settings)[side]}
    try:
        dataset = _offline(cls)(save_to=root, **chosen)
        count = len(dataset)
    except FileNotFoundError:
        dataset, count = cls, 0
    except Exception as err:  # its asserts, and whatever its libraries raise on what is there
        got = "none" if isinstance(err, _AbsentError) else f"{type(err).__name__}: {err}"
        raise _nothing(Path(root), cls, cls, got) from err
    location = Path(getattr(dataset, "location_on_system", Path(root) / cls.__name__))
    # Some count what they would have downloaded.
    there = any(path.is_file() for path in location.rglob("*"))
    keys = _keys(dataset, count, root) if there else {}
    return Loaded(dataset, location, dict(sorted(keys.items())))


def _keys(dataset: Any, count: int, root: str) -> dict[str, int]:
    data = getattr(dataset, "data", None)
    if isinstance(data, list) and len(data) == count:
        paths = [os.path.relpath(p, root).replace(os.sep, "/") for p in data if isinstance(p, str)]
        if len(set(paths)) == count and not any(path.startswith("../") for path in paths):
            return {path: place for place, path in enumerate(paths)}
    return {f"{place:06d}": place for place in range(count)}


def _nothing(root: Path, cls: Any, dataset: Any, got: str) -> MissingDataError:
    """Say what tonic wants."""
    folder = getattr(dataset, "location_on_system", root / cls.__name__)
    inner = getattr(dataset, "folder_name", "")
    archive, url = getattr(dataset, "filename", ""), getattr(dataset, "url", "")
    wants = f"{archive} unpacked there{f' as {inner}' * bool(inner)}" if archive else "its files"
    source = f" (from {url})" * bool(url)
    return MissingDataError(
        f"expected the files of tonic's {cls.__name__} in {folder}, got {got}; tonic wants "
        f"{wants}{source}: download them, or let tonic do it once with "
        f"tonic.datasets.{cls.__name__}({str(root)!r}); nothing is downloaded here"
    )


def _id_of(side: str, key: str, loaded: Loaded, root: Path) -> str:
    if key.isdecimal():
        return f"{side}/{key}"
    own = os.path.relpath(loaded.location, root).replace(os.sep, "/")
    return str(PurePosixPath(key.removeprefix(f"{own}/")).with_suffix(""))


def _targets(loaded: Loaded) -> dict[str, Any]:
    """Return key -> what tonic says a recording shows, as far as that is a class."""
    given = getattr(loaded.dataset, "targets", None)
    if isinstance(given, list) and len(given) == len(loaded.places):
        found = {key: given[place] for key, place in loaded.places.items()}
    elif hasattr(loaded.dataset, "classes"):
        found = {key: load_sample(loaded, key)[1] for key in loaded.places}
    else:
        return {}
    numbers = all(isinstance(target, int | np.integer) for target in found.values())
    names = all(isinstance(target, str) and "/" not in target for target in found.values())
    return found if numbers or names else {}


def _number(
    dataset: Any, targets: Mapping[tuple[str, str], Any]
) -> tuple[dict[int, str], dict[tuple[str, str], int]]:
    """Return label -> name, and the label of each recording."""
    given = getattr(dataset, "classes", {})
    pairs = given.items() if isinstance(given, dict) else zip(given, range(len(given)), strict=True)
    known = {
        name.decode() if isinstance(name, bytes) else str(name): int(label) for name, label in pairs
    }
    names = sorted({target for target in targets.values() if isinstance(target, str)})
    if names and not set(names) <= set(known):
        known = {name: label for label, name in enumerate(names)}
    labels = {
        key: known[target] if isinstance(target, str) else int(target)
        for key, target in targets.items()
    }
    classes = {label: name for name, label in known.items()} if labels else {}
    return {k: classes.get(k, str(k)) for k in sorted({*classes, *labels.values()})}, labels


def load_sample(loaded: Loaded, key: str) -> tuple[Any, Any]:
    """Return data and target of a sample.

    Raises
    ------
    FormatError
    """
    try:
        data, target = loaded.dataset[loaded.places[key]]
    except Exception as err:  # tonic has no errors of its own
        got = f"{type(err).__name__}: {err}"
        msg = f"expected a sample that tonic can read, got {got}; copy it again"
        raise FormatError(msg, path=key, reason="corrupt") from err
    return data, target
