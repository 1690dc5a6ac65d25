"""Objects of other libraries, with the libraries: what they return and what they accept."""

from __future__ import annotations

import gc
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventkit
from eventkit import interop
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.interop import EventSequence

SIZE = (34, 30)


def sample(count: int = 1000, *, start: int = 5000) -> Events:
    rng = np.random.default_rng(count)
    return Events(
        x=rng.integers(0, SIZE[0], count),
        y=rng.integers(0, SIZE[1], count),
        t=start + np.sort(rng.integers(0, 100_000, count)),
        p=rng.integers(0, 2, count),
    )


def address(arrow: Any) -> int:
    return int(arrow.buffers()[1].address)


def test_tonic_makes_frames_of_what_we_hand_it() -> None:
    transforms = pytest.importorskip("tonic.transforms")
    events = sample()
    array = interop.to_tonic(events)

    frames = transforms.ToFrame(sensor_size=(*SIZE, 2), n_event_bins=1)(array)

    assert array.dtype == pytest.importorskip("tonic.io").events_struct
    expected = eventkit.count_frames(events, sensor_size=SIZE, bins=1)
    assert np.array_equal(frames, expected)
    assert interop.from_tonic(array) == events
    cropped = transforms.CropTime(max=50_000)(array)
    assert interop.from_tonic(cropped) == events[events.t <= 50_000]


def test_aedat_returns_what_we_take_and_we_return_what_it_does(shared: Path) -> None:
    aedat = pytest.importorskip("aedat")
    path = shared / "aedat4" / "davis346_first_170ms.aedat4"
    packets = [p["events"] for p in aedat.Decoder(str(path)) if "events" in p]
    array = np.concatenate(packets)

    events = interop.from_aedat(array)

    assert events == eventkit.open(path).events
    again = interop.to_aedat(events)
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


def test_dv_stores_are_made_and_taken(shared: Path) -> None:
    dv = pytest.importorskip("dv_processing")
    events = sample()

    store = interop.to_dv(events)

    assert isinstance(store, dv.EventStore)
    assert len(store) == len(events)
    assert store.numpy().dtype == interop.to_dv_array(events).dtype
    assert np.array_equal(store.numpy(), interop.to_dv_array(events))
    taken = interop.from_dv(store)
    part = interop.from_dv(store.sliceTime(20_000, 60_000))
    del store
    gc.collect()
    assert taken == events
    assert part == events[(events.t >= 20_000) & (events.t < 60_000)]
    with pytest.raises(SettingsError, match="x up to 32767"):
        interop.to_dv(Events(x=[40_000], y=[0], t=[0], p=[0]))


def test_expelliarmus_reads_back_what_it_wrote_of_ours(tmp_path: Path) -> None:
    peer = pytest.importorskip("expelliarmus")
    events = sample()
    wizard = peer.Wizard(encoding="dat")

    wizard.save(fpath=tmp_path / "a.dat", arr=interop.to_expelliarmus(events))

    array = wizard.read(tmp_path / "a.dat")
    assert array.dtype == interop.to_expelliarmus(events).dtype
    assert interop.from_expelliarmus(array) == events


def test_an_arrow_table_points_into_the_memory_of_the_events() -> None:
    pa = pytest.importorskip("pyarrow")
    events = sample()

    table = interop.to_arrow(events)

    assert table.schema.field("t").type == pa.duration("us")
    for name in "xytp":
        assert address(table[name].chunk(0)) == getattr(events, name).ctypes.data
    taken = interop.from_arrow(table)
    for name in "xytp":
        assert getattr(taken, name).ctypes.data == getattr(events, name).ctypes.data
    del events, taken
    gc.collect()
    assert interop.from_arrow(table) == sample()
    assert len(interop.from_arrow(interop.to_arrow(Events.empty()))) == 0


def test_arrow_tables_of_others_are_taken_by_name() -> None:
    pa = pytest.importorskip("pyarrow")
    t = pa.array([10_000, 20_000], pa.timestamp("ns"))
    columns = {"ts": t, "xs": [1, 2], "ys": [3, 4], "ps": [-1, 1]}

    batch = pa.RecordBatch.from_pydict(columns)
    joined = pa.concat_tables([pa.table(columns), pa.table(columns)])

    assert interop.from_arrow(batch).p.tolist() == [0, 1]
    assert interop.from_arrow(joined, sort=True).x.tolist() == [1, 1, 2, 2]
    assert (
        interop.from_arrow(pa.table({**columns, "ts": [0.5, 1.5]}), time_unit="s").t[0] == 500_000
    )
    with pytest.raises(InvalidEventsError, match="no nulls in 'xs', got 1"):
        interop.from_arrow(pa.table({**columns, "xs": [1, None]}))
    with pytest.raises(InvalidEventsError, match="expected numbers in 'xs'"):
        interop.from_arrow(pa.table({**columns, "xs": ["a", "b"]}))
    with pytest.raises(InvalidEventsError, match="expected one field for 'p'"):
        interop.from_arrow(pa.table({"t": [0], "x": [0], "y": [0]}))
    with pytest.raises(SettingsError, match="speaks Arrow, got dict"):
        interop.from_arrow(columns)


def test_a_polars_frame_points_into_the_memory_of_the_events() -> None:
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    events = sample()

    frame = interop.to_polars(events)

    assert dict(frame.schema) == {
        "x": pl.UInt16(),
        "y": pl.UInt16(),
        "t": pl.Duration("us"),
        "p": pl.Int8(),
    }
    for name in "xytp":
        assert address(frame[name].to_arrow()) == getattr(events, name).ctypes.data
    taken = interop.from_polars(frame)
    assert taken == events
    assert taken.t.ctypes.data == events.t.ctypes.data
    half = frame.lazy().filter(pl.col("p") == 1)
    assert interop.from_polars(half) == events[events.p == 1]


def test_evlibs_frame_is_made_and_taken() -> None:
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    events = sample()

    lazy = interop.to_evlib(events)

    assert isinstance(lazy, pl.LazyFrame)
    frame = lazy.collect()
    assert dict(frame.schema) == {
        "x": pl.Int16(),
        "y": pl.Int16(),
        "t": pl.Duration("us"),
        "polarity": pl.Int8(),
    }
    assert set(frame["polarity"].to_list()) == {-1, 1}
    for name in "xyt":
        assert address(frame[name].to_arrow()) == getattr(events, name).ctypes.data
    assert interop.from_evlib(lazy) == events
    assert interop.from_evlib(frame) == events
    with pytest.raises(SettingsError, match="y up to 32767"):
        interop.to_evlib(Events(x=[0], y=[40_000], t=[0], p=[0]))


def test_faery_streams_what_we_hand_it() -> None:
    faery = pytest.importorskip("faery")
    events = sample()
    array = interop.to_faery(events)

    stream = faery.events_stream_from_array(array, dimensions=SIZE)

    assert array.dtype == faery.EVENTS_DTYPE
    assert interop.from_faery(np.concatenate(list(stream))) == events


def test_evlib_filters_what_we_hand_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    # Its import runs through models that need more than its own dependencies.
    monkeypatch.setitem(sys.modules, "evlib.models", types.ModuleType("evlib.models"))
    evlib = pytest.importorskip("evlib")
    filtering = pytest.importorskip("evlib.filtering")
    events = sample()

    inside = filtering.filter_by_roi(interop.to_evlib(events), 0, 10, 0, 20)

    assert hasattr(evlib, "load_events")
    assert interop.from_evlib(inside) == events[(events.x <= 10) & (events.y <= 20)]


def test_torch_shares_columns_by_dlpack_and_gives_them_back() -> None:
    torch = pytest.importorskip("torch")
    events = sample()

    tensors = {name: torch.from_dlpack(c) for name, c in interop.to_columns(events).items()}

    for name in "xytp":
        assert tensors[name].data_ptr() == getattr(events, name).ctypes.data
    taken = interop.from_columns(tensors)
    assert taken == events
    assert taken.t.ctypes.data == events.t.ctypes.data
    table = torch.from_numpy(interop.to_array(events))
    assert interop.from_array(table, order="txyp") == events
    on = {**tensors, "p": tensors["p"].bool(), "t": tensors["t"].to(torch.int32)}
    assert interop.from_columns(on) == events
    with pytest.raises(SettingsError, match="expected a tensor on the CPU"):
        interop.from_array(torch.zeros((2, 4), requires_grad=True), order="txyp")
    with pytest.raises(SettingsError, match="expected a tensor on the CPU"):
        interop.from_array(torch.zeros((2, 4), device="meta"), order="txyp")


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_a_sequence_is_a_dataset_for_two_workers(tmp_path: Path, context: str) -> None:
    data = pytest.importorskip("torch.utils.data")
    events = sample()
    eventkit.export(_recording(events), tmp_path / "a.dat")
    windows = EventSequence(
        [tmp_path / "a.dat", tmp_path / "a.dat"],
        window_us=10_000,
        representation="counts:eventkit",
        bins=4,
    )

    loader = data.DataLoader(
        windows, batch_size=4, num_workers=2, shuffle=True, multiprocessing_context=context
    )
    batches = list(loader)

    assert sum(len(batch) for batch in batches) == len(windows) == 20
    assert batches[0].shape[1:] == (4, 2, SIZE[1], SIZE[0])
    assert sum(int(batch.sum()) for batch in batches) == 2 * len(events)
    part = data.Subset(windows, [0, 5])
    assert len(part) == 2


def _recording(events: Events) -> eventkit.Recording:
    from eventkit.recording import Chunk

    def source(ledger: Any) -> Any:
        ledger.decoded += len(events)
        yield Chunk(events)

    return eventkit.Recording(Path("in-memory"), "memory", sensor_size=SIZE, source=source)
