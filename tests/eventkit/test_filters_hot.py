"""Hot pixels: the rule against a slow twin, and masks learned from chunks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.filters import HotPixelMask, HotPixels, hot_pixels
from eventkit.testing.strategies import events, parts

SIZE = (7, 5)
Row = tuple[int, int, int, int]


def rows(ev: Events) -> list[Row]:
    return list(zip(*(getattr(ev, name).tolist() for name in "xytp"), strict=True))


def stream(*found: Row) -> Events:
    columns = zip(*found, strict=True) if found else [[]] * 4
    return Events(**dict(zip("xytp", map(np.array, columns), strict=True)))


@given(
    events(sensor_size=(3, 2)),
    st.none() | st.floats(0.1, 3),
    st.none() | st.floats(1, 1e4),
    st.none() | st.floats(1, 100),
    st.none() | st.floats(0.1, 4),
)
def test_hot_pixels_equal_their_slow_twin(
    ev: Events,
    n_std: float | None,
    rate_hz: float | None,
    percentile: float | None,
    over_neighbours: float | None,
) -> None:
    if n_std is rate_hz is percentile is None:
        n_std = 2.0
    found = rows(ev)
    counts = {xy: sum(row[:2] == xy for row in found) for xy in {row[:2] for row in found}}
    some = list(counts.values())
    n, total = max(1, len(some)), sum(some)
    spread = math.sqrt(n * sum(c * c for c in some) - total * total) / n
    span = found[-1][2] - found[0][2] if found else 0

    def beside(xy: tuple[int, int]) -> list[int]:
        near = [
            (x, y) for x in range(3) for y in range(2) if max(abs(x - xy[0]), abs(y - xy[1])) == 1
        ]
        return [counts.get(place, 0) for place in near]

    def hot(xy: tuple[int, int]) -> bool:
        count, near = counts[xy], beside(xy)
        over = [
            n_std is None or count > total / n + n_std * spread,
            rate_hz is None or (span > 0 and count > rate_hz * span * 1e-6),
            percentile is None or count > np.percentile(some, percentile),
            over_neighbours is None or count > over_neighbours * max(near),
        ]
        return all(over)

    done = hot_pixels(
        ev,
        sensor_size=(3, 2),
        n_std=n_std,
        rate_hz=rate_hz,
        percentile=percentile,
        over_neighbours=over_neighbours,
    )

    assert rows(done.events) == [row for row in found if not hot(row[:2])]


@given(st.data())
def test_a_mask_learned_from_chunks_is_that_of_the_whole(data: st.DataObject) -> None:
    ev = data.draw(events(sensor_size=(3, 2)))
    flt = HotPixels(n_std=1.0, rate_hz=100.0)

    mask = flt.learn(iter(data.draw(parts(ev))), sensor_size=(3, 2))

    assert np.array_equal(mask.hot, flt.learn(ev, sensor_size=(3, 2)).hot)
    state = mask.start((3, 2))
    pieces = [state.update(part) for part in data.draw(parts(ev))]
    assert Events.concatenate(pieces) == flt(ev, sensor_size=(3, 2)).events


def test_a_pixel_whose_neighbours_fire_as_well_is_no_hot_pixel() -> None:
    edge = [(x, 2, 20 * i + x, 1) for i in range(30) for x in (2, 3, 4)]
    lone = [(0, 0, 1000 + i, 1) for i in range(30)]
    once = [(6, y, 2000 + y, 0) for y in range(5)]
    ev = stream(*edge, *lone, *once)

    assert hot_pixels(ev, sensor_size=SIZE, n_std=0.5, over_neighbours=None).dropped == 120
    assert hot_pixels(ev, sensor_size=SIZE, n_std=0.5).dropped == 30


def test_hot_pixels_cannot_start_before_they_have_learned() -> None:
    with pytest.raises(SettingsError, match="learn"):
        HotPixels().start(SIZE)


def test_a_mask_fits_one_sensor_only() -> None:
    mask = HotPixelMask(hot=np.zeros((5, 7), np.bool_))

    assert mask.size(SIZE) == SIZE
    with pytest.raises(SettingsError, match="7x5 sensor of the mask, got 5x7"):
        mask.start((5, 7))


def test_a_mask_says_which_pixels_are_hot() -> None:
    hot = np.zeros((5, 7), np.bool_)
    hot[4, 6] = hot[0, 2] = True

    assert HotPixelMask(hot=hot).settings == {"pixels": [[2, 0], [6, 4]]}
