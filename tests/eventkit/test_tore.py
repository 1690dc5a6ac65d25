"""TORE volumes: both conventions against a slow twin, and chunks against the whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations.tore import ToreVolume
from eventkit.slicing import windows
from eventkit.testing.strategies import events, parts, sensor_sizes
from eventkit.windows import Windows

SIZE = (7, 5)
EXACT = 2e-6
RULES: list[dict[str, Any]] = [
    {},
    {"bins": 3},
    {"window_us": 900, "stride_us": 250},
    {"window_us": 100, "stride_us": 300},
    {"count": 5, "stride": 2},
    {"count": 2, "stride": 3},
]
KINDS = [
    ToreVolume(k=1),
    ToreVolume(k=3, min_us=20, max_us=700),
    ToreVolume(k=3, convention="evutils", tau_us=300),
    ToreVolume(k=4, convention="evutils", tau_us=2),
]


def members(found: Windows, ev: Events) -> list[list[int]]:
    if found.numbers is not None:
        return [list(range(a, b)) for a, b in found.numbers.tolist()]
    t = ev.t.tolist()
    return [[i for i in range(len(t)) if a <= t[i] < b] for a, b in found.spans.tolist()]


def slow(ev: Events, found: Windows, size: tuple[int, int], kind: ToreVolume) -> NDArray[Any]:
    """Return the volume by its definition: lists of times, sorted, cut to K."""
    published = kind.convention == "baldwin"
    empty = math.log1p(kind.max_us) - math.log1p(kind.min_us) if published else 0.0
    out = np.full((len(found), 2 * kind.k, size[1], size[0]), empty)
    stream = list(zip(*(getattr(ev, name).tolist() for name in "xytp"), strict=True))
    seen: dict[tuple[int, int, int], list[int]] = {}
    done: set[int] = set()
    for w, inside in enumerate(members(found, ev)):
        if not published:
            seen, done = {}, set()
        for i in inside:
            x, y, t, p = stream[i]
            if i not in done:
                seen.setdefault((p, y, x), []).append(t)
            done.add(i)
        stop = int(found.spans[w, 1])
        for (p, y, x), times in seen.items():
            for n, t in enumerate(sorted(times, reverse=True)[: kind.k]):
                if published:
                    age = min(stop - t, kind.max_us)
                    value = max(0.0, math.log1p(age) - math.log1p(kind.min_us))
                else:
                    value = math.exp(-(stop - 1 - t) / kind.tau_us)
                out[w, p * kind.k + n, y, x] = value
    return out


def call(kind: ToreVolume, ev: Events, size: tuple[int, int], rule: dict[str, Any]) -> Any:
    found = kind(ev, sensor_size=size, **rule)
    return found if rule else found[None]


@given(st.data(), sensor_sizes(max_side=3), st.sampled_from(RULES), st.sampled_from(KINDS))
def test_a_volume_equals_its_slow_twin(
    data: st.DataObject, size: tuple[int, int], rule: dict[str, Any], kind: ToreVolume
) -> None:
    ev = data.draw(events(sensor_size=size))

    frames = call(kind, ev, size, rule)

    assert frames.dtype == np.float32
    np.testing.assert_allclose(
        frames, slow(ev, windows(ev, **rule), size, kind), rtol=0, atol=EXACT
    )


@given(st.data(), st.sampled_from(RULES), st.sampled_from(KINDS))
def test_chunks_give_the_bits_of_the_whole(
    data: st.DataObject, rule: dict[str, Any], kind: ToreVolume
) -> None:
    ev = data.draw(events(sensor_size=(3, 2)))
    accumulator = kind.accumulator(windows(ev, **rule), sensor_size=(3, 2))

    for part in data.draw(parts(ev)):
        accumulator.update(part)

    assert np.array_equal(accumulator.finish(), call(kind, ev, (3, 2), rule))


@given(events(sensor_size=(3, 2), min_size=1), st.sampled_from(KINDS))
def test_long_spans_give_the_bits_of_short_ones(ev: Events, kind: ToreVolume) -> None:
    start, stop = int(ev.t[0]), int(ev.t[-1]) + 1
    edges = [start, (start + stop) // 2, stop]

    short = kind(ev, sensor_size=(3, 2), edges_us=edges)
    for away in (1 << 31, 1 << 62):
        long = kind(ev, sensor_size=(3, 2), edges_us=[start - away, *edges[1:]])
        assert np.array_equal(long, short)


@given(events(), st.sampled_from(KINDS))
def test_the_other_polarity_gives_the_other_half(ev: Events, kind: ToreVolume) -> None:
    flipped = Events(x=ev.x, y=ev.y, t=ev.t, p=1 - ev.p)

    frame = kind(ev, sensor_size=SIZE)

    assert np.array_equal(kind(flipped, sensor_size=SIZE), np.roll(frame, kind.k, axis=0))


@pytest.mark.parametrize("n", [1, 511, 512, 513, 3000])
@pytest.mark.parametrize("kind", [ToreVolume(k=5), ToreVolume(k=2, convention="evutils")])
def test_the_blocks_of_the_kernels_meet_without_a_seam(n: int, kind: ToreVolume) -> None:
    rng, size = np.random.default_rng(n), (29, 23)
    ev = Events(
        x=rng.integers(0, 29, n),
        y=rng.integers(0, 23, n),
        t=np.sort(rng.integers(0, 9000, n)),
        p=rng.integers(0, 2, n),
    )

    frames = kind(ev, sensor_size=size, bins=3)

    np.testing.assert_allclose(
        frames, slow(ev, windows(ev, bins=3), size, kind), rtol=0, atol=EXACT
    )


@pytest.mark.parametrize("most", [200.0, 5e6, 1e12])
def test_log_is_within_its_stated_error(most: float) -> None:
    last = np.unique(np.geomspace(1, 2e9, 100_000).astype(np.int64))[::-1]
    n = last.size
    ev = Events(x=np.arange(n) % 65536, y=np.arange(n) // 65536, t=-last, p=np.ones(n, int))

    kind = ToreVolume(k=1, min_us=1e-9, max_us=most)
    frame = kind(ev, sensor_size=(65536, 5), edges_us=[-(1 << 31), 0])[0, 1].reshape(-1)[:n]

    # A value of 27 has float32 neighbours 1.9e-6 apart; those of the defaults end at 10.4.
    exact = np.log1p(np.minimum(last, most))
    assert (np.abs(frame - exact) < np.maximum(EXACT, exact * 1.2e-7)).all()


def test_no_events_give_empty_slots() -> None:
    kind = ToreVolume(k=2)
    top = math.log1p(5e6) - math.log1p(150)

    assert kind(Events.empty(), sensor_size=SIZE, bins=2) == pytest.approx(top, abs=EXACT)
    other = ToreVolume(k=2, convention="evutils")(Events.empty(), sensor_size=SIZE)
    assert other.shape == (4, 5, 7)
    assert not other.any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_outside_is_named(kind: ToreVolume) -> None:
    ev = Events(x=[0, 7], y=[0, 0], t=[0, 1], p=[0, 1])

    with pytest.raises(InvalidEventsError, match=r"x=7 .* at event 1;"):
        kind(ev, sensor_size=SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_out_is_returned_whatever_it_held(kind: ToreVolume) -> None:
    ev = Events(x=[0, 6], y=[0, 4], t=[0, 1], p=[0, 1])
    out = np.full((3, 2 * kind.k, 5, 7), np.nan, np.float32)

    assert kind(ev, sensor_size=SIZE, bins=3, out=out) is out
    assert np.array_equal(out, kind(ev, sensor_size=SIZE, bins=3))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 0}, "k as a whole number of 1 to 127"),
        ({"convention": "paper"}, "convention among baldwin, evutils"),
        ({"min_us": 200, "max_us": 100}, "min_us <= max_us"),
        ({"tau_us": -1}, "tau_us above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ToreVolume(**settings)


@given(events(min_size=1, start_us=0))
def test_the_volume_of_evutils_is_equal(ev: Events) -> None:
    dense = pytest.importorskip("evutils.dense")

    peer = dense.tore(ev.to_structured(), width=7, height=5, n_events=3, tau=300)
    found = ToreVolume(k=3, convention="evutils", tau_us=300)(ev, sensor_size=SIZE)

    expected = peer[:, :, ::-1].transpose(3, 2, 0, 1).reshape(6, 5, 7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT)
