"""Filters: each against a slow twin, chunks against the whole, long times, odd streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit import filters
from eventkit.errors import EventKitError, InvalidEventsError
from eventkit.events import Events
from eventkit.filters import (
    background_activity,
    crop,
    downsample,
    flip,
    limit_rate,
    polarity,
    refractory,
    transpose,
)
from eventkit.ledger import Ledger
from eventkit.testing.strategies import STARTS_US, events, parts, sensor_sizes

SIZE = (7, 5)
# One filter of every name, able to take chunks.
SPECS = [
    "background",
    "background:within_us=0:neighbours=4",
    "refractory:period_us=700",
    "refractory:period_us=700:by_polarity=true:refresh=all",
    "crop:box=2/1/4/3",
    "flip:axis=x",
    "flip:axis=y",
    "transpose",
    "downsample:factor=2",
    "downsample:factor=3:step_us=800",
    "polarity:mode=on",
    "polarity:mode=off",
    "polarity:mode=merge",
    "polarity:mode=invert",
    "rate:count=2:per_us=900",
]
Row = tuple[int, int, int, int]


def rows(ev: Events) -> list[Row]:
    return list(zip(*(getattr(ev, name).tolist() for name in "xytp"), strict=True))


def stream(*found: Row) -> Events:
    columns = zip(*found, strict=True) if found else [[]] * 4
    return Events(**dict(zip("xytp", map(np.array, columns), strict=True)))


def drawn_on(size: tuple[int, int], n: int, *, seed: int = 0, span_us: int = 10_000) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        x=rng.integers(0, size[0], n),
        y=rng.integers(0, size[1], n),
        t=np.sort(rng.integers(0, span_us, n)),
        p=rng.integers(0, 2, n),
    )


# Slow twins: the sentences of the docs, event by event, in Python integers.


def slow_background(found: list[Row], within: int, neighbours: int) -> list[Row]:
    def supports(a: Row, b: Row) -> bool:
        dx, dy = abs(a[0] - b[0]), abs(a[1] - b[1])
        near = dx + dy == 1 if neighbours == 4 else max(dx, dy) == 1
        return near and b[2] - a[2] <= within

    return [b for i, b in enumerate(found) if any(supports(a, b) for a in found[:i])]


def slow_refractory(found: list[Row], period: int, by_polarity: bool, refresh: str) -> list[Row]:
    last: dict[Any, int] = {}
    kept = []
    for x, y, t, p in found:
        key = (x, y, p) if by_polarity else (x, y)
        good = key not in last or t - last[key] >= period
        if good:
            kept.append((x, y, t, p))
        if good or refresh == "all":
            last[key] = t
    return kept


def slow_downsample(found: list[Row], factor: int, step: int) -> list[Row]:
    seen, kept = set(), []
    for x, y, t, p in found:
        small = (x // factor, y // factor, t, p)
        key = (*small[:2], p, (t - found[0][2]) // step if step else None)
        if not step or key not in seen:
            kept.append(small)
        seen.add(key)
    return kept


def slow_rate(found: list[Row], count: int, per: int) -> list[Row]:
    met: dict[int, int] = {}
    kept = []
    for row in found:
        interval = (row[2] - found[0][2]) // per
        met[interval] = met.get(interval, 0) + 1
        if met[interval] <= count:
            kept.append(row)
    return kept


# Each filter and its twin


@given(st.data(), sensor_sizes(max_side=5), st.integers(0, 1500), st.sampled_from([8, 4]))
def test_background_activity_equals_its_slow_twin(
    data: st.DataObject, size: tuple[int, int], within: int, neighbours: int
) -> None:
    ev = data.draw(events(sensor_size=size))

    done = background_activity(ev, sensor_size=size, within_us=within, neighbours=neighbours)

    assert rows(done.events) == slow_background(rows(ev), within, neighbours)


@given(
    events(sensor_size=(3, 2)),
    st.integers(0, 1500),
    st.booleans(),
    st.sampled_from(["kept", "all"]),
)
def test_refractory_equals_its_slow_twin(
    ev: Events, period: int, by_polarity: bool, refresh: Any
) -> None:
    done = refractory(
        ev, sensor_size=(3, 2), period_us=period, by_polarity=by_polarity, refresh=refresh
    )

    assert rows(done.events) == slow_refractory(rows(ev), period, by_polarity, refresh)


@given(events(), st.integers(1, 9), st.integers(0, 1500))
def test_downsample_equals_its_slow_twin(ev: Events, factor: int, step: int) -> None:
    done = downsample(ev, sensor_size=SIZE, factor=factor, step_us=step)

    assert rows(done.events) == slow_downsample(rows(ev), factor, step)
    assert done.sensor_size == (-(-7 // factor), -(-5 // factor))


@given(events(max_step_us=30), st.integers(1, 5), st.integers(1, 40))
def test_the_rate_limit_equals_its_slow_twin(ev: Events, count: int, per: int) -> None:
    done = limit_rate(ev, sensor_size=SIZE, count=count, per_us=per)

    assert rows(done.events) == slow_rate(rows(ev), count, per)


@given(st.data(), events())
def test_crop_equals_its_slow_twin(data: st.DataObject, ev: Events) -> None:
    x0, y0 = data.draw(st.integers(0, 6)), data.draw(st.integers(0, 4))
    w, h = data.draw(st.integers(1, 7 - x0)), data.draw(st.integers(1, 5 - y0))

    done = crop(ev, sensor_size=SIZE, box=(x0, y0, w, h))

    expected = [
        (x - x0, y - y0, t, p) for x, y, t, p in rows(ev) if x0 <= x < x0 + w and y0 <= y < y0 + h
    ]
    assert rows(done.events) == expected
    assert done.sensor_size == (w, h)


@given(events())
def test_flips_and_transposition_move_every_event(ev: Events) -> None:
    found = rows(ev)

    assert rows(flip(ev, sensor_size=SIZE, axis="x").events) == [
        (6 - x, y, t, p) for x, y, t, p in found
    ]
    assert rows(flip(ev, sensor_size=SIZE, axis="y").events) == [
        (x, 4 - y, t, p) for x, y, t, p in found
    ]
    turned = transpose(ev, sensor_size=SIZE)
    assert rows(turned.events) == [(y, x, t, p) for x, y, t, p in found]
    assert turned.sensor_size == (5, 7)


@given(events())
def test_polarity_modes_do_what_they_say(ev: Events) -> None:
    found = rows(ev)
    done = {mode: rows(polarity(ev, sensor_size=SIZE, mode=mode).events) for mode in MODES}

    assert done["on"] == [row for row in found if row[3] == 1]
    assert done["off"] == [row for row in found if row[3] == 0]
    assert done["merge"] == [(*row[:3], 1) for row in found]
    assert done["invert"] == [(*row[:3], 1 - row[3]) for row in found]


MODES: tuple[Any, ...] = ("on", "off", "merge", "invert")


@pytest.mark.parametrize("factor", [1, 2, 3, 7, 255, 256, 641, 65535])
def test_every_place_is_divided_exactly(factor: int) -> None:
    x = np.arange(65536, dtype=np.uint16)
    ev = Events(x=x, y=np.zeros_like(x), t=np.arange(x.size) * 10, p=x & 1)

    for step_us in (0, 5):
        done = downsample(ev, sensor_size=(65536, 1), factor=factor, step_us=step_us).events
        assert np.array_equal(done.x, x // factor)


# All filters at once


@given(st.data(), st.sampled_from(SPECS))
def test_chunks_are_filtered_like_the_whole(data: st.DataObject, spec: str) -> None:
    ev = data.draw(events())
    flt = filters.parse(spec)
    whole = flt(ev, sensor_size=SIZE)

    state = flt.start(SIZE)
    pieces = [state.update(part) for part in data.draw(parts(ev))]

    assert Events.concatenate(pieces) == whole.events
    assert state.dropped == whole.dropped == len(ev) - len(whole.events)


@given(events(), st.sampled_from(SPECS), st.integers(-(1 << 40), 1 << 40))
def test_another_start_of_the_clock_changes_only_the_times(
    ev: Events, spec: str, shift: int
) -> None:
    flt = filters.parse(spec)
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)

    done = flt(moved, sensor_size=SIZE).events

    kept = flt(ev, sensor_size=SIZE).events
    assert done == Events(x=kept.x, y=kept.y, t=kept.t + shift, p=kept.p)


@given(events(), st.sampled_from(SPECS))
def test_kept_events_lie_on_the_sensor_that_is_returned(ev: Events, spec: str) -> None:
    done = filters.parse(spec)(ev, sensor_size=SIZE)

    assert (done.events.x < done.sensor_size[0]).all()
    assert (done.events.y < done.sensor_size[1]).all()
    assert done.sensor_size == filters.parse(spec).size(SIZE)


@given(events(), st.sampled_from([*SPECS, "hot-pixels:n_std=1"]))
def test_the_ledger_balances(ev: Events, spec: str) -> None:
    flt, ledger = filters.parse(spec), Ledger()

    done = flt(ev, sensor_size=SIZE, ledger=ledger)

    assert ledger.decoded == len(ev)
    assert ledger.kept == len(done.events)
    assert set(ledger.dropped) <= {f"filtered.{flt.name}"}
    assert done.dropped == ledger.dropped[f"filtered.{flt.name}"]


@pytest.mark.parametrize("spec", [*SPECS, "hot-pixels"])
def test_no_events_stay_no_events(spec: str) -> None:
    done = filters.parse(spec)(Events.empty(), sensor_size=SIZE)

    assert (len(done.events), done.dropped) == (0, 0)


@pytest.mark.parametrize("t", [*STARTS_US, -(1 << 63), (1 << 63) - 1])
@pytest.mark.parametrize(
    "spec", [*SPECS, "hot-pixels", "hot-pixels:n_std=none:rate_hz=1:over_neighbours=none"]
)
def test_one_event_is_kept_unless_it_needs_another(spec: str, t: int) -> None:
    done = filters.parse(spec)(stream((2, 1, t, 1)), sensor_size=SIZE)

    lonely = spec.startswith("background") or spec == "polarity:mode=off"
    assert len(done.events) == (not lonely)
    assert done.events.t.tolist() == [t] * (not lonely)


@pytest.mark.parametrize("n", [511, 512, 513, 1024, 3000])
@pytest.mark.parametrize("spec", SPECS)
def test_the_blocks_of_the_kernels_meet_without_a_seam(spec: str, n: int) -> None:
    ev = drawn_on(SIZE, n)
    flt = filters.parse(spec)

    state = flt.start(SIZE)
    pieces = [state.update(ev[a : a + 97]) for a in range(0, n, 97)]

    assert flt(ev, sensor_size=SIZE).events == Events.concatenate(pieces)


@pytest.mark.parametrize("bad", [0, 511, 512, 700, 999])
@pytest.mark.parametrize("column", ["x", "y", "p"])
@pytest.mark.parametrize("spec", [*SPECS, "hot-pixels"])
def test_an_event_outside_the_sensor_is_named(spec: str, bad: int, column: str) -> None:
    ev = drawn_on(SIZE, 1000)
    columns = {name: getattr(ev, name).copy() for name in "xytp"}
    columns[column][bad] = {"x": 7, "y": 5, "p": -1}[column]
    broken = Events.from_checked(**columns)

    with pytest.raises(InvalidEventsError, match=rf"7x5 sensor .* at event {bad};"):
        filters.parse(spec)(broken, sensor_size=SIZE)

    done = filters.parse(spec)(
        broken, sensor_size=SIZE, outside="drop", ledger=(ledger := Ledger())
    )
    assert ledger.dropped["outside"] == 1
    assert len(done.events) + done.dropped == 1000


@pytest.mark.parametrize("spec", SPECS)
def test_an_event_outside_is_numbered_from_the_start_of_the_stream(spec: str) -> None:
    state = filters.parse(spec).start(SIZE)
    state.update(drawn_on(SIZE, 20, span_us=5))

    with pytest.raises(InvalidEventsError, match="x=9 y=0 p=1 at event 21;"):
        state.update(stream((0, 0, 7, 0), (9, 0, 8, 1)))


@pytest.mark.parametrize("spec", SPECS)
def test_a_chunk_that_steps_back_is_refused(spec: str) -> None:
    state = filters.parse(spec).start(SIZE)
    state.update(stream((0, 0, 7, 0)))

    with pytest.raises(InvalidEventsError, match="from 7 us on, got 6 us"):
        state.update(stream((0, 0, 6, 0)))


@pytest.mark.parametrize("spec", SPECS)
def test_the_events_given_are_not_changed(spec: str) -> None:
    ev = drawn_on(SIZE, 200)
    before = ev.to_structured()

    filters.parse(spec)(ev, sensor_size=SIZE)

    assert np.array_equal(ev.to_structured(), before)


# Times that int32 cannot hold


@pytest.mark.parametrize("gap", [(1 << 31) - 1, 1 << 31, 1 << 32, (1 << 53) + 1, (1 << 62) + 7])
@pytest.mark.parametrize("start", [0, -(1 << 62)])
def test_ages_are_exact_however_long_the_stream(gap: int, start: int) -> None:
    last = start + gap
    ev = stream((2, 1, start, 1), (3, 1, last - 1, 0), (2, 1, last, 1), (2, 2, last, 1))

    for limit in (gap - 2, gap - 1, gap, gap + 1):
        near = background_activity(ev, sensor_size=SIZE, within_us=limit).events
        rested = refractory(ev, sensor_size=SIZE, period_us=limit).events
        assert rows(near) == slow_background(rows(ev), limit, 8)
        assert rows(rested) == slow_refractory(rows(ev), limit, False, "kept")


def test_a_state_outgrows_int32_between_two_chunks() -> None:
    found = [(2, 1, 0, 1), (3, 1, 10, 1), (2, 1, 1 << 31, 1), (3, 1, (1 << 31) + 5, 1)]
    state = filters.make("background", within_us=100).start(SIZE)

    kept = [rows(state.update(stream(row))) for row in found]

    assert [bool(part) for part in kept] == [False, True, False, True]


@pytest.mark.parametrize("name", ["background", "refractory", "rate", "downsample"])
def test_a_span_past_int64_is_refused(name: str) -> None:
    spec = {"rate": "rate:count=1", "downsample": "downsample:step_us=5"}.get(name, name)
    ev = stream((0, 0, -(1 << 62), 0), (1, 1, (1 << 62) + 5, 0))

    with pytest.raises(InvalidEventsError, match=r"shorter than 2\^63 us"):
        filters.parse(spec)(ev, sensor_size=SIZE)


def test_the_number_of_steps_may_pass_uint32() -> None:
    from eventkit.kernels.filters import LAST_STEP

    state: Any = filters.make("downsample", factor=1, step_us=10).start(SIZE)
    state.update(stream((0, 0, 0, 1)))
    state._clock[1] = LAST_STEP
    state._steps[0] = 1

    kept = state.update(stream((0, 0, 5, 1), (0, 0, 10, 1), (0, 0, 11, 1), (0, 0, 20, 1)))

    # The event at 5 is only kept because the number of its step was set by hand.
    assert kept.t.tolist() == [5, 10, 20]


def test_structured_arrays_may_be_sorted_on_the_way_in() -> None:
    raw = np.array(
        [(1, 0, 9, 1), (0, 0, 3, 0)], [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "i1")]
    )

    with pytest.raises(InvalidEventsError, match="at event 1"):
        flip(raw, sensor_size=SIZE)
    assert flip(raw, sensor_size=SIZE, sort=True).events.t.tolist() == [3, 9]


def test_odd_streams_end_in_an_answer_or_an_error_of_ours() -> None:
    rng = np.random.default_rng(0)
    edges = np.array([-(1 << 63), -1, 0, 1, (1 << 31) - 1, 1 << 31, (1 << 53) + 1, (1 << 63) - 1])
    for _ in range(400):
        n = int(rng.integers(0, 6))
        flt = filters.parse(str(rng.choice([*SPECS, "hot-pixels"])))
        odd = Events.from_checked(
            rng.choice([0, 6, 7, 65535], n, p=[0.6, 0.3, 0.05, 0.05]).astype(np.uint16),
            rng.choice([0, 4, 5, 65535], n, p=[0.6, 0.3, 0.05, 0.05]).astype(np.uint16),
            np.sort(rng.choice(edges, n)),
            rng.choice([0, 1, 2, -128], n, p=[0.5, 0.4, 0.05, 0.05]).astype(np.int8),
        )
        try:
            done = flt(odd, sensor_size=SIZE)
        except EventKitError:
            continue
        assert len(done.events) + done.dropped == n
