"""What the audit finds in one recording: one fault gives exactly one finding."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from check_helpers import audit, kinds, only, write_npz_set
from PIL import Image
from pipelines_helpers import atis_bytes

from pipelines.opening import ReadSettings


def test_a_cut_recording_is_told_with_its_byte(raw: Path) -> None:
    file = raw / "train/c0/0000.bin"
    file.write_bytes(file.read_bytes()[:-2])

    finding = only(audit(raw), "truncated")

    assert (finding.path, finding.byte) == ("train/c0/0000.bin", 995)
    assert "expected records of 5 bytes, got 3 bytes at the end" in finding.message


def test_a_file_of_no_bytes_is_empty(raw: Path) -> None:
    (raw / "train/c0/0000.bin").write_bytes(b"")

    assert only(audit(raw), "empty").path == "train/c0/0000.bin"


def test_a_recording_without_an_event_is_empty(tmp_path: Path) -> None:
    write_npz_set(tmp_path, number=4)
    nothing = {name: np.zeros(0, np.int64) for name in "txyp"}
    np.savez(tmp_path / "a" / "2.npz", **nothing)

    found = audit(tmp_path, read=ReadSettings(sensor_size=(34, 34)))

    assert only(found, "empty").path == "a/2.npz"


def test_times_that_step_back_are_counted(raw: Path) -> None:
    t = np.arange(0, 200_000, 1000)
    t[120:130] -= 100_000
    place = np.zeros(200, np.int64)
    (raw / "train/c1/0002.bin").write_bytes(atis_bytes(place, place, t, place))

    finding = only(audit(raw), "backwards")

    assert (finding.path, finding.byte) == ("train/c1/0002.bin", 600)
    assert "got 20000 us after 119000 us at event 120" in finding.message
    assert "10 of 200 events are so" in finding.message


def test_events_outside_the_sensor_are_counted(raw: Path) -> None:
    x = np.zeros(200, np.int64)
    x[7] = 40
    file = raw / "train/c1/0002.bin"
    file.write_bytes(atis_bytes(x, x, np.arange(0, 200_000, 1000), x * 0))

    finding = only(audit(raw, read=ReadSettings(sensor_size=(34, 34))), "outside")

    assert (finding.path, finding.byte, finding.t_us) == ("train/c1/0002.bin", 35, 7000)
    assert "inside the 34x34 sensor, got x=40" in finding.message
    assert "1 of 200 events are so" in finding.message


def test_two_faults_of_one_file_are_both_told(raw: Path) -> None:
    x = np.zeros(200, np.int64)
    x[7] = 40
    file = raw / "train/c1/0002.bin"
    file.write_bytes(atis_bytes(x, x, np.arange(0, 200_000, 1000), x * 0)[:-1])

    found = audit(raw, read=ReadSettings(sensor_size=(34, 34)))

    assert kinds(found) == ["truncated", "outside"]


def test_a_file_of_something_else_is_unreadable(raw: Path) -> None:
    shutil.copy(raw / "train/c0/0000.png", raw / "train/c0/0001.npz")
    (raw / "train/c0/0001.bin").unlink()

    assert only(audit(raw), "unreadable").path == "train/c0/0001.npz"


def test_a_cut_picture_is_told_by_its_own_name(raw: Path) -> None:
    file = raw / "test/c0/0000.png"
    file.write_bytes(file.read_bytes()[:-60])

    assert only(audit(raw), "truncated").path == "test/c0/0000.png"


def test_a_link_to_nothing_is_unreadable(raw: Path) -> None:
    file = raw / "test/c0/0000.bin"
    file.unlink()
    file.symlink_to(raw / "nowhere.bin")

    assert only(audit(raw), "unreadable").path == "test/c0/0000.bin"


# Pictures of a recording.


def write_frames(folder: Path, numbers: list[int], *, seed: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in numbers:
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:08d}.png")


@pytest.fixture
def filmed(raw: Path) -> Path:
    """Recordings with a folder of every fifth picture each, as HARDVS has them."""
    for seed, file in enumerate(sorted(raw.rglob("*.bin"))):
        file.with_suffix(".png").unlink()
        write_frames(file.with_name(f"{file.stem}_aps"), list(range(0, 40, 5)), seed=seed)
    return raw


def test_a_regular_step_of_picture_numbers_is_said_once(filmed: Path) -> None:
    finding = only(audit(filmed), "stride")

    assert finding.severity == "note"
    assert "in steps of 5 in 24 recordings" in finding.message


def test_a_picture_that_is_missing_in_between_is_told(filmed: Path) -> None:
    (filmed / "train/c0/0003_aps/00000015.png").unlink()

    found = audit(filmed)

    assert kinds(found) == ["rgb_gap", "stride"]
    assert found.findings[0].path == "train/c0/0003_aps/00000010.png"
    assert "got 00000020.png after 00000010.png: 1 of 8 pictures" in found.findings[0].message


def test_a_pause_of_a_camera_that_tells_times_is_told(filmed: Path) -> None:
    for folder in filmed.rglob("*_aps"):
        times = [1000 + 30_000 * i for i in range(8)]
        if folder.name == "0003_aps" and folder.parent.name == "c0":
            times = [time + 60_000 * (i > 4) for i, time in enumerate(times)]
        (folder / "timestamps.txt").write_text("".join(f"{time}\n" for time in times))

    finding = only(audit(filmed, read=ReadSettings(rgb_time_unit="us")), "rgb_gap")

    assert (finding.path, finding.t_us) == ("train/c0/0003_aps", 121_000)
    assert "every 30,000 us, got 1 pause, the longest 90,000 us: about 2" in finding.message


def test_one_bad_picture_among_many_is_one_finding(filmed: Path) -> None:
    for number in (10, 20, 25):
        (filmed / f"train/c0/0003_aps/{number:08d}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")

    found = audit(filmed)

    assert kinds(found) == ["unreadable", "stride"]
    assert found.findings[0].path == "train/c0/0003_aps/00000010.png"
    assert "so are 2 more of its 8 pictures" in found.findings[0].message


def test_pictures_at_another_time_than_the_events_are_told(filmed: Path) -> None:
    folder = filmed / "train/c0/0003_aps"
    times = [1_600_000_000_000_000 + 30_000 * i for i in range(8)]
    (folder / "timestamps.txt").write_text("".join(f"{time}\n" for time in times))

    found = audit(filmed)

    assert kinds(found) == ["rgb_apart", "stride"]
