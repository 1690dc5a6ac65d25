"""convert: one set of options over recordings of mixed formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pipelines_helpers import write_recording

from eventkit.errors import SettingsError
from pipelines.datasets.discover import RecordingSpec
from pipelines.opening import ReadSettings, check_options, open_spec


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """An ATIS recording with a picture, and a table without names in seconds."""
    root = tmp_path / "mixed"
    write_recording(root / "a", seed=1)
    rng = np.random.default_rng(0)
    places = rng.integers(0, 34, (200, 2))
    rows = [f"{1.1e-5 * k:.6f},{x},{y},{k % 2}\n" for k, (x, y) in enumerate(places)]
    (root / "b.csv").write_text("".join(rows))
    return root


def spec(events: str | None, rgb: str | None = None) -> RecordingSpec:
    return RecordingSpec(
        id=str(events or rgb), events=events, rgb=rgb, split="train", label=-1, label_name=""
    )


def test_an_option_reaches_the_recordings_that_take_it_and_is_noted_at_the_others(
    mixed: Path, tool
) -> None:
    done = tool(
        "convert", mixed, "--sensor-size", "34x34", "--time-unit", "s", "--columns", "txyp",
        "--executor", "inline",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "2 clips" in done.stdout
    assert "400 events decoded" in done.stdout
    assert (
        "1 recording, a among them: --time-unit s is left out for atis-bin (its times are in us)"
        in done.stdout
    )
    assert (
        "--columns txyp is left out for atis-bin (it is for csv, hdf5, mat, npy, npz)"
        in done.stdout
    )


def test_an_order_of_columns_is_left_out_where_they_have_names(tmp_path: Path, tool) -> None:
    (tmp_path / "raw").mkdir()
    t = np.arange(200) * 7
    x, y = t % 30, t % 20
    p = t % 2
    np.savez(tmp_path / "raw" / "a.npz", x=x, y=y, t=t, p=p)
    np.savez(tmp_path / "raw" / "b.npz", np.stack([t, x, y, p], 1))

    done = tool("convert", "raw", "--sensor-size", "34x34", "--columns", "txyp")

    assert done.returncode == 0, done.stderr
    assert "400 events decoded" in done.stdout
    wanted = "1 recording, a among them: --columns txyp is left out where columns have names"
    assert wanted in done.stdout


def test_an_option_that_no_recording_takes_is_refused_before_any_is_read(mixed: Path, tool) -> None:
    (mixed / "b.csv").unlink()

    done = tool("convert", mixed, "--columns", "txyp", "--executor", "inline")

    assert done.returncode == 2
    assert "a.bin: expected no --columns for atis-bin (it is for csv, hdf5, mat, npy, npz)" in (
        done.stderr
    )
    assert "got txyp; leave it out" in done.stderr


def test_the_unit_of_rgb_sides_reaches_those_that_take_it(mixed: Path) -> None:
    read = ReadSettings(rgb_time_unit="ms", sensor_size=(34, 34))

    of_picture = open_spec(mixed, spec("a.bin", "a.png"), read)
    without = open_spec(mixed, spec("b.csv"), read)

    assert of_picture.frames is not None
    assert "--rgb-time-unit ms is left out for image (it is for hdf5, images)" in of_picture.notes
    assert not any("--rgb-time-unit" in note for note in without.notes)


def test_rgb_alone_takes_the_unit_of_rgb_sides(mixed: Path) -> None:
    from PIL import Image

    (mixed / "c").mkdir()
    for k in range(3):
        Image.new("RGB", (4, 3)).save(mixed / "c" / f"{k}.png")
    (mixed / "c" / "timestamps.txt").write_text("0\n40\n80\n")

    found = open_spec(mixed, spec(None, "c"), ReadSettings(rgb_time_unit="ms"))

    assert found.frames is not None
    assert found.frames.t_us.tolist() == [0, 40_000, 80_000]


def test_a_unit_of_rgb_sides_without_one_is_refused(mixed: Path) -> None:
    specs = [spec("a.bin"), spec("b.csv")]

    with pytest.raises(SettingsError, match="expected RGB sides with --rgb-time-unit, got none"):
        check_options(mixed, specs, ReadSettings(rgb_time_unit="ms"))


def test_what_no_reader_knows_is_left_to_the_scan(mixed: Path) -> None:
    (mixed / "x.raw").write_bytes(b"no recording")

    check_options(mixed, [spec("x.raw"), spec("gone.raw")], ReadSettings(columns="txyp"))
