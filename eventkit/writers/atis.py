"""ATIS ``.bin``: 5 bytes an event, big-endian, no header; see `eventkit.readers.atis`.

Times have 23 bits, 8.4 s. Beyond that overflow markers stand between the events, each of which adds
2^13 us to all that follows: 610 bytes for each second of the recording. They are set as late as can
be, so that short recordings have none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.atis import (
    KNOWN_SENSORS,
    OVERFLOW_ROW,
    OVERFLOW_US,
    RECORD_BYTES,
    TIME_BITS,
)
from eventkit.recording import Recording
from eventkit.writers.base import Contents, event_parts, left_out, origin_us

MAX_MARKERS = 1 << 20
"""5 MB, 2 h 23 min. tonic's reader takes time that grows with markers times events."""

_SPAN_US = 1 << TIME_BITS
_PART = 1 << 18


class AtisWriter:
    """Writer of ATIS ``.bin``, the format of N-MNIST and N-Caltech101."""

    name = "atis-bin"
    suffixes = (".bin",)

    def losses(self, contents: Contents) -> list[str]:
        """Return what the format has no place for.

        Raises
        ------
        SettingsError
            Without events, for x past 255, y past 239, or more than 2 h 23 min.
        """
        if not contents.events:
            msg = "expected events, got none: without a header the file would be empty; write dat"
            raise SettingsError(msg)
        right, bottom = contents.right, contents.bottom
        if right > 255 or bottom >= OVERFLOW_ROW:
            msg = (
                f"expected places up to x 255 and y {OVERFLOW_ROW - 1} (8 bits, and y "
                f"{OVERFLOW_ROW} is the overflow marker), got x up to {right} and y up to "
                f"{bottom}; write dat"
            )
            raise SettingsError(msg)
        lost = left_out(contents, "ATIS .bin")
        offset = origin_us(contents.first_us, _SPAN_US)
        _check_markers(_markers(contents.last_us - offset))
        if offset:
            lost.append(f"times are moved by {-offset} us to begin at 0; the offset is lost")
        fits = (size for _, size in KNOWN_SENSORS if right < size[0] and bottom < size[1])
        assumed, size = next(fits, None), contents.sensor_size
        if size is not None and size != assumed:
            guess = f"{assumed[0]}x{assumed[1]} is assumed" if assumed else "none can be assumed"
            lost.append(
                f"the sensor size {size[0]}x{size[1]} is not in the file: without --sensor-size "
                f"{guess}"
            )
        return lost

    def moved_us(self, contents: Contents) -> int:
        """Return what is added to all times for good, microseconds."""
        return -origin_us(contents.first_us, _SPAN_US)

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write in one pass.

        Parameters
        ----------
        recording : Recording
        path : Path
            Does not exist.
        ledger : Ledger
            Receives the counts of the reading.

        Raises
        ------
        SettingsError
            If the times need more overflow markers than are written.
        """
        offset: int | None = None
        markers = 0
        with path.open("xb") as file:
            for events in event_parts(recording, ledger):
                if offset is None:
                    offset = origin_us(int(events.t[0]), _SPAN_US)
                for start in range(0, len(events), _PART):
                    part = events[start : start + _PART]
                    records, markers = _records(part, offset, markers)
                    file.write(records.data)


def _markers(t_us: int) -> int:
    """Return how many overflow markers a time needs before it."""
    return max(0, (t_us - _SPAN_US) // OVERFLOW_US + 1)


def _check_markers(markers: int) -> None:
    if markers > MAX_MARKERS:
        msg = (
            f"expected at most {MAX_MARKERS} overflow markers (2 h 23 min), got {markers}; write "
            "dat, whose clock has 32 bits"
        )
        raise SettingsError(msg)


def _records(events: Events, offset: int, markers: int) -> tuple[NDArray[np.uint8], int]:
    """Return the records of the events, markers between them, and the new number of markers."""
    t = events.t - offset
    needed = np.maximum((t - _SPAN_US) // OVERFLOW_US + 1, markers)
    last = int(needed[-1])
    _check_markers(last)
    records = np.zeros((len(events) + last - markers, RECORD_BYTES), np.uint8)
    records[:, 1] = OVERFLOW_ROW
    at = np.arange(len(events)) + (needed - markers)
    word = (t - needed * OVERFLOW_US) | events.p.astype(np.int64) << TIME_BITS
    fields = (events.x, events.y, word >> 16, word >> 8 & 0xFF, word & 0xFF)
    for byte, value in enumerate(fields):
        records[at, byte] = value
    return records, last
