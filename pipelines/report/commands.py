"""The commands that make a set again, from its settings; what is the default is left out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from eventkit.clip_settings import ClipSettings
from pipelines.datasets.named import named_sets
from pipelines.datasets.splits import SplitRule
from pipelines.datasets.tonic_sets import PREFIX as TONIC
from pipelines.opening import ReadSettings
from pipelines.shard_settings import ShardSettings

MATRIX = "homography.json"
_SIZES = ("sensor_size", "size")
_TEXTS = ("windows", "event_window", "clip_us", "rgb_offset_us", "downsample")
_READ = ("on_error", "time_unit", "rgb_time_unit", "columns", "topic", "format")


_RULE = re.compile(r"(by hash of the|stratified by) (?:recording|group \((.*)\))", re.DOTALL)


def convert_command(settings: Mapping[str, Any], *, layout: str = "", split_rule: str = "") -> str:
    """Return the line that converts with these settings; RAW stands for the recordings.

    Parameters
    ----------
    settings : mapping
        Of the plan.
    layout : str
        What the recordings were taken for, in the words of the plan: they name a published set.
    split_rule : str
        How they were split, in the words of the plan.
    """
    default = {**ClipSettings().as_dict(), **asdict(ReadSettings()), "layout": "auto"}
    dataset = dataset_of(layout)
    if dataset is not None and not dataset.startswith(TONIC):
        # Settings hold what the set says of its files; rows from below have no option of their own.
        named = named_sets()[dataset]
        default |= {name: getattr(named, name) for name in ("sensor_size", "time_unit", "flip_y")}
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    given = {name: v for name, v in plain.items() if name in default and v != default[name]}
    line = _line("eventkit convert", _source(dataset))
    options = (*_convert_options(given), *_split_options(rule_of(split_rule)))
    return _line(line, options)


def dataset_of(layout: str) -> str | None:
    """Return the published set that the layout of a plan names, as ``--dataset`` or RAW does.

    Examples
    --------
    >>> dataset_of("ASL-DVS: no lists"), dataset_of("tonic:NMNIST,train=true: 9 train")
    ('asldvs', 'tonic:NMNIST,train=true')
    """
    title, colon, _ = layout.partition(": ")
    if layout.startswith(TONIC):
        return title
    return next((n for n, named in named_sets().items() if colon and named.title == title), None)


def rule_of(words: str) -> SplitRule:
    """Return the rule that `pipelines.datasets.splits.split_recordings` put into words.

    Official splits that leave nothing to a rule give the default one.

    Examples
    --------
    >>> rule_of("80/10/10 stratified by group (2)")
    SplitRule(by='2', method='stratified')
    """
    found = _RULE.search(words)
    if found is None:
        return SplitRule()
    return SplitRule(by=found[2], method="hash" if found[1].startswith("by") else "stratified")


def _source(dataset: str | None) -> Iterator[tuple[str, str | None]]:
    if dataset is not None and dataset.startswith(TONIC):
        yield shlex.quote(dataset), None
        yield "--root", "RAW"
        return
    yield "RAW", None
    if dataset is not None:
        yield "--dataset", dataset


def _split_options(rule: SplitRule) -> Iterator[tuple[str, str | None]]:
    if rule.by is not None:
        yield "--split-by", rule.by
    if rule.method != SplitRule().method:
        yield "--split", rule.method


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
    for name in ("codec", "num_shards", "shard_bytes", "seed", "mix"):
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
