"""Event Stream 2.0, DVS events; see `eventkit.readers.es`.

A time is the step from the event before, 0 to 126 us in the event itself and 127 us for each
overflow byte in front of it. y goes up in these files, so it is turned over.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.kernels import es as kernels
from eventkit.ledger import Ledger
from eventkit.readers.es import MAGIC
from eventkit.recording import Recording
from eventkit.writers.base import Contents, event_parts, left_out, origin_us

DVS = 1
TICK_US = 127
LONGEST_START_US = 1 << 31
"""A later first time would cost more than 16 MB of overflow bytes before the first event."""
MAX_OVERFLOWS = 1 << 28
"""9.4 h without a pause shorter than 127 us between events: 268 MB."""

_BLOCK_BYTES = 1 << 20


class EsWriter:
    """Writer of Event Stream 2.0, DVS."""

    name = "es"
    suffixes = (".es",)

    def losses(self, contents: Contents) -> list[str]:
        """Return what the format has no place for.

        Raises
        ------
        SettingsError
            Without a sensor size, for places outside it, or for more than 9.4 h.
        """
        if contents.sensor_size is None:
            msg = "expected a sensor size, which turns y over and is stated; give --sensor-size WxH"
            raise SettingsError(msg)
        width, height = contents.sensor_size
        if contents.right >= width or contents.bottom >= height or max(width, height) > 65535:
            msg = (
                f"expected places inside the {width}x{height} sensor, at most 65535 a side, got "
                f"x up to {contents.right} and y up to {contents.bottom}; give the true "
                "--sensor-size, or write npz"
            )
            raise SettingsError(msg)
        lost = left_out(contents, "Event Stream")
        if contents.events:
            offset = origin_us(contents.first_us, LONGEST_START_US)
            _check_length(contents.last_us - offset)
            if offset:
                lost.append(f"times are moved by {-offset} us to begin at 0; the offset is lost")
        return lost

    def moved_us(self, contents: Contents) -> int:
        """Return what is added to all times for good, microseconds."""
        return -origin_us(contents.first_us, LONGEST_START_US) if contents.events else 0

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
            Without a sensor size.
        """
        if recording.sensor_size is None:
            msg = "expected a sensor size, which turns y over and is stated; give --sensor-size WxH"
            raise SettingsError(msg)
        width, height = recording.sensor_size
        block = np.empty(_BLOCK_BYTES, np.uint8)
        reached: int | None = None
        with path.open("xb") as file:
            file.write(MAGIC + bytes([2, 0, 0, DVS]))
            file.write(width.to_bytes(2, "little") + height.to_bytes(2, "little"))
            for events in event_parts(recording, ledger):
                if reached is None:
                    reached = origin_us(int(events.t[0]), LONGEST_START_US)
                reached = _put(file, events, height, reached, block)


def _check_length(span_us: int) -> None:
    if span_us // TICK_US > MAX_OVERFLOWS:
        msg = (
            f"expected at most {MAX_OVERFLOWS * TICK_US} us (9.4 h; silence costs a byte each "
            f"{TICK_US} us), got {span_us} us; write dat or aedat4"
        )
        raise SettingsError(msg)


def _put(
    file: BinaryIO, events: Events, height: int, reached: int, block: NDArray[np.uint8]
) -> int:
    """Write events block by block; return the time that the bytes have reached."""
    state = np.array([0, reached], np.int64)
    while state[0] < len(events):
        size = kernels.encode(events.x, events.y, events.t, events.p, height, state, block)
        file.write(block[:size].data)
    return int(state[1])
