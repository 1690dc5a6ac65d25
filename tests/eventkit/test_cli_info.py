"""`eventkit info` as a user runs it: the facts, one-line errors, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from eventkit.cli import main_group
from eventkit.readers.base import EVENT_CHUNK


def info(*arguments: str | Path) -> str:
    """Run in this process: for what the facts are; `tool` is for how it ends."""
    ran = CliRunner().invoke(main_group, ["info", *map(str, arguments)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def facts(*arguments: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(info(*arguments, "--json"))
    return found


def atis(path: Path, *records: tuple[int, int, int, int]) -> Path:
    path.write_bytes(
        b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for x, y, t, p in records)
    )
    return path


def test_a_real_recording_is_described_in_json(tool: Any, shared: Path) -> None:
    path = shared / "aedat4" / "davis346_frames_events_imu.aedat4"

    ran = tool("info", path, "--json")

    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    found = json.loads(ran.stdout)
    assert found["path"] == str(path)
    assert found["format"] == "aedat4"
    assert found["sensor_size"] == [346, 260]
    assert found["events"] == 78_830
    assert 0 < found["events_on"] < 78_830
    assert found["ledger"]["decoded"] == 78_830
    assert found["frames"]["count"] == 59
    assert found["frames"]["size"] == [346, 260]
    assert found["frames"]["exposure_us"] == 500
    assert found["t_last_us"] - found["t_first_us"] == pytest.approx(found["duration_s"] * 1e6)
    assert found["rate_hz"] == pytest.approx(78_830 / found["duration_s"])
    assert found["triggers"] > 0
    assert found["imu"] > 0


def test_a_real_recording_is_described_in_words(tool: Any, shared: Path) -> None:
    ran = tool("info", shared / "aedat4" / "davis346_frames_events_imu.aedat4")

    assert ran.returncode == 0, ran.stderr
    for words in (
        "aedat4",
        "346x260 (header of the event stream)",
        "78,830",
        "59 gray 346x260, times: recorded",
        "500 us (first frame)",
        "triggers",
        "imu",
    ):
        assert words in ran.stdout
    assert "\x1b" not in ran.stdout


def test_an_atis_file_is_described_with_the_assumption_made(shared: Path) -> None:
    text = info(shared / "es_bin" / "nmnist_sample.bin")

    assert "4,325" in text
    assert "34x34 (assumed N-MNIST's 34x34, which holds every event)" in text
    assert "note       no geometry in the file" in text


def test_what_was_dropped_and_repaired_is_told(tmp_path: Path) -> None:
    path = atis(tmp_path / "a.bin", (1, 1, 9, 1), (1, 1, 5, 1), (0, 240, 0, 0), (50, 1, 9, 0))

    skipped = facts(path, "--on-error", "skip", "--sensor-size", "34x34")
    repaired = info(path, "--on-error", "repair", "--sensor-size", "34x34")

    assert skipped["ledger"]["dropped"] == {"jitter": 1, "outside": 1}
    assert (skipped["events"], skipped["events_on"]) == (1, 1)
    assert "duration_s" not in skipped
    assert "skipped    1 overflow" in repaired
    assert "dropped    1 outside" in repaired
    assert "repaired   1 jitter" in repaired
    assert "sensor     34x34 (given)" in repaired


def test_a_cut_file_shows_its_fault_under_skip(tmp_path: Path) -> None:
    path = atis(tmp_path / "a.bin", (1, 1, 9, 1), (2, 2, 10, 0))
    path.write_bytes(path.read_bytes()[:-1])

    text = info(path, "--on-error", "skip")

    assert "events     1 (1 ON)" in text
    assert "fault      expected records of 5 bytes, got 4 bytes at the end" in text
    assert "(byte 5)" in text


def test_an_archive_without_geometry_says_unknown(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=[3], y=[2], t=[7], p=[1])

    found = facts(tmp_path / "a.npz")

    assert found["sensor_size"] is None
    assert found["geometry_source"] == "not in the file"
    assert (found["t_first_us"], found["t_last_us"]) == (7, 7)
    assert "sensor     unknown (not in the file)" in info(tmp_path / "a.npz")


def test_a_long_recording_is_added_up_over_its_pieces(tmp_path: Path) -> None:
    n = EVENT_CHUNK + 3
    zeros, p = np.zeros(n, "u1"), np.arange(n) % 2
    np.savez(tmp_path / "a.npz", x=zeros, y=zeros, t=np.arange(n), p=p)

    found = facts(tmp_path / "a.npz")

    assert (found["events"], found["events_on"]) == (n, int(p.sum()))
    assert (found["t_first_us"], found["t_last_us"]) == (0, n - 1)


def test_a_folder_of_images_is_described(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / f"{i}.png")

    bare = facts(tmp_path)
    (tmp_path / "timestamps.txt").write_text("0 10\n20 30\n40 50\n")
    timed = facts(tmp_path)

    assert bare["format"] == "images"
    assert bare["frames"]["timing"] == "none"
    assert bare["frames"]["t_first_us"] is None
    assert (timed["frames"]["count"], timed["frames"]["channels"]) == (3, 3)
    assert (timed["frames"]["t_first_us"], timed["frames"]["t_last_us"]) == (5, 45)
    assert timed["frames"]["exposure_us"] == 10
    assert "frames     3 RGB 6x4, times: recorded" in info(tmp_path)


def test_one_image_is_described(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "a.png")

    lines = info(tmp_path / "a.png").splitlines()

    assert lines[0].startswith(f"{tmp_path / 'a.png'}: image (")
    assert lines == [
        lines[0],
        "  frames     1 gray 28x28, times: none",
    ]


# What goes wrong is one line with the cure, and a code.


def assert_one_line(ran: Any, *words: str, code: int = 2) -> None:
    assert ran.returncode == code, ran.stderr
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert ran.stderr.startswith("error: ")
    for word in words:
        assert word in ran.stderr


def test_a_wrong_path_is_one_line(tool: Any) -> None:
    assert_one_line(tool("info", "no/such.aedat4"), "no/such.aedat4: no such file or folder")


def test_an_unknown_suffix_is_one_line_with_the_known_ones(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"what is this")

    assert_one_line(tool("info", "a.xyz", "--json"), ".aedat4, .avi, .bag, .bin", "got .xyz")


@pytest.mark.parametrize("name", ["a.aedat4", "a.bin", "a.csv", "a.mp4", "a.png", "a.xyz"])
def test_an_empty_file_is_one_line(tool: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    line = f"{name}: expected a recording, got an empty file; copy it again"

    assert_one_line(tool("info", name), line)
    assert_one_line(tool("info", name, "--format", "evt3"), line)


def test_an_empty_folder_is_one_line(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()

    assert_one_line(tool("info", "nothing"), "nothing: expected one of", "folder of images")


def test_a_cut_file_is_one_line_with_its_byte_and_the_cure(tool: Any, tmp_path: Path) -> None:
    path = atis(tmp_path / "a.bin", (1, 1, 9, 1))
    path.write_bytes(path.read_bytes() + b"\0")

    assert_one_line(tool("info", "a.bin"), "a.bin: expected", "(byte 5)", "--on-error skip")


def test_a_cut_aedat4_file_is_one_line(tool: Any, tmp_path: Path, shared: Path) -> None:
    data = (shared / "aedat4" / "davis346_first_170ms.aedat4").read_bytes()
    (tmp_path / "a.aedat4").write_bytes(data[:200_000])

    assert_one_line(tool("info", "a.aedat4"), "cannot be decoded", "(byte ", "--on-error skip")


def test_an_event_outside_the_given_sensor_is_one_line(tool: Any, tmp_path: Path) -> None:
    atis(tmp_path / "a.bin", (30, 1, 9, 1))

    ran = tool("info", "a.bin", "--sensor-size", "10x10")

    assert_one_line(ran, "10x10 sensor, got x=30 y=1 at event 0", "(byte 0)")


def test_an_unknown_reader_is_one_line_with_the_known_ones(tool: Any, tmp_path: Path) -> None:
    atis(tmp_path / "a.bin", (1, 1, 9, 1))

    ran = tool("info", "a.bin", "--format", "evt9")

    assert_one_line(ran, "--format among aedat4,", "atis-bin", "got 'evt9'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.bin", "--sensor-size", "34"],
        ["a.bin", "--sensor-size", "0x5"],
        ["a.bin", "--on-error", "ignore"],
        ["a.bin", "--colour"],
        [],
    ],
)
def test_wrong_usage_has_exit_code_2(arguments: list[str]) -> None:
    ran = CliRunner().invoke(main_group, ["info", *arguments])

    assert ran.exit_code == 2
    assert "Error: " in ran.output


@pytest.mark.parametrize(
    ("format_name", "target"),
    [("atis-bin", "folder"), ("npz", "folder"), ("aedat4", "folder"), ("images", "a.bin")],
)
def test_a_reader_for_another_kind_of_path_is_one_line(
    tool: Any, tmp_path: Path, format_name: str, target: str
) -> None:
    (tmp_path / "folder").mkdir()
    atis(tmp_path / "a.bin", (1, 1, 9, 1))

    assert_one_line(tool("info", target, "--format", format_name), target)


def test_help_says_what_it_does_without_loading_the_readers(tool: Any) -> None:
    ran = tool("info", "--help")

    assert ran.returncode == 0
    for option in ("--json", "--on-error [raise|skip|repair]", "--sensor-size W", "--format"):
        assert option in ran.stdout
