"""AEDAT4 as we write it: everything comes back, here and in other libraries, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.readers.aedat.aedat4 import IMU
from eventkit.readers.ros.messages import IMU_DTYPE
from eventkit.recording import Chunk, Recording
from eventkit.testing.strategies import events as any_events
from eventkit.triggers import KIND_DTYPE
from eventkit.writers.aedat4 import Aedat4Writer
from eventkit.writers.base import Contents
from eventkit.writers.survey import survey

pytest.importorskip("lz4", reason="the lz4 package is not installed")

DAVIS = "davis346_frames_events_imu.aedat4"
START = 1_589_163_147_368_868


def made(x: Any, y: Any, t: Any, p: Any) -> Events:
    return Events(
        x=np.asarray(x, np.uint16),
        y=np.asarray(y, np.uint16),
        t=np.asarray(t, np.int64),
        p=np.asarray(p, np.int8),
    )


def recording_of(events: Events, **sides: Any) -> Recording:
    def source(ledger: Ledger) -> Iterator[Chunk]:
        ledger.decoded += len(events)
        yield Chunk(events)

    return Recording(Path("made"), "made", (346, 260), "given", source, **sides)


def frames_of(images: np.ndarray, t: list[int], exposure: int = 0) -> Frames:
    times = np.array(t, np.int64)
    start = times - exposure // 2
    stop = start + exposure
    count, height, width, channels = images.shape
    assert count == len(t)

    def reader(indices: Any) -> Iterator[Picture]:
        return (Picture(images[i]) for i in indices)

    return Frames(times, start, stop, (width, height), channels, "recorded", reader)


def write(recording: Recording, path: Path) -> Recording:
    Aedat4Writer().write(recording, path, ledger=Ledger())
    return eventkit.open(path)


def assert_same_frames(found: Frames | None, expected: Frames) -> None:
    assert found is not None
    assert (found.size, found.channels) == (expected.size, expected.channels)
    for name in ("t_us", "start_us", "stop_us", "images"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name


@given(any_events(sensor_size=(346, 260), start_us=START))
def test_any_events_come_back(tmp_path_factory: Any, events: Events) -> None:
    path = tmp_path_factory.mktemp("w") / "a.aedat4"

    assert write(recording_of(events), path).events == events


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("exposure", [0, 400])
def test_frames_come_back_with_pixels_and_exposures(
    tmp_path: Path, channels: int, kind: Any, exposure: int
) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, np.iinfo(kind).max, (3, 5, 7, channels)).astype(kind)
    frames = frames_of(images, [START, START + 1000, START + 2000], exposure)

    found = write(recording_of(Events.empty(), frames=frames), tmp_path / "a.aedat4")

    assert_same_frames(found.frames, frames)
    assert len(found.events) == 0


@given(st.integers(0, 9000), st.integers(0, 30))
def test_side_streams_come_back(tmp_path_factory: Any, samples: int, triggers: int) -> None:
    rng = np.random.default_rng(samples)
    imu = np.zeros(samples, IMU)
    for name in IMU.names[1:]:
        imu[name] = rng.normal(size=samples)
    imu["t"] = START + np.cumsum(rng.integers(0, 10, samples))
    signals = np.zeros(triggers, KIND_DTYPE)
    signals["t"], signals["source"] = START + 7, rng.integers(0, 10, triggers)
    events = made([1, 2], [3, 4], [START, START + 20_000], [0, 1])
    sides = recording_of(events, side_data=lambda: {"imu": imu, "triggers": signals})

    found = write(sides, tmp_path_factory.mktemp("w") / "a.aedat4")

    assert found.events == events
    for got, expected in ((found.imu, imu), (found.triggers, signals)):
        assert np.array_equal(np.empty(0, expected.dtype) if got is None else got, expected)


def test_a_real_recording_comes_back_whole_and_the_same_again(shared: Path, tmp_path: Path) -> None:
    recording = eventkit.open(shared / "aedat4" / DAVIS)
    again = eventkit.open(shared / "aedat4" / DAVIS)

    found = write(recording, tmp_path / "a.aedat4")
    write(again, tmp_path / "b.aedat4")

    assert found.events == recording.events
    assert_same_frames(found.frames, recording.frames)
    assert np.array_equal(found.imu, recording.imu)
    assert np.array_equal(found.triggers, recording.triggers)
    assert (tmp_path / "a.aedat4").read_bytes() == (tmp_path / "b.aedat4").read_bytes()


def test_a_flipped_bit_of_a_packet_is_found_or_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    n = 300
    events = made(rng.integers(0, 346, n), rng.integers(0, 260, n), START + np.arange(n), [1] * n)
    path = tmp_path / "a.aedat4"
    write(recording_of(events), path)
    data = path.read_bytes()
    first = 18 + int.from_bytes(data[14:18], "little")
    size = int.from_bytes(data[first + 4 : first + 8], "little")
    for at in rng.integers(first, first + 8 + size, 60):
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = eventkit.open(path).events
        except FormatError:
            continue
        assert found == events  # another way to say the same bytes in LZ4


def test_what_does_not_fit_is_said_before_writing(tmp_path: Path) -> None:
    fits = Contents(5, 0, 9, 345, 259, (346, 260))
    losses = Aedat4Writer().losses

    assert losses(fits) == []
    assert losses(replace(fits, events=0, sensor_size=None)) == []
    for wrong, match in (
        ({"first_us": -1}, "got -1 us"),
        ({"right": 32768}, "got 32768"),
        ({"sensor_size": (40000, 2)}, "got 39999"),
        ({"sensor_size": None}, "--sensor-size"),
        ({"frame_size": (32768, 2)}, "pictures of at most 32767 a side.*got 32768x2"),
        ({"spans": {"exposures": (-3, 9)}}, "got -3 us of exposures"),
        ({"spans": {"IMU samples": (-2, 9)}}, "got -2 us of IMU samples"),
    ):
        with pytest.raises(SettingsError, match=match):
            losses(replace(fits, **wrong))
    video = replace(frames_of(np.zeros((1, 2, 2, 1), np.uint8), [0]), timing="own-clock")
    with pytest.raises(SettingsError, match="own-clock"):
        write(recording_of(Events.empty(), frames=video), tmp_path / "a.aedat4")


def test_inertial_samples_of_ros_come_in_the_units_of_cameras(tmp_path: Path) -> None:
    imu = np.zeros(2, IMU_DTYPE)
    imu["t"] = [START, START + 10]
    imu["linear_acceleration_z"], imu["angular_velocity_x"] = -9.80665, np.pi
    recording = recording_of(made([1], [2], [START], [1]), side_data=lambda: {"imu": imu})

    losses = Aedat4Writer().losses(survey(recording))
    found = write(recording, tmp_path / "a.aedat4").imu

    assert losses == [
        "IMU columns orientation are not written: AEDAT4 has no place for them",
        "IMU samples have no temperature, magnetometer: AEDAT4 has 0 there",
    ]
    assert found["accelerometer_z"].tolist() == [-1, -1]
    assert found["gyroscope_x"] == pytest.approx([180, 180])
    assert found["t"].tolist() == imu["t"].tolist()


def test_inertial_samples_of_other_columns_are_left_out_and_not_zero(tmp_path: Path) -> None:
    imu = np.ones(2, [("t", "<i8"), ("column_0", "<f8")])
    recording = recording_of(made([1], [2], [START], [1]), side_data=lambda: {"imu": imu})

    losses = Aedat4Writer().losses(survey(recording))

    assert losses == ["2 IMU samples are not written: AEDAT4 has no place for column_0"]
    assert write(recording, tmp_path / "a.aedat4").imu is None


def test_samples_of_a_real_recording_come_back_by_way_of_ros(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("rosbags", reason="the rosbags package is not installed")
    from eventkit.writers import export

    recording = eventkit.open(shared / "aedat4" / DAVIS)
    export(recording, tmp_path / "a.mcap")
    export(tmp_path / "a.mcap", tmp_path / "b.aedat4")

    found = eventkit.open(tmp_path / "b.aedat4").imu

    assert found is not None
    assert found["t"].tolist() == recording.imu["t"].tolist()
    for name in IMU.names[2:8]:  # float32, through a factor in float64
        assert np.allclose(found[name], recording.imu[name], rtol=2e-7, atol=0)
        assert found[name].any()


# Other libraries


@pytest.fixture(scope="module")
def written(tmp_path_factory: Any) -> tuple[Path, Events, np.ndarray]:
    rng = np.random.default_rng(7)
    n = 100_000
    events = made(
        rng.integers(0, 346, n),
        rng.integers(0, 260, n),
        START + np.cumsum(rng.integers(0, 5, n)),
        rng.integers(0, 2, n),
    )
    images = rng.integers(0, 256, (4, 260, 346, 3)).astype(np.uint8)
    frames = frames_of(images, [START + 1000 * i for i in range(4)], 300)
    signals = np.array([(START + 9, 1), (START + 99, 2)], KIND_DTYPE)
    path = tmp_path_factory.mktemp("w") / "a.aedat4"
    write(recording_of(events, frames=frames, side_data=lambda: {"triggers": signals}), path)
    return path, events, images


def columns(events: Events) -> tuple[np.ndarray, ...]:
    return events.t, events.x, events.y, events.p


def test_aedat_reads_the_same(written: tuple[Path, Events, np.ndarray]) -> None:
    aedat = pytest.importorskip("aedat", reason="the aedat package is not installed")
    path, events, images = written
    packets = list(aedat.Decoder(str(path)))

    assert Events.from_structured(np.concatenate([p["events"] for p in packets if "events" in p])) \
        == events  # fmt: skip
    found = [p["frame"] for p in packets if "frame" in p]
    assert np.array_equal([f["pixels"] for f in found], images)
    assert [f["exposure_end_t"] - f["exposure_begin_t"] for f in found] == [300] * 4
    (signals,) = [p["triggers"] for p in packets if "triggers" in p]
    assert signals["source"].tolist() == [1, 2]


def test_dv_processing_reads_the_same(written: tuple[Path, Events, np.ndarray]) -> None:
    dv = pytest.importorskip("dv_processing", reason="dv-processing is not installed")
    path, events, images = written
    recording = dv.io.MonoCameraRecording(str(path))

    assert tuple(recording.getEventResolution()) == (346, 260)
    batches = []
    while (batch := recording.getNextEventBatch()) is not None:
        batches.append(batch.numpy())
    found = np.concatenate(batches)
    for name, column in zip(("timestamp", "x", "y", "polarity"), columns(events), strict=True):
        assert np.array_equal(found[name], column)
    pictures = []
    while (frame := recording.getNextFrame()) is not None:
        pictures.append(frame.image[..., ::-1])
        assert frame.exposure.microseconds == 300
    assert np.array_equal(pictures, images)
    assert [t.timestamp - START for t in recording.getNextTriggerBatch()] == [9, 99]


def test_faery_reads_the_same(written: tuple[Path, Events, np.ndarray]) -> None:
    faery = pytest.importorskip("faery", reason="faery is not installed")
    path, events, _ = written
    found = faery.events_stream_from_file(path).to_array()

    for name, column in zip(("t", "x", "y", "p"), columns(events), strict=True):
        assert np.array_equal(found[name], column)


def test_evutils_reads_the_same(written: tuple[Path, Events, np.ndarray]) -> None:
    evutils = pytest.importorskip("evutils.io", reason="evutils is not installed")
    path, events, _ = written
    parts = []
    with evutils.EventReader(str(path)) as reader:  # it gives a packet at a time
        while True:
            part = reader.read_all()
            parts.append(part[0] if isinstance(part, tuple) else part)
            if not len(parts[-1]):
                break

    for name, column in zip(("t", "x", "y", "p"), columns(events), strict=True):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), column)
