"""Shards whose clips were made otherwise than those of the run: refused, or measured and said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from page_helpers import Page
from run_helpers import BINS, invoke, trained

import eventkit.cli
from eventkit.errors import SettingsError
from eventkit.shards import ShardSet
from velora.cli import evaluate
from velora.data import DataSpec, check_fits, describe
from velora.data.spec import clip_differences

AS_CONVERTED: dict[str, Any] = {
    "representation": "counts:eventkit,dtype=u1",
    "bins": 3,
    "dtype": "u1",
    "windows": "time",
    "event_window": "interval",
    "clip_us": None,
    "rgb_offset_us": 0,
    "crop": None,
    "filters": [],
    "downsample": 1,
    "size": None,
    "homography": None,
    "flip_y": False,
    "diffs": False,
    "codec": "npy.gz",
    "seed": 0,
    "time_unit": None,
    "on_error": "raise",
}
Specs = Callable[..., DataSpec]


@pytest.fixture
def spec_of(shards: Path, tmp_path: Path) -> Specs:
    """Return a maker of what a set says of itself, whose manifest has these settings."""

    def make(**settings: Any) -> DataSpec:
        path = tmp_path / f"set{len(list(tmp_path.iterdir()))}"
        shutil.copytree(shards, path)
        manifest = json.loads((path / "manifest.json").read_bytes())
        manifest["settings"] = {k: v for k, v in settings.items() if v is not ...}
        (path / "manifest.json").write_text(json.dumps(manifest))
        return describe(ShardSet.open(path))

    return make


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"windows": "rgb"}, ["windows rgb (the run: time)"]),
        ({"event_window": "exposure"}, ["event_window exposure (the run: interval)"]),
        ({"clip_us": 5000}, ["clip_us 5000 (the run: none)"]),
        ({"rgb_offset_us": -7}, ["rgb_offset_us -7 (the run: 0)"]),
        ({"crop": [0, 0, 4, 4]}, ["crop [0, 0, 4, 4] (the run: none)"]),
        ({"filters": ["flip:axis=y"]}, ['filters ["flip:axis=y"] (the run: [])']),
        ({"downsample": 2}, ["downsample 2 (the run: 1)"]),
        ({"size": [8, 8]}, ["size [8, 8] (the run: none)"]),
        ({"flip_y": True}, ["flip_y true (the run: false)"]),
        (
            {"homography": [1, 0, 0, 0, 1, 0, 0, 0, 2]},
            ["homography [1, 0, 0, 0, 1, 0, 0, 0, 2] (the run: none)"],
        ),
        ({"windows": "rgb", "size": [8, 8]}, ["windows rgb (the run: time)",
                                              "size [8, 8] (the run: none)"]),
    ],
)  # fmt: skip
def test_what_changes_the_clips_is_named(
    spec_of: Specs, changes: dict[str, Any], differing: list[str]
) -> None:
    run, other = spec_of(**AS_CONVERTED), spec_of(**AS_CONVERTED | changes)

    assert clip_differences(other, run) == differing
    with pytest.raises(SettingsError) as caught:
        check_fits(other, run)
    assert all(text in str(caught.value) for text in differing)
    assert "--other-settings" in str(caught.value)
    check_fits(other, run, other_settings=True)
    check_fits(run, run)


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": "npy.zst", "seed": 4, "diffs": True, "on_error": "skip", "time_unit": "ns"},
        {"dtype": "u2", "representation": "counts:eventkit,dtype=u2"},
        # What a set of an earlier version could not say has the value that it had then.
        {"homography": ..., "flip_y": ..., "filters": ..., "size": ...},
    ],
)
def test_what_changes_no_clip_is_no_difference(spec_of: Specs, changes: dict[str, Any]) -> None:
    run, other = spec_of(**AS_CONVERTED), spec_of(**AS_CONVERTED | changes)

    check_fits(other, run)
    check_fits(run, other)


def test_a_set_or_a_run_that_says_nothing_of_its_clips_fits(spec_of: Specs) -> None:
    silent = spec_of(representation="counts:eventkit")

    check_fits(silent, spec_of(**AS_CONVERTED | {"windows": "rgb"}))
    check_fits(spec_of(**AS_CONVERTED | {"windows": "rgb"}), silent)


def test_other_bins_never_fit(spec_of: Specs, make_shards: Callable[..., Path]) -> None:
    other = describe(ShardSet.open(make_shards(train=0, val=0, test=3, bins=4)))

    with pytest.raises(SettingsError, match="3 bins"):
        check_fits(other, spec_of(**AS_CONVERTED), other_settings=True)


def evaluated(run: Path, shards: Path, *flags: str) -> Result:
    words = [run, "--shards", shards, "--device", "cpu", "--num-workers", "0", *flags]
    return CliRunner().invoke(evaluate, [str(word) for word in words])


def test_an_evaluation_across_settings_is_asked_for_and_says_so(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    made = trained(tmp_path_factory)
    run, store, shards = (tmp_path / name for name in ("run", "store", "shards"))
    shutil.copytree(made, run)
    inline = ("--executor", "inline")
    convert = ("--bins", str(BINS), "--crop", "2,2,30,30", *inline)
    invoke(eventkit.cli.main_group, "convert", made.parents[1] / "raw", "--out", store, *convert)
    invoke(eventkit.cli.main_group, "shard", store, "--out", shards, *inline)

    refused = evaluated(run, shards)
    written = set(run.iterdir()) - {run / path.name for path in made.iterdir()}
    asked = evaluated(run, shards, "--other-settings")
    same = evaluated(run, made.parents[1] / "shards", "--other-settings")

    assert refused.exit_code == 2
    assert "crop [2, 2, 30, 30] (the run: none)" in refused.output
    assert refused.output.count("\n") == 1
    assert not written
    assert asked.exit_code == same.exit_code == 0
    (line,) = (text for text in asked.output.splitlines() if "made with other settings" in text)
    assert "crop [2, 2, 30, 30] (the run: none)" in line
    assert "other settings" not in same.output
    plan = ShardSet.open(shards).manifest["plan_id"][:8]
    report = json.loads((run / f"eval-test-{plan}.json").read_bytes())
    assert report["other_settings"] == ["crop [2, 2, 30, 30] (the run: none)"]
    page = Page((run / f"eval-test-{plan}.html").read_text("utf-8"))
    assert any("crop [2, 2, 30, 30] (the run: none)" in text for text in page.text)
