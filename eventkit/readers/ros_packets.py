"""Events out of the messages of a bag: ``EventArray`` records and the codecs of ``EventPacket``.

The codecs follow https://github.com/ros-event-camera/event_camera_msgs (README) and the decoders of
https://github.com/ros-event-camera/event_camera_codecs:

- ``mono``: 64-bit words, bit 63 polarity, 62..48 y, 47..32 x, 31..0 nanoseconds after time_base;
- ``trigger``: the same word for an external signal;
- ``evt3``: Prophesee's words as the camera sent them. Their clock is the sensor's; its state
  goes on from packet to packet, and time_base is not used;
- ``libcaer``: 32-bit data (x 31..17, y 16..2, polarity 1, validity 0), then a 31-bit time in
  microseconds after time_base. The published decoder does not look at the validity, nor is it here;
- ``libcaer_cmp``: 16-bit words, 24-bit times in microseconds after time_base.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Columns
from eventkit.kernels import ros as kernels
from eventkit.readers.clock import Clock
from eventkit.readers.ros_messages import Fields, MessageError, event_records

ENCODINGS = ("evt3", "libcaer", "libcaer_cmp", "mono")
TRIGGER = "trigger"
TRIGGER_DTYPE = np.dtype([("t", "<i8"), ("source", "<i2"), ("edge", "<i1")])

_SKIPPED = ("trigger", "other", "unknown", "before_time")


class EventMessage(NamedTuple):
    """One message of events, not decoded yet.

    Parameters
    ----------
    stamp_ns : int, nanoseconds
        Of the header.
    size : (W, H)
    encoding : str
        Empty for an ``EventArray``.
    time_base : int, nanoseconds
    records : list of structured arrays
        Of an ``EventArray``; empty for a packet.
    words : (n,) uint16, uint32 pairs or uint64
        Of a packet; empty for an ``EventArray``.
    """

    stamp_ns: int
    size: tuple[int, int]
    encoding: str
    time_base: int
    records: list[NDArray[Any]]
    words: NDArray[Any]


def parse_array(data: bytes, ros: int) -> EventMessage:
    """Take a ``dvs_msgs/EventArray`` or ``prophesee_event_msgs/EventArray`` apart."""
    fields = Fields(data, ros)
    stamp = fields.header()
    height, width = fields.numbers("I", 2)
    records = event_records(fields)
    return EventMessage(stamp, (width, height), "", 0, records, np.empty(0, np.uint16))


def parse_packet(data: bytes, ros: int) -> EventMessage:
    """Take an ``event_camera_msgs/EventPacket`` apart."""
    fields = Fields(data, ros)
    stamp = fields.header()
    height, width = fields.numbers("I", 2)
    _, time_base = fields.numbers("Q", 2)
    encoding = fields.text()
    big = bool(fields.number("B"))
    events = fields.blob()
    if encoding not in (*ENCODINGS, TRIGGER):
        msg = f"expected an encoding among {', '.join((*ENCODINGS, TRIGGER))}, got {encoding!r}"
        raise MessageError(msg)
    # evt3 and libcaer are the camera's own bytes, little-endian whatever machine recorded them.
    order = ">" if big and encoding in ("mono", "libcaer_cmp", TRIGGER) else "<"
    unit = np.dtype(order + ("u2" if encoding in ("evt3", "libcaer_cmp") else "u8"))
    if len(events) % unit.itemsize:
        msg = f"expected words of {unit.itemsize} bytes, got {len(events)} bytes of events"
        raise MessageError(msg)
    words = np.frombuffer(events, unit)
    return EventMessage(stamp, (width, height), encoding, time_base, [], words)


def parse(data: bytes, ros: int, *, packet: bool) -> EventMessage:
    """Take a message of events apart.

    Raises
    ------
    MessageError
    """
    return parse_packet(data, ros) if packet else parse_array(data, ros)


def word_count(message: EventMessage) -> int:
    """Return how many records or words a message has."""
    return sum(part.size for part in message.records) + int(message.words.size)


def bound(message: EventMessage) -> int:
    """Return the most events that a message can hold."""
    if message.encoding == "evt3":
        return int(kernels.count_bits(_words(message), 2, 4, 5))
    if message.encoding == "libcaer_cmp":
        return int(kernels.count_bits(_words(message), 3, -1, 5))
    return word_count(message)


def clock_offset_us(message: EventMessage) -> int:
    """Return what to add to this message's times to get the time of ROS, microseconds."""
    if message.encoding == "evt3":
        first = int(kernels.first_time(_words(message)))
        return message.stamp_ns // 1000 - first if first >= 0 else 0
    if message.encoding in ("mono", TRIGGER):
        return (message.stamp_ns - message.time_base) // 1000
    return 0


@dataclass(slots=True)
class Decoder:
    """Decodes the messages of one topic, one after the other.

    Parameters
    ----------
    state : (9,) int64
        What a codec carries from packet to packet.
    """

    state: NDArray[np.int64] = field(default_factory=lambda: start_state())

    def decode(self, message: EventMessage, out: Columns) -> tuple[int, dict[str, int]]:
        """Write the events of a message, and return their number and the words that are none.

        Parameters
        ----------
        message : EventMessage
        out : Columns
            With room for `bound` events.
        """
        if message.records:
            return _array(message, out), {}
        codec = _CODECS.get(message.encoding)
        if codec is None:
            return 0, {"trigger": int(message.words.size)} if message.words.size else {}
        booked = np.zeros(len(_SKIPPED), np.int64)
        count = codec(message, self.state, booked, out)
        names = zip(_SKIPPED, booked.tolist(), strict=True)
        return count, {name: number for name, number in names if number}

    def triggers(self, message: EventMessage) -> NDArray[Any]:
        """Return the external signals of a message as `TRIGGER_DTYPE`."""
        if message.encoding == TRIGGER:
            return _signals(message)
        if message.encoding != "evt3":
            return np.empty(0, TRIGGER_DTYPE)
        words = _words(message)
        # Signals before the first whole time have none, and leave their rows as they are.
        table = np.full((int((words >> 12 == 10).sum()), 3), -1, np.int64)
        booked, columns = np.zeros(len(_SKIPPED), np.int64), Columns.empty(bound(message))
        kernels.evt3(words, self.state, booked, *columns, table)
        table = table[table[:, 1] >= 0]
        out = np.empty(len(table), TRIGGER_DTYPE)
        out["t"], out["source"], out["edge"] = table[:, 0], table[:, 1], table[:, 2]
        return out


def _signals(message: EventMessage) -> NDArray[Any]:
    words = message.words.astype(np.uint64, copy=False)
    out = np.empty(words.size, TRIGGER_DTYPE)
    out["t"], out["edge"] = _mono_times(words, message.time_base), words >> np.uint64(63)
    out["source"] = words >> np.uint64(48) & np.uint64(0x7FFF)
    return out


def start_state() -> NDArray[np.int64]:
    """Return the state before the first packet."""
    state = np.zeros(10, np.int64)
    state[[kernels.LEFT, kernels.AHEAD]] = kernels.NO_WRAP
    return state


def _words(message: EventMessage) -> NDArray[np.uint16]:
    # Kernels are compiled for contiguous arrays of the machine's byte order.
    return np.ascontiguousarray(message.words, np.uint16)


def _array(message: EventMessage, out: Columns) -> int:
    n = 0
    for part in message.records:
        here = out.part(n, n + part.size)
        here.x[:], here.y[:] = part["x"], part["y"]
        np.multiply(part["sec"], 1_000_000, out=here.t, dtype=np.int64, casting="unsafe")
        here.t[:] += part["nsec"] // np.uint32(1000)
        here.p[:] = part["p"] != 0
        n += part.size
    return n


def _evt3(
    message: EventMessage, state: NDArray[np.int64], booked: NDArray[np.int64], out: Columns
) -> int:
    none = np.empty((0, 3), np.int64)
    return int(kernels.evt3(_words(message), state, booked, *out, none))


def _libcaer_cmp(
    message: EventMessage, state: NDArray[np.int64], booked: NDArray[np.int64], out: Columns
) -> int:
    start = message.time_base // 1000
    return int(kernels.libcaer_cmp(_words(message), state[:3], booked, start, *out))


def _libcaer(message: EventMessage, _: object, __: object, out: Columns) -> int:
    words = message.words
    data = words.astype(np.uint32)  # the lower half
    t = (words >> np.uint64(32)).astype(np.int64) & 0x7FFFFFFF
    if (t[1:] < t[:-1]).any():
        Clock(31).unwrap(t)
    out.x[: t.size], out.y[: t.size] = (
        data >> np.uint32(17),
        data >> np.uint32(2) & np.uint32(0x7FFF),
    )
    out.t[: t.size], out.p[: t.size] = (
        t + message.time_base // 1000,
        data >> np.uint32(1) & np.uint32(1),
    )
    return int(t.size)


def _mono(message: EventMessage, _: object, __: object, out: Columns) -> int:
    words = message.words.astype(np.uint64, copy=False)
    size = words.size
    out.x[:size] = words >> np.uint64(32) & np.uint64(0xFFFF)
    out.y[:size] = words >> np.uint64(48) & np.uint64(0x7FFF)
    out.t[:size] = _mono_times(words, message.time_base)
    out.p[:size] = words >> np.uint64(63)
    return int(size)


def _mono_times(words: NDArray[np.uint64], time_base: int) -> NDArray[np.int64]:
    start, rest = divmod(time_base, 1000)
    return ((words & np.uint64(0xFFFFFFFF)).astype(np.int64) + rest) // 1000 + start


_Codec = Callable[[EventMessage, NDArray[np.int64], NDArray[np.int64], Columns], int]
_CODECS: dict[str, _Codec] = {
    "evt3": _evt3,
    "libcaer": _libcaer,
    "libcaer_cmp": _libcaer_cmp,
    "mono": _mono,
}
