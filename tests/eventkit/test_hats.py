"""Averaged time surfaces: against a slow twin and tonic, and chunks against the whole."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations.hats import AveragedSurface
from eventkit.slicing import windows
from eventkit.testing.strategies import events, parts, sensor_sizes

SIZE = (7, 5)
RULES: list[dict[str, Any]] = [
    {},
    {"bins": 3},
    {"window_us": 900, "stride_us": 250},
    {"count": 5, "stride": 2},
]
KINDS = [
    AveragedSurface(),
    AveragedSurface(cell_size=3, surface_size=3, tau_us=300, time_window_us=500),
    AveragedSurface(cell_size=4, surface_size=3, tau_us=200, decay="linear"),
    AveragedSurface(cell_size=2, surface_size=1, time_window_us=1),
]


def slow(ev: Events, size: tuple[int, int], kind: AveragedSurface) -> NDArray[np.float64]:
    """Return (cells, 2, K, K) by the definition: every pair of events."""
    cell, side, rho = kind.cell_size, kind.surface_size, kind.surface_size // 2
    down, across = math.ceil(size[1] / cell), math.ceil(size[0] / cell)
    out = np.zeros((down * across, 2, side, side))
    count = np.zeros((down * across, 2))
    stream = list(zip(*(getattr(ev, name).tolist() for name in "xytp"), strict=True))
    for i, (x, y, t, p) in enumerate(stream):
        c = y // cell * across + x // cell
        out[c, p, rho, rho] += 1
        count[c, p] += 1
        for u, v, s, q in stream[:i]:
            same = q == p and v // cell * across + u // cell == c
            near = abs(u - x) <= rho and abs(v - y) <= rho and t - s <= kind.time_window_us
            if same and near:
                age = (t - s) / kind.tau_us
                weight = math.exp(-age) if kind.decay == "exp" else 1 - age / 3
                out[c, p, v - y + rho, u - x + rho] += weight
    return out / np.maximum(count, 1)[:, :, None, None]


def call(kind: AveragedSurface, ev: Events, size: tuple[int, int], rule: dict[str, Any]) -> Any:
    found = kind(ev, sensor_size=size, **rule)
    return found if rule else found[None]


@given(st.data(), sensor_sizes(), st.sampled_from(KINDS))
def test_the_averages_equal_their_slow_twin(
    data: st.DataObject, size: tuple[int, int], kind: AveragedSurface
) -> None:
    ev = data.draw(events(sensor_size=size))

    frame = kind(ev, sensor_size=size)

    assert frame.dtype == np.float32
    assert frame.shape == kind.frame_shape(size)
    np.testing.assert_allclose(kind.as_cells(frame), slow(ev, size, kind), rtol=1e-6, atol=1e-6)


@given(events(), st.sampled_from(RULES), st.sampled_from(KINDS))
def test_each_window_is_a_stream_of_its_own(
    ev: Events, rule: dict[str, Any], kind: AveragedSurface
) -> None:
    found = windows(ev, **rule)

    frames = call(kind, ev, SIZE, rule)

    ranges = found.numbers if found.numbers is not None else found.ranges(ev.t)
    for frame, (first, last) in zip(frames, ranges.tolist(), strict=True):
        assert np.array_equal(frame, kind(ev[first:last], sensor_size=SIZE))


@given(st.data(), st.sampled_from(RULES), st.sampled_from(KINDS))
def test_chunks_give_the_bits_of_the_whole(
    data: st.DataObject, rule: dict[str, Any], kind: AveragedSurface
) -> None:
    ev = data.draw(events())
    accumulator = kind.accumulator(windows(ev, **rule), sensor_size=SIZE)

    for part in data.draw(parts(ev)):
        accumulator.update(part)

    assert np.array_equal(accumulator.finish(), call(kind, ev, SIZE, rule))


@given(events(), st.integers(-(1 << 40), 1 << 40), st.sampled_from(KINDS))
def test_another_start_of_the_clock_changes_nothing(
    ev: Events, shift: int, kind: AveragedSurface
) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)

    assert np.array_equal(kind(moved, sensor_size=SIZE), kind(ev, sensor_size=SIZE))


def test_times_at_the_ends_of_int64_are_far_apart() -> None:
    kind = AveragedSurface(cell_size=1, surface_size=1, tau_us=1e9, time_window_us=(1 << 62) - 1)
    ev = Events(x=[0] * 4, y=[0] * 4, t=[-(1 << 63), 5 - (1 << 63), 0, (1 << 63) - 2], p=[1] * 4)

    frame = kind(ev, sensor_size=(1, 1), edges_us=[-(1 << 63), (1 << 63) - 1])[0]

    assert frame[1, 0, 0] == pytest.approx((4 + math.exp(-5e-9)) / 4)


def test_offsets_are_rows_then_columns_from_the_later_event() -> None:
    kind = AveragedSurface(cell_size=5, surface_size=3, tau_us=100)
    ev = Events(x=[1, 2], y=[4, 3], t=[0, 100], p=[0, 0])

    frame = kind(ev, sensor_size=SIZE)

    # The earlier event lies one row below and one column left of the later one.
    assert np.argwhere(frame).tolist() == [[0, 1, 1], [0, 2, 0]]
    assert frame[0, 2, 0] == pytest.approx(math.exp(-1) / 2)


def test_neighbours_across_a_cell_border_are_not_seen() -> None:
    kind = AveragedSurface(cell_size=3, surface_size=3)
    ev = Events(x=[2, 3], y=[0, 0], t=[0, 0], p=[1, 1])

    assert np.count_nonzero(kind(ev, sensor_size=SIZE)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_no_events_give_zeros(kind: AveragedSurface) -> None:
    found = kind(Events.empty(), sensor_size=SIZE, bins=2)

    assert found.shape == (2, *kind.frame_shape(SIZE))
    assert not found.any()


def test_an_event_outside_is_named() -> None:
    ev = Events(x=[0, 7], y=[0, 0], t=[0, 1], p=[0, 1])

    with pytest.raises(InvalidEventsError, match=r"x=7 .* at event 1;"):
        AveragedSurface()(ev, sensor_size=SIZE)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"surface_size": 4}, "surface_size odd"),
        ({"surface_size": 11}, "at most cell_size"),
        ({"cell_size": 0}, "cell_size as a whole number"),
        ({"time_window_us": 0.5}, "time_window_us as a whole number"),
        ({"tau_us": 0}, "tau_us above 0"),
        ({"decay": "lin"}, "decay among exp, linear"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        AveragedSurface(**settings)


@given(st.data(), sensor_sizes(), st.sampled_from(KINDS))
def test_the_averages_equal_those_of_tonic(
    data: st.DataObject, size: tuple[int, int], kind: AveragedSurface
) -> None:
    # tonic 1.7 holds times as float32, hence times from 0 to below 2^24 only.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transforms = pytest.importorskip("tonic.transforms")
    ev = data.draw(events(sensor_size=size, start_us=0, max_size=20))
    layout = [("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")]
    peer = transforms.ToAveragedTimesurface(
        sensor_size=(*size, 2),
        surface_size=kind.surface_size,
        cell_size=kind.cell_size,
        time_window=kind.time_window_us,
        tau=kind.tau_us,
        decay="exp" if kind.decay == "exp" else "lin",
    )(ev.to_structured().astype(layout))

    found = kind.as_cells(kind(ev, sensor_size=size))

    np.testing.assert_allclose(found, peer, rtol=1e-5, atol=1e-5)
