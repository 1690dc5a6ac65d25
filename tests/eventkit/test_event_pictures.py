"""Pictures of events: the Event-AHU group's and Tencode, against slow twins of their rules."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from representation_twins import SIZE, drawn_on, pile, rows

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.representations import make
from eventkit.representations.pictures import event_image
from eventkit.testing.strategies import events, parts, sensor_sizes, window_rules
from eventkit.windows import Windows

WHITE, RED, BLUE = (255, 255, 255), (220, 30, 30), (30, 30, 200)
NAMES = ["image:event-ahu", "image:tencode"]
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("image:event-ahu", {}),
    ("image:event-ahu", {"painting": "last-wins"}),
    ("image:tencode", {}),
]


def slow_image(ev: Events, size: tuple[int, int], painting: str = "off-over-on") -> NDArray[Any]:
    """Paint all ON and then all OFF events, or all in their order."""
    image = np.full((size[1], size[0], 3), WHITE, np.uint8)
    met = rows(ev)
    for x, y, _, p in met if painting == "last-wins" else sorted(met, key=lambda e: -e[3]):
        image[y, x] = RED if p else BLUE
    return image.transpose(2, 0, 1)


def slow_tencode(ev: Events, size: tuple[int, int]) -> NDArray[Any]:
    image = np.zeros((3, size[1], size[0]), np.uint8)
    met = rows(ev)
    for x, y, t, p in met:
        first, last = met[0][2], met[-1][2]
        age = Fraction(last - t, last - first) if last > first else Fraction(0)
        image[:, y, x] = (255 * p, floor(255 * age + Fraction(1, 2)), 255 * (1 - p))
    return image


def slow(name: str, settings: dict[str, Any], ev: Events, size: tuple[int, int]) -> NDArray[Any]:
    return slow_tencode(ev, size) if name.endswith("tencode") else slow_image(ev, size, **settings)


@pytest.mark.parametrize(("name", "settings"), KINDS)
@given(data=st.data(), size=sensor_sizes())
def test_pictures_equal_those_of_the_slow_twin(
    name: str, settings: dict[str, Any], data: st.DataObject, size: tuple[int, int]
) -> None:
    ev = data.draw(events(sensor_size=size))

    picture = make(name, **settings)(ev, sensor_size=size)

    assert picture.dtype == np.uint8
    assert np.array_equal(picture, slow(name, settings, ev, size))


@pytest.mark.parametrize(("name", "settings"), KINDS)
@given(data=st.data(), ev=events())
def test_every_window_is_drawn_as_if_it_were_the_stream(
    name: str, settings: dict[str, Any], data: st.DataObject, ev: Events
) -> None:
    rule = data.draw(window_rules(ev))
    representation = make(name, **settings)
    windows = representation.windows(ev, SIZE, **rule)

    pictures = representation(ev, sensor_size=SIZE, **rule).reshape(-1, 3, SIZE[1], SIZE[0])

    expected = [slow(name, settings, ev[a:z], SIZE) for a, z in windows.ranges(ev.t).tolist()]
    assert len(pictures) == len(expected)
    assert all(map(np.array_equal, pictures, expected))


@pytest.mark.parametrize(("name", "settings"), KINDS)
@given(data=st.data(), ev=events())
def test_chunks_give_the_bits_of_the_whole(
    name: str, settings: dict[str, Any], data: st.DataObject, ev: Events
) -> None:
    rule = data.draw(window_rules(ev))
    representation = make(name, **settings)
    windows = representation.windows(ev, SIZE, **rule)
    taker = representation.accumulator(windows, sensor_size=SIZE)

    for part in data.draw(parts(ev)):
        taker.update(part)

    whole = representation(ev, sensor_size=SIZE, **rule).reshape(-1, 3, SIZE[1], SIZE[0])
    assert np.array_equal(taker.finish(), whole)


@pytest.mark.parametrize(("name", "settings"), KINDS)
@pytest.mark.parametrize("n", [1, 511, 512, 513, 1025])
def test_the_blocks_of_the_kernels_meet_without_a_seam(
    name: str, settings: dict[str, Any], n: int
) -> None:
    ev = drawn_on((13, 40), n)

    picture = make(name, **settings)(ev, sensor_size=(13, 40))

    assert np.array_equal(picture, slow(name, settings, ev, (13, 40)))


@pytest.mark.parametrize("name", NAMES)
@given(ev=events(), shift=st.integers(-(1 << 40), 1 << 40))
def test_another_start_of_the_clock_changes_nothing(name: str, ev: Events, shift: int) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)

    assert np.array_equal(make(name)(moved, sensor_size=SIZE), make(name)(ev, sensor_size=SIZE))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("column", ["x", "y"])
def test_an_event_outside_the_sensor_is_named_or_dropped(name: str, column: str) -> None:
    ev = drawn_on(SIZE, 1000)
    columns = {c: getattr(ev, c).copy() for c in "xytp"}
    columns[column][700] = SIZE["xy".index(column)]
    broken = Events(**columns)

    with pytest.raises(InvalidEventsError, match="at event 700"):
        make(name)(broken, sensor_size=SIZE)
    dropped = make(name)(broken, sensor_size=SIZE, outside="drop")
    kept = broken[np.arange(1000) != 700]
    assert np.array_equal(dropped, make(name)(kept, sensor_size=SIZE))


@pytest.mark.parametrize("name", NAMES)
def test_a_chunk_that_is_dropped_whole_is_no_trouble(name: str) -> None:
    taker = make(name).accumulator(
        Windows.of_edges([0, 10, 20]), sensor_size=(2, 2), outside="drop"
    )
    taker.update(Events(x=[5], y=[0], t=[3], p=[1]))
    taker.update(Events(x=[1], y=[0], t=[12], p=[1]))

    ground = 255 if name == "image:event-ahu" else 0
    frames = taker.finish()
    assert (frames[0] == ground).all()
    assert (frames[1] != ground).any()
    assert taker.ledger.dropped == {"outside": 1}


@pytest.mark.parametrize("name", NAMES)
def test_no_events_leave_the_ground_whatever_was_in_out(name: str) -> None:
    out = np.full((2, 3, 5, 7), 77, np.uint8)

    assert make(name)(Events.empty(), sensor_size=SIZE, edges_us=[0, 1, 2], out=out) is out
    assert (out == (255 if name == "image:event-ahu" else 0)).all()


# The group's picture


def test_off_is_blue_and_painted_over_red_and_white_is_where_nothing_was() -> None:
    ev = Events(x=[6, 0, 0, 1], y=[0, 4, 4, 2], t=[0, 3, 6, 9], p=[1, 0, 1, 0])

    first, last = (
        event_image(ev, sensor_size=SIZE, painting=painting)
        for painting in ("off-over-on", "last-wins")
    )

    assert tuple(first[:, 0, 6]) == tuple(last[:, 0, 6]) == RED
    assert tuple(first[:, 2, 1]) == tuple(last[:, 2, 1]) == BLUE
    assert (tuple(first[:, 4, 0]), tuple(last[:, 4, 0])) == (BLUE, RED)
    assert tuple(first[:, 0, 0]) == WHITE


@given(events(), st.lists(st.tuples(st.integers(-50, 9000), st.integers(0, 3000)), max_size=6))
def test_exposures_are_half_open_windows_that_may_overlap_and_leave_gaps(
    ev: Events, drawn: list[tuple[int, int]]
) -> None:
    first = int(ev.t[0]) if len(ev) else 0
    starts = sorted(first + start for start, _ in drawn)
    stops = np.maximum.accumulate([s + d for s, (_, d) in zip(starts, drawn, strict=True)] or [0])
    spans = list(zip(starts, stops.tolist(), strict=False))

    pictures = event_image(
        ev, sensor_size=SIZE, exposures_us=np.array(spans, np.int64).reshape(-1, 2)
    )

    assert pictures.shape == (len(spans), 3, 5, 7)
    for picture, (start, stop) in zip(pictures, spans, strict=True):
        met = ev[(ev.t >= start) & (ev.t < stop)]
        assert np.array_equal(picture, slow_image(met, SIZE))


def test_events_between_exposures_are_counted_as_in_no_picture() -> None:
    ev = Events(x=[0] * 5, y=[0] * 5, t=[0, 4, 5, 9, 20], p=[1] * 5)
    ledger = Ledger()
    out = np.empty((2, 3, 1, 1), np.uint8)

    pictures = event_image(
        ev, sensor_size=(1, 1), exposures_us=[[4, 6], [20, 24]], out=out, ledger=ledger
    )

    assert pictures is out
    assert (ledger.decoded, ledger.kept, ledger.dropped) == (5, 3, {"unpaired": 2})


@pytest.mark.parametrize(
    ("exposures", "words"),
    [
        ([0, 5], "as .T, 2. integers"),
        ([[0.0, 5.0]], "as .T, 2. integers"),
        ([[5, 4]], "stop after they start"),
        ([[5, 9], [4, 10]], r"in order of start and stop, got \[4, 10\] after \[5, 9\] at 1"),
        ([[5, 9], [6, 8]], "in order of start and stop"),
    ],
)
def test_exposures_that_cannot_be_are_refused(exposures: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        event_image(pile(1), sensor_size=SIZE, exposures_us=exposures)


def test_exposures_and_a_window_rule_do_not_go_together() -> None:
    with pytest.raises(SettingsError, match="takes the place of a window rule, got bins"):
        event_image(pile(1), sensor_size=SIZE, exposures_us=[[0, 1]], bins=2)


def test_an_unknown_painting_is_refused() -> None:
    with pytest.raises(SettingsError, match="painting among off-over-on, last-wins, got 'green'"):
        make("image:event-ahu", painting="green")


# Tencode


def test_the_latest_event_counts_also_among_those_of_one_time() -> None:
    ev = Events(x=[0, 0, 1, 1], y=[0] * 4, t=[0, 10, 10, 10], p=[0, 1, 1, 0])

    picture = make("image:tencode")(ev, sensor_size=(2, 1))

    assert picture[:, 0].T.tolist() == [[255, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("span", [1, 2, 100, 509, 510, 511, 99_999, (1 << 31) - 1, 1 << 40])
def test_green_is_rounded_to_the_nearest_and_halves_up(span: int) -> None:
    rng = np.random.default_rng(0)
    near = [span * g // 510 + d for g in range(511) for d in (-1, 0, 1)]  # where roundings meet
    t = np.unique([0, *rng.integers(0, span + 1, 200), *np.clip(near, 0, span), span])
    ev = Events(x=np.arange(t.size), y=np.zeros(t.size, int), t=t, p=np.ones(t.size, int))

    green = make("image:tencode")(ev, sensor_size=(t.size, 1))[1, 0]

    assert green.tolist() == [(510 * (span - when) + span) // (2 * span) for when in t.tolist()]


@pytest.mark.parametrize("t", [0, -7, (1 << 53) + 1])
def test_one_event_is_new(t: int) -> None:
    picture = make("image:tencode")(pile(1, t=t), sensor_size=SIZE)

    assert picture[:, 1, 2].tolist() == [255, 0, 0]
    assert picture.sum() == 255


def test_spans_that_float64_cannot_hold_are_shaded_exactly() -> None:
    t = [-(1 << 62), -1, 0, (1 << 60) + 1, 1 << 61]
    ev = Events(x=range(5), y=[0] * 5, t=t, p=[1, 0, 1, 0, 1])

    assert np.array_equal(make("image:tencode")(ev, sensor_size=(5, 1)), slow_tencode(ev, (5, 1)))


def test_a_span_past_int64_is_refused() -> None:
    ev = Events(x=[0, 0], y=[0, 0], t=[-(1 << 62), 1 << 62], p=[1, 1])

    with pytest.raises(InvalidEventsError, match=r"below 2\^63 us"):
        make("image:tencode")(ev, sensor_size=(1, 1))


def test_windows_of_half_an_hour_and_more_are_not_cut_to_32_bits() -> None:
    t = [0, 1 << 31, (1 << 32) + 5, 1 << 33]
    ev = Events(x=range(4), y=[0] * 4, t=t, p=[1] * 4)

    assert np.array_equal(make("image:tencode")(ev, sensor_size=(4, 1)), slow_tencode(ev, (4, 1)))
