"""AEDAT1 (jAER, 2008): records of 6 bytes, a 16-bit address and a 32-bit time, from the DVS128.

Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-1.0.html.
Bits of the address: 15 an external signal, 14-8 the row, 7-1 the column, 0 the polarity;
`eventkit.readers.aedat.jaer` says from which corner and which polarity. The format has no
geometry: the DVS128, 128x128, is the chip of that version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.readers import geometry
from eventkit.readers.aedat.jaer import Records, chip_named, decode, read_header
from eventkit.readers.aedat.tables import Table
from eventkit.readers.base import ReadOptions
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source
from eventkit.triggers import KIND_DTYPE

RECORD = np.dtype([("a", ">u2"), ("t", ">i4")])
EXTERNAL = 0x8000
FALLING = 2
"""The IN pin of a DVS128 reports falling edges; numbers as in AEDAT4."""


class Aedat1Reader:
    """Reader of AEDAT1 recordings, with a header or, by ``--format aedat1``, without one."""

    name = "aedat1"
    suffixes = (".aedat", ".dat")
    holds = ("events",)
    takes = ()
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Go by the version line, or by jAER's first line where it wrote none."""
        head = source.head
        if head.startswith(b"#!AER-DAT1."):
            return "version line #!AER-DAT1.0"
        first = head[:200]
        if head.startswith(b"#") and b"raw AE data" in first and b"#!AER-DAT" not in first:
            return "header of jAER without a version, so 1.0"
        return None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the header only."""
        records = Records(source, read_header(source, RECORD.itemsize).start, RECORD)
        chip = chip_named("DVS128")
        assert chip is not None
        found = geometry.settle(source, options.sensor_size)
        if found.size is None:
            found = geometry.Geometry(chip.size, "assumed DVS128, the chip of AEDAT1")
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda buffer, mark: decode(records, chip, _skipped, buffer, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: bound(records),
            ),
            side_data=lambda: triggers(records, EXTERNAL, options),
            notes=found.notes,
        )


def _skipped(address: NDArray[np.uint32]) -> dict[str, int]:
    return {"external": address.size}


def bound(records: Records) -> int:
    """Return at least the number of events, or what is handed on at once where size is unknown."""
    size = records.source.size
    return (size - records.start) // records.kind.itemsize if size is not None else 1 << 20


def triggers(records: Records, bits: int, options: ReadOptions) -> dict[str, NDArray[Any]]:
    """Collect external signals of a DVS128: words with any of these bits."""
    table = Table.of_side(records.source, "external signals", KIND_DTYPE)
    with options.booking():
        for offset, address, times in records.whole(options):
            found = times[(address & np.uint32(bits)) != 0]
            rows = np.zeros(found.size, KIND_DTYPE)
            rows["t"], rows["source"] = found, FALLING
            table.add(rows.tobytes(), offset)
    return {"triggers": table.rows} if table.rows.size else {}
