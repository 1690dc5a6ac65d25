"""ROS2 recordings: one MCAP file, or a folder of rosbag2 with SQLite storage, through `rosbags`.

Events become ``dvs_msgs/EventArray``: every reader of event bags outside ROS knows that type, while
the packets of `event_camera_msgs` are decoded by ROS packages only. It costs 16 bytes an event, of
which MCAP's zstd chunks save most.

A message holds the events of one window ``[k, k + 1) * 10 ms``, so that equal events give equal
bytes however they were read. It is stamped with its first event, and recorded at its last one.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.atomic import scratch
from eventkit.columns import Columns
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.frames import Frames
from eventkit.ledger import Ledger
from eventkit.readers.ros.messages import IMU_FIELDS, typestore
from eventkit.recording import Recording
from eventkit.writers.base import Contents, event_parts
from eventkit.writers.imu import has_imu, imu_columns, imu_losses

WINDOW_US = 10_000
MESSAGE_EVENTS = 1 << 17
"""A fuller window becomes several messages of 2 MB."""

EVENTS_TOPIC, IMAGES_TOPIC, IMU_TOPIC = "/dvs/events", "/dvs/image_raw", "/dvs/imu"
EVENTS_TYPE, IMAGE_TYPE, IMU_TYPE = (
    "dvs_msgs/msg/EventArray",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/Imu",
)
# builtin_interfaces/Time has signed 32-bit seconds, and recording times are not negative.
END_US = (1 << 31) * 1_000_000

# CDR, little-endian; a header without a frame_id: an empty string is one zero byte, then padding.
_HEADER = struct.Struct("<4siI I4x")
_CDR = b"\x00\x01\x00\x00"
_RECORD = np.dtype(
    {
        "names": ["x", "y", "sec", "nsec", "p"],
        "formats": ["<u2", "<u2", "<i4", "<u4", "u1"],
        "offsets": [0, 2, 6, 10, 14],
        "itemsize": 16,
    }
)
_ENCODINGS = {(1, 1): "mono8", (1, 3): "rgb8", (2, 1): "mono16", (2, 3): "rgb16"}
_IMU_VALUES = 37
# Orientation, angular velocity, acceleration, and behind each a covariance of nine.
_IMU_PLACES = dict(zip(IMU_FIELDS, (0, 1, 2, 3, 13, 14, 15, 25, 26, 27), strict=True))
_IMU_COVARIANCES = {"orientation": 4, "angular_velocity": 16, "linear_acceleration": 28}


class McapWriter:
    """Writer of one MCAP file."""

    name = "mcap"
    suffixes = (".mcap",)

    def losses(self, contents: Contents) -> list[str]:
        """Return what is lost; see `eventkit.writers.base.Writer`."""
        return _losses(contents)

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the file."""
        with scratch(path) as folder:
            bag = _write(recording, folder, "MCAP", ledger)
            os.replace(bag / "recording.mcap", path)


class Ros2Writer:
    """Writer of a folder of rosbag2: metadata.yaml and a ``.db3``."""

    name = "ros2-db3"
    suffixes = ()

    def losses(self, contents: Contents) -> list[str]:
        """Return what is lost; see `eventkit.writers.base.Writer`."""
        return _losses(contents)

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the folder."""
        with scratch(path) as folder, _disk_errors(path):
            os.replace(_write(recording, folder, "SQLITE3", ledger), path)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a full or broken disk into what other files would say."""
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError as err:
        number = errno.ENOSPC if err.sqlite_errorcode == sqlite3.SQLITE_FULL else errno.EIO
        raise OSError(number, str(err), str(path.parent)) from err


def _losses(contents: Contents) -> list[str]:
    first, last = contents.times("frames", "IMU samples")
    if not 0 <= first <= last < END_US:
        msg = (
            f"expected times in 0 .. {END_US - 1} us, which a ROS stamp holds, got "
            f"{first} .. {last} us; npz and HDF5 hold any time of events"
        )
        raise SettingsError(msg)
    lost = []
    if contents.sensor_size is None:
        lost.append("the sensor size is unknown: messages say 0x0, and readers will ask for it")
    if contents.frames:
        lost.append("exposures of images: a message has one stamp, the middle of the exposure")
    if contents.triggers:
        lost.append(f"{contents.triggers} external signals: dvs_msgs has no message for them")
    return lost + imu_losses(contents, IMU_FIELDS, "ROS", absent_as="marks that as unknown")


def _write(recording: Recording, folder: Path, storage: str, ledger: Ledger) -> Path:
    """Write a bag into ``folder``; its name is part of its bytes, so it is always the same."""
    rosbag2 = require("rosbags.rosbag2", extra="ros", purpose="writing ROS bags")
    bag = folder / "recording"
    writer = rosbag2.Writer(bag, version=9, storage_plugin=rosbag2.StoragePlugin[storage])
    if storage == "MCAP":
        writer.set_compression(rosbag2.CompressionMode.STORAGE, rosbag2.CompressionFormat.ZSTD)
    store = typestore(2)
    with writer:
        events = writer.add_connection(EVENTS_TOPIC, EVENTS_TYPE, typestore=store)
        beside = _Beside(recording, writer, store)
        for parts in _windows(event_parts(recording, ledger)):
            recorded = int(parts.t[-1]) * 1000
            beside.write_until(recorded)
            writer.write(events, recorded, _event_array(parts, recording.sensor_size))
            beside.written = True
        if not beside.written:  # the geometry stands in messages of events, and nowhere else
            writer.write(
                events,
                0,
                _event_array(Events.from_checked(*Columns.empty(0)), recording.sensor_size),
            )
        beside.write_until(None)
    return bag


def _windows(parts: Iterator[Events]) -> Iterator[Events]:
    """Cut a stream at multiples of `WINDOW_US`, and full windows after `MESSAGE_EVENTS`."""
    waiting: list[Events] = []
    held = 0
    for part in parts:
        window = int(part.t[0]) // WINDOW_US
        if waiting and int(waiting[0].t[0]) // WINDOW_US != window:
            yield from _cut(Events.concatenate(waiting))
            waiting, held = [], 0
        waiting.append(part)
        held += len(part)
        if int(part.t[-1]) // WINDOW_US == window and held < MESSAGE_EVENTS:
            continue
        joined = Events.concatenate(waiting)
        last = int(joined.t[-1]) // WINDOW_US * WINDOW_US
        start = int(np.searchsorted(joined.t, last))
        start += (len(joined) - start) // MESSAGE_EVENTS * MESSAGE_EVENTS
        if start:
            yield from _cut(joined[:start])
        waiting, held = ([joined[start:]], len(joined) - start) if start < len(joined) else ([], 0)
    if waiting:
        yield from _cut(Events.concatenate(waiting))


def _cut(events: Events) -> Iterator[Events]:
    windows = events.t // WINDOW_US
    edges = [0, *(np.flatnonzero(windows[1:] != windows[:-1]) + 1).tolist(), len(events)]
    for start, stop in pairwise(edges):
        for at in range(start, stop, MESSAGE_EVENTS):
            yield events[at : min(at + MESSAGE_EVENTS, stop)]


def _event_array(events: Events, size: tuple[int, int] | None) -> bytes:
    """Serialise ``dvs_msgs/EventArray``: the first record takes 14 bytes, the others 16."""
    width, height = size or (0, 0)
    stamp = int(events.t[0]) if len(events) else 0
    head = _stamped(stamp) + struct.pack("<III", height, width, len(events))
    if not len(events):
        return head
    records = np.zeros(len(events), _RECORD)
    records["x"], records["y"], records["p"] = events.x, events.y, events.p
    seconds = events.t // 1_000_000
    records["sec"], records["nsec"] = seconds, (events.t - seconds * 1_000_000) * 1000
    raw = records.tobytes()
    # The times of the first record are not preceded by the padding that the others have.
    return head + raw[:4] + raw[6:15] + (b"\0" + raw[16:-1] if len(events) > 1 else b"")


def _stamped(t_us: int) -> bytes:
    return _HEADER.pack(_CDR, t_us // 1_000_000, t_us % 1_000_000 * 1000, 1)


@dataclass(slots=True)
class _Beside:
    """Writes images and inertial samples between the messages of events, in the order of time."""

    recording: Recording
    writer: Any
    store: Any
    written: bool = False
    _queues: list[Iterator[tuple[int, Any, bytes]]] = field(default_factory=list)
    _next: list[tuple[int, Any, bytes] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        frames, imu = self.recording.frames, self.recording.imu
        if frames is not None and len(frames):
            connection = self.writer.add_connection(IMAGES_TOPIC, IMAGE_TYPE, typestore=self.store)
            self._queues.append(_images(frames, connection))
        if imu is not None and has_imu(imu, IMU_FIELDS):
            connection = self.writer.add_connection(IMU_TOPIC, IMU_TYPE, typestore=self.store)
            self._queues.append(_samples(imu, connection))
        self._next = [next(queue, None) for queue in self._queues]

    def write_until(self, time_ns: int | None) -> None:
        """Write what was recorded before ``time_ns``; everything that is left for None."""
        for number, queue in enumerate(self._queues):
            item = self._next[number]
            while item is not None and (time_ns is None or item[0] <= time_ns):
                self.writer.write(item[1], item[0], item[2])
                item = next(queue, None)
            self._next[number] = item


def _images(frames: Frames, connection: Any) -> Iterator[tuple[int, Any, bytes]]:
    if frames.timing == "none":
        msg = (
            "expected images with times, got pictures without; timestamps.txt beside them has them"
        )
        raise SettingsError(msg)
    for t_us, picture in zip(
        frames.t_us.tolist(), frames.pictures(range(len(frames))), strict=True
    ):
        pixels = np.ascontiguousarray(picture.pixels)
        height, width, channels = pixels.shape
        encoding = _ENCODINGS[pixels.itemsize, channels]
        little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
        name = encoding.encode() + b"\0"
        data = (
            _stamped(t_us)
            + struct.pack("<III", height, width, len(name))
            + name
            + b"\0"  # is_bigendian
        )
        data += b"\0" * (-len(data) % 4)
        step = width * channels * pixels.itemsize
        data += struct.pack("<II", step, step * height) + little.tobytes()
        yield t_us * 1000, connection, data


def _samples(imu: NDArray[Any], connection: Any) -> Iterator[tuple[int, Any, bytes]]:
    imu = imu[np.argsort(imu["t"], kind="stable")]
    columns = imu_columns(imu, IMU_FIELDS)
    values = np.zeros((imu.size, _IMU_VALUES), "<f8")
    values[:, _IMU_PLACES["orientation_w"]] = 1
    for name, column in columns.items():
        values[:, _IMU_PLACES[name]] = column
    for kind, place in _IMU_COVARIANCES.items():
        if any(name.startswith(kind) and name not in columns for name in IMU_FIELDS):
            values[:, place] = -1  # sensor_msgs/Imu: there is no estimate of it
    for t_us, row in zip(imu["t"].tolist(), values, strict=True):
        head = _stamped(t_us)
        # 20 bytes of header after the encapsulation; doubles are aligned to 8.
        yield t_us * 1000, connection, head + b"\0" * (-(len(head) - 4) % 8) + row.tobytes()
