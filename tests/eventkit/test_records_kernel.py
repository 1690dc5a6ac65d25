"""The kernel of arrays: what it reads and what it leaves alone is what `Cleaner` makes of it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eventkit.aligned import ALIGNMENT, aligned
from eventkit.columns import Buffer, Columns
from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.kernels import records
from eventkit.kernels.check import unseen
from eventkit.ledger import Ledger
from eventkit.npy import CutArrayError
from eventkit.readers.arrays import Lane, Lanes, Part
from eventkit.readers.integers import PartDecoder, layout_of
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner, bytes_from
from eventkit.recording import OnError

SIZE = (7, 5)
PLACES = ("<u2", "<i2", "u1", "i1", "<i4", "<u4", "<i8", "<u8", ">u2", ">i8", "<f4", "<f8", "?")
TIMES = ("<i8", "<u8", "<i4", "<u4", "<i2", "u1", ">i8", "<f8", "<f4")
SIGNS = ("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", ">i4", "<f4")
READ = {"x": PLACES[:8], "y": PLACES[:8], "t": TIMES[:6], "p": SIGNS[:8]}
"""Types that the kernel reads."""

ODD = {
    "x": (-1, 7, 255, 65535, 65536, 1 << 31, -(1 << 15), 0.5),
    "y": (-1, 5, 255, 65535, 65536, 1 << 31, -(1 << 15), 0.5),
    "t": (-1, 0, (1 << 62) + 1, 1 << 62, -(1 << 62) - 1, (1 << 63) - 1, 0.25, np.nan, np.inf),
    "p": (-1, 0, 1, 2, -2, 255, 256, 257, 0.5, np.nan),
}


def cast_to(values: list[Any], kind: str) -> NDArray[Any]:
    """Return values in a type; what it cannot hold comes out as something else that it can."""
    dtype = np.dtype(kind)
    if dtype.kind in "fb":
        return np.array([float(v) for v in values]).astype(dtype)
    whole = [0 if isinstance(v, float) and not np.isfinite(v) else int(v) for v in values]
    bits = np.array([v % (1 << 8 * dtype.itemsize) for v in whole], np.uint64)
    return bits.astype(f"u{dtype.itemsize}").view(f"{dtype.kind}{dtype.itemsize}").astype(dtype)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, NDArray[Any]], str]:
    """Draw columns of drawn types, and the order in which they stand."""
    n = draw(st.integers(1, 40))
    every = {"x": PLACES, "y": PLACES, "t": TIMES, "p": SIGNS}
    # One type that the kernel does not read, and no value of that table meets it.
    kinds = {name: draw(st.sampled_from(READ[name])) for name in "xytp"}
    if draw(st.integers(0, 2)) == 0:
        column = draw(st.sampled_from("xytp"))
        kinds[column] = draw(st.sampled_from(every[column]))
    signs = draw(st.sampled_from([(0, 1), (-1, 1), (1, 1), (1, 2), (0, 0), (0, -1)]))
    rows = {
        "x": draw(st.lists(st.integers(0, SIZE[0] - 1), min_size=n, max_size=n)),
        "y": draw(st.lists(st.integers(0, SIZE[1] - 1), min_size=n, max_size=n)),
        "t": np.cumsum(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))).tolist(),
        "p": draw(st.lists(st.sampled_from(signs), min_size=n, max_size=n)),
    }
    for _ in range(draw(st.integers(0, 3))):
        column = draw(st.sampled_from("xytp"))
        rows[column][draw(st.integers(0, n - 1))] = draw(st.sampled_from(ODD[column]))
    columns = {name: cast_to(values, kinds[name]) for name, values in rows.items()}
    return columns, "".join(draw(st.permutations("xytp")))


def lane(array: NDArray[Any], fields: dict[str, Any], *, start: int = 0, width: int = 1) -> Lane:
    data = bytes(start) + array.tobytes()
    return Lane(lambda: io.BytesIO(data), array.dtype, start, width, fields)


def as_records(columns: dict[str, NDArray[Any]], order: str, *, gap: int = 0) -> Lanes:
    """Lay columns out as records, with ``gap`` bytes before each field that hold rubbish."""
    fields: list[Any] = []
    for name in order:
        fields += [(f"gap_{name}", "u1", (gap,))] if gap else []
        fields.append((name, columns[name].dtype))
    table = np.zeros(columns["t"].size, fields)
    for name in table.dtype.names or ():
        table[name] = columns.get(name, 255)
    return Lanes([lane(table, {name: name for name in order}, start=5)], len(table), "records")


def as_columns(columns: dict[str, NDArray[Any]]) -> Lanes:
    lanes = [lane(values, {name: None}, start=3) for name, values in columns.items()]
    return Lanes(lanes, columns["t"].size, "columns")


def as_table(columns: dict[str, NDArray[Any]], order: str, kind: str) -> Lanes:
    table = np.stack([cast_to(columns[name].tolist(), kind) for name in order], 1)
    place = {name: order.index(name) for name in order}
    return Lanes([lane(table, place, width=4)], len(table), "table")


def stream(
    lanes: Lanes, unit: TimeUnit, on_error: OnError, size: int, *, by_kernel: bool
) -> EventStream:
    def decode(buffer: Buffer, mark: object) -> Iterator[RawChunk]:
        cleaner = Cleaner("a.npy", unit, strict=on_error == "raise").starting_at(mark)
        layout = layout_of(lanes, unit) if by_kernel else None
        decoder = PartDecoder(cleaner, buffer, layout)
        for part in lanes.pieces(cleaner.seen, size=size):
            yield decoder.chunk(part, locate=bytes_from(100 * part.at, 100))

    return EventStream(decode, "a.npy", SIZE, on_error, lambda: lanes.size)


def outcome(events: EventStream) -> list[Any]:
    """Return all that a reader of these events can see."""
    found: list[Any] = []
    for load in (False, True):
        ledger = Ledger()
        try:
            if load:
                whole = events.load(ledger)
                found += [getattr(whole, name).tolist() for name in "xytp"]
            else:
                for chunk in events(ledger):
                    found += [getattr(chunk.events, name).tolist() for name in "xytp"]
                    found.append({key: times.tolist() for key, times in chunk.dropped.items()})
        except FormatError as err:
            found.append(err.as_dict())
        found.append(ledger.as_dict())
    return found


@settings(max_examples=300)
@given(
    table=tables(),
    shape=st.sampled_from(["records", "columns", "<i8", "<i4", "<i2", "<f8"]),
    gap=st.sampled_from([0, 0, 1, 3]),
    size=st.integers(1, 45),
    unit=st.sampled_from(["us", "us", "us", "s", "ms", "ns"]),
    on_error=st.sampled_from(["raise", "skip", "repair"]),
)
def test_a_reader_with_the_kernel_is_one_without(
    table: tuple[dict[str, NDArray[Any]], str],
    shape: str,
    gap: int,
    size: int,
    unit: TimeUnit,
    on_error: OnError,
) -> None:
    columns, order = table
    if shape == "records":
        lanes = as_records(columns, order, gap=gap)
    elif shape == "columns":
        lanes = as_columns(columns)
    else:
        lanes = as_table(columns, order, shape)

    with_it = outcome(stream(lanes, unit, on_error, size, by_kernel=True))

    assert with_it == outcome(stream(lanes, unit, on_error, size, by_kernel=False))


@settings(max_examples=200)
@given(
    data=st.binary(min_size=1, max_size=400),
    order=st.permutations("xytp"),
    kinds=st.tuples(*(st.sampled_from(READ[name]) for name in "xytp")),
    size=st.integers(1, 45),
    on_error=st.sampled_from(["raise", "skip", "repair"]),
)
def test_any_bytes_read_the_same(
    data: bytes, order: list[str], kinds: tuple[str, ...], size: int, on_error: OnError
) -> None:
    of = dict(zip("xytp", kinds, strict=True))
    dtype = np.dtype([(name, of[name]) for name in order])
    whole = len(data) // dtype.itemsize
    table = np.frombuffer(data, dtype, whole)
    lanes = Lanes([lane(table, {name: name for name in order})], whole, "records")
    if not whole:
        return

    with_it = outcome(stream(lanes, "us", on_error, size, by_kernel=True))

    assert with_it == outcome(stream(lanes, "us", on_error, size, by_kernel=False))


@pytest.mark.parametrize(
    ("column", "kind"), [(name, kind) for name in "xytp" for kind in READ[name]]
)
def test_the_common_types_are_read_by_the_kernel_alone(column: str, kind: str) -> None:
    columns = {"x": np.array([0, 6, 3]), "y": np.array([4, 0, 2]), "t": np.array([0, 5, 9]),
               "p": np.array([1, 0, 1])}  # fmt: skip
    changed = columns | {column: columns[column].astype(kind)}
    lanes = as_records(changed, "typx")

    (part,) = lanes.pieces()
    buffer = Buffer(Columns.empty(10))
    cleaner = Cleaner("a.npy", "us", strict=True)
    room = buffer.room(3)
    raw = PartDecoder.of(lanes, cleaner, buffer).chunk(part)

    assert raw.extent == (6, 4, True)
    assert raw.t.ctypes.data == room.t.ctypes.data
    assert [getattr(raw, name).tolist() for name in "xytp"] == [
        c.tolist() for c in columns.values()
    ]
    assert (cleaner.seen, cleaner.low, raw.mark, raw.words) == (3, 0, (0, 1), 3)


@pytest.mark.parametrize("on_error", ["raise", "skip", "repair"])
@pytest.mark.parametrize(
    ("column", "kind"), [(name, kind) for name in "xytp" for kind in READ[name]]
)
def test_the_least_and_the_largest_of_each_type_read_the_same(
    column: str, kind: str, on_error: OnError
) -> None:
    bits = 8 * np.dtype(kind).itemsize
    ends = {edge + near for edge in (0, 1 << (bits - 1), 1 << 16, 1 << 62) for near in (-1, 0, 1)}
    columns = {"x": [0, 6, 3], "y": [4, 0, 2], "t": [0, 5, 9], "p": [1, 0, 1]}
    arrays = {name: np.array(values) for name, values in columns.items()}
    for value in sorted(ends):
        arrays[column] = cast_to([*columns[column][:1], value, *columns[column][2:]], kind)
        lanes = as_records(arrays, "pxty", gap=1)

        with_it = outcome(stream(lanes, "us", on_error, 2, by_kernel=True))

        assert with_it == outcome(stream(lanes, "us", on_error, 2, by_kernel=False)), value


@pytest.mark.parametrize(
    ("column", "kind"),
    [("x", ">u2"), ("y", "<f4"), ("x", "?"), ("t", "<f8"), ("t", ">i8"), ("p", "<u8"),
     ("p", "<f4")],
)  # fmt: skip
def test_other_types_are_left_to_the_cleaner(column: str, kind: str) -> None:
    columns = dict.fromkeys("xytp", np.array([0, 1]))

    assert layout_of(as_columns(columns), "us") is not None
    assert layout_of(as_columns(columns), "ms") is None
    assert layout_of(as_columns(columns | {column: columns[column].astype(kind)}), "us") is None


@given(
    values=st.lists(st.integers(-3, 70000), min_size=1, max_size=5),
    at=st.integers(0, 3 * records.BLOCK - 5),
    low=st.sampled_from([-1, 0, 1]),
    column=st.sampled_from("xyp"),
)
@example(values=[65536], at=2 * records.BLOCK, low=0, column="y")
@example(values=[-1], at=records.BLOCK, low=1, column="p")
def test_the_kernel_is_its_numpy_twin_across_blocks(
    values: list[int], at: int, low: int, column: str
) -> None:
    n = 3 * records.BLOCK
    x, y, t = np.arange(n) % 300, np.arange(n) % 200, np.arange(n) - 5
    table = {"x": x, "y": y, "t": t, "p": np.ones(n, np.int64)}
    table[column][at : at + len(values)] = values
    # Read-only, as what is read from files: one compiled kernel.
    xs, ys, ts, ps = (
        np.frombuffer(table[name].astype("<i8").tobytes(), np.uint8) for name in "xytp"
    )
    layout = np.array([[0, 8, 8, 1]] * 4, np.int64)
    out, seen = Columns.empty(n), unseen()

    found = records.fill(xs, ys, ts, ps, layout, low, *out, seen)

    others = [v for v in table["p"].tolist() if v != 1]
    wanted = low if low != 1 or not others else others[0]
    sound = wanted in (-1, 0, 1) and all(v == wanted for v in others)
    sound &= all(0 <= int(v) <= 65535 for name in "xy" for v in table[name])
    assert found == (wanted if sound else records.ODD)
    if sound:
        assert [out.x.tolist(), out.y.tolist()] == [table["x"].tolist(), table["y"].tolist()]
        assert [out.t.tolist(), out.p.tolist()] == [t.tolist(), (table["p"] == 1).tolist()]
        assert seen.tolist() == [table["x"].max(), table["y"].max(), 0, t[-1]]


def test_parts_of_one_reading_share_their_memory_and_a_cut_one_holds_whole_events() -> None:
    columns = dict.fromkeys("xytp", np.arange(10))
    lanes = as_columns(columns)
    longer = Lanes(lanes.lanes, 12, "")
    starts: set[int] = set()
    sizes: list[int] = []

    def take(parts: Iterator[Part]) -> None:
        for part in parts:
            starts.add(part.bytes_of("t").ctypes.data)
            sizes.append(part.size)
            assert part.columns["x"].tolist() == list(range(part.at, part.at + part.size))

    take(lanes.pieces(size=4))
    with pytest.raises(CutArrayError, match="it ends after 10 of 12 events"):
        take(longer.pieces(size=4))

    assert sizes == [4, 4, 2] * 2
    assert all(start % ALIGNMENT == 0 for start in starts)
    assert len(starts) <= 2


@pytest.mark.parametrize("size", [1, 63, 64, 1 << 20])
def test_memory_for_files_starts_at_a_line_of_the_cache(size: int) -> None:
    memory = aligned(size)

    assert (memory.size, memory.dtype.str) == (size, "|u1")
    assert memory.ctypes.data % ALIGNMENT == 0
