"""Filters beside those of other libraries, where definitions coincide."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventkit
from eventkit import filters
from eventkit.events import Events
from eventkit.filters import background_activity, hot_pixels, refractory

Row = tuple[int, int, int, int]


def rows(ev: Events) -> list[Row]:
    return list(zip(*(getattr(ev, name).tolist() for name in "xytp"), strict=True))


def from_10_s(ev: Events) -> Events:
    """Return the events 10 s later: the peers' maps of zeros support what lies near time 0."""
    return Events(x=ev.x, y=ev.y, t=ev.t - ev.t[0] + 10_000_000, p=ev.p)


@pytest.fixture(scope="module")
def real(shared: Path) -> Events:
    recording = eventkit.open(shared / "aedat4" / "davis346_first_170ms.aedat4")
    return from_10_s(recording.events)


def by_tonic(name: str, ev: Events, **settings: Any) -> list[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transforms = pytest.importorskip("tonic.transforms")
    layout = [("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")]
    found = getattr(transforms, name)(**settings)(ev.to_structured().astype(layout))
    return [tuple(row) for row in found.tolist()]


def test_background_activity_equals_that_of_dv_processing(real: Events) -> None:
    dv = pytest.importorskip("dv_processing")
    store = dv.EventStore()
    for x, y, t, p in rows(real):
        store.push_back(t, x, y, bool(p))
    peer = dv.noise.BackgroundActivityNoiseFilter((346, 260), timedelta(microseconds=2000))
    peer.accept(store)
    found = peer.generateEvents().numpy()

    kept = background_activity(real, sensor_size=(346, 260), within_us=1999).events

    assert 0 < len(kept) < len(real)
    assert np.array_equal(found["timestamp"], kept.t)
    assert np.array_equal(found["x"], kept.x)
    assert np.array_equal(found["y"], kept.y)
    assert np.array_equal(found["polarity"], kept.p)


def test_background_activity_equals_the_denoising_of_tonic(real: Events) -> None:
    # tonic takes the last event's pixel as the corner of the sensor, which changes nothing.
    ev = real

    kept = background_activity(ev, sensor_size=(346, 260), within_us=999, neighbours=4).events

    assert rows(kept) == by_tonic("Denoise", ev, filter_time=1000)


def test_refractory_equals_that_of_tonic_from_the_last_event(real: Events) -> None:
    ev = real

    kept = refractory(ev, sensor_size=(346, 260), period_us=1001, refresh="all").events

    assert rows(kept) == by_tonic("RefractoryPeriod", ev, delta=1000)


def test_hot_pixels_by_rate_equal_those_of_tonic(real: Events) -> None:
    ev = real

    kept = hot_pixels(
        ev, sensor_size=(346, 260), n_std=None, rate_hz=20.0, over_neighbours=None
    ).events

    assert 0 < len(kept) < len(ev)
    assert rows(kept) == by_tonic("DropPixel", ev, hot_pixel_frequency=20)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("background:within_us=1000", lambda s: s.background_activity_filter(1000)),
        (
            "background:within_us=1000:neighbours=4",
            lambda s: s.background_activity_filter(1000, neighbourhood="cross"),
        ),
        ("refractory:period_us=1000", lambda s: s.refractory_filter(1000)),
        (
            "refractory:period_us=1000:refresh=all",
            lambda s: s.refractory_filter(1000, refresh="all"),
        ),
        ("hot-pixels:n_std=3:over_neighbours=none", lambda s: s.hot_pixel_filter(3.0)),
    ],
)
def test_filters_equal_those_of_eventcv(
    real: Events, ours: str, theirs: Callable[[Any], Any]
) -> None:
    eventcv = pytest.importorskip("eventcv")
    raw = np.array(rows(real), np.int64)
    peer = theirs(eventcv.from_numpy(raw, sensor_size=(346, 260), time_unit="us"))

    kept = filters.parse(ours)(real, sensor_size=(346, 260)).events

    assert 0 < len(kept) < len(real)
    assert np.array_equal(peer.numpy(), np.array(rows(kept), np.int64))
