"""The commands that a report prints make the same settings again."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from named_miniatures import asldvs

from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.homography import load_homography
from pipelines.cli_convert import convert
from pipelines.cli_shard import shard
from pipelines.datasets.discover import RecordingSpec, discover
from pipelines.datasets.named import named_sets
from pipelines.datasets.splits import SPLIT_METHODS, SplitRule, split_recordings
from pipelines.opening import ReadSettings, for_set
from pipelines.plan import settings_dict
from pipelines.report.commands import (
    MATRIX,
    convert_command,
    dataset_of,
    matrix_command,
    rule_of,
    shard_command,
)
from pipelines.shard_settings import ShardSettings

READ = list(ReadSettings.__dataclass_fields__)
CLIP = list(ClipSettings.__dataclass_fields__)
TURN = (1.5, 0.25, 3.0, 0.0, 1.0, -2.0, 0.0, 0.0, 1.0)


def parsed(command: str, *, to: Any) -> dict[str, Any]:
    """Return the options as click understands them."""
    words = shlex.split(command)
    return dict(to.make_context(words[1], words[2:]).params)


@pytest.mark.parametrize(
    ("clip", "read", "layout"),
    [
        ({}, {}, "auto"),
        ({"bins": 16, "clip_us": 100_000, "diffs": False, "raw_events": True}, {}, "flat"),
        ({"representation": "voxel:zhu,bins=5"}, {"on_error": "skip"}, "auto"),
        ({"dtype": "u2", "windows": "rgb", "event_window": "exposure"}, {}, "auto"),
        (
            {"crop": (1, 2, 30, 20), "filters": ("hot-pixels", "background:within_us=2000")},
            {"sensor_size": (346, 260), "time_unit": "ns", "columns": "t x;y 'p'"},
            "tree",
        ),
        (
            {"size": (64, 48), "downsample": 2, "rgb_offset_us": -70, "homography": TURN},
            {"topic": "/dvs/events", "format": "text", "rgb_time_unit": "s"},
            "list",
        ),
    ],
)
def test_the_convert_line_gives_the_settings_it_was_made_of(
    clip: dict[str, Any], read: dict[str, Any], layout: str, tmp_path: Path
) -> None:
    made, reading = ClipSettings(**clip), ReadSettings(**read)
    settings = json.loads(json.dumps(settings_dict(made, reading, layout)))

    options = parsed(convert_command(settings), to=convert)

    matrix = matrix_command(settings)
    assert (matrix is None) == (options["homography"] is None)
    if matrix is not None:
        subprocess.run(matrix, shell=True, cwd=tmp_path, check=True)
        assert options["homography"] == Path(MATRIX)
        options["homography"] = tuple(load_homography(tmp_path / MATRIX).ravel().tolist())
    options["filters"] = tuple(spec for text in options["filters"] for spec in text.split(","))
    assert ClipSettings(**{name: options[name] for name in CLIP}) == made
    assert ReadSettings(**{name: options[name] for name in READ if name in options}) == reading
    assert options["layout"] == layout


def test_defaults_are_left_out() -> None:
    settings = settings_dict(ClipSettings(), ReadSettings(), "auto")

    assert convert_command(settings) == "eventkit convert RAW"
    assert shard_command({**settings, **asdict(ShardSettings())}) == "eventkit shard"


def test_the_shard_line_gives_the_settings_it_was_made_of() -> None:
    made = ShardSettings(codec="npy", with_diffs=True, num_shards=3, seed=7, mix="packs", md5=False)

    options = parsed(shard_command(asdict(made)), to=shard)

    assert {name: options[name] for name in asdict(made)} == asdict(made)


# Every option of the two commands is either printed again, each with an example here, or decides
# nothing about the bytes.

CONVERT = {
    "bins": "16",
    "clip_us": "100000",
    "representation": "voxel:zhu,bins=5",
    "dtype": "u2",
    "windows": "rgb",
    "event_window": "exposure",
    "diffs": None,
    "rgb_offset_us": "-70",
    "homography": "there.json",
    "crop": "1,2,30,20",
    "filters": "hot-pixels,background:within_us=2000",
    "downsample": "2",
    "size": "64x48",
    "raw_events": None,
    "sensor_size": "346x260",
    "time_unit": "ns",
    "columns": "txyp",
    "topic": "/dvs/events",
    "format": "csv",
    "rgb_time_unit": "s",
    "layout": "tree",
    "dataset": "hardvs",
    "root": "there",
    "split_by": "(subject [0-9]+)",
    "split": "stratified",
    "on_error": "skip",
}
ONLY_HOW = {"sources", "out", "strict", "max_bad", "retry_quarantined", "reuse", "dry_run"}
ONLY_HOW |= {"executor", "workers"}
SHARD = {
    "codec": "npy",
    "with_diffs": None,
    "num_shards": "3",
    "shard_bytes": "100000",
    "seed": "7",
    "mix": "packs",
    "md5": None,
}
SHARD_ONLY_HOW = {"store", "out", "dry_run", "executor", "workers"}


def options_of(command: Any) -> dict[str, Any]:
    return {option.name: option for option in command.params}


def test_every_option_is_known_here() -> None:
    assert set(options_of(convert)) == CONVERT.keys() | ONLY_HOW
    assert set(options_of(shard)) == SHARD.keys() | SHARD_ONLY_HOW


def flag(option: Any, value: str | None) -> list[str]:
    """Return an option as it is typed; one that is a flag, against its default."""
    name = max((value is None and option.secondary_opts) or option.opts, key=len)
    return [name] if value is None else [name, value]


def of_plan(options: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """Return settings, layout and rule of the splits in words, as `convert` puts them in a plan."""
    options = dict(options)
    options["filters"] = tuple(spec for text in options["filters"] for spec in text.split(","))
    options["homography"] = TURN if options["homography"] else None
    clip = ClipSettings(**{name: options[name] for name in CLIP})
    read = ReadSettings(**{name: options[name] for name in READ if name in options})
    layout, source = "no labels", str(options["sources"][0])
    if source.startswith("tonic:"):
        layout = f"{source}: 9 train"
    if options["dataset"] is not None:
        named = named_sets()[options["dataset"]]
        layout = f"{named.title}: no lists"
        read = replace(
            read,
            sensor_size=read.sensor_size or named.sensor_size,
            time_unit=read.time_unit or named.time_unit,
            flip_y=named.flip_y,
        )
    rule = SplitRule(by=options["split_by"], method=options["split"])
    recordings = [RecordingSpec(f"subject {i}/a", "a", None, "", -1, "") for i in range(9)]
    words = split_recordings(recordings, rule, official=None)[1]
    return json.loads(json.dumps(settings_dict(clip, read, options["layout"]))), layout, words


@pytest.mark.parametrize("name", [name for name in CONVERT if name != "root"])
def test_every_option_of_convert_is_printed_again(name: str) -> None:
    typed = flag(options_of(convert)[name], CONVERT[name])
    typed += ["--windows", "rgb"] * (name == "event_window")
    plan = of_plan(parsed(shlex.join(["eventkit", "convert", "RAW", *typed]), to=convert))
    settings, layout, words = plan

    line = convert_command(settings, layout=layout, split_rule=words)

    assert line != "eventkit convert RAW"
    assert of_plan(parsed(line, to=convert)) == plan


@pytest.mark.parametrize("name", SHARD)
def test_every_option_of_shard_is_printed_again(name: str) -> None:
    typed = flag(options_of(shard)[name], SHARD[name])
    options = parsed(shlex.join(["eventkit", "shard", *typed]), to=shard)
    made = ShardSettings(**{key: options[key] for key in SHARD})

    line = shard_command(asdict(made))

    assert made != ShardSettings()
    assert parsed(line, to=shard) == options


def test_a_set_of_tonic_is_what_is_converted() -> None:
    typed = "eventkit convert tonic:POKERDVS,train=true --root there --bins 4"
    settings, layout, words = of_plan(parsed(typed, to=convert))

    line = convert_command(settings, layout=layout, split_rule=words)

    assert line == "eventkit convert tonic:POKERDVS,train=true --root RAW --bins 4"


def test_what_a_published_set_says_of_its_files_is_in_the_name_of_it(tmp_path: Path) -> None:
    found = discover([asldvs(tmp_path / "raw")])
    read = for_set(ReadSettings(), found)
    settings = json.loads(json.dumps(settings_dict(ClipSettings(), read, "auto")))

    line = convert_command(settings, layout=found.layout, split_rule=found.split_rule)

    assert read.flip_y
    assert line == "eventkit convert RAW --dataset asldvs"


def test_every_published_set_has_a_title_of_its_own() -> None:
    for name, named in named_sets().items():
        assert dataset_of(f"{named.title}: lists a.txt, b.txt") == name
    for layout in ("list files HARDVS.txt", "one folder a class", "split folders, no labels", ""):
        assert dataset_of(layout) is None


@given(
    st.none() | st.sampled_from(["1", "2"]) | st.text(min_size=1).map(lambda by: f"({by}|.)"),
    st.sampled_from(SPLIT_METHODS),
    st.sampled_from([None, "list files", "split folders"]),
)
def test_the_rule_of_the_splits_is_told_by_its_words(by: Any, method: Any, official: Any) -> None:
    split = "" if official is None else "train"
    recordings = [RecordingSpec(f"a/b/{i}", "x", None, split, -1, "") for i in range(30)]
    rule = SplitRule(by=by, method=method)
    try:
        _, words = split_recordings(recordings, rule, official=official)
    except SettingsError:
        return  # no regular expression, or one that matches nothing

    too_few = words.endswith("too few recordings for a val split")
    assert rule_of(words) == (SplitRule() if too_few else rule)
