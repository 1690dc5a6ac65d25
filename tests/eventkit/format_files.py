"""How a file of each format is made, and what holds for it; for the contract and for damage.

Our own writers make most of them; the tests of each writer compare with encoders of their own.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.testing.files import recording_of
from eventkit.testing.readers import ReaderTests
from eventkit.writers import writers

HALF_CLOCK = (1 << 31) - 1


class Written(ReaderTests):
    """A format that we write."""

    writer = ""

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        recording = recording_of(events, sensor_size=sensor_size)
        writers()[self.writer].write(recording, path, ledger=Ledger())


class Evt2(Written):
    format = writer = "evt2"
    suffix = ".raw"
    max_events_per_byte = 1 / 4


class Evt21(Written):
    format = writer = "evt21"
    suffix = ".raw"
    max_events_per_byte = 32 / 8


class Evt3(Written):
    format = writer = "evt3"
    suffix = ".raw"
    max_events_per_byte = 12 / 2


class Dat(Written):
    format = writer = "dat"
    suffix = ".dat"
    max_events_per_byte = 1 / 8


class Atis(Written):
    format = writer = "atis-bin"
    suffix = ".bin"
    holds_geometry = False
    by_content = False
    max_events_per_byte = 1 / 5


class Es(Written):
    format = writer = "es"
    suffix = ".es"
    max_events_per_byte = 1 / 5
    # 127 us for each overflow byte: two hours of silence are 57 MB.
    last_us = 500_000_000


class Aedat4(Written):
    format = writer = "aedat4"
    suffix = ".aedat4"


class Hdf5Dsec(Written):
    format, writer = "hdf5", "hdf5-dsec"
    suffix = ".h5"
    most_cuts, flips = 60, 100
    lazy = False  # measured through a path


class Hdf5Xs(Hdf5Dsec):
    writer = "hdf5-xs"
    # Seconds as float64.


class Hdf5Ecf(Hdf5Dsec):
    writer = "hdf5-ecf"


class Npz(Written):
    format = writer = "npz"
    suffix = ".npz"
    by_content = False


class Csv(Written):
    format = writer = "csv"
    suffix = ".csv"
    holds_geometry = False
    max_events_per_byte = 1 / 8


class Parquet(Written):
    format = writer = "parquet"
    suffix = ".parquet"
    most_cuts, flips = 100, 100


class Mcap(Written):
    format, writer = "ros", "mcap"
    suffix = ".mcap"
    most_cuts, flips = 100, 100


class Ros2Db3(Written):
    """The database of a bag, without the folder around it."""

    format, writer = "ros", "ros2-db3"
    suffix = ".db3"
    most_cuts, flips = 60, 100

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            super().write(events, sensor_size, Path(folder) / "bag")
            (database,) = (Path(folder) / "bag").glob("*.db3")
            shutil.copy(database, path)


class Npy(ReaderTests):
    format = "npy"
    suffix = ".npy"
    holds_geometry = False
    max_events_per_byte = 1 / 13

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        np.save(path, events.to_structured())


class Mat(ReaderTests):
    """Version 5, compressed, the vectors of ASL-DVS."""

    format = "mat"
    suffix = ".mat"
    holds_geometry = False
    lazy = False

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        from scipy.io import savemat

        columns = {"ts": events.t, "x": events.x, "y": events.y, "pol": events.p.astype(np.uint8)}
        savemat(path, columns, do_compression=True, oned_as="column")


class Aedat1(ReaderTests):
    """Mirrored, from the lower left, OFF as 1: as a DVS128 sends it."""

    format = "aedat1"
    suffix = ".aedat"
    sensor_size = (128, 128)
    max_events_per_byte = 1 / 6

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        rows = np.zeros(len(events), [("a", ">u2"), ("t", ">u4")])
        x, y, p = (v.astype(np.int64) for v in (events.x, events.y, events.p))
        rows["a"] = (127 - y) << 8 | (127 - x) << 1 | (1 - p)
        rows["t"] = events.t & 0xFFFF_FFFF
        head = b"#!AER-DAT1.0\r\n# This is a raw AE data file - do not edit\r\n"
        path.write_bytes(head + rows.tobytes())


class Aedat2(ReaderTests):
    """Mirrored, from the lower left: as a DAVIS sends it."""

    format = "aedat2"
    lazy = False  # frames stand between the events and are found in a pass
    suffix = ".aedat"
    sensor_size = (240, 180)
    max_events_per_byte = 1 / 8

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        rows = np.zeros(len(events), [("a", ">u4"), ("t", ">u4")])
        x, y, p = (v.astype(np.int64) for v in (events.x, events.y, events.p))
        rows["a"] = (179 - y) << 22 | (239 - x) << 12 | p << 11
        rows["t"] = events.t & 0xFFFF_FFFF
        head = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
        path.write_bytes(head + rows.tobytes())


class Aedat3(ReaderTests):
    """Packets of up to 64 polarity events; the packet says how often the clock has wrapped."""

    format = "aedat3"
    suffix = ".aedat"
    sensor_size = (128, 128)
    max_events_per_byte = 1 / 8

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        parts = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n"]
        parts += [b"#Start-Time: 2017-01-01 10:00:00 (TZ+0100)\r\n#!END-HEADER\r\n"]
        wraps = events.t >> 31
        for wrap in np.unique(wraps).tolist():
            ev = events[wraps == wrap]
            rows = np.zeros(len(ev), [("d", "<u4"), ("t", "<i4")])
            x, y, p = (v.astype(np.int64) for v in (ev.x, ev.y, ev.p))
            rows["d"] = x << 17 | y << 2 | p << 1 | 1
            rows["t"] = ev.t & HALF_CLOCK
            for start in range(0, len(ev), 64):
                n = len(rows[start : start + 64])
                parts.append(struct.pack("<hhiiiiii", 1, 1, 8, 4, wrap, n, n, n))
                parts.append(rows[start : start + 64].tobytes())
        path.write_bytes(b"".join(parts))


FORMATS: dict[str, type[ReaderTests]] = {
    kind.__name__.lower(): kind
    for kind in (
        Evt2,
        Evt21,
        Evt3,
        Dat,
        Atis,
        Es,
        Aedat1,
        Aedat2,
        Aedat3,
        Aedat4,
        Hdf5Dsec,
        Hdf5Xs,
        Hdf5Ecf,
        Npz,
        Npy,
        Mat,
        Csv,
        Parquet,
        Mcap,
        Ros2Db3,
    )
}


def small_file(name: str, folder: Path, *, n: int = 100, **options: Any) -> tuple[Path, Events]:
    """Write ``n`` events of a format; return the path and the events."""
    kind = FORMATS[name]()
    events = kind.events(n, **options)
    return kind.written(events, folder), events
