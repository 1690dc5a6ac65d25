"""`eventkit convert --windows adaptive`: what it stores, that every executor stores the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pipelines_helpers import tree_bytes, write_recording

import eventkit
from eventkit.adaptive import Bisection
from eventkit.representations import count_frames

CUT = "adaptive,min_events=20,cell=4"


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Four recordings of two classes."""
    root = tmp_path / "few"
    for label in range(2):
        for i in range(2):
            write_recording(root / f"c{label}" / f"{i:04d}", seed=10 * label + i)
    return root


def test_frames_in_store_and_shards_are_those_of_the_rule(few: Path, tool, tmp_path: Path) -> None:
    converted = tool("convert", few, "--bins", "4", "--windows", CUT)
    sharded = tool("shard")
    deep = tool("verify", "store", "--deep")
    shards = tool("verify", "shards")

    results = (converted, sharded, deep, shards)
    assert [r.returncode for r in results] == [0] * 4, [r.stderr for r in results]
    assert "800 events decoded = 800 in frames + 0 clipped + 0 dropped" in converted.stdout
    rule = Bisection(windows=4, min_events=20, cell=4)
    clips = list(eventkit.open_store(tmp_path / "store"))
    assert len(clips) == 4
    for clip in clips:
        recording = eventkit.open(few / f"{clip.facts['recording']}.bin")
        size = recording.sensor_size
        expected = count_frames(recording.events, sensor_size=size, adaptive=rule, dtype="u1")
        assert np.array_equal(clip.events, expected)
        spans = rule.cut(recording.events, sensor_size=size).spans
        assert np.array_equal(clip.columns["window_us"], spans)
    manifest = json.loads((tmp_path / "shards/manifest.json").read_text())
    full = "adaptive,by=count,threshold=0.2,min_events=20,cell=4,chance=subtract"
    assert manifest["settings"]["windows"] == full


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_every_executor_stores_the_same_bytes(
    few: Path, tool, tmp_path: Path, executor: str
) -> None:
    options = ("--bins", "3", "--windows", CUT, "--clip-us", "20000")

    one = tool("convert", few, *options, "--executor", "inline", "--out", "one")
    other = tool("convert", few, *options, "--executor", executor, "--workers", "2", "--out", "two")

    assert (one.returncode, other.returncode) == (0, 0), one.stderr + other.stderr
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")
    assert len(list(eventkit.open_store(tmp_path / "one"))) > 4


def test_the_rule_is_a_setting_of_the_store(few: Path, tool) -> None:
    tool("convert", few, "--bins", "4", "--windows", CUT)

    again = tool("convert", few, "--bins", "4", "--windows", CUT)
    other = tool("convert", few, "--bins", "4", "--windows", "adaptive,min_events=30,cell=4")

    assert again.returncode == 0
    assert other.returncode != 0
    assert "windows" in other.stderr
    assert "min_events=20" in other.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--windows", "adapted"], "time, rgb, adaptive"),
        (["--windows", "adaptive,size=3"], "by, threshold, min_events, cell, chance"),
        (["--windows", "adaptive", "--repr", "stack:rvt"], "goes with counts"),
    ],
)
def test_a_users_mistake_is_one_sentence(few: Path, tool, options: list[str], words: str) -> None:
    result = tool("convert", few, *options)

    assert result.returncode in (2, 3)
    assert words in result.stderr
    assert "Traceback" not in result.stderr
