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
from eventkit.readers.prophesee.encodings import evt3_encoding
from eventkit.readers.ros.messages import Fields, MessageError, event_records
from eventkit.triggers import CHANNEL_DTYPE

ENCODINGS = ("evt3", "libcaer", "libcaer_cmp", "mono")
TRIGGER = "trigger"

_EVT3 = evt3_encoding()


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
        return _EVT3.counted(_words(message))[0]
    if message.encoding == "libcaer_cmp":
        return int(kernels.count_compressed(_words(message)))
    return word_count(message)


def clock_offset_us(message: EventMessage) -> int:
    """Return what to add to this message's times to get the time of ROS, microseconds."""
    if message.encoding == "evt3":
        first = _first_time(_words(message))
        return 0 if first is None else message.stamp_ns // 1000 - first
    if message.encoding in ("mono", TRIGGER):
        return (message.stamp_ns - message.time_base) // 1000
    return 0


@dataclass(slots=True)
class Decoder:
    """Decodes the messages of one topic, one after the other.

    Parameters
    ----------
    evt3, compressed : (N,) int64
        What codecs carry from packet to packet.
    """

    evt3: NDArray[np.int64] = field(default_factory=_EVT3.start)
    compressed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))

    def copy(self) -> Decoder:
        """Return a decoder that goes on from here."""
        return Decoder(self.evt3.copy(), self.compressed.copy())

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
        if message.encoding == "evt3":
            words = _words(message)
            others = _EVT3.counted(words)[1]
            count, lost, _ = _EVT3.decode(words, self.evt3, out)
            return count, {name: number for name, number in (others | lost).items() if number}
        if message.encoding == "libcaer_cmp":
            start = message.time_base // 1000
            unknown, words = np.zeros(1, np.int64), _words(message)
            count = int(kernels.libcaer_cmp(words, self.compressed, unknown, start, *out))
            return count, {"unknown": int(unknown[0])} if unknown[0] else {}
        if message.encoding in _CODECS:
            return _CODECS[message.encoding](message, out), {}
        return 0, {"trigger": int(message.words.size)} if message.words.size else {}

    def triggers(self, message: EventMessage) -> NDArray[Any]:
        """Return the external signals of a message as `eventkit.triggers.CHANNEL_DTYPE`."""
        if message.encoding == TRIGGER:
            return _signals(message)
        if message.encoding != "evt3":
            return np.empty(0, CHANNEL_DTYPE)
        return _EVT3.read_triggers(_words(message), self.evt3)


def _first_time(words: NDArray[np.uint16]) -> int | None:
    """Return the first whole time of EVT3 words, microseconds."""
    highs = np.flatnonzero(words >> 12 == 8)
    lows = np.flatnonzero(words >> 12 == 6)
    lows = lows[lows > highs[0]] if highs.size else lows[:0]
    if not lows.size:
        return None
    high = highs[highs < lows[0]][-1]
    return int(words[high] & 0xFFF) << 12 | int(words[lows[0]] & 0xFFF)


def _signals(message: EventMessage) -> NDArray[Any]:
    words = message.words.astype(np.uint64, copy=False)
    out = np.empty(words.size, CHANNEL_DTYPE)
    out["t"], out["p"] = _mono_times(words, message.time_base), words >> np.uint64(63)
    out["source"] = words >> np.uint64(48) & np.uint64(0x7FFF)
    return out


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


def _libcaer(message: EventMessage, out: Columns) -> int:
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


def _mono(message: EventMessage, out: Columns) -> int:
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


_CODECS: dict[str, Callable[[EventMessage, Columns], int]] = {"libcaer": _libcaer, "mono": _mono}
