"""What the demo does before it trains: digits, recordings, shards, the picture, the tables."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import eventkit
from eventkit.cli import main_group

pytest.importorskip("sklearn")
pytest.importorskip("zarr")

SCRIPT = Path(__file__).parents[1] / "examples" / "demo.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main_group, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_digits_are_shared_out_evenly_and_never_twice(demo: ModuleType, tmp_path: Path) -> None:
    count = demo.write_digits(tmp_path / "images", num_train=43, num_test=10)

    train = list((tmp_path / "images/train").glob("*/*.png"))
    test = list((tmp_path / "images/test").glob("*/*.png"))
    assert (count, len(train), len(test)) == (53, 43, 10)
    assert len({path.name for path in train + test}) == 53
    assert sorted(path.parent.name for path in test) == [str(digit) for digit in range(10)]
    pixels = np.asarray(Image.open(train[0]))
    assert pixels.shape == (48, 48)
    assert pixels[:8].max() == 0
    assert pixels.max() > 200


def test_the_demo_goes_from_digits_to_shards_and_a_picture(
    demo: ModuleType, tmp_path: Path
) -> None:
    demo.write_digits(tmp_path / "images", num_train=20, num_test=10)

    run("simulate", tmp_path / "images", "--out", tmp_path / "raw", *demo.SIMULATE)
    npz = next((tmp_path / "raw/train").glob("*/*.npz"))
    recording = eventkit.open(npz, rgb=npz.with_suffix(""))
    run(
        "convert",
        tmp_path / "raw",
        "--bins",
        demo.BINS,
        "--out",
        tmp_path / "store",
        "--executor",
        "inline",
    )
    run("shard", tmp_path / "store", "--out", tmp_path / "shards", "--executor", "inline")
    run("render", tmp_path / "shards", "--split", "test", "--out", tmp_path / "clip.png")

    assert recording.sensor_size == (64, 64)
    assert len(recording.events) > 100
    assert recording.frames is not None
    assert recording.frames.timing == "recorded"
    assert len(recording.frames) == 6
    shards = eventkit.ShardSet.open(tmp_path / "shards")
    samples = {split: shards.num_samples(split) for split in shards.splits}
    assert samples["test"] == 10
    assert sum(samples.values()) == 30
    assert shards.sample("test", 0).events.shape == (demo.BINS, 2, 64, 64)
    assert Image.open(tmp_path / "clip.png").size[0] > 4 * 64
    with pytest.raises(eventkit.EventKitError, match="below 10"):
        run("render", tmp_path / "shards", "--split", "test", "--index", 10)


def test_the_tables_show_what_was_measured(demo: ModuleType, tmp_path: Path) -> None:
    report = {
        "streams": "fusion",
        "chance": 0.1,
        "scores": [
            {"view": "fusion", "samples": 100, "top1": 0.64, "top1_error": 0.048},
            {"view": "rgb", "samples": 100, "top1": 0.31, "top1_error": 0.046},
        ],
    }
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/file").write_bytes(bytes(2_500_000))
    (tmp_path / "result.json").write_text(json.dumps(report))
    road = demo.Demo(tmp_path)
    road.stages.append(demo.Stage("simulate", 12.34, tmp_path / "raw"))
    road.results.append(demo.read_result(tmp_path / "result.json"))

    text = "\n".join(demo.summary(road))

    assert "velora_tiny" in text
    assert ["simulate", "12.3", "2.5", "raw"] in [line.split() for line in text.splitlines()]
    assert ["fusion", "0.640", "+-", "0.048", "0.100", "100"] in [
        line.split() for line in text.splitlines()
    ]


def test_a_command_that_fails_stops_the_demo_with_its_code(
    demo: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = tmp_path / "bin" / "eventkit"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho broken\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))

    with pytest.raises(subprocess.CalledProcessError):
        demo.run_command(["eventkit", "convert"], cwd=tmp_path)
    code = demo.main(["--out", str(tmp_path / "demo"), "--train", "10", "--test", "10"])

    assert code == 3
    assert "the demo stops: eventkit simulate" in capsys.readouterr().out
    assert not (tmp_path / "demo/raw").exists()
