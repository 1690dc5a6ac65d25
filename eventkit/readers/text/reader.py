"""Text: one event a row, ``.csv`` or ``.txt``, with a header or without.

There is no one specification. Read are rows of x, y, t and p in any order, separated by commas,
semicolons, or spaces and tabs: the Event Camera Dataset and E2VID (``t x y p`` in seconds, the
latter with ``W H`` in the first line), faery (``t,x,y,p``), pandas and Polars (with a header).
Fields may stand in double quotes; a separator behind the last of them is none.
Layout and unit are found by `eventkit.readers.text.layout`. Lines that are empty or start with
``#`` or ``%`` are skipped and counted; so are, under ``skip``, rows that are no event, and lines of
more than 64 kB, whatever they hold: a file of another kind has no ends of lines.

A last row without a newline may be cut. It is kept if it has all columns and the last of them is
the polarity, which has one digit; otherwise its last number may lack digits, so it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Buffer, Columns
from eventkit.errors import FormatError
from eventkit.readers import notes
from eventkit.readers.base import ReadOptions
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.text.blocks import blocks
from eventkit.readers.text.head import LONGEST_LINE
from eventkit.readers.text.layout import Layout, read_layout, recognise
from eventkit.recording import Recording
from eventkit.sources import PIECE_BYTES, Source

_SCALE = {"s": 6, "ms": 3, "us": 0, "ns": -3}
_ROLE = {"-": 0, "x": 1, "y": 2, "t": 3, "p": 4}


class TextReader:
    """Reader of events in text files."""

    name = "csv"
    suffixes = (".csv", ".txt")
    holds = ("events",)
    takes = ("time_unit", "columns")

    def recognise(self, source: Source) -> str | None:
        """Go by names in a header, or by rows that can be events."""
        return None if source.is_dir else recognise(source)

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the file: the layout from its first 64 kB."""
        layout = read_layout(source, options)
        decoder = _Decoder(source, layout, strict=options.strict)
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=layout.geometry.size,
            geometry_source=layout.geometry.why,
            source=EventStream(
                decoder.decode,
                path=source.name,
                sensor_size=layout.geometry.size,
                on_error=options.on_error,
                bound=decoder.bound if source.size is not None else None,
            ),
            notes=[
                *notes.of_order(layout.order, layout.why),
                *notes.of_unit(layout.unit, layout.unit_why, np.dtype(np.int64)),
                *notes.of_size(layout.geometry),
            ],
        )


class _Decoder:
    def __init__(self, source: Source, layout: Layout, *, strict: bool) -> None:
        order = layout.order
        self._source = source
        self._layout = layout
        self._strict = strict
        self._roles = np.array([_ROLE[name] for name in order], np.int64)
        place = [order.index(name) for name in "xytp"]
        self._order = np.array(place if layout.plain else [0, 1, 2, 3], np.int64)

    def bound(self) -> int:
        """Return a number of events that is hardly ever passed, and harmless if it is."""
        rows = (self._source.size or 0) / max(0.8 * self._layout.row_bytes, 8.0)
        return int(rows) + PIECE_BYTES // 8

    def decode(self, buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        """Yield a chunk for each piece; a mark is a line's byte and number, and the polarities."""
        from eventkit.kernels import text

        start, line, low = self._layout.start, self._layout.line, self._layout.low
        lost = np.empty(PIECE_BYTES, np.int64)
        if isinstance(mark, tuple):
            start, line, low = mark
        for offset, lines, kind in blocks(self._source, start):
            mark = (offset, line, low)
            if kind in ("long", "endless"):
                if self._strict or kind == "endless":
                    raise self._too_long(offset, line, lines, kind)
                yield RawChunk(*Columns.empty(0), words=1, skipped={"bad_row": 1}, mark=mark)
                line += 1
                continue
            cut = kind == "cut"
            if cut and not self._can_be_whole(lines):
                raise self._cut(offset, line, lines)
            state = np.zeros(text.STATE_SIZE, np.int64)
            state[text.LOW] = low
            room = buffer.room(text.count_lines(lines))
            if lost.size < room.t.size:
                lost = np.empty(room.t.size, np.int64)
            # A cut row is a fault of the file under every policy, and no bad row.
            end, n = self._parse(lines, state, room, lost, strict=cut or self._strict)
            read = int(state[: text.OUTSIDE + 1].sum())
            yield self._chunk(offset, lines, low, state, room.part(0, n), lost, mark, read)
            line, low = line + read, int(state[text.LOW])
            if cut and state[text.FAULT]:
                raise self._cut(offset, line, lines)
            if state[text.FAULT]:
                raise self._refused(offset + end, line, lines[end:], int(state[text.FAULT]))

    def _parse(
        self,
        lines: NDArray[np.uint8],
        state: NDArray[np.int64],
        room: Columns,
        lost: NDArray[np.int64],
        *,
        strict: bool,
    ) -> tuple[int, int]:
        from eventkit.kernels import text

        layout = self._layout
        return text.parse(
            lines,
            0,
            ord(layout.separator),
            ord(layout.plain or "\0"),
            self._roles,
            self._order,
            _SCALE[layout.unit],
            int(strict),
            state,
            *room,
            lost,
        )

    def _chunk(
        self,
        offset: int,
        lines: NDArray[np.uint8],
        low: int,
        state: NDArray[np.int64],
        columns: Columns,
        lost: NDArray[np.int64],
        mark: object,
        read: int,
    ) -> RawChunk:
        from eventkit.kernels import text

        def locate(event: int) -> int:
            """Read the lines again up to this event; they stay as they are until the next."""
            again = np.zeros(text.STATE_SIZE, np.int64)
            again[text.LOW] = low
            room, outside = Columns.empty(event + 1), np.empty(lost.size, np.int64)
            end, _ = self._parse(lines, again, room, outside, strict=False)
            return offset + lines[: end - 1].tobytes().rfind(b"\n") + 1

        kinds = {"blank": text.BLANK, "comment": text.COMMENT, "bad_row": text.BAD}
        skipped = {name: int(state[kind]) for name, kind in kinds.items() if state[kind]}
        outside = int(state[text.OUTSIDE])
        return RawChunk(
            *columns,
            words=read,
            skipped=skipped,
            dropped={"outside": lost[:outside].copy()} if outside else {},
            locate=locate,
            mark=mark,
        )

    def _can_be_whole(self, lines: NDArray[np.uint8]) -> bool:
        """Whether a row without a newline cannot lack digits; blanks and comments cannot either."""
        row = lines.tobytes().strip()
        return self._layout.order.endswith("p") or not row or row.startswith((b"#", b"%"))

    def _cut(self, offset: int, line: int, lines: NDArray[np.uint8]) -> FormatError:
        msg = (
            f"expected a newline after the last row, got {_shown(lines)!r} in line {line}, which "
            "may be cut; add the newline if the row is whole, or --on-error skip drops it"
        )
        return FormatError(msg, path=self._source.name, offset=offset, reason="truncated")

    def _too_long(self, offset: int, line: int, lines: NDArray[np.uint8], kind: str) -> FormatError:
        what = "one that" if kind == "long" else "one without an end that"
        msg = (
            f"expected lines of up to {LONGEST_LINE} bytes, got {what} begins with "
            f"{_shown(lines)!r}, line {line}; is this a file of another kind? --on-error skip "
            "leaves it out and counts it"
        )
        reason = "bad_value" if kind == "long" else "truncated"
        return FormatError(msg, path=self._source.name, offset=offset, reason=reason)

    def _refused(self, at: int, line: int, lines: NDArray[np.uint8], fault: int) -> FormatError:
        from eventkit.kernels import text

        layout = self._layout
        row = f"got {_shown(lines)!r} in line {line}"
        if fault == text.OUTSIDE:
            msg = (
                f"expected places within 0..65535, {row}; --on-error skip drops and counts "
                "such events"
            )
            return FormatError(msg, path=self._source.name, offset=at, reason="outside_sensor")
        between = {",": "commas", ";": "semicolons"}.get(layout.separator, "spaces")
        msg = (
            f"expected {','.join(layout.order)} with {between} between ({layout.why}), p in "
            f"{{0, 1}} or {{-1, 1}}, {row}; --on-error skip leaves such rows out and counts them"
        )
        return FormatError(msg, path=self._source.name, offset=at, reason="bad_value")


def _shown(lines: NDArray[np.uint8]) -> str:
    """Return the first of some lines, for a message."""
    return lines[:100].tobytes().partition(b"\n")[0].decode("utf-8", "replace").strip()[:80]
