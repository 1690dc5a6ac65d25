"""ECF, the compression of Prophesee's HDF5 event files: one chunk of events, decoded and encoded.

Written from the layout that Prophesee publishes with its codec
(https://github.com/prophesee-ai/hdf5_ecf; HDF5 filter 36559 = 0x8ECF). A chunk is little-endian:

- ``u32``: bits 31..2 the number of events, at most 65,535; bit 1 style *packed*, bit 0 style
  *pairs*;
- ``i64``: the first time. Then bytes, high half ``s``, low half ``c``: for ``s`` < 15 the time
  goes on by ``s`` us and ``c`` events have it (``c`` = 15: the next ``u16`` is the count). Bytes
  with ``s`` = 15 in a row are a longer step, four bits each, low bits first;
- *packed*: y (12 bits), x (11), polarity (1) of four events in three ``u32``, high bits first;
- otherwise runs of y: ``u16`` of y (11 bits) and count (5; 31: the next ``u16`` is the count),
  then for *pairs* x (11) and polarity (1) of four events in three ``u16``; else x (11) with a mask
  of which of the five next pixels follow, as ``u16``, and runs of polarities: ``u8`` of polarity
  (1) and count (7; 127: the next ``u16`` is the count).

No file written by a camera was met: this is tested with synthetic files only, and beside another
decoder.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Columns
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.kernels import ecf as kernels

FILTER_ID = 0x8ECF
MOST_EVENTS = 65_535
LAST_PIXEL = 2047
"""Places have 11 bits."""

_PACKED, _PAIRS = 2, 1
_HEADER_BYTES = 4


def count(data: NDArray[np.uint8]) -> int:
    """Return how many events a chunk says it holds.

    Parameters
    ----------
    data : (M,) uint8

    Raises
    ------
    FormatError
        If there is no header, or more events than a chunk can have; ``offset`` counts from the
        start of the chunk, here and below.
    """
    if data.size < _HEADER_BYTES:
        msg = f"expected an ECF chunk, got {data.size} bytes"
        raise FormatError(msg, offset=0, reason="truncated")
    events = int(data[:4].view("<u4")[0]) >> 2
    if events > MOST_EVENTS:
        msg = f"expected at most {MOST_EVENTS} events in an ECF chunk, got {events}"
        raise FormatError(msg, offset=0, reason="corrupt")
    return events


def decode(data: NDArray[np.uint8], room: Columns) -> int:
    """Decode one chunk.

    Parameters
    ----------
    data : (M,) uint8, C-contiguous
    room : Columns
        With room for `count` events.

    Returns
    -------
    int
        Number of events.

    Raises
    ------
    FormatError
        If the data end early or hold more than they say; nothing in ``room`` is to be used then.

    Examples
    --------
    >>> events = Events(x=[3, 4], y=[1, 1], t=[10, 25], p=[1, 0])
    >>> room = Columns.empty(2)
    >>> decode(np.frombuffer(encode(events), np.uint8), room), room.t.tolist()
    (2, [10, 25])
    """
    events = count(data)
    if events > room.t.size:
        msg = f"expected at most {room.t.size} events in this ECF chunk, got {events}"
        raise FormatError(msg, offset=0, reason="corrupt")
    end = kernels.read(data, events, int(data[0]) & 3, room.x, room.y, room.t, room.p)
    if end < 0:
        at = -1 - end
        cut = at + 2 >= data.size
        msg = f"expected {events} events in an ECF chunk of {data.size} bytes, got other data"
        raise FormatError(msg, offset=at, reason="truncated" if cut else "corrupt")
    return events


def encode(events: Events) -> bytes:
    """Encode one chunk, in whichever style is shortest.

    Parameters
    ----------
    events : Events
        1 to 65,535, places up to 2047, times within 2^61 us.

    Raises
    ------
    SettingsError
        If they do not fit.
    """
    n = len(events)
    if not 1 <= n <= MOST_EVENTS:
        msg = f"expected 1 to {MOST_EVENTS} events for an ECF chunk, got {n}"
        raise SettingsError(msg)
    if max(int(events.x.max()), int(events.y.max())) > LAST_PIXEL:
        msg = f"expected places up to {LAST_PIXEL}, which is what ECF holds, got larger ones"
        raise SettingsError(msg)
    if int(events.t[0]) < -kernels.LAST_US or int(events.t[-1]) > kernels.LAST_US:
        msg = f"expected times within 2^61 us, got {events.t[0]} .. {events.t[-1]}"
        raise SettingsError(msg)
    out = np.empty(8 + 19 * n, np.uint8)
    times = out[: kernels.write_times(events.t, out)].tobytes()
    style, places = _places(events)
    return (n << 2 | style).to_bytes(4, "little") + times + places


def _places(events: Events) -> tuple[int, bytes]:
    """Return the shortest of the three styles; the first where they are equal."""
    n = len(events)
    x, y, p = events.x, events.y, events.p
    fours = (n + 3) // 4
    packed = np.empty(12 * fours, np.uint8)
    kernels.write_packed(x, y, p, packed)
    out = np.empty(4 * n, np.uint8)
    rows = out[: kernels.write_rows(y, out)].tobytes()
    pairs = np.empty(6 * fours, np.uint8)
    kernels.write_pairs(x, p, pairs)
    masked = out[: kernels.write_masked(x, out)].tobytes()
    signs = out[: kernels.write_signs(p, out)].tobytes()
    styles = [
        (_PACKED, packed.tobytes()),
        (_PAIRS, rows + pairs.tobytes()),
        (0, rows + masked + signs),
    ]
    return min(styles, key=lambda style: len(style[1]))
