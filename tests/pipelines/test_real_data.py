"""Real recordings through the commands, from another folder and without a terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_road import manifest_of, samples_of


def test_a_davis_recording_becomes_clips_and_every_event_is_accounted_for(
    shared: Path, tool, tmp_path: Path
) -> None:
    recording = shared / "aedat4" / "davis346_frames_events_imu.aedat4"

    converted = tool("convert", recording, "--clip-us", "300000")
    sharded = tool("shard")

    assert (converted.returncode, sharded.returncode) == (0, 0), converted.stderr + sharded.stderr
    manifest = manifest_of(tmp_path / "shards")
    (split,) = manifest["splits"]
    samples = samples_of(tmp_path / "shards", split)
    metas = [json.loads(sample["json"]) for sample in samples]
    dropped = manifest["clips"]["dropped"].get("tail", 0)
    assert sum(meta["decoded"] for meta in metas) + dropped == 78_830
    assert all(m["decoded"] == m["binned"] + sum(m["dropped"].values()) for m in metas)
    assert all(m["has_rgb"] and m["sensor_size"] == [346, 260] for m in metas)
    assert all(stop - start == 37_500 for m in metas for start, stop in m["window_us"])
    assert {m["label"] for m in metas} == {-1}
    assert tool("verify").returncode == 0


def test_velora_refuses_unlabelled_shards_with_the_cure(shared: Path, tool, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    tool("convert", shared / "aedat4" / "davis346_first_170ms.aedat4")
    tool("shard")

    refused = tool(
        "--shards",
        "shards",
        "--random-trunk",
        "--backbone",
        "vit_tiny_patch16_224",
        program="velora-train",
    )

    assert refused.returncode == 2
    assert "label" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_sixty_pairs_go_all_the_way_to_a_model(nmnist_pairs: Path, tool, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    raw = tmp_path / "raw"
    for split, each in (("train", 5), ("test", 1)):
        for digit in range(10):
            for file in sorted((nmnist_pairs / split / str(digit)).glob("*.bin"))[:each]:
                for side in (file, file.with_suffix(".png")):
                    target = raw / split / str(digit) / side.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(side, target)

    converted = tool("convert", raw, "--bins", "3")
    sharded = tool("shard")
    trained = tool(
        *("--shards", "shards", "--random-trunk", "--backbone", "vit_tiny_patch16_224"),
        *("--img-size", "32", "--epochs", "1", "--batch-size", "10"),
        program="velora-train",
    )

    assert converted.returncode == sharded.returncode == 0, converted.stderr + sharded.stderr
    assert "60 recordings" in converted.stdout
    assert trained.returncode == 0, trained.stderr
    (run,) = (tmp_path / "runs").iterdir()
    evaluated = tool(run, "--shards", "shards", "--json", program="velora-eval")
    assert evaluated.returncode == 0, evaluated.stderr
    json.loads(evaluated.stdout)


def test_all_pairs_hold_the_events_that_the_set_is_known_to_hold(
    nmnist_pairs: Path, tool, tmp_path: Path
) -> None:
    result = tool("convert", nmnist_pairs, "--bins", "4", "--no-diffs")

    assert result.returncode == 0
    assert "1,100 recordings" in result.stdout
    assert "4,518,827 events decoded = 4,518,827 in frames + 0 clipped + 0 dropped" in result.stdout
