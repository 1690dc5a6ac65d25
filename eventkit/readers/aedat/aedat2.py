"""AEDAT2 (jAER, since 2010): records of 8 bytes, an address and a time, from DVS128 and DAVIS.

Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-2.0.html.
The DVS128's address is that of AEDAT1. A DAVIS address holds, from the top: bit 31 the type; bits
30-22 the row; 21-12 the column; 11-10 a kind; 9-0 a sample. Type 0 is an event (kinds 0 OFF, 2 ON)
or an external signal (1 and 3); type 1 a reset read (kind 0) or signal read (1) of one pixel of a
frame, or (3) one of the seven words of an IMU sample, its number in bits 30-28 and its value in
bits 27-12. `eventkit.readers.aedat.jaer` says from which corner and which polarity.

The chip decides the layout. It is taken from the header (``AEChip``, else ``HardwareInterface``);
from ``--sensor-size`` (128x128 is a DVS128, anything else a DAVIS); else from the words: a DVS128
sets none of the bits 30-16, a DAVIS does nearly always, and the smallest published DAVIS that holds
every event is assumed and said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.frames import Frames
from eventkit.readers import geometry
from eventkit.readers.aedat.aedat1 import EXTERNAL, bound, triggers
from eventkit.readers.aedat.aedat2_frames import read_frames
from eventkit.readers.aedat.jaer import (
    DAVIS,
    DVS128,
    Chip,
    JaerHeader,
    Layout,
    Records,
    chip_named,
    decode,
    read_header,
)
from eventkit.readers.aedat.tables import Table
from eventkit.readers.base import ReadOptions
from eventkit.readers.stream import EventStream
from eventkit.recording import Recording
from eventkit.sources import Source
from eventkit.triggers import KIND_DTYPE

RECORD = np.dtype([("a", ">u4"), ("t", ">i4")])
SPECIAL = 0x8000_0000
KNOWN = (("DAVIS240", (240, 180)), ("DAVIS346", (346, 260)), ("DAVIS640", (640, 480)))
EDGES = {2: 2, 3: 1, 4: 3}
"""Low bits of an external signal in newer jAER (falling, rising, pulse) -> numbers of AEDAT4."""
PULSE = 3

IMU = np.dtype(
    [("t", "<i8"), ("temperature", "<f4")]
    + [(f"{sensor}_{axis}", "<f4") for sensor in ("accelerometer", "gyroscope") for axis in "xyz"]
)
IMU_WORDS = (
    ("accelerometer_x", -1 / 8192),
    ("accelerometer_y", 1 / 8192),
    ("accelerometer_z", 1 / 8192),
    ("temperature", 1 / 340),
    ("gyroscope_x", -1 / 65.5),
    ("gyroscope_y", 1 / 65.5),
    ("gyroscope_z", -1 / 65.5),
)
"""Signs and scales of jAER's IMUSample at its default ranges, 4 g and 500 degrees a second, in the
units that it writes to AEDAT4; a file does not say which ranges were set."""
TEMPERATURE_OFFSET = 35.0


class Aedat2Reader:
    """Reader of AEDAT2 recordings of jAER, v2e and the like."""

    name = "aedat2"
    suffixes = (".aedat", ".dat", ".aedat2")
    holds = ("events", "frames")
    takes = ()
    unit = "us"

    def recognise(self, source: Source) -> str | None:
        """Go by the version line."""
        return "version line #!AER-DAT2" if source.head.startswith(b"#!AER-DAT2.") else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the header, and a pass for frames, and for the chip if it is not named."""
        header = read_header(source, RECORD.itemsize)
        records = Records(source, header.start, RECORD)
        chip, found = _settle(source, header, records, options)
        frames: Frames | None = None
        notes = list(found.notes)
        if chip.layout is DAVIS:
            frames, more = read_frames(records, chip, options)
            notes += more
            if frames is not None and "color" in header.chip.lower():
                notes.append("the sensor has a colour filter: frames are its raw gray samples")
        skipped = _skipped_dvs128 if chip.layout is DVS128 else _skipped_davis
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why if found.size else "",
            source=EventStream(
                lambda buffer, mark: decode(records, chip, skipped, buffer, mark),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=lambda: bound(records),
            ),
            frames=frames,
            side_data=lambda: _read_side(records, chip.layout, options),
            notes=notes,
        )


def _settle(
    source: Source, header: JaerHeader, records: Records, options: ReadOptions
) -> tuple[Chip, geometry.Geometry]:
    """Return the chip, which decides the layout, and the geometry, which the caller may override.

    Raises
    ------
    FormatError
        If the header names a chip of another kind, or no known sensor holds the events.
    """
    for name in (header.chip, header.interface):
        chip = chip_named(name) if name else None
        if chip is not None:
            why = f"{chip.name} in the header"
            return chip, geometry.settle(source, options.sensor_size, (chip.size, why))
    found = geometry.settle(source, options.sensor_size)
    if found.size is not None:
        layout = DVS128 if found.size == (128, 128) else DAVIS
        return Chip(layout.name, found.size, layout), found
    if header.chip:
        msg = (
            f"expected the chip DVS128, DAVIS240, DAVIS346, DAVIS128, DAVIS208 or DAVIS640, got "
            f"{header.chip}; if it has the layout of one of them, say --sensor-size "
            "(128x128: DVS128; others, as 240x180 or 346x260: DAVIS)"
        )
        raise FormatError(msg, path=source, offset=0, reason="no_geometry")
    return _by_evidence(source, records, options)


def _by_evidence(
    source: Source, records: Records, options: ReadOptions
) -> tuple[Chip, geometry.Geometry]:
    words, high, right, bottom = 0, 0, -1, -1
    for _, address, _ in records.whole(options):
        events = address[address & np.uint32(DAVIS.other) == 0]
        words += events.size
        high += int((events >> np.uint32(16) != 0).sum())
        if events.size:
            right = max(right, int((events >> np.uint32(12) & np.uint32(0x3FF)).max()))
            bottom = max(bottom, int((events >> np.uint32(22)).max()))
    if 2 * high <= words:
        size = (128, 128)
        why = "assumed DVS128, as no address is longer than 16 bits" if words else "no events"
        return Chip("DVS128", size, DVS128), geometry.Geometry(size if words else None, why)
    found = geometry.assume(right, bottom, KNOWN, path=source)
    assert found.size is not None
    return Chip("DAVIS", found.size, DAVIS), found


def _skipped_dvs128(address: NDArray[np.uint32]) -> dict[str, int]:
    external = int((address & np.uint32(EXTERNAL | SPECIAL) != 0).sum())
    return _counts(external=external, unknown=address.size - external)


def _skipped_davis(address: NDArray[np.uint32]) -> dict[str, int]:
    kinds = (address >> np.uint32(10)) & np.uint32(3)
    kinds = np.where(address < np.uint32(SPECIAL), 4, kinds)
    counts = np.bincount(kinds, minlength=5)
    return _counts(
        frame=int(counts[0] + counts[1]),
        unknown=int(counts[2]),
        imu=int(counts[3]),
        external=int(counts[4]),
    )


def _counts(**counts: int) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}


def _read_side(records: Records, layout: Layout, options: ReadOptions) -> dict[str, NDArray[Any]]:
    """Collect external signals, and IMU samples where the sensor has them."""
    if layout is DVS128:
        return triggers(records, EXTERNAL | SPECIAL, options)
    signals = Table.of_side(records.source, "external signals", KIND_DTYPE)
    samples = Table.of_side(records.source, "IMU samples", IMU)
    words, since = np.empty(0, np.uint32), np.empty(0, np.int64)
    with options.booking():
        for offset, address, times in records.whole(options):
            kind = address & np.uint32(0x8000_0C00)
            outer = (kind == 0x400) | (kind == 0xC00)
            signals.add(_external(address[outer], times[outer]).tobytes(), offset)
            moving = kind == 0x8000_0C00
            words = np.append(words, address[moving])
            since = np.append(since, times[moving])
            rows, used = _samples(words, since)
            samples.add(rows.tobytes(), offset)
            words, since = words[used:], since[used:]
    side = {"triggers": signals.rows, "imu": samples.rows}
    return {name: rows for name, rows in side.items() if rows.size}


def _external(address: NDArray[np.uint32], times: NDArray[np.int64]) -> NDArray[Any]:
    edge = np.full(1024, PULSE, np.uint8)
    for bits, number in EDGES.items():
        edge[bits] = number
    rows = np.zeros(times.size, KIND_DTYPE)
    rows["t"], rows["source"] = times, edge[address & np.uint32(0x3FF)]
    return rows


def _samples(address: NDArray[np.uint32], times: NDArray[np.int64]) -> tuple[NDArray[Any], int]:
    """Put seven words numbered 0 to 6 together; words of a group with a gap are left out.

    Returns the samples, and how many words are done with: a group that goes on behind them is not.
    """
    number = (address >> np.uint32(28)) & np.uint32(7)
    starts = np.flatnonzero(number == 0)
    here = starts + 7 <= address.size
    used = address.size if here.all() else int(starts[~here][0])
    places = starts[here][:, None] + np.arange(7)
    places = places[(number[places] == np.arange(7)).all(1)]
    values = ((address[places] >> np.uint32(12)) & np.uint32(0xFFFF)).astype(np.uint16)
    rows = np.zeros(len(places), IMU)
    rows["t"] = times[places[:, 0]]
    for i, (name, scale) in enumerate(IMU_WORDS):
        rows[name] = values[:, i].view(np.int16) * scale
    rows["temperature"] += np.float32(TEMPERATURE_OFFSET)
    return rows, used
