"""Open the two sides of a recording of a set: one set of options for recordings of every format.

An option that a format has no use for is left out there and noted, as it is meant for the others;
one that no recording of the set has a use for is refused before any of them is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import eventkit
from eventkit.errors import EventKitError, SettingsError
from eventkit.events import TimeUnit
from eventkit.location import Location
from eventkit.preprocess import Preprocessing, preprocess
from eventkit.readers import find_reader, readers
from eventkit.readers.column_order import NamedColumnsError
from eventkit.readers.fit import check_fit, unfit
from eventkit.recording import OnError, Recording
from eventkit.sources import Source
from pipelines.datasets.discover import Discovery, RecordingSpec
from pipelines.datasets.tonic_samples import open_sample
from pipelines.datasets.tonic_sets import is_sample
from pipelines.span import part_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """What the readers are told."""

    on_error: OnError = "raise"
    sensor_size: tuple[int, int] | None = None
    time_unit: TimeUnit | None = None
    rgb_time_unit: TimeUnit | None = None
    columns: str | None = None
    topic: str | None = None
    format: str | None = None
    flip_y: bool = False
    """Rows are counted from below."""


def for_set(read: ReadSettings, found: Discovery) -> ReadSettings:
    """Fill in what a published set knows and its files do not say; what was given wins."""
    named = found.named
    if named is None or not any(spec.events for spec in found.recordings):
        return read
    return replace(
        read,
        sensor_size=read.sensor_size or named.sensor_size,
        time_unit=read.time_unit or named.time_unit,
        flip_y=named.flip_y,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """A file or folder of a recording, and the options that are meant for it."""

    path: Location
    format: str | None
    prefix: str
    given: dict[str, Any]

    def option(self, name: str) -> str:
        """Return the name of an option as the command line has it."""
        return f"{self.prefix}{name.replace('_', '-')}"

    def fitting(self) -> tuple[dict[str, Any], list[str]]:
        """Return the options without those that the format has no use for, and a note on each."""
        if not any(self.given.values()):  # a look at each file of a large set takes minutes
            return self.given, []
        reader, _ = find_reader(Source(str(self.path)), format=self.format)
        left = unfit(reader, self.given, readers())
        notes = [
            f"{self.option(name)} {self.given[name]} is left out for {reader.name} ({why})"
            for name, why in left.items()
        ]
        return {**self.given, **dict.fromkeys(left)}, notes


def open_spec(root: Path, spec: RecordingSpec, read: ReadSettings) -> Recording:
    """Open both sides of a recording, or the part of it that is meant."""
    recording = _open_whole(root, spec, read)
    if read.flip_y:
        recording = preprocess(recording, Preprocessing(filters=("flip:axis=y",)))
    if spec.start_us is not None and spec.stop_us is not None:
        recording = part_of(recording, spec.start_us, spec.stop_us)
    return recording


def _open_whole(root: Path, spec: RecordingSpec, read: ReadSettings) -> Recording:
    if spec.events is not None and is_sample(spec.events):
        size = read.sensor_size
        return open_sample(root, spec.events, on_error=read.on_error, sensor_size=size)
    main, *rgb = _sides(root, spec, read)
    options, notes = main.fitting()
    if rgb:
        of_rgb, more = rgb[0].fitting()
        options |= {"rgb": str(rgb[0].path), "rgb_time_unit": of_rgb["time_unit"]}
        notes += more
    opened = partial(
        eventkit.open,
        str(main.path),
        on_error=read.on_error,
        sensor_size=read.sensor_size,
        format=main.format,
    )
    try:
        recording = opened(**options)
    except NamedColumnsError:  # the order is meant for recordings that have none
        notes.append(f"--columns {read.columns} is left out where columns have names")
        recording = opened(**{**options, "columns": None})
    recording.notes.extend(notes)
    return recording


def check_options(root: Location, specs: Sequence[RecordingSpec], read: ReadSettings) -> None:
    """Refuse an option that no recording has a use for; looks no further than the first that has.

    Raises
    ------
    SettingsError
    """
    names = ("time_unit", "columns", "topic", "rgb_time_unit")
    useless = {f"--{n.replace('_', '-')}" for n in names if getattr(read, n) is not None}
    if any(is_sample(spec.events) for spec in specs):
        useless |= {"--format"} if read.format is not None else set()
        if useless:
            msg = f"expected a set of tonic without {', '.join(sorted(useless))}; leave it out"
            raise SettingsError(msg)
        return
    refused: dict[str, Callable[[], None]] = {}
    for side in (side for spec in specs for side in _sides(root, spec, read)):
        if not useless:
            return
        given = {name: v for name, v in side.given.items() if side.option(name) in useless}
        try:
            source = Source(str(side.path))
            reader, _ = find_reader(source, format=side.format)
        except (EventKitError, OSError):  # what is wrong with it is told by the scan
            useless -= set(map(side.option, given))
            continue
        left = unfit(reader, given, readers())
        useless -= {side.option(name) for name in given if name not in left}
        refuse = partial(check_fit, source, reader, known=readers(), prefix=side.prefix)
        for name in left:
            refused.setdefault(side.option(name), partial(refuse, {name: given[name]}))
    for option in sorted(useless):
        if option in refused:
            refused[option]()
        sides = "RGB sides" if option.startswith("--rgb") else "event files"
        msg = f"{root}: expected {sides} with {option}, got none; leave it out"
        raise SettingsError(msg)


def _sides(root: Location, spec: RecordingSpec, read: ReadSettings) -> Iterator[_Side]:
    """Yield the main side, then the RGB side if there is one beside it."""
    unit = read.rgb_time_unit
    if spec.events is not None:
        given = {"time_unit": read.time_unit, "columns": read.columns, "topic": read.topic}
        yield _Side(root / spec.events, read.format, "--", given)
    elif unit is None and spec.rgb is not None:
        yield _Side(root / spec.rgb, None, "--", {"time_unit": read.time_unit})
        return
    if spec.rgb is not None:
        yield _Side(root / spec.rgb, None, "--rgb-", {"time_unit": unit})
