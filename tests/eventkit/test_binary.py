"""Binary representations: SSTFormer's tensor and Bina-Rep, against slow twins and tonic."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from representation_twins import SIZE, drawn_on, pile, rows, slow_edges, whole

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.representations import make
from eventkit.representations.binary import sst_tensor
from eventkit.testing.strategies import events, parts, sensor_sizes, window_rules

BINS = st.integers(1, 12)
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("binary:sstformer", {}),
    ("binary:sstformer", {"edges": "sstformer"}),
    ("binary:binarep", {}),
    ("binary:binarep", {"bits": 12}),
    ("binary:binarep", {"edges": "tonic"}),
]


def nested_edges(start: int, stop: int, bins: int) -> list[int]:
    return [start + (stop - start) * i // bins for i in range(bins + 1)]


def slow_sst(ev: Events, start: int, stop: int, bins: int, size: tuple[int, int]) -> NDArray[Any]:
    """Mark the events of one half-open window in its bins."""
    tensor = np.zeros((bins, size[1], size[0]), np.uint8)
    edges = nested_edges(start, stop, bins)
    for x, y, t, _ in rows(ev):
        for b in range(bins):
            if edges[b] <= t < edges[b + 1]:
                tensor[b, y, x] = 1
    return tensor


def slow_script(
    ev: Events, start: int, stop: int, bins: int, size: tuple[int, int]
) -> NDArray[Any]:
    """One clip as the released script makes it: strict edges, the last event left out."""
    tensor = np.zeros((bins, size[1], size[0]), np.uint8)
    met = [row for row in rows(ev) if start < row[2] < stop][:-1]
    for x, y, t, _ in met:
        span = met[-1][2] - met[0][2]
        share = Fraction(t - met[0][2], span) if span else Fraction(0)
        tensor[int(share * (bins - 1)), y, x] = 1
    return tensor


def slow_binarep(ev: Events, edges: list[int], size: tuple[int, int]) -> NDArray[Any]:
    """Read the bins of each pixel as the digits of a number, the first one leading."""
    bits = len(edges) - 1
    digits = np.full((2, size[1], size[0], bits), "0")
    for x, y, t, p in rows(ev):
        for b in range(bits):
            if edges[b] <= t < edges[b + 1]:
                digits[p, y, x, b] = "1"
    numbers = [int("".join(cell), 2) for cell in digits.reshape(-1, bits)]
    shares = np.array(numbers, np.float32) / np.float32(2**bits - 1)
    return shares.reshape(2, size[1], size[0])


# SSTFormer


@given(st.data(), sensor_sizes(), BINS)
def test_a_clip_equals_that_of_the_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int
) -> None:
    ev = data.draw(events(sensor_size=size))

    tensor = make("binary:sstformer", bins=bins)(ev, sensor_size=size)

    assert tensor.dtype == np.uint8
    assert np.array_equal(tensor, slow_sst(ev, *whole(ev), bins, size))


@given(events(), BINS, st.integers(-100, 100), st.integers(1, 3000))
def test_a_clip_by_the_script_equals_that_of_the_slow_twin(
    ev: Events, bins: int, offset: int, length: int
) -> None:
    start = (int(ev.t[0]) if len(ev) else 0) + offset
    settings = make("binary:sstformer", bins=bins, edges="sstformer")

    tensor = settings(ev, sensor_size=SIZE, edges_us=[start, start + length])

    assert np.array_equal(tensor[0], slow_script(ev, start, start + length, bins, SIZE))


@given(events(), st.integers(1, 16), BINS)
def test_clips_of_equal_time_keep_every_event(ev: Events, clips: int, bins: int) -> None:
    tensor = sst_tensor(ev, sensor_size=SIZE, clips=clips, bins=bins)

    edges = slow_edges(ev, clips)
    expected = [slow_sst(ev, edges[i], edges[i + 1], bins, SIZE) for i in range(clips)]
    assert np.array_equal(tensor, np.stack(expected))
    met = {(x, y) for x, y, _, _ in rows(ev)}
    assert {(x, y) for y, x in np.argwhere(tensor.any(axis=(0, 1))).tolist()} == met


@given(events(max_step_us=4), st.integers(1, 16), BINS)
def test_clips_by_the_script_lose_what_the_script_loses(ev: Events, clips: int, bins: int) -> None:
    tensor = sst_tensor(ev, sensor_size=SIZE, clips=clips, bins=bins, edges="sstformer")

    first, last = (int(ev.t[0]), int(ev.t[-1])) if len(ev) else (0, 0)
    gap = (last - first) // clips
    expected = [
        slow_script(ev, first + i * gap, first + (i + 1) * gap, bins, SIZE) for i in range(clips)
    ]
    assert np.array_equal(tensor, np.stack(expected))


def test_each_clip_by_the_script_misses_its_first_instant_and_its_last_event() -> None:
    ev = Events(x=range(7), y=[0] * 7, t=[0, 1, 2, 3, 4, 5, 6], p=[1] * 7)

    tensor = sst_tensor(ev, sensor_size=SIZE, clips=2, bins=3, edges="sstformer")

    # Clips are (0, 3) and (3, 6), so t = 1 and t = 4 are left over, each in the bin of t0 == t1.
    assert np.argwhere(tensor).tolist() == [[0, 0, 0, 1], [1, 0, 0, 4]]


def test_the_tensor_has_the_shape_of_the_paper_and_no_polarity() -> None:
    ev = Events(x=[6, 6], y=[1, 1], t=[0, 0], p=[0, 1])

    tensor = sst_tensor(ev, sensor_size=SIZE)

    assert tensor.shape == (16, 12, 5, 7)
    assert np.argwhere(tensor).tolist() == [[15, 11, 1, 6]]  # [t, t + 1) lies in the last of all


def test_clips_take_out_and_ledger_and_reach_to_the_last_event_that_is_kept() -> None:
    ev = Events(x=[9, 0, 0, 9], y=[0] * 4, t=[0, 100, 109, 500], p=[1] * 4)
    out, ledger = np.full((2, 5, 1, 1), 7, np.uint8), Ledger()

    tensor = sst_tensor(
        ev, sensor_size=(1, 1), clips=2, bins=5, out=out, outside="drop", ledger=ledger
    )

    assert tensor is out
    assert out.ravel().tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (ledger.decoded, ledger.dropped) == (4, {"outside": 2})


def test_unsorted_arrays_are_sorted_on_request() -> None:
    columns = {"x": [0, 0], "y": [0, 0], "t": [9, 0], "p": [1, 0]}

    tensor = sst_tensor(columns, sensor_size=(1, 1), clips=2, bins=2, sort=True)

    assert tensor.ravel().tolist() == [1, 0, 0, 1]


def test_bins_are_a_setting_and_not_a_window_rule() -> None:
    with pytest.raises(SettingsError, match="bins is a setting of binary:sstformer"):
        make("binary:sstformer")(pile(1), sensor_size=SIZE, bins=16)


# Bina-Rep


@given(st.data(), sensor_sizes(), st.integers(1, 24))
def test_bina_rep_equals_its_slow_twin(
    data: st.DataObject, size: tuple[int, int], bits: int
) -> None:
    ev = data.draw(events(sensor_size=size))

    frame = make("binary:binarep", bits=bits)(ev, sensor_size=size)

    assert frame.dtype == np.float32
    assert np.array_equal(frame, slow_binarep(ev, slow_edges(ev, bits), size))


def test_the_first_bin_is_the_leading_bit_and_the_last_event_is_in_the_last() -> None:
    ev = Events(x=[0, 6, 0], y=[0, 4, 0], t=[0, 79, 79], p=[1, 0, 1])

    frame = make("binary:binarep", bits=8)(ev, sensor_size=SIZE)

    assert np.rint(frame[:, [0, 4], [0, 6]] * 255).astype(int).tolist() == [[0, 1], [129, 0]]


@pytest.mark.parametrize("bits", [1, 8, 9, 24])
def test_all_bits_make_one(bits: int) -> None:
    ev = Events(x=[0] * bits, y=[0] * bits, t=range(bits), p=[1] * bits)

    assert make("binary:binarep", bits=bits)(ev, sensor_size=(1, 1)).ravel().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("frames", "bits"), [(1, 8), (3, 4), (2, 12)])
@pytest.mark.parametrize("span_us", [10, 97, 10_000])
def test_with_its_edges_bina_rep_is_that_of_tonic_bit_by_bit(
    frames: int, bits: int, span_us: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transforms = pytest.importorskip("tonic.transforms")
    ev = drawn_on((13, 4), 300, span_us=span_us)
    layout = [("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")]
    counts = transforms.ToFrame(sensor_size=(13, 4, 2), n_time_bins=frames * bits)(
        ev.to_structured().astype(layout)
    )
    peer = transforms.ToBinaRep(n_frames=frames, n_bits=bits)(counts)

    ours = make("binary:binarep", bits=bits, edges="tonic")(ev, sensor_size=(13, 4), bins=frames)

    assert np.array_equal(ours, peer)


@given(events(), st.integers(1, 4), st.integers(1, 10))
def test_tonic_s_edges_lose_the_tail_and_say_so(ev: Events, frames: int, bits: int) -> None:
    ledger = Ledger()

    found = make("binary:binarep", bits=bits, edges="tonic")(
        ev, sensor_size=SIZE, bins=frames, ledger=ledger
    )

    first, last = (int(ev.t[0]), int(ev.t[-1])) if len(ev) else (0, 0)
    length = (last - first) // (frames * bits)
    edges = [first + i * length for i in range(frames * bits + 1)]
    for i in range(frames):
        mine = edges[i * bits : (i + 1) * bits + 1]
        assert np.array_equal(found[i], slow_binarep(ev, mine, SIZE))
    assert ledger.dropped["unpaired"] == (ev.t >= edges[-1]).sum()


def test_the_tail_of_a_given_window_lies_on_the_sensor_too() -> None:
    ev = Events(x=[0, 9], y=[0, 0], t=[0, 9], p=[1, 1])  # 8 bits of 1 us, and 2 us left over

    with pytest.raises(InvalidEventsError, match="at event 1"):
        make("binary:binarep", edges="tonic")(ev, sensor_size=(2, 2), edges_us=[0, 10])


@pytest.mark.parametrize("bits", [0, 25, 2.5, True])
def test_bits_that_float32_cannot_hold_are_refused(bits: Any) -> None:
    with pytest.raises(SettingsError, match="bits"):
        make("binary:binarep", bits=bits)


# Both


@pytest.mark.parametrize(("name", "settings"), KINDS)
@given(data=st.data(), ev=events())
def test_chunks_give_the_bits_of_the_whole(
    name: str, settings: dict[str, Any], data: st.DataObject, ev: Events
) -> None:
    representation = make(name, **settings)
    rule = data.draw(window_rules(ev, bins=not representation.stack))
    windows = representation.windows(ev, SIZE, **rule)
    taker = representation.accumulator(windows, sensor_size=SIZE)

    for part in data.draw(parts(ev)):
        taker.update(part)

    frames = representation(ev, sensor_size=SIZE, **rule)
    assert np.array_equal(taker.finish(), frames.reshape(-1, *representation.frame_shape(SIZE)))


@pytest.mark.parametrize(("name", "settings"), KINDS)
@given(ev=events(), shift=st.integers(-(1 << 40), 1 << 40))
def test_another_start_of_the_clock_changes_nothing(
    name: str, settings: dict[str, Any], ev: Events, shift: int
) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)
    representation = make(name, **settings)

    assert np.array_equal(
        representation(moved, sensor_size=SIZE), representation(ev, sensor_size=SIZE)
    )


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1025])
def test_the_blocks_of_the_kernels_meet_without_a_seam(n: int) -> None:
    ev = drawn_on((13, 40), n)

    tensor = make("binary:sstformer", bins=2)(ev, sensor_size=(13, 40))
    frame = make("binary:binarep", bits=2)(ev, sensor_size=(13, 40))

    assert np.array_equal(tensor, slow_sst(ev, *whole(ev), 2, (13, 40)))
    assert np.array_equal(frame, slow_binarep(ev, slow_edges(ev, 2), (13, 40)))


@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_no_events_give_zeros_whatever_was_in_out(name: str, settings: dict[str, Any]) -> None:
    representation = make(name, **settings)
    shape = representation.frame_shape(SIZE)
    out = np.full((3, *shape), 77, representation.frame_dtype)

    found = representation(Events.empty(), sensor_size=SIZE, edges_us=[0, 1, 1, 2], out=out)

    assert found is out
    assert not out.any()
    assert representation(Events.empty(), sensor_size=SIZE).shape == shape


@pytest.mark.parametrize(("name", "settings"), KINDS)
@pytest.mark.parametrize("t", [0, -7, (1 << 53) + 1])
def test_one_event_is_in_the_last_bin_or_where_the_convention_loses_it_nowhere(
    name: str, settings: dict[str, Any], t: int
) -> None:
    frame = make(name, **settings)(pile(1, t=t), sensor_size=SIZE)

    if "edges" in settings:
        assert not frame.any()
    elif name == "binary:sstformer":
        assert np.argwhere(frame).tolist() == [[11, 1, 2]]
    else:
        assert frame[1, 1, 2] == np.float32(1) / np.float32(2 ** settings.get("bits", 8) - 1)
        assert np.count_nonzero(frame) == 1


@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_spans_that_float64_cannot_hold_are_binned_exactly(
    name: str, settings: dict[str, Any]
) -> None:
    t = [-(1 << 62), -(1 << 61) - 1, (1 << 60) + 1, 1 << 61]
    ev = Events(x=[0] * 4, y=[0] * 4, t=t, p=[1] * 4)
    representation = make(name, **settings)

    frame = representation(ev, sensor_size=(1, 1))

    start, stop = whole(ev)
    if name == "binary:sstformer":
        twin = slow_script if settings else slow_sst
        assert np.array_equal(frame, twin(ev, start, stop, 12, (1, 1)))
    else:
        bits = settings.get("bits", 8)
        length = (stop - 1 - start) // bits
        tonic = [start + i * length for i in range(bits + 1)]
        edges = tonic if "edges" in settings else nested_edges(start, stop, bits)
        assert np.array_equal(frame, slow_binarep(ev, edges, (1, 1)))


@pytest.mark.parametrize(("name", "settings"), KINDS)
@pytest.mark.parametrize("column", ["x", "y"])
def test_an_event_outside_the_sensor_is_named_or_dropped(
    name: str, settings: dict[str, Any], column: str
) -> None:
    ev = drawn_on(SIZE, 1000)
    columns = {c: getattr(ev, c).copy() for c in "xytp"}
    columns[column][700] = SIZE["xy".index(column)]
    broken = Events(**columns)
    representation = make(name, **settings)

    with pytest.raises(InvalidEventsError, match="at event 700"):
        representation(broken, sensor_size=SIZE)
    kept = broken[np.arange(1000) != 700]
    assert np.array_equal(
        representation(broken, sensor_size=SIZE, outside="drop"),
        representation(kept, sensor_size=SIZE),
    )
