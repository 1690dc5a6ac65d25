"""The commands that make a set again, from its settings; what is the default is left out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from eventkit.clip_settings import ClipSettings
from pipelines.opening import ReadSettings
from pipelines.shard_settings import ShardSettings

MATRIX = "homography.json"
_SIZES = ("sensor_size", "size")
_TEXTS = ("windows", "event_window", "clip_us", "rgb_offset_us", "downsample")
_READ = ("on_error", "time_unit", "rgb_time_unit", "columns", "topic", "format")


def convert_command(settings: Mapping[str, Any]) -> str:
    """Return the line that converts with these settings; RAW stands for the recordings.

    The rule of the splits is no setting and not in it.
    """
    default = {**ClipSettings().as_dict(), **asdict(ReadSettings()), "layout": "auto"}
    given = {name: v for name, v in settings.items() if name in default and v != default[name]}
    return _line("eventkit convert RAW", _convert_options(given))


def _convert_options(given: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    if "bins" in given:
        yield "--bins", str(given["bins"])
    if "representation" in given:  # the full spec; it has the dtype
        yield "--representation", str(given["representation"])
    for name in (*_TEXTS, *_READ, "layout"):
        if given.get(name) is not None:
            yield f"--{name.replace('_', '-')}", str(given[name])
    for name in _SIZES:
        if given.get(name):
            yield f"--{name.replace('_', '-')}", "x".join(map(str, given[name]))
    if given.get("crop"):
        yield "--crop", ",".join(map(str, given["crop"]))
    for spec in given.get("filters", ()):
        yield "--filter", str(spec)
    if given.get("homography"):
        yield "--homography", MATRIX
    if "diffs" in given:
        yield "--no-diffs", None
    if "raw_events" in given:
        yield "--raw-events", None


def matrix_command(settings: Mapping[str, Any]) -> str | None:
    """Return the line that writes the file of ``--homography``, if there is one."""
    numbers = settings.get("homography")
    if not numbers:
        return None
    return f"echo {shlex.quote(json.dumps(list(numbers)))} > {MATRIX}"


def shard_command(settings: Mapping[str, Any]) -> str:
    """Return the line that writes the shards."""
    default = asdict(ShardSettings())
    given = {name: v for name, v in settings.items() if name in default and v != default[name]}
    options: list[tuple[str, str | None]] = []
    for name in ("codec", "num_shards", "shard_bytes", "seed"):
        if given.get(name) is not None:
            options.append((f"--{name.replace('_', '-')}", str(given[name])))
    if "with_diffs" in given:
        options.append(("--with-diffs", None))
    if "md5" in given:
        options.append(("--no-md5", None))
    return _line("eventkit shard", options)


def _line(command: str, options: Iterable[tuple[str, str | None]]) -> str:
    words = [command]
    for name, value in options:
        words.append(name if value is None else f"{name} {shlex.quote(value)}")
    return " ".join(words)
