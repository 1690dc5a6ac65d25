"""The commands that a report prints make the same settings again."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from eventkit.clip_settings import ClipSettings
from eventkit.homography import load_homography
from pipelines import cli
from pipelines.opening import ReadSettings
from pipelines.plan import settings_dict
from pipelines.report.commands import MATRIX, convert_command, matrix_command, shard_command
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

    options = parsed(convert_command(settings), to=cli.convert)

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
    made = ShardSettings(codec="npy", with_diffs=True, num_shards=3, seed=7, md5=False)

    options = parsed(shard_command(asdict(made)), to=cli.shard)

    assert {name: options[name] for name in asdict(made)} == asdict(made)
