"""MCAP and rosbag2 folders: what goes in comes out, the same bytes for the same events."""

from __future__ import annotations

import errno
import filecmp
import sqlite3
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventkit
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.readers.ros.messages import IMU_DTYPE, typestore
from eventkit.recording import Chunk, Recording
from eventkit.testing import strategies
from eventkit.testing.files import known_events
from eventkit.writers import ros
from eventkit.writers.base import Contents
from eventkit.writers.survey import survey

rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="the rosbags package is not installed")

SIZE = (34, 30)
WRITERS = [ros.McapWriter(), ros.Ros2Writer()]
NAMES = ["mcap", "db3"]


def recording_of(events: Events, *, cuts: Sequence[int] = (), **fields: Any) -> Recording:
    edges = [0, *cuts, len(events)]
    parts = [events[a:b] for a, b in pairwise(edges)]

    def source(ledger: Ledger) -> Any:
        return (Chunk(part) for part in parts)

    fields = {"sensor_size": SIZE} | fields
    return Recording(path=Path("memory"), format="memory", source=source, **fields)


def pictures(images: np.ndarray, t_us: list[int]) -> Frames:
    t = np.array(t_us, np.int64)

    def reader(indices: Sequence[int]) -> Any:
        return (Picture(images[i]) for i in indices)

    size = (images.shape[2], images.shape[1])
    return Frames(t, t, t, size, images.shape[3], "recorded", reader)


def written(writer: Any, recording: Recording, folder: Path, name: str = "a") -> Path:
    path = folder / f"{name}{'.mcap' if writer.suffixes else ''}"
    writer.write(recording, path, ledger=Ledger())
    return path


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
@settings(max_examples=15)
@given(events=strategies.events(sensor_size=SIZE, max_step_us=9_000))
def test_what_is_written_is_read(
    writer: Any, tmp_path_factory: pytest.TempPathFactory, events: Events
) -> None:
    if len(events) and not 0 <= int(events.t[0]) <= int(events.t[-1]) < ros.END_US:
        events = Events(x=events.x, y=events.y, t=events.t - events.t[0], p=events.p)
    path = written(writer, recording_of(events), tmp_path_factory.mktemp("ros"))

    recording = eventkit.open(path)

    assert recording.events == events
    assert recording.sensor_size == SIZE


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_bytes_are_those_of_the_generic_serialiser(count: int) -> None:
    events = known_events(count, sensor_size=SIZE, start_us=1_600_000_000_123_456)
    store = typestore(2)

    data = ros._event_array(events, SIZE)

    message = store.deserialize_cdr(data, ros.EVENTS_TYPE)
    rows = [
        (e.x, e.y, e.ts.sec * 10**6 + e.ts.nanosec // 1000, int(e.polarity)) for e in message.events
    ]
    assert rows == events.to_structured().tolist()
    assert bytes(store.serialize_cdr(message, ros.EVENTS_TYPE)) == data


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
def test_equal_events_give_equal_bytes_however_they_were_read(writer: Any, tmp_path: Path) -> None:
    events = known_events(3_000, sensor_size=SIZE, span_us=50_000)
    ways = [(), (1, 2, 1_500), tuple(range(7, 3_000, 7))]

    paths = [
        written(writer, recording_of(events, cuts=cuts), tmp_path, str(i))
        for i, cuts in enumerate(ways)
    ]

    for path in paths[1:]:
        if path.is_dir():
            names = sorted(file.name for file in path.iterdir())
            assert names == ["metadata.yaml", "recording.db3"]
            assert filecmp.cmpfiles(paths[0], path, names, shallow=False)[0] == names
        else:
            assert filecmp.cmp(paths[0], path, shallow=False)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {path.name for path in paths}


@given(
    steps=st.lists(st.sampled_from([0, 0, 1, 4_000, 10_000, 35_000]), min_size=1, max_size=60),
    data=st.data(),
)
def test_windows_do_not_depend_on_the_parts(steps: list[int], data: st.DataObject) -> None:
    t = np.cumsum(steps)
    zeros = np.zeros(t.size, np.int64)
    events = Events(x=zeros, y=zeros, t=t, p=zeros)
    parts = data.draw(strategies.parts(events))
    most = 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ros, "MESSAGE_EVENTS", most)
        found = list(ros._windows(part for part in parts if len(part)))

    expected: list[list[int]] = []
    for at in t.tolist():
        new = not expected or len(expected[-1]) == most
        if new or expected[-1][0] // ros.WINDOW_US != at // ros.WINDOW_US:
            expected.append([])
        expected[-1].append(at)
    assert [part.t.tolist() for part in found] == expected


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
@pytest.mark.parametrize(("dtype", "channels"), [("u1", 1), ("u1", 3), ("u2", 1), ("u2", 3)])
def test_images_and_inertial_samples_go_along(
    writer: Any, tmp_path: Path, dtype: str, channels: int
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 5, 7, channels)).astype(dtype)
    images[0, 0, 0, 0] = np.iinfo(dtype).max
    frames = pictures(images, [0, 15_000, 15_000, 90_000])
    imu = np.zeros(3, IMU_DTYPE)
    imu["t"] = [5, 20_000, 80_000]
    for name in imu.dtype.names[1:]:
        imu[name] = rng.normal(size=3)
    events = known_events(500, sensor_size=SIZE, span_us=40_000)
    source = recording_of(events, frames=frames, side_data=lambda: {"imu": imu})

    recording = eventkit.open(written(writer, source, tmp_path))

    assert recording.events == events
    assert recording.frames.t_us.tolist() == frames.t_us.tolist()
    assert np.array_equal(recording.frames.images, images)
    assert recording.frames.images.dtype == np.dtype(dtype)
    assert np.array_equal(recording.imu, imu)


def test_a_cameras_own_inertial_samples_are_written_in_the_units_of_ros(tmp_path: Path) -> None:
    names = [f"{kind}_{axis}" for kind in ("accelerometer", "gyroscope") for axis in "xyz"]
    imu = np.zeros(1, [("t", "<i8"), ("temperature", "<f4"), *((name, "<f4") for name in names)])
    imu["accelerometer_z"], imu["gyroscope_x"] = 1, 180
    source = recording_of(Events.empty(), side_data=lambda: {"imu": imu})

    found = eventkit.open(written(WRITERS[0], source, tmp_path)).imu

    assert found["linear_acceleration_z"] == pytest.approx(9.80665)
    assert found["angular_velocity_x"] == pytest.approx(np.pi)
    assert found["orientation_w"] == 1


def test_inertial_samples_of_other_columns_are_a_loss_and_no_end(tmp_path: Path) -> None:
    events = known_events(20, sensor_size=SIZE)
    odd = np.zeros(3, [("t", "<i8"), ("column_0", "<f8"), ("magnetometer_x", "<f4")])
    source = recording_of(events, side_data=lambda: {"imu": odd})

    losses = WRITERS[0].losses(survey(source))
    back = eventkit.open(written(WRITERS[0], source, tmp_path))

    assert losses == ["3 IMU samples are not written: ROS has no place for column_0, magnetometer"]
    assert back.imu is None
    assert back.events == events


def test_what_samples_do_not_measure_is_marked_unknown(tmp_path: Path) -> None:
    turns = np.array(
        [(5, 180.0, 0.0, 0.0)], [("t", "<i8"), *((f"gyroscope_{a}", "<f4") for a in "xyz")]
    )
    source = recording_of(Events.empty(), side_data=lambda: {"imu": turns})

    losses = WRITERS[0].losses(survey(source))
    path = written(WRITERS[0], source, tmp_path)

    assert losses == [
        "IMU samples have no orientation, linear_acceleration: ROS marks that as unknown"
    ]
    from rosbags.highlevel import AnyReader

    with AnyReader([path]) as reader:
        (message,) = [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.msgtype == ros.IMU_TYPE
        ]
    assert message.angular_velocity.x == pytest.approx(np.pi)
    assert message.orientation_covariance[0] == -1
    assert message.linear_acceleration_covariance[0] == -1
    assert message.angular_velocity_covariance[0] == 0


def contents(first: int, last: int, **fields: Any) -> Contents:
    return Contents(
        **{"events": 2, "first_us": first, "last_us": last, "right": 3, "bottom": 3}
        | {"sensor_size": SIZE}
        | fields
    )


@pytest.mark.parametrize("writer", WRITERS, ids=NAMES)
def test_times_that_no_stamp_holds_are_refused_before_writing(writer: Any) -> None:
    assert writer.losses(contents(0, ros.END_US - 1)) == []
    for first, last in ((-1, 5), (5, ros.END_US)):
        with pytest.raises(SettingsError, match="which a ROS stamp holds"):
            writer.losses(contents(first, last))
        for side in ("frames", "IMU samples"):
            with pytest.raises(SettingsError, match="which a ROS stamp holds"):
                writer.losses(contents(0, 5, spans={side: (first, last)}))
    assert writer.losses(contents(0, 5, spans={"exposures": (-500, 5)})) == []


def test_a_full_disk_is_said_by_sqlite_as_by_any_other_file(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "full.db")
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE rows (data BLOB)")

    with pytest.raises(OSError, match="full") as caught, ros._disk_errors(tmp_path / "bag"):
        connection.execute("INSERT INTO rows VALUES (zeroblob(100000))")

    connection.close()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path)


def test_what_the_messages_cannot_hold_is_said() -> None:
    lost = WRITERS[0].losses(contents(0, 5, sensor_size=None, frames=1, triggers=7, imu=2))

    for word in ("sensor size", "exposures", "7 external signals", "IMU"):
        assert any(word in sentence for sentence in lost), word


def test_pictures_without_times_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    frames = replace(pictures(np.zeros((1, 2, 2, 1), np.uint8), [0]), timing="none")

    with pytest.raises(SettingsError, match="images with times"):
        written(WRITERS[0], recording_of(Events.empty(), frames=frames), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_real_recording_goes_through_with_its_frames(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="the aedat package is not installed")
    source = eventkit.open(shared / "aedat4" / "davis346_first_170ms.aedat4")

    recording = eventkit.open(written(WRITERS[1], source, tmp_path))

    assert recording.events == source.events
    assert np.array_equal(recording.frames.images, source.frames.images)
    assert recording.frames.t_us.tolist() == source.frames.t_us.tolist()
    assert recording.imu["t"].tolist() == source.imu["t"].tolist()


def test_rosbags_itself_reads_what_is_written(tmp_path: Path) -> None:
    from rosbags.highlevel import AnyReader

    events = known_events(200, sensor_size=SIZE, start_us=10**15)
    for writer in WRITERS:
        path = written(writer, recording_of(events), tmp_path)
        with AnyReader([path]) as reader:  # checks the definitions and their hashes
            rows = [
                (e.x, e.y, e.ts.sec * 10**6 + e.ts.nanosec // 1000, int(e.polarity))
                for connection, _, data in reader.messages()
                for e in reader.deserialize(data, connection.msgtype).events
            ]
        assert rows == events.to_structured().tolist()


def test_evlab_reads_the_same_events(tmp_path: Path) -> None:
    formats = pytest.importorskip("evlab.formats", reason="evlab is not installed")
    events = known_events(2_000, sensor_size=SIZE, start_us=10**15)
    for writer in WRITERS:
        found = formats.load_rosbag(str(written(writer, recording_of(events), tmp_path)))

        assert Events.from_structured(found.events) == events
        assert (found.width, found.height) == SIZE
