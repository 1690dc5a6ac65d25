"""Reading the samples of tonic's data sets as recordings; see `pipelines.datasets.tonic_sets`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.columns import Buffer
from eventkit.errors import EventKitError, FormatError
from eventkit.readers.arrays import PART_EVENTS
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner
from eventkit.recording import OnError, Recording
from pipelines.datasets.tonic_sets import Loaded, load_sample, load_set

_Columns = dict[str, NDArray[Any]]


def open_sample(
    root: Path, events: str, *, on_error: OnError, sensor_size: tuple[int, int] | None = None
) -> Recording:
    """Open a sample as a recording.

    Raises
    ------
    FormatError
        If tonic cannot read it.
    """
    loaded, columns = _read(root, events)
    size = sensor_size or _sensor_of(loaded.dataset)
    of_set = loaded.dataset.__class__.__name__
    tonic = require("tonic", extra="tonic", purpose="reading tonic's data sets")
    count = columns["t"].size

    def decode(_: Buffer, mark: object) -> Iterator[RawChunk]:
        cleaner = Cleaner(events, "us", strict=on_error == "raise").starting_at(mark)
        for first in range(cleaner.seen, count, PART_EVENTS):
            part = {key: values[first : first + PART_EVENTS] for key, values in columns.items()}
            yield cleaner.chunk(part, mark=cleaner.mark)

    return Recording(
        path=Path(events),
        format="tonic",
        sensor_size=size,
        geometry_source="given" if sensor_size else f"tonic's {of_set}" if size else "",
        source=EventStream(decode, events, size, on_error, lambda: count),
        notes=[f"read by tonic {tonic.__version__}"],
        evidence=f"a sample of tonic's {of_set}",
    )


def sample_files(root: Path, events: str) -> list[Path]:
    """Return the file of a sample; of a set that has none for each, all its files."""
    name, side, key = _parts_of(events)
    path = root / key
    if not key.isdecimal():
        return [path]
    location = load_set(str(root), name, side).location
    return sorted(path for path in location.rglob("*") if path.is_file())


def describe_sample(root: Path, events: str) -> dict[str, Any]:
    """Return name, bytes and sha256 of the events that tonic makes of a sample.

    Of the events rather than the file: a set may keep all in one, and another tonic may read
    otherwise.
    """
    _, columns = _read(root, events)
    digest, size = hashlib.sha256(), 0
    for key in "xytp":
        values = columns[key]
        data = np.ascontiguousarray(values, "<f8" if values.dtype.kind == "f" else "<i8")
        digest.update(data.data)
        size += values.nbytes
    return {"path": events, "bytes": size, "sha256": digest.hexdigest()}


def changed_sample(root: Path, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong if a sample is not what `describe_sample` returned of it."""
    try:
        same = describe_sample(root, entry["path"]) == entry
    except EventKitError as err:
        yield f"{entry['path']}: it was there for convert; {err}"
        return
    if not same:
        yield f"{entry['path']}: expected the events that were converted, tonic gives others"


def _parts_of(events: str) -> tuple[str, str, str]:
    name, side, key = events.split("/", 2)
    return name, side, key


def _read(root: Path, events: str) -> tuple[Loaded, _Columns]:
    name, side, key = _parts_of(events)
    loaded = load_set(str(root), name, side)
    if key not in loaded.places:
        msg = "expected the sample that was there before, got none; copy it again"
        raise FormatError(msg, path=events, reason="io")
    return loaded, _columns(load_sample(loaded, key)[0], events)


def _columns(data: Any, events: str) -> _Columns:
    """Return the columns of the first events in what tonic gives; it may have pictures beside."""
    parts = list(data.values()) if isinstance(data, Mapping) else data
    for array in parts if isinstance(parts, list | tuple) else [parts]:
        names = getattr(getattr(array, "dtype", None), "names", None) or ()
        if {"t", "x"} <= set(names):
            rest = {"y": np.zeros(array.size, np.int64), "p": np.ones(array.size, np.int64)}
            return {key: array[key] if key in names else rest[key] for key in "xytp"}
    got = type(data).__name__
    msg = f"expected events with x, y, t, p, got {got}; tonic has no events in this sample"
    raise FormatError(msg, path=events, reason="bad_value")


def _sensor_of(dataset: Any) -> tuple[int, int] | None:
    size = getattr(dataset, "sensor_size", None)
    return None if size is None else (int(size[0]), int(size[1]))
