"""Text files of events: every layout is told or refused, every digit counts, damage is counted."""

from __future__ import annotations

import gzip
import random
import time
import tracemalloc
from contextlib import suppress
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import EventKitError, FormatError, SettingsError, UnsupportedFormatError
from eventkit.events import Events
from eventkit.kernels import text as kernel
from eventkit.readers.column_order import possible_orders
from eventkit.readers.text import head as text_head
from eventkit.testing.strategies import events

ROWS = [(0, 4, 10, 1), (6, 0, 10, 0), (1, 1, 70_000, 0), (2, 2, 70_001, 1), (3, 3, 90_000, 1)]


def truth() -> Events:
    x, y, t, p = zip(*ROWS, strict=True)
    return Events(x=x, y=y, t=t, p=p)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def table(order: str, *, separator: str = ",", newline: str = "\n") -> str:
    """Return the rows of `ROWS` with their columns in an order."""
    at = ["xytp".index(name) for name in order]
    return "".join(separator.join(str(row[k]) for k in at) + newline for row in ROWS)


def twin(text: bytes, order: str) -> list[tuple[int, int, int, int]]:
    """Read sound rows as a person would."""
    found = []
    for line in text.decode().splitlines():
        line = line.partition("#")[0].strip()
        if line:
            cells = line.replace(",", " ").split()
            row = {name: Decimal(cell) for name, cell in zip(order, cells, strict=True)}
            found.append((int(row["x"]), int(row["y"]), int(row["t"]), int(row["p"] > 0)))
    return found


@pytest.mark.parametrize("header", ["t,x,y,p", "x,y,timestamp,polarity", "p,ts,xs,ys", "y,x,p,t"])
def test_columns_go_by_the_names_of_the_header(tmp_path: Path, header: str) -> None:
    order = "".join({"timestamp": "t", "polarity": "p"}.get(n, n[0]) for n in header.split(","))

    recording = eventkit.open(write(tmp_path / "a.csv", f"{header}\n{table(order)}"))

    assert recording.events == truth()
    assert recording.format == "csv"
    assert not any("columns" in note for note in recording.notes)
    assert recording.ledger.words == recording.ledger.decoded == len(ROWS)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt", "ptxy"])
@pytest.mark.parametrize("separator", [",", " ", "\t", ";", ", ", "   "])
def test_without_names_the_order_is_told_by_evidence_and_said(
    tmp_path: Path, order: str, separator: str
) -> None:
    recording = eventkit.open(write(tmp_path / "a.txt", table(order, separator=separator)))

    assert recording.events == truth()
    assert f"columns read as {','.join(order)}" in recording.notes[0]


def test_an_order_that_can_be_two_is_refused_and_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "5,1,2,1\n")

    with pytest.raises(FormatError, match=r"got .*txyp or .* --columns says it"):
        eventkit.open(path)
    assert eventkit.open(path, columns="xytp").events == Events(x=[5], y=[1], t=[2], p=[1])
    with pytest.raises(SettingsError, match="each of t, x, y, p once"):
        eventkit.open(path, columns="txy")


def test_columns_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "7,abc,5,1,2,1\n8,d,6,1,2,0\n")

    recording = eventkit.open(path, format="csv", columns="--txyp")

    assert recording.events == Events(x=[1, 1], y=[2, 2], t=[5, 6], p=[1, 0])


@pytest.mark.parametrize(
    "text",
    [
        "240 180\n0.000010 0 4 1\n0.5 5 6 0\n",
        "# t x y p\n# sensor_size 240x180\n0.000010 0 4 1\n0.5 5 6 0\n",
    ],
    ids=["E2VID", "comments"],
)
def test_seconds_and_the_sensor_size_are_found_in_the_file(tmp_path: Path, text: str) -> None:
    recording = eventkit.open(write(tmp_path / "a.txt", text))

    assert recording.events == Events(x=[0, 5], y=[4, 6], t=[10, 500_000], p=[1, 0])
    assert recording.sensor_size == (240, 180)
    assert "line" in recording.geometry_source
    assert any("times read as s" in note for note in recording.notes)


def test_a_unit_is_said_where_it_was_told_by_evidence_only(tmp_path: Path) -> None:
    bare = write(tmp_path / "a.csv", f"t,x,y,p\n{table('txyp')}")
    named = write(tmp_path / "b.csv", f"t_us,x,y,p\n{table('txyp')}")
    empty = write(tmp_path / "c.csv", "t,x,y,p\n")

    def notes(path: Path, **options: Any) -> list[str]:
        recording = eventkit.open(path, sensor_size=(9, 9), **options)
        assert len(recording.events) == (0 if path == empty else len(ROWS))
        return recording.notes

    assert notes(bare) == ["times read as us: times are integers; --time-unit overrides"]
    assert notes(bare, time_unit="us") == notes(named) == notes(empty) == []


def test_without_a_sensor_size_it_is_said_that_places_are_not_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"t,x,y,p\n{table('txyp')}")

    words = "no sensor size: places are not checked; --sensor-size WxH gives it"
    assert words in eventkit.open(path).notes
    assert words not in eventkit.open(path, sensor_size=(9, 9)).notes


@pytest.mark.parametrize(
    ("comment", "size"),
    [
        ("% geometry:640,480", (640, 480)),
        ("# Sensor size = 640 x 480", (640, 480)),
        ("# resolution (width x height): 640 480", (640, 480)),
        ("# resolution (height x width): 480 x 640", (640, 480)),
        ("# sensor_size (h,w) 480,640", (640, 480)),
        ("# Sensor DVXplorer Mini 640, 2023 recording", None),
        ("# resolution height x width: 480 x 640", None),
        ("# resolution: 640 x 480, cropped", None),
        ("# chunk size: 1000, 5", None),
        ("# sensor size 70000 x 480", None),
        ("# sensor size 0 x 480", None),
    ],
)
def test_a_size_in_a_comment_is_taken_only_if_it_says_so(
    tmp_path: Path, comment: str, size: tuple[int, int] | None
) -> None:
    path = write(tmp_path / "a.csv", f"{comment}\n{table('txyp')}")

    recording = eventkit.open(path)

    assert recording.sensor_size == size
    assert recording.events == truth()


@pytest.mark.parametrize(
    ("comment", "order", "unit"),
    [
        ("# timestamp [s] x y polarity", "t x y p", "s"),
        ("# t [us] x [px] y [px] p", "t x y p", "us"),
        ("# columns: t x y p", "t x y p", "us"),
        ("# p x y t label", "t x y p", "us"),
    ],
    ids=["v2e", "units of places", "more words", "more columns"],
)
def test_names_in_a_comment_count_if_they_are_as_many_as_the_columns(
    tmp_path: Path, comment: str, order: str, unit: str
) -> None:
    scale = 1e-6 if unit == "s" else 1
    rows = "".join(f"{t * scale:.9g} {x} {y} {p}\n" for x, y, t, p in ROWS)

    recording = eventkit.open(write(tmp_path / "a.txt", f"#!DVS\n{comment}\n{rows}"))

    assert recording.events == truth()


def test_a_header_wins_over_names_in_a_comment(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"# y,x,t,p\nx,y,t,p\n{table('xytp')}")

    assert eventkit.open(path).events == truth()


@pytest.mark.parametrize("header", ['"t","x","y","p"\n', ""])
def test_quoted_fields_are_read(tmp_path: Path, header: str) -> None:
    rows = "".join(f'"{t}","{x}",{y},"{p}"\n' for x, y, t, p in ROWS)
    path = write(tmp_path / "a.csv", header + rows)

    assert eventkit.open(path).events == truth()
    write(path, header + rows.replace('"70001"', '"70001'))
    assert eventkit.open(path, on_error="skip").ledger.skipped == {"bad_row": 1}


@pytest.mark.parametrize("order", ["txyp", "xypt"])
def test_a_separator_behind_the_last_column_is_no_fifth_one(tmp_path: Path, order: str) -> None:
    rows = table(order).replace("\n", ",\n")

    recording = eventkit.open(write(tmp_path / "a.csv", rows))

    assert recording.events == truth()
    assert "columns read as" in recording.notes[0]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le"])
@pytest.mark.parametrize("header", ["t,x,y,p\n", ""])
def test_utf_16_is_refused_with_the_cure(tmp_path: Path, codec: str, header: str) -> None:
    mark = "\ufeff" if codec == "utf-16-le" else ""
    path = write(tmp_path / "a.csv", (mark + header + table("txyp")).encode(codec))

    with pytest.raises(FormatError, match=r"got UTF-16; .* iconv -f UTF-16"):
        eventkit.open(path)


SIDE_BY_SIDE = [(300, 4, 10, 1), (6, 200, 10, 0), (340, 1, 70_000, 0), (2, 250, 70_001, 1)]


@pytest.mark.parametrize(
    ("order", "size", "words", "taken"),
    [
        ("txyp", (346, 260), "x before y, as only that fits the 346x260 sensor", "txyp"),
        ("tyxp", (346, 260), "y before x, as only that fits the 346x260 sensor", "tyxp"),
        ("tyxp", (640, 480), "x before y assumed", "txyp"),
        ("tyxp", None, "x before y assumed", "txyp"),
        ("txyp", (30, 20), "x before y assumed", "txyp"),
    ],
)
def test_which_place_is_x_is_told_by_a_sensor_that_has_room_for_one_order_only(
    tmp_path: Path, order: str, size: tuple[int, int] | None, words: str, taken: str
) -> None:
    at = ["xytp".index(name) for name in order]
    text = "".join(" ".join(str(row[k]) for k in at) + "\n" for row in SIDE_BY_SIDE)
    if size is not None:
        text = f"{size[0]} {size[1]}\n{text}"

    recording = eventkit.open(write(tmp_path / "a.txt", text), on_error="skip")

    assert (
        f"columns read as {','.join(taken)}, evidence on the first 4 rows, {words};"
        in (recording.notes[0])
    )
    if size == (346, 260):
        assert recording.events.x.tolist() == [300, 6, 340, 2]


def test_the_unit_can_stand_in_the_name_or_be_given(tmp_path: Path) -> None:
    named = write(tmp_path / "a.csv", "t_ns,x,y,p\n5000,1,2,1\n7999,1,2,0\n")
    bare = write(tmp_path / "b.csv", "t,x,y,p\n5,1,2,1\n7,1,2,0\n")

    assert eventkit.open(named).events.t.tolist() == [5, 7]
    assert eventkit.open(bare).events.t.tolist() == [5, 7]
    assert eventkit.open(bare, time_unit="ms").events.t.tolist() == [5000, 7000]


@pytest.mark.parametrize(
    ("on", "off"), [("1", "-1"), ("True", "False"), ("on", "OFF"), ("1.0", "0.0"), ("+1", "0")]
)
def test_every_spelling_of_polarity_is_read(tmp_path: Path, on: str, off: str) -> None:
    rows = "".join(f"{t},{x},{y},{on if p else off}\r\n" for x, y, t, p in ROWS)

    assert eventkit.open(write(tmp_path / "a.csv", "t,x,y,p\r\n" + rows)).events == truth()


def test_the_tables_of_numpy_are_read(tmp_path: Path) -> None:
    start = 1_589_163_147_368_868
    table = np.array([[t + start, x, y, p] for x, y, t, p in ROWS], float)
    np.savetxt(tmp_path / "a.txt", table)

    events = eventkit.open(tmp_path / "a.txt", columns="txyp", time_unit="us").events

    assert events.t.tolist() == [t + start for t in truth().t.tolist()]
    assert events.x.tolist() == truth().x.tolist()


def decimal_us(text: str, scale: int) -> int:
    value = Decimal(text).scaleb(scale)
    return int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP))


@given(
    st.decimals(min_value=-(10**12), max_value=10**12, places=9, allow_nan=False),
    st.sampled_from([0, 3, 6]),
    st.booleans(),
)
def test_times_are_as_exact_as_their_digits(value: Decimal, scale: int, exponent: bool) -> None:
    text = f"{value:.15e}" if exponent and abs(value) < 10**6 else f"{value:f}"
    raw = np.frombuffer(text.encode(), np.uint8)

    found, end, _ = kernel.number(raw, 0, raw.size, scale)

    assert (found, end) == (decimal_us(text, scale), raw.size)


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("1589163147368868123", -3, 1_589_163_147_368_868),
        ("-1589163147368868123", -3, -1_589_163_147_368_869),
        ("9.999999999999999999e+15", 0, 10**16),
        ("0e999999", 6, 0),
        ("1e-400", 6, 0),
        ("4611686018427387904", 0, 2**62),
        ("4611686018427387905", 0, None),
        ("1e400", 0, None),
        ("99999999999999999999999", 0, None),
        ("", 0, None),
        (".", 0, None),
        ("1e", 0, None),
        ("--1", 0, None),
        ("nan", 0, None),
    ],
)
def test_numbers_at_the_edge_twin(text: str, scale: int, value: int | None) -> None:
    raw = np.frombuffer(text.encode() + b"\n", np.uint8)

    found, end, _ = kernel.number(raw, 0, raw.size - 1, scale)

    assert (found if end >= 0 else None) == value


@given(events(sensor_size=(300, 200), min_size=1))
def test_rows_written_by_the_kernel_are_read_as_a_person_reads_them_twin(ev: Events) -> None:
    out = np.zeros(len(ev) * kernel.ROW_BYTES, np.uint8)
    raw = out[: kernel.format_rows(ev.x, ev.y, ev.t, ev.p, out)]
    rows = twin(raw.tobytes(), "txyp")

    assert rows == ev.to_structured().tolist()
    for plain in (44, 0):
        state = np.zeros(kernel.STATE_SIZE, np.int64)
        state[kernel.LOW] = kernel.NO_LOW
        columns = [np.zeros(len(ev), kind) for kind in ("u2", "u2", "i8", "i1")]
        roles, order = np.array([3, 1, 2, 4]), np.array([1, 2, 0, 3])
        lost = np.empty(0, np.int64)
        end, n = kernel.parse(raw, 0, 44, plain, roles, order, 0, 1, state, *columns, lost)
        assert (end, n) == (raw.size, len(ev))
        assert list(zip(*(c.tolist() for c in columns), strict=True)) == rows


BAD = (
    "t,x,y,p\n# a comment\n1,2,3,1\n\nzz\n2,3,4,2\n5,70000,2,1\n5,-1,2,1\n6,1.5,2,1\n8,1,1,0\n"
    "9,1,1,-1\n"
)


def test_rows_that_are_no_event_are_left_out_and_counted(tmp_path: Path) -> None:
    recording = eventkit.open(write(tmp_path / "a.csv", BAD), on_error="skip")

    assert recording.events.t.tolist() == [1, 8]
    ledger = recording.ledger.as_dict()
    assert ledger["skipped"] == {"bad_row": 4, "blank": 1, "comment": 1}
    assert ledger["dropped"] == {"outside": 2}
    assert (ledger["words"], ledger["decoded"], ledger["kept"]) == (10, 4, 2)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("zz", "bad_value"),
        ("5,70000,1,1", "outside_sensor"),
        ("5,1", "bad_value"),
        ("5,1,1,01", "bad_value"),
        ("5,1,1,-01", "bad_value"),
    ],
)
def test_a_strict_reading_names_line_byte_and_row(tmp_path: Path, row: str, reason: str) -> None:
    path = write(tmp_path / "a.csv", f"t,x,y,p\n1,2,3,1\n\n{row}\n9,1,1,1\n")

    with pytest.raises(FormatError, match=rf"got '{row}' in line 4.*byte 17") as caught:
        _ = eventkit.open(path).events

    assert (caught.value.reason, caught.value.offset) == (reason, 17)


def test_a_backward_time_is_found_at_its_byte_between_other_lines(tmp_path: Path) -> None:
    text = "t,x,y,p\n1,2,3,1\n\n# one\n9,2,3,1\n#two\n\n8,2,3,1\n"
    path = write(tmp_path / "a.csv", text)

    with pytest.raises(FormatError, match="got 8 us after 9 us at event 2") as caught:
        _ = eventkit.open(path).events

    assert caught.value.offset == text.index("8,2,3,1")


@pytest.mark.parametrize("order", ["txyp", "ptxy", "xypt"])
def test_a_file_cut_anywhere_gives_a_right_prefix_or_an_error(tmp_path: Path, order: str) -> None:
    names = ",".join(order)
    whole = f"{names}\n{table(order)}".encode()
    rows = truth().to_structured().tolist()

    for length in range(len(whole) + 1):
        path = write(tmp_path / "cut.csv", whole[:length])
        for policy in ("raise", "skip"):
            try:
                got = eventkit.open(path, on_error=policy).events.to_structured().tolist()
            except EventKitError:
                continue
            assert got == rows[: len(got)], length
            if policy == "skip":
                assert len(got) >= whole[:length].count(b"\n") - 1


def test_a_last_row_without_a_newline_is_kept_only_if_no_digit_can_be_missing(
    tmp_path: Path,
) -> None:
    safe = write(tmp_path / "a.csv", "t,x,y,p\n1,2,3,1\n4,5,6,0")
    unsafe = write(tmp_path / "b.csv", "x,y,p,t\n1,2,1,10\n5,6,0,123")

    assert len(eventkit.open(safe).events) == 2
    with pytest.raises(FormatError, match=r"newline after the last row.*in line 3") as caught:
        _ = eventkit.open(unsafe).events
    assert caught.value.reason == "truncated"
    recording = eventkit.open(unsafe, on_error="skip")
    assert len(recording.events) == 1
    assert recording.ledger.faults[0]["reason"] == "truncated"


def numbered(first: int, n: int) -> bytes:
    return b"".join(b"%d,3,4,1\n" % (1_000_000 + k) for k in range(first, first + n))


@pytest.mark.parametrize("rows", [5, 12_000, 15_700, 16_800, 24_000])
@pytest.mark.parametrize("longer", [1, 5_000, 200_000, 600_000])
def test_a_line_that_is_too_long_is_one_bad_row_wherever_pieces_of_the_file_begin(
    tmp_path: Path, rows: int, longer: int
) -> None:
    before, after = numbered(0, rows), numbered(rows, 9000)
    long = b"0" * (text_head.LONGEST_LINE - 7) + b"9,3,4,1" + b" " * longer + b"\n"
    path = write(tmp_path / "a.csv", b"t,x,y,p\n" + before + long + after)
    bare = eventkit.open(write(tmp_path / "b.csv", b"t,x,y,p\n" + before + after)).events

    with pytest.raises(
        FormatError, match=f"got one that begins with .*, line {rows + 2}; "
    ) as caught:
        _ = eventkit.open(path).events

    assert caught.value.offset == 8 + len(before)
    for policy in ("skip", "repair"):
        recording = eventkit.open(path, on_error=policy)
        assert recording.events == bare
        assert recording.ledger.skipped == {"bad_row": 1}
        assert recording.ledger.words == rows + 9001
        assert recording.ledger.faults == []


@pytest.mark.parametrize("rows", [5, 12_000, 15_700, 16_800])
def test_the_longest_line_is_a_row_wherever_pieces_of_the_file_begin(
    tmp_path: Path, rows: int
) -> None:
    long = b" " * (text_head.LONGEST_LINE - 13) + b"2000000,3,4,1"
    path = write(tmp_path / "a.csv", b"t,x,y,p\n" + numbered(0, rows) + long + b"\n")

    assert eventkit.open(path).events.t.tolist()[-2:] == [999_999 + rows, 2_000_000]


def test_what_stands_behind_a_line_that_is_too_long_can_be_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 1 << 8)
    parts = [numbered(5000 * k, 5000) + b"x" * 90_000 + b"\n" for k in range(8)]
    recording = eventkit.open(write(tmp_path / "a.csv", b"".join(parts)), on_error="skip")
    whole = recording.load()

    for start in (1_000_000, 1_017_000, 1_030_001):
        assert recording.between(start, start + 5000) == whole[start - 1_000_000 :][:5000]


def test_a_line_of_a_gigabyte_is_not_held(tmp_path: Path) -> None:
    piece = gzip.compress(b"1" * (16 << 20))
    rows = [gzip.compress(text) for text in (numbered(0, 9), b"\n" + numbered(9, 9))]
    path = write(tmp_path / "a.csv.gz", rows[0] + piece * 8 + rows[1])

    tracemalloc.start()
    recording = eventkit.open(path, on_error="skip")
    found = recording.events
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found.t.tolist() == list(range(1_000_000, 1_000_018))
    assert recording.ledger.skipped == {"bad_row": 1}
    assert peak < 40 << 20


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"t,x,y,p\n1,2,3,1\n" + b"1" * (2 << 20))

    with pytest.raises(FormatError, match="one without an end"):
        _ = eventkit.open(path).events
    assert len(eventkit.open(path, on_error="skip").events) == 1


@pytest.mark.parametrize(
    "text",
    [
        "train/0/a.bin 1 0\ntrain/1/b.bin 1 1\n",
        "0.1 images/frame_0.png\n0.2 images/frame_1.png\n",
        "10\n20\n30\n",
        "# A readme, with commas, and words, and more\n\nHello, this is, a text, of words\n",
        "t,x,y,w,h,class\n1,2,3,4,5,1\n",
        "0.1 1 0 0 0 1 0 0\n0.2 1 0 0 0 1 0 0\n",
        "0 0 1 0\n1 0 0 0\n0 1 0 0\n0 0 0 1\n",
        b"\x00\x01\x02\x03",
        b"\xff\xfe\xfd\n1,2,3,1\n",
        b"",
    ],
)
def test_other_text_is_not_taken_for_events(tmp_path: Path, text: str | bytes) -> None:
    path = write(tmp_path / "train_label.txt", text)

    with pytest.raises((FormatError, UnsupportedFormatError)):
        eventkit.open(path)
    with pytest.raises(FormatError):
        _ = eventkit.open(path, format="csv", time_unit="us").events


def test_a_header_without_rows_holds_no_events(tmp_path: Path) -> None:
    assert len(eventkit.open(write(tmp_path / "a.csv", "t,x,y,p\n")).events) == 0


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Events]:
    """Rows for several pieces, with a comment and an odd row here and there."""
    rng = np.random.default_rng(5)
    n = 60_000
    t = np.cumsum(rng.integers(0, 40, n))
    x, y, p = rng.integers(0, 640, n), rng.integers(0, 480, n), rng.integers(0, 2, n)
    lines = [f"{a},{b},{c},{d}" for a, b, c, d in zip(t, x, y, p, strict=True)]
    for at in range(7000, n, 7000):
        lines[at] = f"# here\n\n {lines[at]} "
    path = tmp_path_factory.mktemp("text") / "long.csv"
    path.write_text("\n".join(lines) + "\n")
    return path, Events(x=x, y=y, t=t, p=p)


def test_parts_and_times_between_are_slices_of_the_whole(
    long_file: tuple[Path, Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = long_file
    monkeypatch.setattr("eventkit.readers.stream.INDEX_EVENTS", 1 << 10)
    recording = eventkit.open(path)

    assert Events.concatenate(recording.chunks(n=1000)) == whole
    assert recording.load() == whole
    for start, stop in ((0, 10), (900_000, 900_500), (300_000, 300_001)):
        first, last = np.searchsorted(whole.t, [start, stop])
        assert recording.between(start, stop) == whole[int(first) : int(last)]


def test_a_compressed_file_reads_as_the_plain_one(
    long_file: tuple[Path, Events], tmp_path: Path
) -> None:
    path, whole = long_file
    packed = write(tmp_path / "long.csv.gz", gzip.compress(path.read_bytes(), 1))

    assert eventkit.open(packed).events == whole


@pytest.mark.parametrize("name", ["plain", "seconds"])
def test_flipped_bytes_end_in_an_error_or_in_sound_columns(tmp_path: Path, name: str) -> None:
    rows = [(t / 1e6 if name == "seconds" else t, x, y, p) for x, y, t, p in ROWS * 3]
    rows.sort()
    whole = "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows).encode()
    path = tmp_path / "a.csv"

    for turn in range(150):
        rng = random.Random(turn)
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 2, 9))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            recording = eventkit.open(path, on_error=rng.choice(("raise", "skip", "repair")))
            kept = recording.events
        except EventKitError:
            continue
        assert recording.ledger.kept == len(kept) <= len(damaged) // 8 + 1
        assert (np.diff(kept.t) >= 0).all()


def test_two_orders_are_never_chosen_between() -> None:
    raster = np.array([[x, y, 7, 1] for x in range(40) for y in range(3)], float)

    assert len(possible_orders(raster)) > 1
    assert possible_orders(np.array([[5.5, 1, 2, 1]])) == ["txyp"]
    assert possible_orders(np.array([[5.5, np.nan, 2, 1]])) == []
    assert text_head.SAMPLE_ROWS > 1000


@pytest.mark.parametrize(
    "first", [b"# a " + b"[" * 65_000, b"a,b,c,d" + b"[" * 65_000, b"#t " + b"[(" * 32_000]
)
def test_a_long_first_line_takes_no_long_time(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(first + b"\n" + b"".join(b"%d,2,%d,1\n" % (i % 9, 5 * i) for i in range(99)))

    begun = time.process_time()
    with suppress(EventKitError):
        eventkit.open(path)
    assert time.process_time() - begun < 5  # it was half a minute
