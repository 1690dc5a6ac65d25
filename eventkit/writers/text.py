"""Rows ``t,x,y,p`` as text: a header, then one event a row, times in microseconds.

There is no comment with the sensor size: NumPy skips one, Polars and pandas do not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.writers.base import Contents, event_parts, left_out

HEADER = b"t,x,y,p\n"
_PART = 1 << 16


class CsvWriter:
    """Writer of comma-separated text."""

    name = "csv"
    suffixes = (".csv", ".txt")

    def losses(self, contents: Contents) -> list[str]:
        """Frames, triggers, IMU and the size of the sensor have no place in rows."""
        lost = left_out(contents, "CSV")
        if contents.sensor_size is not None:
            size = f"{contents.sensor_size[0]}x{contents.sensor_size[1]}"
            lost.append(
                f"CSV has no place for the sensor size: read it with --sensor-size {size}, or put "
                f"{size} into a file <name>.size.txt beside it, as a.csv.size.txt beside a.csv"
            )
        return lost

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the rows, a part at a time."""
        from eventkit.kernels import text

        out = np.empty(_PART * text.ROW_BYTES, np.uint8)
        with path.open("wb") as file:
            file.write(HEADER)
            for events in event_parts(recording, ledger):
                for start in range(0, len(events), _PART):
                    part = events[start : start + _PART]
                    file.write(out[: text.format_rows(part.x, part.y, part.t, part.p, out)].data)
