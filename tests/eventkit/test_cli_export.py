"""`eventkit export` as a user runs it: what it says before it writes, the ledger, exit codes."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import eventkit
from eventkit.align import on_event_clock
from eventkit.cli import export as module
from eventkit.cli import main_group
from eventkit.errors import EventKitError
from eventkit.frames import Frames
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.writers.survey import move_frames


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main_group, ["export", *map(str, arguments)])


def npz(path: Path, count: int = 50, **change: Any) -> Path:
    i = np.arange(count)
    columns = {"x": i % 34, "y": i % 30, "t": 100 * i, "p": i % 2, **change}
    np.savez(path, **columns)
    return path


def test_a_real_recording_is_exported_with_what_it_loses(
    tool: Any, shared: Path, tmp_path: Path
) -> None:
    source = shared / "aedat4" / "davis346_frames_events_imu.aedat4"

    ran = tool("export", source, "out/a.dat")

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        f"out/a.dat: dat, from {source}",
        "  events     78,830 decoded = 78,830 kept + 0 dropped",
        "  frames     59 in out/a_rgb/",
    ]
    assert "loss: 236 triggers are not written: DAT holds events only" in ran.stderr
    assert "\x1b" not in ran.stdout + ran.stderr
    back = eventkit.open(tmp_path / "out/a.dat", rgb=tmp_path / "out/a_rgb")
    whole = eventkit.open(source)
    assert back.events == whole.events
    assert np.array_equal(back.frames.start_us, whole.frames.start_us)
    assert np.array_equal(back.frames.stop_us, whole.frames.stop_us)
    assert np.array_equal(back.frames.images, whole.frames.images)


def test_losses_come_before_the_first_byte_is_written(tmp_path: Path, shared: Path) -> None:
    from eventkit.writers.dat import DatWriter

    path = shared / "aedat4" / "davis346_first_170ms.aedat4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatWriter, "write", lambda *_args, **_more: 1 / 0)
        ran = run(path, tmp_path / "a.dat")

    assert isinstance(ran.exception, ZeroDivisionError)
    assert "loss: times are moved by" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_json_object_holds_all_facts(tmp_path: Path) -> None:
    source = npz(tmp_path / "in.npz")

    ran = run(source, tmp_path / "a.bin", "--sensor-size", "34x34", "--json")

    facts = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert facts["source"] == str(source)
    assert facts["source_format"] == "npz"
    assert (facts["format"], facts["events"]) == ("atis-bin", 50)
    assert (facts["t_first_us"], facts["t_last_us"]) == (0, 4900)
    assert facts["ledger"]["decoded"] == facts["ledger"]["kept"] == 50
    assert facts["losses"] == []
    assert facts["frames_path"] is None
    assert eventkit.open(tmp_path / "a.bin").events == eventkit.open(source).events


def test_a_part_of_a_recording_is_exported(tmp_path: Path) -> None:
    source = npz(tmp_path / "in.npz")

    ran = run(
        source, tmp_path / "a.dat", "--sensor-size", "34x34", "--start-us", 1000, "--stop-us", 2000
    )

    assert "50 decoded = 10 kept + 40 dropped (40 outside_range)" in ran.stdout
    assert eventkit.open(tmp_path / "a.dat").events.t.tolist() == list(range(1000, 2000, 100))


@pytest.mark.parametrize("frames", [False, True])
def test_a_range_in_which_nothing_lies_is_refused(tmp_path: Path, frames: bool) -> None:
    source = npz(tmp_path / "in.npz", sensor_size=np.array([34, 34]))
    (tmp_path / "rgb").mkdir()
    for i in range(3):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "rgb" / f"{i}.png")
    rgb = ("--rgb", tmp_path / "rgb") if frames else ()

    ran = run(source, tmp_path / "a.dat", *rgb, "--start-us", 5000, "--stop-us", 9000)

    assert isinstance(ran.exception, EventKitError)
    assert "expected events or frames from 5000 us to 9000 us" in str(ran.exception)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npz", "rgb"]


def timed(folder: Path, times: list[int]) -> Path:
    """A folder of pictures; without times if there are none."""
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(folder / f"{i}.png")
    if times:
        (folder / "timestamps.txt").write_text("".join(f"{t}\n" for t in times))
    return folder


@pytest.mark.parametrize("name", ["a.dat", "a.h5"])
def test_an_offset_moves_the_times_of_rgb(tmp_path: Path, name: str) -> None:
    source = npz(tmp_path / "in.npz", sensor_size=np.array([34, 34]))
    rgb = timed(tmp_path / "rgb", [0, 1000, 2000])

    ran = run(
        source, tmp_path / name, "--rgb", rgb, "--rgb-offset-us", 700,
        "--start-us", 1500, "--stop-us", 3000, "--frames", "png",
    )  # fmt: skip

    assert ran.exit_code == 0, ran.output
    assert "note: times of the frames are moved by 700 us, as asked for" in ran.stderr
    back = eventkit.open(tmp_path / name, rgb=tmp_path / "a_rgb")
    assert back.frames.t_us.tolist() == [1700, 2700]
    assert back.frames.images[:, 0, 0, 0].tolist() == [1, 2]
    assert back.events.t.tolist() == list(range(1500, 3000, 100))


def test_an_offset_of_a_video_counts_from_the_first_event() -> None:
    t = np.array([0, 40_000])
    video = Frames(t, t, t, (4, 4), 1, "own-clock", lambda indices: iter(()))
    recording = Recording(Path("a.raw"), "evt3", frames=video)

    moved = move_frames(recording, -500).frames
    frames, how = on_event_clock(moved, first_us=7000, last_us=90_000)

    assert frames.t_us.tolist() == [6500, 46_500]
    assert how == "first frame at first event"


@pytest.mark.parametrize(
    ("rgb", "told"),
    [(True, "expected frames with times, got pictures without"), (False, "expected frames, got n")],
)
def test_an_offset_of_no_times_is_refused(tmp_path: Path, rgb: bool, told: str) -> None:
    source = npz(tmp_path / "in.npz", sensor_size=np.array([34, 34]))
    side = ("--rgb", timed(tmp_path / "rgb", [])) if rgb else ()

    ran = run(source, tmp_path / "a.dat", *side, "--rgb-offset-us", 700)

    assert isinstance(ran.exception, EventKitError)
    assert told in str(ran.exception)
    assert not (tmp_path / "a.dat").exists()


def test_pictures_of_a_part_say_how_they_got_their_times(tmp_path: Path) -> None:
    source = npz(tmp_path / "in.npz", sensor_size=np.array([34, 34]))  # 0 .. 4900
    (tmp_path / "rgb").mkdir()
    for i in range(49):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / "rgb" / f"{i:02}.png")

    ran = run(source, tmp_path / "a.dat", "--rgb", tmp_path / "rgb", "--start-us", 4000)

    assert ran.exit_code == 0, ran.output
    assert "loss: the pictures have no times and get invented ones" in ran.stderr
    assert "note: 9 of 49 frames lie in the range" in ran.stderr
    back = eventkit.open(tmp_path / "a_rgb").frames
    assert back.images[:, 0, 0, 0].tolist() == list(range(40, 49))
    assert back.t_us[0] == 4901 * 81 // 98


def test_faulty_events_stop_the_export_or_are_counted(tmp_path: Path) -> None:
    t = 100 * np.arange(50)
    t[7] = 0
    source = npz(tmp_path / "in.npz", t=t)
    options = (source, tmp_path / "a.dat", "--sensor-size", "34x34")

    refused = run(*options)
    assert refused.exit_code != 0
    assert [p.name for p in tmp_path.iterdir()] == ["in.npz"]
    skipped = run(*options, "--on-error", "skip")
    repaired = run(*options, "--on-error", "repair", "--overwrite")

    assert "50 decoded = 49 kept + 1 dropped (1 jitter)" in skipped.stdout
    assert "50 decoded = 50 kept + 0 dropped" in repaired.stdout
    assert "repaired   1 jitter" in repaired.stdout


def test_an_rgb_side_and_a_member_of_an_archive_are_read(tmp_path: Path, shared: Path) -> None:
    path = shared / "aedat4" / "davis346_first_170ms.aedat4"
    assert run(path, tmp_path / "rgb", "--format", "images").exit_code == 0
    name = f"zip://nmnist_pairs/train/0/00002.bin::{shared / 'nmnist_pairs.zip'}"

    ran = run(path, tmp_path / "b.aedat4", "--rgb", tmp_path / "rgb")

    assert ran.exit_code == 0, ran.output
    assert "frames     4 in it" in ran.stdout
    assert len(eventkit.open(tmp_path / "b.aedat4").frames) == 4
    assert run(name, tmp_path / "c.dat").exit_code == 0


def test_a_compressed_source_is_the_same_as_a_plain_one(tmp_path: Path, shared: Path) -> None:
    data = (shared / "es_bin" / "nmnist_sample.bin").read_bytes()
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(data))

    ran = run(tmp_path / "a.bin.gz", tmp_path / "a.bin")

    assert ran.exit_code == 0, ran.output
    assert "4,325 kept" in ran.stdout
    assert (tmp_path / "a.bin").read_bytes() == data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("in.npz", "a.raw"), "give --format with one of them"),
        (("in.npz", "a.bag"), "ROS 1 bags are read, not written"),
        (("in.npz", "a.dat", "--format", "nope"), "expected --format among"),
        (("in.npz", "in.npz", "--overwrite"), "expected another place than the recording"),
        (("in.npz", "old.dat"), "exists; --overwrite replaces it"),
        (("none.npz", "a.dat"), "no such file or folder"),
        (("in.npz", "a.es"), "--sensor-size"),
        (("in.npz", "a.dat", "--start-us", "9", "--stop-us", "9"), "a start before the stop"),
        (("in.npz", "a.csv.gz"), "compressed output is not written; write a.csv and compress"),
        (("in.npz", "a.csv.gz", "--format", "csv"), "compressed output is not written"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    npz(tmp_path / "in.npz")
    (tmp_path / "old.dat").write_bytes(b"kept")
    monkeypatch.chdir(tmp_path)

    ran = run(*arguments)

    assert isinstance(ran.exception, EventKitError)
    assert words in str(ran.exception)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npz", "old.dat"]
    assert (tmp_path / "old.dat").read_bytes() == b"kept"


def test_a_refusal_is_one_line_and_exit_code_2(tool: Any, tmp_path: Path) -> None:
    ran = tool("export", "none.npz", "a.dat")

    assert ran.returncode == 2
    assert ran.stderr == "error: none.npz: no such file or folder\n"
    assert list(tmp_path.iterdir()) == []


def test_long_work_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    ledger = Ledger(decoded=1234)

    with module._spoken("written", ledger, 5000):
        threading.Event().wait(0.2)

    assert "1,234 of 5,000 events written" in capsys.readouterr().err
