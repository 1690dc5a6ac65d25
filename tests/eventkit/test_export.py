"""Writing recordings: what is read back is what was written, what is lost is said before."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import eventkit
from eventkit.align import on_event_clock
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.testing.strategies import events as event_streams
from eventkit.writers import Contents, export, find_writer, writers
from eventkit.writers.plan import HOLD_FRAMES, carry_out, make_plan
from eventkit.writers.survey import part, survey

SIZE = (7, 5)
EVENT_FORMATS = [name for name in writers() if name != "images"]


def sample(*, count: int = 60, start: int = 1000, step: int = 250) -> Events:
    rng = np.random.default_rng(count)
    return Events(
        x=rng.integers(0, SIZE[0], count),
        y=rng.integers(0, SIZE[1], count),
        t=start + step * (np.arange(count) // 2),
        p=rng.integers(0, 2, count),
    )


def recording_of(
    events: Events | None,
    *,
    size: tuple[int, int] | None = SIZE,
    frames: Frames | None = None,
    triggers: np.ndarray | None = None,
    chunks: int = 3,
) -> Recording:
    """A recording in memory, in several chunks."""

    def source(ledger: Ledger) -> Any:
        assert events is not None
        cuts = np.linspace(0, len(events), chunks + 1).astype(int)
        for a, b in pairwise(cuts):
            ledger.words += int(b - a)
            ledger.decoded += int(b - a)
            yield Chunk(events[int(a) : int(b)])

    return Recording(
        path=Path("in-memory"),
        format="memory",
        sensor_size=size,
        source=None if events is None else source,
        frames=frames,
        side_data=None if triggers is None else lambda: {"triggers": triggers},
    )


def pictures(
    *,
    count: int = 3,
    channels: int = 3,
    dtype: Any = np.uint8,
    timing: Any = "recorded",
    start: int = 1000,
) -> Frames:
    top = np.iinfo(dtype).max
    rng = np.random.default_rng(5)
    images = rng.integers(0, top + 1, (count, SIZE[1], SIZE[0], channels)).astype(dtype)
    begin = start + 3000 * np.arange(count, dtype=np.int64)
    stop = begin + 500

    def reader(indices: Sequence[int]) -> Any:
        return (Picture(images[i]) for i in indices)

    return Frames((begin + stop) // 2, begin, stop, SIZE, channels, timing, reader)


def target(folder: Path, name: str) -> Path:
    suffixes = writers()[name].suffixes
    return folder / f"out{suffixes[0] if suffixes else ''}"


def read_back(
    path: Path, losses: Sequence[str], *, size: tuple[int, int] = SIZE
) -> tuple[Recording, bool]:
    """Open what was written, by content; and whether its times were moved for good."""
    told = any("sensor size" in loss for loss in losses)
    back = eventkit.open(path, sensor_size=size if told else None)
    return back, any("are moved" in loss and "again" not in loss for loss in losses)


def assert_same(back: Recording, events: Events, *, moved: bool) -> None:
    got = back.events
    assert np.array_equal(got.x, events.x)
    assert np.array_equal(got.y, events.y)
    assert np.array_equal(got.p, events.p)
    if moved and len(events):
        assert np.array_equal(got.t - got.t[0], events.t - events.t[0])
    else:
        assert np.array_equal(got.t, events.t)


def test_every_format_of_the_table_has_its_writer() -> None:
    from eventkit import writers as module

    assert list(writers()) == list(module._BUILT_IN)
    assert all(writer.name == name for name, writer in writers().items())
    assert set(HOLD_FRAMES) <= set(writers())


@pytest.mark.parametrize("name", EVENT_FORMATS)
def test_what_is_read_back_is_what_was_written(tmp_path: Path, name: str) -> None:
    events = sample()
    path = target(tmp_path, name)

    done = export(recording_of(events), path, format=name)

    back, moved = read_back(path, done.losses)
    assert_same(back, events, moved=moved)
    assert back.sensor_size == SIZE
    assert (done.ledger.decoded, done.ledger.kept) == (len(events), len(events))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", EVENT_FORMATS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_events_come_back_or_are_refused_before_a_byte_is_written(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    events = data.draw(event_streams(sensor_size=SIZE))
    path = target(tmp_path_factory.mktemp("any"), name)

    try:
        done = export(recording_of(events), path, format=name)
    except SettingsError:
        assert not path.exists()
        return
    back, moved = read_back(path, done.losses)
    if any("float64 seconds" in loss for loss in done.losses):  # past the year 2038
        assert np.abs(back.events.t - events.t).max() <= 2
        return
    assert_same(back, events, moved=moved)


@pytest.mark.parametrize("name", EVENT_FORMATS)
@pytest.mark.parametrize("count", [0, 1])
def test_no_event_and_one_event_are_written(tmp_path: Path, name: str, count: int) -> None:
    events = sample(count=count)
    path = target(tmp_path, name)
    if name == "atis-bin" and not count:
        with pytest.raises(SettingsError, match="expected events, got none: without a header"):
            export(recording_of(events), path, format=name)
        return

    done = export(recording_of(events), path, format=name)

    back, moved = read_back(path, done.losses)
    assert_same(back, events, moved=moved)


@pytest.mark.parametrize("name", EVENT_FORMATS)
def test_equal_recordings_give_equal_bytes(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        export(recording_of(sample()), target(tmp_path / folder, name), format=name)

    a, b = target(tmp_path / "a", name), target(tmp_path / "b", name)
    files = sorted(p.relative_to(a) for p in a.rglob("*")) if a.is_dir() else [Path()]
    assert [(a / file).read_bytes() for file in files] == [
        (b / file).read_bytes() for file in files
    ]


@pytest.mark.parametrize("name", [n for n in EVENT_FORMATS if n != "atis-bin"])
def test_a_real_recording_comes_back(tmp_path: Path, shared: Path, name: str) -> None:
    source = eventkit.open(shared / "aedat4" / "davis346_first_170ms.aedat4")
    path = target(tmp_path, name)

    done = export(source, path, format=name)

    back, moved = read_back(path, done.losses, size=(346, 260))
    assert_same(back, source.events, moved=moved)
    assert back.sensor_size == (346, 260)
    # Where a format cannot hold a time since 1970, the pictures go along.
    side = back if done.pictures_path is None else eventkit.open(done.pictures_path)
    assert side.frames is not None
    assert source.frames is not None
    assert np.array_equal(side.frames.images, source.frames.images)
    first = int(back.events.t[0]) - int(source.events.t[0])
    assert np.array_equal(side.frames.t_us, source.frames.t_us + first)
    if done.pictures_path is not None or name == "aedat4":
        assert np.array_equal(side.frames.start_us, source.frames.start_us + first)
        assert np.array_equal(side.frames.stop_us, source.frames.stop_us + first)


@pytest.mark.parametrize("name", EVENT_FORMATS)
def test_a_format_says_what_of_pictures_and_signals_it_leaves_out(
    tmp_path: Path, name: str
) -> None:
    triggers = np.array([(1000, 1), (2000, 2)], [("t", "<i8"), ("source", "u1")])
    path = target(tmp_path, name)

    done = export(
        recording_of(sample(), frames=pictures(), triggers=triggers),
        path,
        format=name,
        frames="none",
    )

    assert "3 frames are not written, as asked for" in done.losses
    back = eventkit.open(path, sensor_size=SIZE)
    said = any("2 " in loss and "frames" not in loss for loss in done.losses)
    assert said or (back.triggers is not None and back.triggers["t"].tolist() == [1000, 2000])


@pytest.mark.parametrize("name", [n for n in HOLD_FRAMES if n in writers() and n != "images"])
@pytest.mark.parametrize("channels", [1, 3])
def test_frames_stay_in_a_format_that_holds_them(tmp_path: Path, name: str, channels: int) -> None:
    frames = pictures(channels=channels)
    path = target(tmp_path, name)

    done = export(recording_of(sample(), frames=frames), path, format=name)

    back = eventkit.open(path).frames
    assert done.pictures_path is None
    assert back is not None
    assert np.array_equal(back.images, frames.images)
    assert np.array_equal(back.t_us, frames.t_us)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (1, np.uint16)])
def test_frames_beside_a_file_come_back_with_their_exposures(
    tmp_path: Path, channels: int, dtype: Any
) -> None:
    frames = pictures(channels=channels, dtype=dtype)

    done = export(recording_of(sample(), frames=frames), tmp_path / "a.dat")

    assert done.pictures_path == tmp_path / "a_rgb"
    assert not any("frames" in loss for loss in done.losses)
    back = eventkit.open(tmp_path / "a.dat", rgb=tmp_path / "a_rgb")
    assert back.frames is not None
    assert np.array_equal(back.frames.images, frames.images)
    assert np.array_equal(back.frames.start_us, frames.start_us)
    assert np.array_equal(back.frames.stop_us, frames.stop_us)
    assert back.frames.timing == "recorded"
    lines = (tmp_path / "a_rgb" / "timestamps.txt").read_text().splitlines()
    assert lines[:2] == ["# start_us stop_us", "1000 1500"]


def test_png_puts_the_frames_beside_a_format_that_would_hold_them(tmp_path: Path) -> None:
    frames = pictures()

    done = export(recording_of(sample(), frames=frames), tmp_path / "a.aedat4", frames="png")

    assert eventkit.open(tmp_path / "a.aedat4").frames is None
    assert done.pictures_path is not None
    assert np.array_equal(eventkit.open(done.pictures_path).frames.images, frames.images)


def test_colour_of_16_bit_is_said_to_become_8_bit(tmp_path: Path) -> None:
    frames = pictures(dtype=np.uint16)

    done = export(recording_of(sample(), frames=frames), tmp_path / "a.dat")

    assert any("16-bit colour" in loss for loss in done.losses)
    back = eventkit.open(tmp_path / "a_rgb").frames.images
    assert np.array_equal(back, ((frames.images.astype(int) + 128) // 257).astype(np.uint8))


def test_jpeg_files_keep_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(2):
        Image.fromarray(np.full((5, 7, 3), 90 * i, np.uint8)).save(tmp_path / "in" / f"{i}.jpg")
    side = eventkit.open(tmp_path / "in")
    recording = recording_of(sample(), frames=side.frames)

    done = export(recording, tmp_path / "a.dat")

    names = sorted(p.name for p in (tmp_path / "a_rgb").iterdir())
    assert names == ["000000.jpg", "000001.jpg"]
    assert (tmp_path / "a_rgb/000001.jpg").read_bytes() == (tmp_path / "in/1.jpg").read_bytes()
    assert "the pictures have no times: no timestamps.txt is written" in done.notes


def test_a_video_side_gets_the_clock_of_the_events(tmp_path: Path) -> None:
    frames = pictures(timing="own-clock", start=0)

    done = export(recording_of(sample(start=5000), frames=frames), tmp_path / "a.dat")

    assert eventkit.open(tmp_path / "a_rgb").frames.start_us.tolist() == [5000, 8000, 11_000]
    assert "times of the frames: first frame at first event" in done.notes


@pytest.mark.parametrize(
    ("count", "words"), [(3, "spread over the events"), (1, "the middle of the events")]
)
def test_times_that_a_format_needs_and_no_picture_has_are_said_to_be_invented(
    tmp_path: Path, count: int, words: str
) -> None:
    frames = pictures(count=count, timing="none")
    recording = recording_of(sample(), frames=frames)

    done = export(recording, tmp_path / "a.aedat4")
    without = export(recording, tmp_path / "b.aedat4", frames="none")

    assert [words in loss for loss in done.losses if "invented" in loss] == [True]
    assert not any("times" in said for said in (*done.notes, *without.notes))
    assert not any("invented" in loss for loss in without.losses)
    back = eventkit.open(tmp_path / "a.aedat4").frames
    assert np.array_equal(back.images, frames.images)


def test_a_csv_says_both_ways_to_give_its_sensor_size_and_both_work(tmp_path: Path) -> None:
    done = export(recording_of(sample()), tmp_path / "a.csv")
    size = f"{SIZE[0]}x{SIZE[1]}"

    assert any(f"--sensor-size {size}" in loss and "a.csv.size.txt" in loss for loss in done.losses)
    assert eventkit.open(tmp_path / "a.csv", sensor_size=SIZE).sensor_size == SIZE
    (tmp_path / "a.csv.size.txt").write_text(size)
    assert eventkit.open(tmp_path / "a.csv").sensor_size == SIZE


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_a_name_of_a_compressed_file_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(SettingsError, match=r"write a\.csv and compress it afterwards"):
        export(recording_of(sample()), tmp_path / f"a.csv{suffix}", format="csv")

    assert list(tmp_path.iterdir()) == []


def test_pictures_alone_make_a_folder_and_no_event_file(tmp_path: Path) -> None:
    frames = pictures()
    recording = recording_of(sample(), frames=frames)

    done = export(recording, tmp_path / "rgb", format="images")

    assert done.losses == ("60 events are not written: a folder of images holds frames only",)
    assert np.array_equal(eventkit.open(tmp_path / "rgb").frames.images, frames.images)
    with pytest.raises(SettingsError, match="expected frames for a folder of images"):
        export(recording_of(sample()), tmp_path / "none", format="images")
    with pytest.raises(SettingsError, match="expected events, there are none"):
        export(recording_of(None, frames=frames), tmp_path / "a.dat")


def test_the_survey_of_a_recording_is_what_is_in_it() -> None:
    events, ledger = sample(), Ledger()
    triggers = np.array([(90_000, 1), (-5, 3)], [("t", "<i8"), ("source", "u1")])
    imu = np.array([(7, 0.5)], [("t", "<i8"), ("temperature", "<f4")])
    recording = recording_of(events, frames=pictures())
    recording.side_data = lambda: {"triggers": triggers, "imu": imu}

    found = survey(recording, ledger=ledger)

    assert found == Contents(
        events=60,
        first_us=int(events.t[0]),
        last_us=int(events.t[-1]),
        right=int(events.x.max()),
        bottom=int(events.y.max()),
        sensor_size=SIZE,
        frames=3,
        triggers=2,
        imu=1,
        kinds={1: 1, 3: 1},
        longest_gap_us=250,
        spans={
            "triggers": (-5, 90_000),
            "IMU samples": (7, 7),
            "frames": (1250, 7250),
            "exposures": (1000, 7500),
        },
        frame_size=SIZE,
        imu_columns=("temperature",),
    )
    assert found.times() == (1000, 8250)
    assert found.times("triggers", "frames") == (-5, 90_000)
    assert ledger.decoded == 60


def test_a_part_is_cut_from_all_sides_and_its_rest_is_counted() -> None:
    events, ledger = sample(), Ledger()
    triggers = np.zeros(3, [("t", "<i8")])
    triggers["t"] = [1000, 3000, 90_000]
    whole = recording_of(events, frames=pictures(), triggers=triggers)

    cut, invented = part(whole, 2000, 5000)
    got = Events.concatenate(chunk.events for chunk in cut.stream(ledger))

    assert got == events[np.asarray((events.t >= 3000) & (events.t < 6000))]
    assert ledger.kept == len(got)
    assert ledger.dropped["outside_range"] == ledger.decoded - len(got)
    assert cut.triggers is not None
    assert cut.triggers["t"].tolist() == [3000]
    assert cut.frames is not None
    assert cut.frames.start_us.tolist() == [4000]
    assert cut.notes == ["1 of 3 frames lie in the range"]
    assert invented == []
    assert np.array_equal(cut.frames.images, whole.frames.images[1:2])
    assert part(whole, None, None)[0] is whole
    assert len(part(whole, 2000, None)[0].events) + len(part(whole, None, 2000)[0].events) == 60
    with pytest.raises(SettingsError, match="expected a start before the stop"):
        part(whole, 5, 5)


@pytest.mark.parametrize(
    ("timing", "note", "loss"),
    [
        ("own-clock", "times of the frames: first frame at first event", ""),
        ("none", "", "spread over the events"),
    ],
)
def test_a_part_has_the_frames_that_the_whole_recording_has_then(
    timing: Any, note: str, loss: str
) -> None:
    events = sample(count=100, start=50_000, step=200)  # 50,000 .. 59,800
    whole = recording_of(events, frames=pictures(count=5, timing=timing, start=0))
    assert whole.frames is not None
    on_clock, _ = on_event_clock(whole.frames, first_us=50_000, last_us=59_800)

    cut, invented = part(whole, 4000, 8000)

    inside = np.flatnonzero((on_clock.t_us >= 54_000) & (on_clock.t_us < 58_000))
    assert 0 < inside.size < 5
    assert cut.frames is not None
    assert cut.frames.timing == "recorded"
    assert cut.frames.t_us.tolist() == on_clock.t_us[inside].tolist()
    assert np.array_equal(cut.frames.images, whole.frames.images[inside])
    assert cut.notes == [*filter(None, [note]), f"{inside.size} of 5 frames lie in the range"]
    assert [loss in said for said in invented] == ([True] if loss else [])
    assert whole.notes == []


def test_pictures_that_have_an_order_only_are_not_cut_by_time() -> None:
    alone = recording_of(None, frames=pictures(timing="none"))

    with pytest.raises(SettingsError, match="expected times to cut a range by"):
        part(alone, 0, 5000)


def test_what_is_there_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    export(recording_of(sample(), frames=pictures()), path)

    with pytest.raises(SettingsError, match=r"a\.dat: exists; --overwrite"):
        export(recording_of(sample()), path)
    path.unlink()
    with pytest.raises(SettingsError, match=r"a_rgb: exists; --overwrite"):
        export(recording_of(sample(), frames=pictures(count=1)), path)
    export(recording_of(sample(count=4), frames=pictures(count=1)), path, overwrite=True)

    assert len(eventkit.open(path).events) == 4
    assert len(eventkit.open(tmp_path / "a_rgb").frames) == 1


def test_a_second_export_of_a_recording_keeps_the_folder_of_its_pictures(tmp_path: Path) -> None:
    recording = recording_of(sample(), frames=pictures())
    folder = export(recording, tmp_path / "a.dat").pictures_path
    assert folder == tmp_path / "a_rgb"
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}

    done = export(recording, tmp_path / "a.npz")

    assert f"{folder} holds these pictures already: it is kept as it is" in done.notes
    assert done.pictures_path == folder
    after = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    assert after == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dat", "a.npz", "a_rgb"]


@pytest.mark.parametrize("change", ["times", "picture", "missing", "another"])
def test_a_folder_of_other_pictures_is_not_taken_for_these(tmp_path: Path, change: str) -> None:
    recording = recording_of(sample(), frames=pictures())
    folder = tmp_path / "a_rgb"
    export(recording, tmp_path / "a.dat")
    times, picture = folder / "timestamps.txt", folder / "000000.png"
    if change == "times":
        times.write_text(times.read_text("utf-8").replace("5", "6"), "utf-8")
    elif change == "picture":
        picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    elif change == "missing":
        times.rename(tmp_path / "elsewhere")
    else:
        picture.rename(folder / "000009.png")

    with pytest.raises(SettingsError, match=r"a_rgb: (exists; --overwrite|has no timestamps\.txt)"):
        export(recording, tmp_path / "a.npz")

    assert not (tmp_path / "a.npz").exists()


def test_a_folder_with_something_of_the_users_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a_rgb").mkdir()
    (tmp_path / "a_rgb" / "thesis.txt").write_text("years of work")

    with pytest.raises(SettingsError, match=r"thesis\.txt, so no export wrote it"):
        export(recording_of(sample(), frames=pictures()), tmp_path / "a.dat", overwrite=True)

    assert [p.name for p in tmp_path.rglob("*")] == ["a_rgb", "thesis.txt"]


@pytest.mark.parametrize("name", ["000.png", "000000.png", "mine_0.db3"])
@pytest.mark.parametrize("times", [None, "0\n40\n"])
def test_pictures_and_bags_of_the_user_are_not_taken_for_those_of_an_export(
    tmp_path: Path, name: str, times: str | None
) -> None:
    folder = tmp_path / "a_rgb"
    folder.mkdir()
    (folder / name).write_bytes(b"theirs")
    if times is not None:
        (folder / "timestamps.txt").write_text(times)
    recording = recording_of(sample(), frames=pictures())

    for target, format in ((tmp_path / "a.dat", "dat"), (folder, "ros2-db3"), (folder, "images")):
        with pytest.raises(SettingsError, match="no export wrote it; move it away"):
            export(recording, target, format=format, overwrite=True)

    assert (folder / name).read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["ros2-db3", "images"])
def test_a_folder_of_an_export_is_replaced(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    export(recording_of(sample(count=8), frames=pictures()), path, format=name)

    export(recording_of(sample(), frames=pictures(count=2)), path, format=name, overwrite=True)

    assert len(eventkit.open(path).frames) == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_neither_a_file_nor_a_folder_stays(tmp_path: Path, overwrite: bool) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("pipe.csv")

    for name, kind in (("pipe.csv", "a device, pipe or socket"), ("link.csv", "a link")):
        with pytest.raises(
            SettingsError, match=f"expected a file, a folder or nothing, got {kind}"
        ):
            export(recording_of(sample()), tmp_path / name, overwrite=overwrite)

    assert (tmp_path / "pipe.csv").is_fifo()
    assert (tmp_path / "link.csv").is_symlink()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file/deep/a.dat", "expected a folder to write to, got none"),
        ("x" * 260 + ".dat", "the name is too long"),
        ("/proc/a.dat", "cannot be written to"),
    ],
    ids=["under a file", "long name", "no files here"],
)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_events_are_read(
    tmp_path: Path, place: str, words: str
) -> None:
    (tmp_path / "file").touch()

    def unread(ledger: Ledger) -> Any:
        raise AssertionError

    recording = recording_of(sample())
    recording.source = unread

    with pytest.raises(SettingsError, match=words):
        make_plan(recording, find_writer(place), tmp_path / place)


def test_the_longest_name_that_a_file_can_have_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".dat")

    export(recording_of(sample()), path)

    assert eventkit.open(path).events == sample()


@pytest.mark.parametrize("name", ["csv", "ros2-db3"])
def test_two_exports_to_one_name_at_a_time_do_not_meet(tmp_path: Path, name: str) -> None:
    path = target(tmp_path, name)
    first, second = sample(count=30), sample(count=40)
    inner = make_plan(recording_of(second), writers()[name], path)

    def interrupted(ledger: Ledger) -> Any:
        ledger.decoded += len(first)
        yield Chunk(first[:10])
        carry_out(inner)
        assert eventkit.open(path, sensor_size=SIZE).events == second
        yield Chunk(first[10:])

    outer = make_plan(recording_of(first), writers()[name], path)
    outer.recording.source = interrupted
    carry_out(outer)

    assert eventkit.open(path, sensor_size=SIZE).events == first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["dat", "npz", "mcap"])
def test_a_killed_export_leaves_what_the_next_one_removes(tmp_path: Path, name: str) -> None:
    path = target(tmp_path, name)
    plan = make_plan(recording_of(sample(), frames=pictures()), writers()[name], path)

    def killed(ledger: Ledger) -> Any:
        yield Chunk(sample()[:10])
        os.kill(os.getpid(), signal.SIGKILL)

    plan.recording.source = killed
    process = multiprocessing.get_context("fork").Process(target=carry_out, args=(plan,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    assert left
    assert all(p.name.startswith(".tmp-") for p in left)

    done = export(recording_of(sample(), frames=pictures()), path, format=name)

    assert sorted(tmp_path.iterdir()) == sorted({path, done.pictures_path or path})


def test_the_recording_itself_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    export(recording_of(sample()), path)
    before = path.read_bytes()
    (tmp_path / "b.dat").symlink_to(path)

    for name in ("a.dat", "b.dat"):
        with pytest.raises(SettingsError, match="expected another place"):
            export(path, tmp_path / name, overwrite=True)

    assert path.read_bytes() == before


def test_a_fault_in_the_middle_of_the_writing_leaves_nothing(tmp_path: Path) -> None:
    events = sample()
    writer = find_writer("a.dat")
    plan = make_plan(recording_of(events, frames=pictures()), writer, tmp_path / "a.dat")

    def broken(ledger: Ledger) -> Any:
        ledger.decoded += 10
        yield Chunk(events[:10])
        raise FormatError("expected more")

    plan.recording.source = broken
    with pytest.raises(FormatError, match="expected more"):
        carry_out(plan)
    assert list(tmp_path.iterdir()) == []

    def shorter(ledger: Ledger) -> Any:
        ledger.decoded += 10
        yield Chunk(events[:10])

    plan.recording.source = shorter
    with pytest.raises(FormatError, match="expected 60 events as before, got 10"):
        carry_out(plan)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.bag", "ROS 1 bags are read, not written"),
        ("a.aedat", "are read, not written; use .aedat4"),
        ("a.db3", "rosbag2 is a folder"),
        ("a.xyz", r"got .xyz; or --format among evt2"),
        ("a", "got no suffix"),
        ("s3://bucket/a.dat", "expected a path to write to, got a URL"),
    ],
)
def test_a_name_that_no_writer_goes_by_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        export(recording_of(sample()), name)


def test_a_suffix_of_several_formats_asks_for_one_or_takes_the_usual() -> None:
    with pytest.raises(SettingsError, match=r"\.raw is evt2, evt21, evt3; give --format"):
        find_writer("a.raw")
    assert find_writer("a.raw", format="evt3").name == "evt3"
    assert find_writer("A.H5").name == "hdf5-dsec"
    assert find_writer("a.hdf5").name == "hdf5-dsec"
    assert find_writer("a.bin").name == "atis-bin"
    with pytest.raises(SettingsError, match="expected --format among"):
        find_writer("a.raw", format="raw")
