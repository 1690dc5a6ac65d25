"""Filters by name: specs, the errors of wrong ones, and chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit import filters
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.filters import chain, crop, flip
from eventkit.ledger import Ledger
from eventkit.testing.strategies import events, parts

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


def stream(*found: Row) -> Events:
    columns = zip(*found, strict=True) if found else [[]] * 4
    return Events(**dict(zip("xytp", map(np.array, columns), strict=True)))


def test_every_name_can_be_made_and_has_a_function() -> None:
    needed: dict[str, dict[str, Any]] = {"crop": {"box": (0, 0, 1, 1)}, "rate": {"count": 1}}

    for name in filters.names():
        flt = filters.make(name, **needed.get(name, {}))
        assert flt.name == name
        assert filters.parse(filters.spec_of(flt)) == flt


@pytest.mark.parametrize("spec", [*SPECS, "hot-pixels:n_std=none:percentile=99.5"])
def test_a_spec_comes_back_as_the_same_filter(spec: str) -> None:
    flt = filters.parse(spec)

    assert filters.parse(filters.spec_of(flt)) == flt


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("denoise", "expected a filter among background, .* got 'denoise'"),
        ("background:radius=2", "no setting 'radius'; its settings are within_us, neighbours"),
        ("background:within_us", "setting=value"),
        ("background:within_us=1:within_us=2", "each setting once"),
        ("background:within_us=soon", "within_us as a whole number"),
        ("background:within_us=-1", r"within 0..2\^63 - 1"),
        ("background:within_us=9223372036854775808", r"within 0..2\^63 - 1"),
        ("background:within_us=2.5", "whole number"),
        ("background:neighbours=6", "neighbours among 8, 4, got '6'"),
        ("refractory:by_polarity=2", "true or false"),
        ("refractory:refresh=never", "refresh among kept, all"),
        ("crop", "crop needs box"),
        ("crop:box=1/2/3", "box .x, y, w, h."),
        ("crop:box=7", "box .x, y, w, h."),
        ("crop:box=0/0/0/4", "expected w as a whole number"),
        ("flip:axis=z", "axis among x, y"),
        ("downsample:factor=0", "factor as a whole number"),
        ("polarity:mode=both", "mode among"),
        ("rate", "rate needs count"),
        ("rate:count=true", "count as a whole number"),
        ("hot-pixels:n_std=none", "needs n_std, rate_hz or percentile"),
        ("hot-pixels:n_std=-1", "n_std above 0"),
        ("hot-pixels:n_std=much", "n_std as a number"),
        ("hot-pixels:percentile=101", "percentile within"),
    ],
)
def test_wrong_specs_are_refused_with_a_sentence(spec: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        filters.parse(spec)


def test_a_box_beyond_the_sensor_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"on the 7x5 sensor, got 4x5 at \(4, 0\)"):
        crop(Events.empty(), sensor_size=SIZE, box=(4, 0, 4, 5))


def test_an_unknown_option_is_refused() -> None:
    options: Any = {"sensor": SIZE}
    with pytest.raises(SettingsError, match="unknown option 'sensor'"):
        flip(Events.empty(), sensor_size=SIZE, **options)


@given(st.data(), st.lists(st.sampled_from(SPECS), max_size=4))
def test_a_chain_is_its_filters_one_after_another(data: st.DataObject, specs: list[str]) -> None:
    size = (40, 30)
    ev = data.draw(events(sensor_size=size))
    try:
        both = chain(specs)
        both.size(size)
    except SettingsError:  # a box that lies outside what is left
        return
    expected, left, lost = ev, size, 0
    for spec in specs:
        done = filters.parse(spec)(expected, sensor_size=left)
        expected, left, lost = done.events, done.sensor_size, lost + done.dropped
    ledger = Ledger()

    whole = both(ev, sensor_size=size, ledger=ledger)
    state = both.start(size)
    pieces = [state.update(part) for part in data.draw(parts(ev))]

    assert whole.events == Events.concatenate(pieces) == expected
    assert (whole.sensor_size, whole.dropped) == (left, lost)
    assert (ledger.decoded, ledger.kept) == (len(ev), len(expected))
    assert ledger.dropped == state.drops


def test_a_chain_may_learn_its_hot_pixels_from_a_whole_stream() -> None:
    ev = stream(*((3, 1, i, 1) for i in range(90)), (0, 0, 90, 1), (1, 0, 91, 1), (2, 0, 92, 0))
    ledger = Ledger()

    done = chain("hot-pixels:n_std=1.5,polarity:mode=on")(ev, sensor_size=SIZE, ledger=ledger)

    assert done.events.t.tolist() == [90, 91]
    assert dict(ledger.dropped) == {"filtered.hot-pixels": 90, "filtered.polarity": 1}


def test_a_chain_drops_outside_events_once() -> None:
    ev = Events(x=[9, 1, 2], y=[0, 0, 0], t=[0, 1, 2], p=[1, 1, 0])

    done = chain("flip,polarity:mode=on")(
        ev, sensor_size=SIZE, outside="drop", ledger=(ledger := Ledger())
    )

    assert done.events.x.tolist() == [5]
    assert dict(ledger.dropped) == {"outside": 1, "filtered.polarity": 1}
