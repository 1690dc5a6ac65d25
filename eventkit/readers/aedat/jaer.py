"""What AEDAT1 and AEDAT2 share: the header of jAER, its chips, records of an address and a time.

Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-2.0.html.
Lines that begin with ``#``, then records until the end, big-endian: an address whose bits are the
chip's, and a signed time in microseconds. jAER writes the chip's class as ``# AEChip: ...``.

**Which way is up.** The format puts (0, 0) in the lower left corner, we in the upper left one, so
rows are counted from the other end. Columns of *events* are counted from the other end too: the
sensors number them from the right, and jAER takes ``sizeX - 1 - x`` when it reads them
(``DavisBaseCamera.DavisEventExtractor`` and ``DVS128.Extractor`` in
https://github.com/SensorsINI/jaer), as libcaer does when it makes AEDAT3 of the same words. Samples
of frames are not mirrored in jAER, and are not here.

**Which bit is ON.** DAVIS: 1. DVS128: the table of the format says 1, but the sensor sends 0, and
files hold what the sensor sent: jAER ("The ON events have raw polarity 0") and libcaer ("Invert
polarity bit. Hardware is like this.") both invert it, and so do we.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer
from eventkit.errors import FormatError
from eventkit.kernels.aedat import pick_events
from eventkit.readers.base import ReadOptions
from eventkit.readers.clock import Clock
from eventkit.readers.policy import RawChunk
from eventkit.sources import Source

MAX_HEADER_BYTES = 64 << 20
"""jAER may dump all preferences of a chip into the header."""
LINE_BYTES = 1 << 16
PIECE_RECORDS = 1 << 15

_TEXT = re.compile(rb"#[\t\x20-\x7e\x80-\xff]*\r?\n")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an address holds what; ``other`` are bits that no event has set."""

    name: str
    other: int
    x: tuple[int, int]
    y: tuple[int, int]
    polarity: int
    on: int


DVS128 = Layout("DVS128", 0xFFFF_8000, (1, 0x7F), (8, 0x7F), 0, on=0)
DAVIS = Layout("DAVIS", 0x8000_0400, (12, 0x3FF), (22, 0x1FF), 11, on=1)


@dataclass(frozen=True, slots=True)
class Chip:
    """A sensor: what it is called, its size, and its layout."""

    name: str
    size: tuple[int, int]
    layout: Layout


_SENSORS = (
    (("dvs128", "tmpdiff128"), Chip("DVS128", (128, 128), DVS128)),
    (("davis240", "sbret10", "sbret20", "sbret21"), Chip("DAVIS240", (240, 180), DAVIS)),
    (("davis346", "davi346"), Chip("DAVIS346", (346, 260), DAVIS)),
    (("davis128",), Chip("DAVIS128", (128, 128), DAVIS)),
    (("davis208", "pixelparade", "sensdavis192"), Chip("DAVIS208", (208, 192), DAVIS)),
    (("davis640", "davisrgb640", "davisrgbw640", "davishet640", "cdavis"),
     Chip("DAVIS640", (640, 480), DAVIS)),
)  # fmt: skip


def chip_named(name: str) -> Chip | None:
    """Return the sensor of a class like ``eu.seebetter.ini.chips.davis.DAVIS240C``."""
    plain = re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower())
    for names, chip in _SENSORS:
        if plain.startswith(names):
            return chip
    return None


@dataclass(frozen=True, slots=True)
class JaerHeader:
    """The header: its version line, what it calls the chip, and where the records start."""

    version: str
    chip: str
    interface: str
    start: int


def read_header(source: Source, stride: int) -> JaerHeader:
    """Read lines up to the first that is no text: a record may begin with ``#`` too.

    Parameters
    ----------
    source : Source
    stride : int
        Bytes of a record.

    Raises
    ------
    FormatError
        If there is no end to the header, or compressed content is damaged in it.
    """
    start, names = 0, {"version": "", "chip": "", "interface": ""}
    lines = [b"", b""]
    patterns = {
        "version": rb"#!AER-DAT(\S+)",
        "chip": rb"#\s*AEChip:\s*(\S+)",
        "interface": rb"#\s*HardwareInterface:\s*(.+)",
    }
    with source.open() as file, source.faults():
        while start < MAX_HEADER_BYTES:
            line = file.readline(LINE_BYTES)
            if not _TEXT.fullmatch(line):
                _refuse_cut(line, source, start)
                start -= _of_record(lines, source, start, stride)
                break
            start += len(line)
            lines = [lines[0] or line, line]
            for name, pattern in patterns.items():
                if not names[name] and (match := re.match(pattern, line)):
                    names[name] = match[1].decode("latin-1").strip()
            if re.match(rb"#\s*end of ascii header", line, re.IGNORECASE):
                break
        else:
            msg = f"expected records after the header, got {start} bytes of text"
            raise FormatError(msg, path=source, offset=0, reason="bad_header")
    return JaerHeader(names["version"], names["chip"], names["interface"], start)


def _of_record(lines: list[bytes], source: Source, start: int, stride: int) -> int:
    """Return the length of the last line if it is the beginning of the first record, else 0.

    A record may read as a line of text, ``#`` and the end of it. The records fill the rest of the
    file; where its size is not known, the lines of a header end alike.
    """
    first, last = lines
    if first is last or len(last) > stride or last.endswith(b"\r\n"):
        return 0
    if source.size is None:
        return len(last) if first.endswith(b"\r\n") else 0
    rest = source.size - start
    return len(last) if rest % stride and (rest + len(last)) % stride == 0 else 0


def _refuse_cut(line: bytes, source: Source, start: int) -> None:
    """Refuse a file that ends in its header, rather than take the text for records."""
    if re.fullmatch(rb"#[\t\x20-\x7e]*\r?", line) and len(line) < LINE_BYTES:
        msg = f"expected a header whose lines end, got {line[:40]!r} at the end: the file is cut"
        raise FormatError(msg, path=source, offset=start, reason="truncated")


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a file.

    Parameters
    ----------
    source : Source
    start : int
        Byte of the first record.
    kind : dtype
        Fields ``a``, unsigned, and ``t``, signed.
    """

    source: Source
    start: int
    kind: np.dtype[np.void]

    def pieces(
        self, *, at: int | None = None, state: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64]]]:
        """Yield (byte, state of the clock before, addresses, times with wraps added).

        Raises
        ------
        FormatError
            If the file ends in the middle of a record; all before it was yielded.
        """
        stride = self.kind.itemsize
        clock = Clock(32, state=state)
        begin = self.start if at is None else at
        for offset, piece in self.source.records(stride, PIECE_RECORDS * stride, start=begin):
            records = piece.view(self.kind)
            before = clock.state
            times = clock.unwrap(records["t"].astype(np.int64))
            yield offset, before, records["a"].astype(np.uint32), times

    def whole(
        self, options: ReadOptions
    ) -> Iterator[tuple[int, NDArray[np.uint32], NDArray[np.int64]]]:
        """Yield (byte, addresses, times) for what stands beside the events."""
        try:
            for offset, _, address, times in self.pieces():
                yield offset, address, times
        except FormatError as fault:
            # A cut file is refused where its events end, after those before.
            if not (options.strict and fault.reason == "truncated"):
                options.book(fault)


def decode(
    records: Records,
    chip: Chip,
    skipped: Callable[[NDArray[np.uint32]], dict[str, int]],
    buffer: Buffer,
    mark: object,
) -> Iterator[RawChunk]:
    """Yield the events; ``skipped(addresses)`` counts the words that are none, by reason."""
    at, state = mark if isinstance(mark, tuple) else (None, None)
    layout = chip.layout
    bits = (layout.other, *layout.x, *layout.y, layout.polarity, layout.on)
    fields = np.array([*bits, chip.size[0] - 1, chip.size[1] - 1], np.int64)
    for offset, before, address, times in records.pieces(at=at, state=state):
        room = buffer.room(address.size)
        n, negative = pick_events(address, times, fields, *room)
        columns = room.part(0, n)
        event = (address & np.uint32(layout.other)) == 0 if n < address.size else None
        yield RawChunk(
            x=columns.x.view(np.int16) if negative else columns.x,
            y=columns.y.view(np.int16) if negative else columns.y,
            t=columns.t,
            p=columns.p,
            words=address.size,
            offset=offset,
            stride=records.kind.itemsize,
            index=None if event is None else np.flatnonzero(event),
            skipped={} if event is None else skipped(address[~event]),
            mark=(offset, before),
        )
