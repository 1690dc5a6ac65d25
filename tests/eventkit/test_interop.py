"""Objects of other libraries, without the libraries: layouts, units, what is shared and refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit import interop
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.interop import EventSequence
from eventkit.testing.strategies import events as event_streams

SIZE = (7, 5)
WRITERS = {
    "tonic": (interop.to_tonic, interop.from_tonic),
    "metavision": (interop.to_metavision, interop.from_metavision),
    "aedat": (interop.to_aedat, interop.from_aedat),
    "faery": (interop.to_faery, interop.from_faery),
    "expelliarmus": (interop.to_expelliarmus, interop.from_expelliarmus),
    "dv": (interop.to_dv_array, interop.from_dv),
    "spikingjelly": (interop.to_spikingjelly, interop.from_spikingjelly),
    "columns": (interop.to_columns, interop.from_columns),
}


def sample(count: int = 20, *, start: int = 0) -> Events:
    rng = np.random.default_rng(count)
    return Events(
        x=rng.integers(0, SIZE[0], count),
        y=rng.integers(0, SIZE[1], count),
        t=start + 100 * np.arange(count),
        p=rng.integers(0, 2, count),
    )


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
def test_events_come_back_from_every_layout(name: str, data: st.DataObject) -> None:
    events = data.draw(event_streams(sensor_size=SIZE))
    there, back = WRITERS[name]
    if name in ("aedat", "faery") and len(events) and events.t[0] < 0:
        with pytest.raises(SettingsError, match="expected times from 0 on"):
            there(events)
        return

    assert back(there(events)) == events


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tonic", [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "|b1")]),
        ("metavision", [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]),
        ("aedat", [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), (("p", "on"), "|b1")]),
        ("dv", [("timestamp", "<i8"), ("x", "<i2"), ("y", "<i2"), ("polarity", "|i1")]),
        ("expelliarmus", [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "|u1")]),
    ],
)
def test_layouts_have_the_fields_of_their_library(name: str, fields: list[Any]) -> None:
    array = WRITERS[name][0](sample())

    names = [field[0] if isinstance(field[0], str) else field[0][1] for field in fields]
    assert list(array.dtype.names) == names
    assert [array.dtype[n] for n in names] == [np.dtype(field[1]) for field in fields]
    assert array.dtype.itemsize == (16 if name in ("dv", "expelliarmus") else array.dtype.itemsize)
    if name == "aedat":
        assert np.array_equal(array["p"], array["on"])


@pytest.mark.parametrize("name", ["tonic", "expelliarmus", "dv"])
def test_places_that_a_signed_layout_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="x up to 32767"):
        WRITERS[name][0](Events(x=[40_000], y=[0], t=[0], p=[0]))
    assert interop.to_metavision(Events(x=[65_535], y=[0], t=[0], p=[0]))["x"][0] == 65_535


def test_copies_are_copies_and_views_are_views() -> None:
    events = sample()

    for name in ("tonic", "metavision", "aedat", "dv", "expelliarmus"):
        array = WRITERS[name][0](events)
        array[array.dtype.names[0]] = 1
    assert events == sample()
    for name in "xytp":
        shared = interop.to_columns(events)[name]
        assert np.shares_memory(shared, getattr(events, name))
        assert not shared.flags.writeable
        copied = interop.to_columns(events, copy=True)[name]
        assert not np.shares_memory(copied, getattr(events, name))
        assert copied.flags.writeable
        assert np.shares_memory(interop.to_spikingjelly(events)[name], getattr(events, name))
        again = interop.from_columns(interop.to_columns(events))
        assert np.shares_memory(getattr(again, name), getattr(events, name))


def test_unsigned_times_and_bools_with_any_byte_are_taken_at_the_door() -> None:
    array = interop.to_aedat(sample())
    array["on"].view(np.uint8)[:] = 7

    events = interop.from_aedat(array)

    assert events.t.dtype == np.int64
    assert events.p.tolist() == [1] * 20
    array["t"][-1] = 2**63
    with pytest.raises(InvalidEventsError, match=r"below 2\^63"):
        interop.from_aedat(array)


@pytest.mark.parametrize("order", ["txyp", "xytp", "ptyx"])
@pytest.mark.parametrize("signed", [False, True])
def test_one_array_has_a_named_order(order: str, signed: bool) -> None:
    events = sample(start=10**15)

    array = interop.to_array(events, order=order, signed=signed)

    assert array.shape == (20, 4)
    assert array.dtype == np.int64
    assert np.array_equal(array[:, order.index("x")], events.x)
    assert set(array[:, order.index("p")].tolist()) == ({-1, 1} if signed else {0, 1})
    assert interop.from_array(array, order=order) == events


def test_one_array_of_floats_and_of_seconds_is_taken() -> None:
    events = sample()
    seconds = interop.to_array(events, dtype=np.float64)
    seconds[:, 0] /= 1e6

    assert interop.from_array(seconds, order="txyp", time_unit="s") == events
    assert interop.from_array(seconds * [1e6, 1, 1, 1], order="txyp") == events
    assert interop.from_array(seconds[::-1], order="txyp", time_unit="s", sort=True).t[0] == 0


def test_an_array_that_would_change_a_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="expected values of 't' that fit float32"):
        interop.to_array(Events(x=[0], y=[0], t=[2**24 + 1], p=[0]), dtype=np.float32)
    with pytest.raises(SettingsError, match="expected values of 'x' that fit uint8"):
        interop.to_array(Events(x=[300], y=[0], t=[0], p=[0]), dtype=np.uint8)
    with pytest.raises(SettingsError, match="expected an order of the letters"):
        interop.to_array(sample(), order="xyt")
    with pytest.raises(SettingsError, match="expected an order of the letters"):
        interop.from_array(np.zeros((2, 4)), order="xxyt")
    with pytest.raises(InvalidEventsError, match=r"of shape \(N, 4\), got \(4, 2\)"):
        interop.from_array(np.zeros((4, 2)), order="txyp")
    with pytest.raises(InvalidEventsError, match="expected finite times"):
        interop.from_array(np.array([[np.nan, 0, 0, 0]]), order="txyp")


def test_an_empty_stream_goes_everywhere() -> None:
    for there, back in WRITERS.values():
        assert len(back(there(Events.empty()))) == 0
    assert interop.to_array(Events.empty()).shape == (0, 4)
    assert len(EventSequence(Events.empty(), window_us=5)) == 0


class _Tensor:
    """Speaks DLPack and nothing else, as tensors of other libraries do."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_tensors_are_taken_by_dlpack_without_a_copy() -> None:
    events = sample()
    columns = interop.to_columns(events, copy=True)

    taken = interop.from_columns({name: _Tensor(column) for name, column in columns.items()})

    assert taken == events
    for name in "xytp":
        assert np.shares_memory(getattr(taken, name), columns[name])


def test_no_peer_is_imported() -> None:
    code = (
        "import sys, eventkit.interop as i\n"
        "from eventkit import Events\n"
        "i.to_tonic(Events(x=[0], y=[0], t=[0], p=[0]))\n"
        "names = ('torch', 'tonic', 'dv_processing', 'aedat', 'polars', 'pyarrow', 'numba')\n"
        "print([name for name in names if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@given(
    data=st.data(), window=st.integers(1, 5000), stride=st.one_of(st.none(), st.integers(50, 5000))
)
def test_windows_of_a_sequence_are_slices_of_the_whole(
    data: st.DataObject, window: int, stride: int | None
) -> None:
    events = data.draw(event_streams(sensor_size=SIZE, max_size=15, max_step_us=300))

    windows = EventSequence(events, window_us=window, stride_us=stride)

    step = stride or window
    expected = (int(events.t[-1]) - int(events.t[0])) // step + 1 if len(events) else 0
    assert len(windows) == expected
    for k in range(min(len(windows), 30)):
        start = int(events.t[0]) + k * step
        inside = (events.t >= start) & (events.t < start + window)
        assert windows[k] == events[inside]
        assert (windows.window(k).start_us, windows.window(k).stop_us) == (start, start + window)
    if stride is None and len(windows) < 200:
        assert sum(len(part) for part in windows) == len(events)


def test_a_sequence_joins_recordings_and_behaves_like_a_list() -> None:
    a, empty, b = sample(), Events.empty(), sample(8, start=5000)

    windows = EventSequence([a, empty, b], window_us=500)

    assert len(windows) == 6
    assert windows.window(4).recording == 2
    assert windows[-1] == windows[5] == b[5:]
    assert [part.t.tolist() for part in windows[1:5:2]] == [
        windows[1].t.tolist(),
        windows[3].t.tolist(),
    ]
    assert windows[::-1][0] == windows[5]
    assert len(windows[2:][1:]) == 3
    assert len(windows[9:]) == 0
    for wrong in (6, -7):
        with pytest.raises(IndexError, match=r"window in 0\.\.5"):
            windows[wrong]


def test_items_are_frames_of_the_window_from_edge_to_edge() -> None:
    events = sample()

    counts = EventSequence(
        events, window_us=500, representation="counts:eventkit", bins=5, sensor_size=SIZE
    )
    voxels = EventSequence(
        events, window_us=500, representation="voxel:zhu,bins=3", sensor_size=SIZE
    )

    assert counts[0].shape == (5, 2, SIZE[1], SIZE[0])
    # One event every 100 us: each bin of each window has one, the first of which is at its edge.
    assert [int(frame.sum()) for frame in counts[1]] == [1] * 5
    assert sum(int(item.sum()) for item in counts) == len(events)
    assert voxels[0].shape == (3, SIZE[1], SIZE[0])
    assert voxels[0].dtype == np.float32
    doubled = EventSequence(
        events,
        window_us=500,
        representation="counts:eventkit",
        sensor_size=SIZE,
        transform=lambda frames: 2 * frames,
    )
    assert doubled[0].sum() == 2 * 5


def test_a_window_without_events_is_an_item_too() -> None:
    events = Events(x=[0, 1], y=[0, 1], t=[0, 1000], p=[0, 1])

    windows = EventSequence(
        events, window_us=100, representation="voxel:zhu,bins=2", sensor_size=SIZE
    )

    assert len(windows) == 11
    assert windows[5].shape == (2, SIZE[1], SIZE[0])
    assert not windows[5].any()


def test_a_file_is_read_lazily_and_sent_by_its_name(shared: Path) -> None:
    path = shared / "es_bin" / "nmnist_sample.bin"

    windows = EventSequence([path], window_us=20_000)

    assert windows._opened == {}
    whole = eventkit.open(path).events
    assert sum(len(part) for part in windows) == len(whole) == 4325
    copied = pickle.loads(pickle.dumps(windows))
    assert copied._opened == {}
    assert copied[3] == windows[3]
    assert copied[2:5][-1] == windows[4]
    kept = EventSequence(path, window_us=20_000, keep=True)
    assert [len(part) for part in kept] == [len(part) for part in windows]
    with pytest.raises(SettingsError, match="expected names for worker processes"):
        pickle.dumps(EventSequence(eventkit.open(path), window_us=5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window_us": 0}, "at least 1 us"),
        ({"window_us": 5, "stride_us": 0}, "at least 1 us"),
        ({"window_us": 5, "bins": 2}, "bins, at least 1, of a representation"),
        ({"window_us": 5, "representation": "voxel:none"}, "expected a representation"),
    ],
)
def test_a_sequence_that_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        EventSequence(sample(), **options)


def test_frames_without_a_sensor_size_are_refused() -> None:
    windows = EventSequence(sample(), window_us=5, representation="counts:eventkit")

    with pytest.raises(SettingsError, match="how large the sensor is"):
        windows[0]
