"""Events: what is taken, what is refused and at which event, what never changes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import EVENT_DTYPE, Events
from eventkit.testing.strategies import events, parts

# (x, y, t, p); the sensor is not square and two events share a time.
TRUTH = [(3, 0, 10, 1), (0, 2, 10, 0), (65535, 1, 12, 1), (7, 65535, 1_000_000, 0)]
FIELDS = {
    "tonic": [("x", "<i8"), ("y", "<i8"), ("t", "<i8"), ("p", "?")],
    "aedat": [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")],
    "faery, titled": [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "?")],
    "dv": [("timestamp", "<i8"), ("x", "<i4"), ("y", "<i4"), ("polarity", "i1"), ("_pad", "V3")],
    "metavision": [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")],
    "evio": EVENT_DTYPE.descr,
    "big endian": [("t", ">i8"), ("x", ">u2"), ("y", ">u2"), ("p", "i1")],
    "n-imagenet event_data": [("x", "<u2"), ("y", "<u2"), ("t", "<u4"), ("p", "?")],
}


def column(name: str, dtype: str = "i8") -> NDArray[Any]:
    return np.array([row["xytp".index(name)] for row in TRUTH], dtype)


def truth() -> Events:
    return Events(x=column("x"), y=column("y"), t=column("t"), p=column("p"))


def structured(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Fill the layout by the meaning of its names, whatever their order."""
    meaning = {"timestamp": "t", "on": "p", "polarity": "p"}
    data = np.zeros(len(TRUTH), dtype)
    for name in dtype.names or ():
        if name != "_pad":
            data[name] = column(meaning.get(name, name))
    return data


def make(**changed: Any) -> Events:
    """Build three good events with some columns changed."""
    columns = {"x": [1, 2, 3], "y": [4, 5, 6], "t": [10, 20, 30], "p": [0, 1, 0]}
    return Events(**(columns | changed))


def test_columns_have_the_types_of_the_contract() -> None:
    ev = make()

    assert {name: getattr(ev, name).dtype.str for name in "xytp"} == {
        "x": "<u2",
        "y": "<u2",
        "t": "<i8",
        "p": "|i1",
    }
    assert len(ev) == 3


def test_an_empty_stream_has_the_same_types() -> None:
    for empty in (Events.empty(), Events(x=[], y=[], t=[], p=[])):
        assert len(empty) == 0
        assert empty == Events.empty()
        assert empty.to_structured().dtype == EVENT_DTYPE


@pytest.mark.parametrize("layout", FIELDS)
def test_structured_arrays_are_taken_by_name(layout: str) -> None:
    data = structured(np.dtype(FIELDS[layout]))

    assert Events.from_structured(data) == truth()


def test_padding_between_fields_is_not_read() -> None:
    expelliarmus = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")], align=True)

    assert expelliarmus.itemsize == 16
    assert Events.from_structured(structured(expelliarmus)) == truth()


@pytest.mark.parametrize(
    "names",
    ["x y t p", "xs ys ts ps", "x_pos y_pos timestamp polarity", "x y timestamps polarities"],
)
def test_mappings_are_taken_by_name(names: str) -> None:
    data = {name: column(key) for name, key in zip(names.split(), "xytp", strict=True)}

    assert Events.from_structured(data) == truth()


@pytest.mark.parametrize("offset", [1 << 40, 0, -7])
def test_the_time_offset_of_dsec_is_added(offset: int) -> None:
    dsec = {
        "x": column("x", "u2"),
        "y": column("y", "u2"),
        "t": column("t", "u4"),
        "p": column("p", "u1"),
        "t_offset": np.array(offset),
        "ms_to_idx": np.zeros(7, "u8"),
    }

    ev = Events.from_structured(dsec)

    assert ev.t.tolist() == [row[2] + offset for row in TRUTH]


def test_unsigned_times_do_not_wrap_when_subtracted() -> None:
    ev = make(t=np.array([10, 20, 30], np.uint64))

    assert ev.t.dtype == np.int64
    assert int(ev.t[0] - ev.t[2]) == -20


@pytest.mark.parametrize(
    "given_p",
    [
        [False, True, False],
        np.array([-1, 1, -1], np.int8),
        np.array([-1.0, 1.0, -1.0], np.float32),
        np.array([0, 1, 0], np.uint8),
        np.array([0.0, 1.0, 0.0]),
        np.array([0, 9, 1, 9, 0, 9], np.int8)[::2],
        np.array([False, True, True, True, False, True])[::2],
    ],
    ids=["bool", "signed", "signed float", "unsigned", "float", "strided", "strided bool"],
)
def test_every_spelling_of_polarity_becomes_zero_and_one(given_p: Any) -> None:
    ev = make(p=given_p)

    assert ev.p.dtype == np.int8
    assert ev.p.tolist() == [0, 1, 0]


def test_events_of_one_polarity_keep_it_in_every_spelling() -> None:
    assert make(p=[-1, -1, -1]).p.tolist() == [0, 0, 0]
    assert make(p=[1, 1, 1]).p.tolist() == [1, 1, 1]
    assert make(p=[0, 0, 0]).p.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x": [1, -2, 3]}, r"'x' in 0\.\.65535, got -2 at event 1"),
        ({"y": [1, 2, 65536]}, r"'y' in 0\.\.65535, got 65536 at event 2"),
        ({"x": [1.0, np.inf, 3.0]}, r"'x' in 0\.\.65535, got inf at event 1"),
        ({"x": [1.0, 2.5, 3.0]}, r"whole pixel numbers in 'x', got dtype float64"),
        ({"x": [1.0, np.nan, 3.0]}, r"whole pixel numbers in 'x'"),
        ({"y": ["a", "b", "c"]}, r"whole pixel numbers in 'y'"),
        ({"t": [10, 30, 29]}, r"do not decrease, got 29 us after 30 us at event 2"),
        ({"t": [10.0, 20.0, 30.0]}, r"integer microseconds in 't', got dtype float64"),
        ({"t": np.array([1, 2**63, 2**63 + 1], np.uint64)}, r"below 2\^63, got .* at event 1"),
        ({"p": [0, 2, 1]}, r"'p' in \{0, 1\}, got 2 at event 1"),
        ({"p": [-1, 1, 0]}, r"'p' in \{-1, 1\}, got 0 at event 2"),
        ({"p": [0.0, np.nan, 1.0]}, r"'p' in \{0, 1\}, got nan at event 1"),
        ({"p": ["on", "off", "on"]}, r"'p' as bool"),
        ({"x": [1, 2]}, r"four columns of one length, got \{'x': 2, 'y': 3, 't': 3, 'p': 3\}"),
        ({"t": [[10], [20], [30]]}, r"column 't' of shape \(N,\), got \(3, 1\)"),
        ({"x": 1}, r"column 'x' of shape \(N,\), got \(\)"),
    ],
)
def test_what_is_no_stream_is_refused_with_the_first_bad_event(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidEventsError, match=words):
        make(**changed)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("x y t", r"one field for 'p' .* got none; the fields are x, y, t"),
        ("x y t ts p", r"one field for 't' .* got t and ts"),
        ("", r"one field for 'x' .* the fields are none"),
    ],
)
def test_a_missing_or_doubled_field_is_named(names: str, words: str) -> None:
    data = {name: [0] for name in names.split()}

    with pytest.raises(InvalidEventsError, match=words):
        Events.from_structured(data)


def test_a_plain_array_is_refused_since_its_columns_have_no_names() -> None:
    with pytest.raises(InvalidEventsError, match="the fields are none"):
        Events.from_structured(np.zeros((3, 4)))


def test_bools_that_come_from_a_buffer_become_zero_and_one() -> None:
    ev = make(p=np.frombuffer(b"\x00\x02\xff", np.bool_))

    assert ev.p.tolist() == [0, 1, 1]


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_integer_times_that_do_not_fit_in_microseconds_are_refused(unit: Any) -> None:
    with pytest.raises(InvalidEventsError):
        Events.from_structured({"x": [0], "y": [0], "t": [2**60], "p": [1]}, time_unit=unit)


def test_a_time_offset_that_does_not_fit_is_refused() -> None:
    data = {"x": [0], "y": [0], "t": [2**62], "p": [1], "t_offset": 2**62}

    with pytest.raises(InvalidEventsError):
        Events.from_structured(data)


def test_unequal_lengths_are_refused_when_sorting_too() -> None:
    data = {"x": [0], "y": [0, 1], "t": [3, 1], "p": [1, 0]}

    with pytest.raises(InvalidEventsError, match="one length"):
        Events.from_structured(data, sort=True)


def test_times_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidEventsError):
        Events.from_structured({"x": [0], "y": [0], "t": ["a"], "p": [1]}, time_unit="s")


@pytest.mark.parametrize(
    ("unit", "t", "expected"),
    [
        ("us", [1, 2], [1, 2]),
        ("ms", [1, 2], [1000, 2000]),
        ("s", [-1, 2], [-1_000_000, 2_000_000]),
        ("ns", [1999, 2000], [1, 2]),
        # The microsecond a time lies in: also before zero.
        ("ns", [-1, 0], [-1, 0]),
        ("s", [0.1, 0.1000004], [100_000, 100_000]),
        ("s", [0.0000006, 1.5], [1, 1_500_000]),
        ("ms", [0.25, 2.0], [250, 2000]),
        ("ns", [400.0, 1600.0], [0, 2]),
    ],
)
def test_times_in_other_units_become_microseconds(
    unit: Any, t: list[float], expected: list[int]
) -> None:
    ev = Events.from_structured({"x": [0, 0], "y": [0, 0], "t": t, "p": [1, 1]}, time_unit=unit)

    assert ev.t.tolist() == expected


def test_float_microseconds_and_unknown_units_are_refused_with_the_cure() -> None:
    data = {"x": [0], "y": [0], "t": [0.5], "p": [1]}

    with pytest.raises(InvalidEventsError, match="time_unit='s'"):
        Events.from_structured(data)
    with pytest.raises(SettingsError, match="among s, ms, us, ns, got 'm'"):
        Events.from_structured(data, time_unit="m")  # type: ignore[arg-type]
    with pytest.raises(InvalidEventsError, match="finite times in s, got nan"):
        Events.from_structured({**data, "t": [np.nan]}, time_unit="s")


def test_sorting_is_stable() -> None:
    data = {"x": [5, 6, 7, 8], "y": [0, 0, 0, 0], "t": [2, 1, 2, 1], "p": [0, 1, 1, 0]}

    ev = Events.from_structured(data, sort=True)

    assert ev.t.tolist() == [1, 1, 2, 2]
    assert ev.x.tolist() == [6, 8, 5, 7]
    assert ev.p.tolist() == [1, 0, 0, 1]


def test_columns_of_the_right_type_are_not_copied_and_stay_as_they_are() -> None:
    x, y = np.array([1, 2], np.uint16), np.array([3, 4], np.uint16)
    t, p = np.array([5, 6], np.int64), np.array([0, 1], np.int8)

    ev = Events(x=x, y=y, t=t, p=p)

    for mine, theirs in ((ev.x, x), (ev.y, y), (ev.t, t), (ev.p, p)):
        assert np.shares_memory(mine, theirs)
        assert not mine.flags.writeable
        assert theirs.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        ev.t[0] = 9


def test_converted_columns_leave_the_callers_arrays_alone() -> None:
    given_columns = {
        "x": np.array([1.0, 2.0]),
        "y": np.array([3, 4], ">i4"),
        "t": np.array([6, 5], np.uint64),
        "p": np.array([-1, 1], np.int16),
    }
    before = {name: values.copy() for name, values in given_columns.items()}

    Events.from_structured(given_columns, sort=True)

    for name, values in given_columns.items():
        assert np.array_equal(values, before[name])
        assert values.flags.writeable


def test_read_only_arrays_are_taken() -> None:
    t = np.array([1, 2])
    t.flags.writeable = False

    ev = Events(x=np.broadcast_to(np.uint16(3), 2), y=[0, 0], t=t, p=[1, 1])

    assert ev.x.tolist() == [3, 3]
    assert ev.x.flags.c_contiguous


def test_a_slice_shares_memory_and_a_mask_copies() -> None:
    ev = make()

    part, chosen = ev[1:], ev[ev.p == 0]

    assert part.t.tolist() == [20, 30]
    assert np.shares_memory(part.x, ev.x)
    assert chosen.x.tolist() == [1, 3]
    assert not np.shares_memory(chosen.x, ev.x)
    assert not chosen.x.flags.writeable


def test_a_slice_with_a_step_is_contiguous_for_the_kernels() -> None:
    assert make()[::2].x.flags.c_contiguous
    assert make()[::2].x.tolist() == [1, 3]


@pytest.mark.parametrize("item", [slice(None, None, -1), 0, [0, 1], np.array([0, 1])])
def test_other_ways_of_indexing_are_refused(item: Any) -> None:
    with pytest.raises(InvalidEventsError, match="expected a slice"):
        make()[item]


def test_streams_are_equal_by_content_and_not_hashable() -> None:
    assert make() == make()
    assert make() != make(p=[0, 1, 1])
    assert make() != make()[:2]
    assert make() != "events"
    with pytest.raises(TypeError, match="unhashable"):
        hash(make())


def test_repr_says_how_many_and_when() -> None:
    assert repr(make()) == "Events(3, t=10..30 us)"
    assert repr(Events.empty()) == "Events(0)"


def test_streams_that_overlap_in_time_are_not_joined() -> None:
    with pytest.raises(InvalidEventsError, match="got 10 us after 30 us at event 3"):
        Events.concatenate([make(), make()])


def test_joining_nothing_gives_an_empty_stream() -> None:
    assert Events.concatenate([]) == Events.empty()
    assert Events.concatenate([Events.empty(), Events.empty()]) == Events.empty()


@given(st.data())
def test_cutting_and_joining_gives_the_stream_back(data: st.DataObject) -> None:
    ev = data.draw(events())

    joined = Events.concatenate(data.draw(parts(ev)))

    assert joined == ev


@given(events())
def test_structured_copies_and_pickles_hold_the_same_events(ev: Events) -> None:
    copy, pickled = ev.to_structured(), pickle.loads(pickle.dumps(ev))

    assert Events.from_structured(copy) == ev
    assert pickled == ev
    assert not pickled.t.flags.writeable
    copy["t"] += 1
    assert Events.from_structured(copy) != ev or not len(ev)


def test_importing_eventkit_loads_neither_numba_nor_any_optional_library() -> None:
    heavy = "numba torch dask timm tonic zarr PIL av aedat click"
    code = (
        "import sys, eventkit; eventkit.Events(x=[0], y=[0], t=[0], p=[1]);"
        f"print([name for name in {heavy!r}.split() if name in sys.modules])"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"
