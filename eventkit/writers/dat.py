"""Prophesee DAT, version 2: the header, then 8 bytes an event.

Layout: https://docs.prophesee.ai/stable/data/file_formats/dat.html and
`eventkit.readers.prophesee.dat`. The header has no date, so that equal events give equal bytes.
Times are 32 bits and wrap; readers that follow the clock get them back over hours and days. Where
the first time does not fit, all are moved to begin at zero, and a comment line keeps the offset,
which our reader and faery's add again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.prophesee.dat import CLOCK_BITS, OFFSET_KEY, PLACES
from eventkit.recording import Recording
from eventkit.writers.base import Contents, event_parts, left_out, origin_us

LONGEST_GAP_US = (1 << (CLOCK_BITS - 1)) - 1
"""After more microseconds without an event nobody can tell a wrap from a step back."""

_END_US = 1 << CLOCK_BITS
_X_BITS, _Y_BITS, _ = PLACES[2]
_PART = 1 << 18
"""Events that are packed at once: 2 MB."""


class DatWriter:
    """Writer of Prophesee DAT version 2, CD events."""

    name = "dat"
    suffixes = (".dat",)

    def losses(self, contents: Contents) -> list[str]:
        """Return what DAT has no place for.

        Raises
        ------
        SettingsError
            For places past 16,383, or a silence of 2^31 us or more, which a 32-bit clock cannot
            carry.
        """
        furthest = max(contents.right, contents.bottom)
        if furthest >= 1 << _X_BITS:
            most = (1 << _X_BITS) - 1
            msg = f"expected places up to {most} (14 bits), got {furthest}; write npz or hdf5"
            raise SettingsError(msg)
        if contents.longest_gap_us > LONGEST_GAP_US:
            msg = (
                "expected gaps below 2^31 us (35.8 minutes) between events, got "
                f"{contents.longest_gap_us} us: DAT's 32-bit clock cannot carry it; write aedat4, "
                "hdf5 or npz"
            )
            raise SettingsError(msg)
        lost = left_out(contents, "DAT")
        offset = origin_us(contents.first_us, _END_US) if contents.events else 0
        if offset:
            lost.append(
                f"times are moved by {-offset} us to begin at 0; the header's comment "
                f"'{OFFSET_KEY}' keeps the offset, which eventkit and faery add again and others "
                "do not"
            )
        last = contents.last_us - offset
        if contents.events and last >> CLOCK_BITS:
            lost.append(
                f"times up to {last} us wrap every 2^32 us; readers that do not follow the clock "
                "see them step back by 71.6 minutes"
            )
        if contents.sensor_size is None:
            lost.append("the header has no sensor size, since none is known")
        return lost

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write in one pass.

        Parameters
        ----------
        recording : Recording
        path : Path
            Does not exist.
        ledger : Ledger
            Receives the counts of the reading.
        """
        offset: int | None = None
        with path.open("xb") as file:
            for events in event_parts(recording, ledger):
                if offset is None:
                    offset = origin_us(int(events.t[0]), _END_US)
                    file.write(_header(recording.sensor_size, offset))
                for start in range(0, len(events), _PART):
                    file.write(_records(events[start : start + _PART], offset).data)
            if offset is None:
                file.write(_header(recording.sensor_size, 0))


def _header(sensor_size: tuple[int, int] | None, offset: int) -> bytes:
    lines = ["Data file containing CD events", "Version 2"]
    if sensor_size is not None:
        lines += [f"Width {sensor_size[0]}", f"Height {sensor_size[1]}"]
    if offset:
        lines.append(f"{OFFSET_KEY} {offset}")
    text = "".join(f"% {line}\n" for line in lines)
    return text.encode("ascii") + bytes([0x0C, 8])


def _records(events: Events, offset: int) -> NDArray[np.uint32]:
    records = np.empty((len(events), 2), "<u4")
    records[:, 0] = (events.t - offset) & 0xFFFFFFFF
    place = records[:, 1]
    place[:] = events.p
    place <<= _Y_BITS
    place |= events.y
    place <<= _X_BITS
    place |= events.x
    return records
