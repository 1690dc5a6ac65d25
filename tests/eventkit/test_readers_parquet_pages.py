"""Parquet files whose footer or pages claim what is not there: one row group is lost, nothing else.

What it takes to read them is measured in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from parquet_files import (
    DICTIONARY_PAGE,
    PAGE_V2,
    TEXT,
    ZSTD,
    Column,
    Page,
    constant,
    plain,
    varint,
    whole_table,
)

import eventkit
from eventkit.errors import FormatError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.parquet_rows import PART_ROWS

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

N, GROUPS = 120, 3
RNG = np.random.default_rng(6)
TRUTH = Events(
    x=RNG.integers(0, 64, N * GROUPS),
    y=RNG.integers(0, 48, N * GROUPS),
    t=np.cumsum(RNG.integers(0, 99, N * GROUPS)),
    p=RNG.integers(0, 2, N * GROUPS),
)
FIRST, SECOND, THIRD = (slice(g * N, (g + 1) * N) for g in range(GROUPS))
HUGE = (1 << 31) - 1
MANY = 60_000_000

LOOK = """
import json, resource, sys, time
import eventkit
from eventkit.errors import FormatError

def look(path, on_error):
    events = 0
    try:
        for chunk in eventkit.open(path, on_error=on_error, time_unit="us").stream():
            events += len(chunk.events)
    except FormatError:
        pass
    return events

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

for path in sys.argv[1:]:
    for on_error in ("raise", "skip", "repair"):
        before, begun = peak(), time.process_time()
        print(json.dumps([look(path, on_error), peak() - before, time.process_time() - begun]))
"""


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


ROOM = 1 << 29
ZEROS = zstd(bytes(ROOM))


def columns(rows: slice, **changed: Column) -> list[Column]:
    """Return the columns of some rows of the truth, or others in their place."""
    found = [Column(k, [plain(getattr(TRUTH, k)[rows])]) for k in "xytp"]
    return [changed.get(column.name, column) for column in found]


def whole(*, second: Sequence[Column], rows: int = N) -> bytes:
    """Return a file of three row groups."""
    return whole_table([(N, columns(FIRST)), (rows, second), (N, columns(THIRD))])


SOUND = whole(second=columns(SECOND))
Y = plain(TRUTH.y[SECOND])
Y_AT = 4 + 5 * len(Y.written())
"""Where the second row group has y; headers of one length, data of one length."""
SMALL = replace(Y, data=zstd(Y.data), unpacked=8 * N)


def y(*pages: Page, values: int | None = N, stored: int | None = None) -> Column:
    return Column("y", pages, codec=ZSTD, values=values, stored=stored)


FORGED = {
    "room": (y(replace(SMALL, unpacked=HUGE)), "at most 1050496 bytes for 120 values"),
    "less than no room": (y(replace(SMALL, unpacked=-1)), "bytes for 120 values .* got -1"),
    "room, version 2": (y(replace(SMALL, kind=PAGE_V2, unpacked=HUGE)), "at most 1050496 bytes"),
    "bomb": (y(Page(ZEROS, N, unpacked=ROOM)), "at most 1050496 bytes for 120 values"),
    "length": (y(replace(SMALL, stored=HUGE)), f"at most {len(SMALL.data)} bytes .* got {HUGE}"),
    "less than no length": (y(replace(SMALL, stored=-5)), "got -5"),
    "values": (y(replace(SMALL, values=MANY)), f"at most 120 values .* got {MANY}"),
    "less than no values": (y(replace(SMALL, values=-1)), "at most 120 values .* got -1"),
    "values of the column": (y(SMALL, values=MANY), f"for each of 120 rows, got {MANY}"),
    "dictionary": (
        y(Page(bytes(8), HUGE, kind=DICTIONARY_PAGE), SMALL),
        f"at most 8 values .* got {HUGE}",
    ),
    "room of a dictionary": (
        y(Page(ZEROS, 5, kind=DICTIONARY_PAGE, unpacked=ROOM), SMALL),
        "at most 1050496 bytes",
    ),
    "header": (y(replace(SMALL, more={1: (TEXT, b"?")})), r"got a damaged one \(a field of type 8"),
    "column that ends in a header": (y(SMALL, stored=9), "goes on behind its 9 bytes"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


def refused(path: Path) -> tuple[FormatError, Events]:
    """Return the error that ends the reading, and what was read before."""
    found: list[Events] = []
    with pytest.raises(FormatError) as caught:
        found.extend(chunk.events for chunk in eventkit.open(path, time_unit="us").stream())
    return caught.value, Events.concatenate(found)


def skipped(path: Path) -> tuple[Events, Ledger]:
    recording = eventkit.open(path, on_error="skip", time_unit="us")
    return recording.events, recording.ledger


def test_files_that_were_written_byte_by_byte_are_read(path: Path) -> None:
    path.write_bytes(SOUND)

    assert eventkit.open(path, time_unit="us").events == TRUTH

    path.write_bytes(whole(second=columns(SECOND, y=y(SMALL))))

    assert eventkit.open(path, time_unit="us").events == TRUTH


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_page_costs_its_row_group_and_has_a_byte(path: Path, forgery: str) -> None:
    column, words = FORGED[forgery]
    path.write_bytes(whole(second=columns(SECOND, y=column)))

    fault, before = refused(path)
    events, ledger = skipped(path)

    assert fault.offset == Y_AT
    assert "'y'" in fault.message
    with pytest.raises(FormatError, match=words):
        raise fault
    assert before == TRUTH[FIRST]
    assert events == Events.concatenate([TRUTH[FIRST], TRUTH[THIRD]])
    assert ledger.skipped == {"damaged_chunk": N}
    assert ledger.words == N * GROUPS


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (replace(y(SMALL), start=-5), "inside bytes 4 to"),
        (replace(y(SMALL), start=1 << 40), "inside bytes 4 to"),
        (y(SMALL, stored=1 << 62), "inside bytes 4 to"),
        (y(replace(SMALL, values=N // 2)), "120 values .* got 60 in all pages"),
    ],
)
def test_a_column_that_is_not_where_the_footer_says_costs_its_row_group(
    path: Path, column: Column, words: str
) -> None:
    path.write_bytes(whole(second=columns(SECOND, y=column)))

    fault, before = refused(path)
    events, ledger = skipped(path)

    with pytest.raises(FormatError, match=words):
        raise fault
    assert before == TRUTH[FIRST]
    assert events == Events.concatenate([TRUTH[FIRST], TRUTH[THIRD]])
    assert ledger.skipped == {"damaged_chunk": N}


def test_more_rows_than_any_recording_has_in_so_few_bytes_are_forged(path: Path) -> None:
    path.write_bytes(whole(second=[Column(k, constant(1, MANY)) for k in "xytp"], rows=MANY))

    fault, before = refused(path)
    events, ledger = skipped(path)

    assert "rows in a row group of" in fault.message
    assert f"got {MANY}" in fault.message
    assert before == TRUTH[FIRST]
    assert len(events) == 2 * N
    assert ledger.skipped == {"damaged_chunk": MANY}


def test_a_million_times_the_same_event_is_read(path: Path) -> None:
    rows = 1 << 20
    path.write_bytes(whole_table([(rows, [Column(k, constant(1, rows)) for k in "xytp"])]))

    assert len(eventkit.open(path, time_unit="us").events) == rows


def test_a_list_that_is_longer_than_the_footer_is_refused(path: Path) -> None:
    footer_at = len(SOUND) - 8 - int.from_bytes(SOUND[-8:-4], "little")
    footer = SOUND[footer_at:-8]
    columns_at = footer.index(b"\x19\x4c") + 1  # four structs
    forged = footer[:columns_at] + b"\xfc" + varint((1 << 20) - 1) + footer[columns_at + 1 :]
    path.write_bytes(SOUND[:footer_at] + forged + len(forged).to_bytes(4, "little") + b"PAR1")

    for on_error in ("raise", "skip"):
        with pytest.raises(FormatError, match="damaged footer") as caught:
            eventkit.open(path, on_error=on_error)
        assert caught.value.offset > footer_at


def pages_of(values: np.ndarray, *, damaged: int | None = None) -> list[Page]:
    """Cut a column into pages of as many rows as are read at once; claim too much in one."""
    parts = [plain(part) for part in np.split(values, len(values) // PART_ROWS)]
    if damaged is not None:
        parts[damaged] = replace(parts[damaged], unpacked=HUGE)
    return parts


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_what_stands_before_a_damaged_page_is_read(path: Path, damaged: int) -> None:
    t = np.arange(3 * PART_ROWS)
    group = [Column(k, pages_of(t % 40 if k in "xy" else t)) for k in "xyt"]
    group[1] = replace(group[1], pages=pages_of(t % 40, damaged=damaged))
    group.append(Column("p", pages_of(t % 2)))
    path.write_bytes(whole_table([(t.size, group), (t.size, group)]))

    fault, before = refused(path)
    _, ledger = skipped(path)

    page = len(group[0].pages[0].written())
    assert fault.offset == 4 + page * (3 + damaged)
    assert len(before) == damaged * PART_ROWS
    assert ledger.skipped == {"damaged_chunk": 2 * (3 - damaged) * PART_ROWS}


def test_a_page_that_pyarrow_cannot_unpack_has_a_byte(path: Path) -> None:
    bad = replace(SMALL, data=SMALL.data[:6] + bytes(len(SMALL.data) - 6))
    path.write_bytes(whole(second=columns(SECOND, y=y(bad))))

    fault, before = refused(path)

    assert fault.offset == Y_AT
    assert before == TRUTH[FIRST]


def test_pages_that_cannot_be_held_at_once_are_refused(path: Path) -> None:
    """A column of zeros may be long, but not unpacked at once where the file has 9 kB of it."""
    rows = 8_500_000
    page = Page(zstd(bytes(8 * rows)), rows, unpacked=8 * rows)
    path.write_bytes(whole_table([(rows, [Column(k, [page], codec=ZSTD) for k in "xytp"])]))

    fault, _ = refused(path)

    assert "pages of at most 268435456 bytes" in fault.message
    assert "write pages of a megabyte" in fault.message


def test_a_forged_claim_takes_neither_memory_nor_time(tmp_path: Path) -> None:
    files = [SOUND, *(whole(second=columns(SECOND, y=column)) for column, _ in FORGED.values())]
    files.append(whole(second=[Column(k, constant(1, MANY)) for k in "xytp"], rows=MANY))
    paths = [tmp_path / f"{number}.parquet" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)

    command = [sys.executable, "-c", LOOK, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events for events, _, _ in found[:3]] == [3 * N] * 3
    assert [events for events, _, _ in found[3:]] == [N, 2 * N, 2 * N] * (len(files) - 1)
    assert sum(megabytes for _, megabytes, _ in found[3:]) < 64
    assert max(seconds for _, _, seconds in found[3:]) < 2
