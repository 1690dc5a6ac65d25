"""ROS messages: the types that are read, their definitions, and fields out of serialised bytes.

ROS1 serialisation has no padding (http://wiki.ros.org/msg). ROS2 bags hold CDR: four bytes of
encapsulation, then fields aligned to their size (OMG DDS-XTypes 1.3, 7.4.1). A library that knows
messages by their definition makes one Python object an event, 10^6 times slower than looking at the
records where they stand, and bags of older recorders have no definitions; so the few types that
matter here are taken apart by hand, and the generic way is the oracle of the tests.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require

EVENT_ARRAYS = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
# event_array_msgs is the name that event_camera_msgs had before 2023; the fields are the same.
EVENT_PACKETS = ("event_camera_msgs/msg/EventPacket", "event_array_msgs/msg/EventArray")
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
IMUS = ("sensor_msgs/msg/Imu",)

_EVENT = "uint16 x\nuint16 y\n{time} ts\nbool polarity\n"
_EVENT_ARRAY = "std_msgs/Header header\nuint32 height\nuint32 width\nEvent[] events\n"
_EVENT_PACKET = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nuint64 seq\nuint64 time_base\n"
    "string encoding\nbool is_bigendian\nuint8[] events\n"
)

# A record of ROS1: 13 bytes. Of CDR: the times are aligned to 4, so the first record, which starts
# at a multiple of 4, takes 14 bytes, and each of the others, two bytes off, takes 16.
_ROS1_RECORD = np.dtype(
    {
        "names": ["x", "y", "sec", "nsec", "p"],
        "formats": ["<u2", "<u2", "<u4", "<u4", "u1"],
        "offsets": [0, 2, 4, 8, 12],
        "itemsize": 13,
    }
)
_FIRST_RECORD, _FIRST_STRIDE = 13, 14
_RECORD, _STRIDE = 15, 16

IMU_FIELDS = (
    *(f"orientation_{axis}" for axis in "xyzw"),
    *(f"angular_velocity_{axis}" for axis in "xyz"),
    *(f"linear_acceleration_{axis}" for axis in "xyz"),
)
IMU_DTYPE = np.dtype([("t", "<i8"), *((name, "<f8") for name in IMU_FIELDS)])


class MessageError(ValueError):
    """A message that is not what its type says: expected, got."""


def typestore(ros: int) -> Any:
    """Return a typestore of `rosbags` for ROS ``1`` or ``2`` that knows the event messages."""
    typesys = require("rosbags.typesys", extra="ros", purpose="ROS bags")
    stores = typesys.Stores
    store = typesys.get_typestore(stores.ROS1_NOETIC if ros == 1 else stores.ROS2_HUMBLE)
    time = "time" if ros == 1 else "builtin_interfaces/Time"
    for name in EVENT_ARRAYS:
        package = name.partition("/")[0]
        store.register(typesys.get_types_from_msg(_EVENT.format(time=time), f"{package}/msg/Event"))
        store.register(typesys.get_types_from_msg(_EVENT_ARRAY, name))
    for name in EVENT_PACKETS:
        store.register(typesys.get_types_from_msg(_EVENT_PACKET, name))
    return store


class Fields:
    """Takes one field after the other out of a message.

    Parameters
    ----------
    data : bytes
    ros : 1 or 2

    Raises
    ------
    MessageError
        Where the message ends before the field does; nothing is allocated by a size it states.
    """

    def __init__(self, data: bytes, ros: int) -> None:
        self.data = data
        self.ros = ros
        self.at = 0 if ros == 1 else 4
        self.order = "<"
        if ros == 2:
            if len(data) < 4 or data[0] or data[1] > 1:
                msg = f"expected CDR, got the encapsulation {data[:4].hex()!r}"
                raise MessageError(msg)
            self.order = "<" if data[1] else ">"

    def number(self, code: str) -> Any:
        """Take one number, by its code in `struct`."""
        return self.numbers(code, 1)[0]

    def numbers(self, code: str, count: int) -> tuple[Any, ...]:
        """Take ``count`` numbers of one kind."""
        size = struct.calcsize(f"<{code}")
        if self.ros == 2:
            self.at += (4 - self.at) % size
        self._check(size * count)
        found = struct.unpack_from(f"{self.order}{count}{code}", self.data, self.at)
        self.at += size * count
        return found

    def text(self) -> str:
        """Take a string."""
        return bytes(self.blob()).rstrip(b"\0").decode("utf-8", errors="replace")

    def blob(self) -> memoryview:
        """Take a sequence of bytes; a view."""
        size = self.number("I")
        self._check(size)
        self.at += size
        return memoryview(self.data)[self.at - size : self.at]

    def header(self) -> int:
        """Take a ``std_msgs/Header``: its stamp in nanoseconds."""
        if self.ros == 1:
            self.number("I")
        seconds = self.number("I" if self.ros == 1 else "i")
        stamp = seconds * 1_000_000_000 + self.number("I")
        self.text()
        return int(stamp)

    def _check(self, size: int) -> None:
        if self.at + size > len(self.data):
            left = max(len(self.data) - self.at, 0)
            msg = f"expected {size} bytes at byte {self.at} of the message, got {left}"
            raise MessageError(msg)


def event_records(fields: Fields) -> list[NDArray[Any]]:
    """Take ``Event[] events``: views of the records, structured ``x, y, sec, nsec, p``."""
    count = fields.number("I")
    start, left = fields.at, len(fields.data) - fields.at
    if fields.ros == 1:
        size = 13 * count
    else:
        size = 0 if not count else _FIRST_RECORD
        size += 0 if count < 2 else 1 + _STRIDE * (count - 2) + _RECORD
    # What a middleware pads is less than a record.
    if not size <= left <= size + (0 if fields.ros == 1 else 7):
        msg = f"expected {count} events of {size} bytes together, got {left} bytes"
        raise MessageError(msg)
    if not count:
        return []
    if fields.ros == 1:
        return [np.ndarray((count,), _ROS1_RECORD, fields.data, start)]
    first = np.ndarray((1,), _cdr_record(fields.order, _FIRST_RECORD, 4), fields.data, start)
    if count == 1:
        return [first]
    rest = np.ndarray(
        (count - 1,),
        _cdr_record(fields.order, _RECORD, 6),
        fields.data,
        start + _FIRST_STRIDE,
        strides=(_STRIDE,),
    )
    return [first, rest]


def _cdr_record(order: str, size: int, time: int) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": ["x", "y", "sec", "nsec", "p"],
            "formats": [f"{order}u2", f"{order}u2", f"{order}i4", f"{order}u4", "u1"],
            "offsets": [0, 2, time, time + 4, time + 8],
            "itemsize": size,
        }
    )


def imu_row(data: bytes, ros: int) -> tuple[float, ...]:
    """Return one ``sensor_msgs/Imu`` as a row of `IMU_DTYPE`; m/s^2 and rad/s as in ROS."""
    fields = Fields(data, ros)
    t = fields.header() // 1000
    orientation = fields.numbers("d", 4 + 9)[:4]
    angular = fields.numbers("d", 3 + 9)[:3]
    linear = fields.numbers("d", 3 + 9)[:3]
    return (t, *orientation, *angular, *linear)
