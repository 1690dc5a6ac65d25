"""Published data sets by name: how each lays out its files, and what these do not say.

A set is a declaration, ``sets/<name>.toml``; nothing here knows any of them. Patterns are regular
expressions over paths below the root, with forward slashes; whatever folders stand above are
allowed. Their groups name a recording: ``id`` is a template over them, so that the two sides of a
recording and its line in a list meet whatever folder each was unpacked into.
"""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from eventkit.errors import SettingsError
from eventkit.events import TimeUnit

_ABOVE = "(?:.*/)?"


@dataclass(frozen=True, slots=True)
class Lists:
    """List files: which they are, and what stands in a line.

    Parameters
    ----------
    files : dict split -> pattern
    line : pattern
        Groups of ``id``, and ``label`` where a line has one.
    wanted : str
        The same in words.
    """

    files: dict[str, re.Pattern[str]]
    line: re.Pattern[str]
    wanted: str


@dataclass(frozen=True, slots=True)
class Spans:
    """Tables that cut recordings into labelled parts: ``<label>,<start>,<stop>`` in microseconds.

    Parameters
    ----------
    file : pattern
        Groups of ``id``.
    count : int
        Labels go from ``labels_from`` to below ``labels_from + count``.
    """

    file: re.Pattern[str]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSet:
    """One published set.

    Parameters
    ----------
    name, title, about, homepage, licence, citation, download : str
    id : str
        Template of a recording's id.
    example : str
        A path as the set has it.
    events : pattern
        Of event files. Group ``class`` is what names its class, ``number`` the number of it,
        ``split`` the split, ``group`` what is to stay in one.
    rgb : pattern, optional
        Of folders of pictures.
    own_rgb : bool
        Event files hold frames too, with times; folders of pictures stand in where there are none.
    ignored : pattern, optional
        Of files and folders that are no recordings, though they look so; ``ignored_as`` says what.
    labels_from : int
        The number of the first class in names, lists and tables; classes are stored from 0.
    classes : tuple of str
        Names by label, where the set fixes them; the group ``class`` is one of ``folders`` then.
    folders : tuple of str
    class_list : pattern, optional
        Of a file with names; ``class_line`` has the groups ``number`` and ``name``.
    splits : dict name -> split
        Of the group ``split``, where it is none of ours.
    groups : dict group -> split
        Published splits by the group ``group``.
    split_by : str, optional
        Which recordings stay together where a split is made here; see `SplitRule`.
    sensor_size : (W, H), time_unit, flip_y
        What files do not say. ``flip_y``: rows are counted from below.
    """

    name: str
    title: str
    about: str
    homepage: str
    licence: str
    citation: str
    download: str
    id: str
    example: str
    events: re.Pattern[str]
    rgb: re.Pattern[str] | None = None
    own_rgb: bool = False
    ignored: re.Pattern[str] | None = None
    ignored_as: str = ""
    labels_from: int = 0
    classes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    class_list: re.Pattern[str] | None = None
    class_line: re.Pattern[str] | None = None
    lists: Lists | None = None
    spans: Spans | None = None
    splits: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    split_by: str | None = None
    sensor_size: tuple[int, int] | None = None
    time_unit: TimeUnit | None = None
    flip_y: bool = False

    def id_of(self, groups: Mapping[str, str | None]) -> str:
        """Return the id that the groups of a match make."""
        return self.id.format_map(groups)


@cache
def named_sets() -> dict[str, NamedSet]:
    """Return all sets by name, sorted."""
    folder = importlib.resources.files("pipelines.datasets") / "sets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {
        (name := file.name.removesuffix(".toml")): parse_set(name, file.read_text("utf-8"))
        for file in files
    }


def named_set(name: str) -> NamedSet:
    """Return a set.

    Raises
    ------
    SettingsError
        If there is none of this name.
    """
    known = named_sets()
    if name not in known:
        msg = f"expected --dataset among {', '.join(known)} or tonic:NAME, got {name!r}"
        raise SettingsError(msg)
    return known[name]


def parse_set(name: str, text: str) -> NamedSet:
    """Return the set that a declaration describes."""
    raw = tomllib.loads(text)
    lists, spans = raw.pop("lists", None), raw.pop("spans", None)
    for key in ("events", "rgb", "ignored", "class_list"):
        if key in raw:
            raw[key] = _path(raw[key])
    if "class_line" in raw:
        raw["class_line"] = re.compile(raw["class_line"], re.ASCII)
    for key in ("classes", "folders"):
        raw[key] = tuple(raw.get(key, ()))
    by_split = raw.pop("groups", {})
    # The first that claims a group keeps it: published lists overlap.
    groups = {group: split for split in reversed(by_split) for group in by_split[split]}
    size: list[int] | None = raw.pop("sensor_size", None)
    return NamedSet(
        name=name,
        lists=None if lists is None else _lists(lists),
        spans=None if spans is None else Spans(_path(spans["file"]), spans["count"]),
        groups=groups,
        sensor_size=None if size is None else cast("tuple[int, int]", tuple(size)),
        **raw,
    )


def _lists(raw: dict[str, Any]) -> Lists:
    files = {split: _path(pattern) for split, pattern in raw["files"].items()}
    return Lists(files, _path(raw["line"]), raw["wanted"])


def _path(pattern: str) -> re.Pattern[str]:
    return re.compile(_ABOVE + pattern, re.ASCII)
