"""Time surfaces: each convention against a slow twin, its edges, and chunks against the whole."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import eventkit
from eventkit.errors import EventKitError, InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations.base import Representation
from eventkit.representations.surfaces import (
    ActiveEvents,
    HotsSurface,
    SpeedInvariant,
    fade,
    time_surface,
)
from eventkit.slicing import windows
from eventkit.testing.strategies import events, parts, sensor_sizes
from eventkit.windows import Windows

SIZE = (7, 5)
EXACT = 2e-7
RULES: list[dict[str, Any]] = [
    {},
    {"bins": 3},
    {"window_us": 700},
    {"window_us": 900, "stride_us": 250},
    {"window_us": 100, "stride_us": 300},
    {"count": 4},
    {"count": 5, "stride": 2},
    {"count": 2, "stride": 3},
]


def rows(ev: Events) -> list[tuple[int, int, int, int]]:
    """Return (x, y, t, p) of each event, in Python integers."""
    return list(zip(*(getattr(ev, name).tolist() for name in "xytp"), strict=True))


def members(found: Windows, ev: Events) -> list[list[int]]:
    """Return the numbers of the events in each window, by the definition."""
    if found.numbers is not None:
        return [list(range(a, b)) for a, b in found.numbers.tolist()]
    t = ev.t.tolist()
    return [[i for i in range(len(t)) if a <= t[i] < b] for a, b in found.spans.tolist()]


def slow_sae(
    ev: Events, found: Windows, size: tuple[int, int], tau: float, decay: str
) -> NDArray[np.float64]:
    out = np.zeros((len(found), 2, size[1], size[0]))
    stream = rows(ev)
    for k, inside in enumerate(members(found, ev)):
        for i in inside:
            x, y, t, p = stream[i]
            age = (int(found.spans[k, 1]) - 1 - t) / tau
            out[k, p, y, x] = math.exp(-age) if decay == "exp" else max(0.0, 1 - age)
    return out


def slow_hots(ev: Events, found: Windows, size: tuple[int, int], tau: float) -> NDArray[np.float64]:
    out = np.zeros((len(found), 2, size[1], size[0]))
    stream, last = rows(ev), {}
    for k, inside in enumerate(members(found, ev)):
        for i in inside:
            x, y, t, p = stream[i]
            last[p, y, x] = t
        for cell, t in last.items():
            out[(k, *cell)] = math.exp(-(int(found.spans[k, 1]) - t) / tau)
    return out


def slow_order(
    ev: Events, found: Windows, size: tuple[int, int], settings: SpeedInvariant
) -> NDArray[np.int64]:
    width, height = size
    r, split = settings.radius, settings.polarity == "split"
    surface = np.zeros((1 + split, height, width), np.int64)
    out, stream, done = [], rows(ev), set()
    for inside in members(found, ev):
        for i in inside:
            if i in done:
                continue
            done.add(i)
            x, y, _, p = stream[i]
            plane = surface[p * split]
            old = plane[y, x]
            for v in range(max(0, y - r), min(height, y + r + 1)):
                for u in range(max(0, x - r), min(width, x + r + 1)):
                    newer = plane[v, u] >= old if settings.ties == "decrease" else plane[v, u] > old
                    if newer and plane[v, u] > 0:
                        plane[v, u] -= 1
            plane[y, x] = (2 * r + 1) ** 2
        out.append(surface.copy())
    return np.array(out)


def call(kind: Representation, ev: Events, size: tuple[int, int], rule: dict[str, Any]) -> Any:
    """Return (T, C, H, W) under any rule."""
    found = kind(ev, sensor_size=size, **rule)
    return found if rule else found[None]


def pile(n: int, *, t: int = 0) -> Events:
    return Events(x=[2] * n, y=[1] * n, t=[t] * n, p=[1] * n)


@given(st.data(), sensor_sizes(), st.sampled_from(RULES), st.sampled_from([3.0, 400, 1e9]))
def test_active_events_equal_their_slow_twin(
    data: st.DataObject, size: tuple[int, int], rule: dict[str, Any], tau: float
) -> None:
    ev = data.draw(events(sensor_size=size))
    decay = data.draw(st.sampled_from(["exp", "linear"]))

    frames = call(ActiveEvents(tau_us=tau, decay=decay), ev, size, rule)

    expected = slow_sae(ev, windows(ev, **rule), size, tau, decay)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames, expected, rtol=0, atol=EXACT)


@given(st.data(), sensor_sizes(), st.sampled_from(RULES), st.sampled_from([3.0, 400, 1e9]))
def test_hots_equals_its_slow_twin(
    data: st.DataObject, size: tuple[int, int], rule: dict[str, Any], tau: float
) -> None:
    ev = data.draw(events(sensor_size=size))

    frames = call(HotsSurface(tau_us=tau), ev, size, rule)

    expected = slow_hots(ev, windows(ev, **rule), size, tau)
    np.testing.assert_allclose(frames, expected, rtol=0, atol=EXACT)


@given(
    st.data(),
    sensor_sizes(),
    st.sampled_from(RULES),
    st.sampled_from([1, 2, 4, 7, 8, 9]),
    st.sampled_from(["split", "merged"]),
    st.sampled_from(["decrease", "keep"]),
)
def test_the_speed_invariant_surface_equals_its_slow_twin(
    data: st.DataObject,
    size: tuple[int, int],
    rule: dict[str, Any],
    radius: int,
    polarity: Any,
    ties: Any,
) -> None:
    ev = data.draw(events(sensor_size=size))
    settings = SpeedInvariant(radius=radius, polarity=polarity, ties=ties)

    frames = call(settings, ev, size, rule)

    assert frames.dtype == (np.uint8 if radius <= 7 else np.uint16)
    assert np.array_equal(frames, slow_order(ev, windows(ev, **rule), size, settings))


@given(
    st.data(),
    st.sampled_from(RULES),
    st.sampled_from([ActiveEvents(tau_us=300), HotsSurface(tau_us=300), SpeedInvariant(radius=2)]),
)
def test_chunks_give_the_bits_of_the_whole(
    data: st.DataObject, rule: dict[str, Any], kind: Representation
) -> None:
    ev = data.draw(events())
    accumulator = kind.accumulator(windows(ev, **rule), sensor_size=SIZE)

    for part in data.draw(parts(ev)):
        accumulator.update(part)

    assert np.array_equal(accumulator.finish(), call(kind, ev, SIZE, rule))


@given(events(min_size=1), st.sampled_from([ActiveEvents(), HotsSurface()]))
def test_long_spans_give_the_bits_of_short_ones(ev: Events, kind: Representation) -> None:
    start, stop = int(ev.t[0]), int(ev.t[-1]) + 1

    short = kind(ev, sensor_size=SIZE, edges_us=[start, stop])
    long = kind(ev, sensor_size=SIZE, edges_us=[start - (1 << 31), stop])
    longest = kind(ev, sensor_size=SIZE, edges_us=[start - (1 << 62), stop])

    assert np.array_equal(long, short)
    assert np.array_equal(longest, short)


@given(events(), st.integers(-(1 << 40), 1 << 40), st.sampled_from(RULES))
def test_another_start_of_the_clock_changes_nothing(
    ev: Events, shift: int, rule: dict[str, Any]
) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)

    for kind in (ActiveEvents(), HotsSurface(), SpeedInvariant()):
        assert np.array_equal(call(kind, moved, SIZE, rule), call(kind, ev, SIZE, rule))


@given(events(), st.sampled_from(RULES))
def test_the_other_polarity_gives_the_other_channel(ev: Events, rule: dict[str, Any]) -> None:
    flipped = Events(x=ev.x, y=ev.y, t=ev.t, p=1 - ev.p)

    for kind in (ActiveEvents(), HotsSurface(), SpeedInvariant()):
        frames = call(kind, ev, SIZE, rule)
        assert np.array_equal(call(kind, flipped, SIZE, rule), frames[:, ::-1])


@pytest.mark.parametrize("tau", [1.0, 7.3, 50_000.0, 1_234_567.0, 3e7])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_exp_is_within_its_stated_error(tau: float, kind: Any) -> None:
    now = min(int(100 * tau) + 10, 2**31 - 1)
    last = np.unique(np.linspace(0, now, 100_001).astype(kind))
    out = np.empty(last.size, np.float32)

    fade(last, now, tau, "exp", out)

    age = (now - last.astype(np.int64)).astype(np.float64)
    assert np.abs(out - np.exp(-age / tau)).max() < EXACT
    assert out[-1] == 1.0
    assert (out >= 0).all()
    assert (out <= 1).all()


@pytest.mark.parametrize("tau", [1e-300, 1e-9, 1e300])
def test_extreme_time_constants_are_a_step_or_a_plateau(tau: float) -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[0, 1 << 40], p=[1, 1])
    first = 0.0 if tau < 1 else 1.0

    for decay in ("exp", "linear"):
        surface = time_surface(ev, sensor_size=(3, 1), tau_us=tau, decay=decay)
        assert surface[1, 0].tolist() == [first, 1.0, 0.0]


def test_ages_past_two_to_the_31_are_exact() -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[-5, (1 << 32) - 5], p=[1, 1])

    surface = time_surface(ev, sensor_size=(2, 1), tau_us=1 << 32)
    memory = time_surface(ev, sensor_size=(2, 1), tau_us=1 << 32, convention="hots", bins=2)

    assert surface[1, 0] == pytest.approx([math.exp(-1), 1.0], abs=EXACT)
    assert memory[:, 1, 0, 0] == pytest.approx([math.exp(-0.5), math.exp(-1)], abs=EXACT)


@pytest.mark.parametrize("convention", ["sae", "hots"])
def test_a_span_past_int64_is_refused_with_a_sentence(convention: str) -> None:
    ev = Events(x=[0, 0], y=[0, 0], t=[-(1 << 63), (1 << 63) - 2], p=[1, 1])

    with pytest.raises(EventKitError, match="less than 2\\^63 us"):
        time_surface(ev, sensor_size=SIZE, convention=convention)


@pytest.mark.parametrize("t", [0, -7, (1 << 53) + 1, 1_589_163_147_368_868])
def test_one_event_is_one_and_the_rest_is_zero(t: int) -> None:
    surface = time_surface(pile(1, t=t), sensor_size=SIZE)

    assert surface.shape == (2, 5, 7)
    assert surface[1, 1, 2] == 1.0
    assert np.count_nonzero(surface) == 1


def test_equal_times_are_one_instant() -> None:
    assert time_surface(pile(5, t=3), sensor_size=SIZE)[1, 1, 2] == 1.0
    one = time_surface(pile(5, t=3), sensor_size=SIZE, convention="hots", tau_us=10)
    assert one[1, 1, 2] == pytest.approx(math.exp(-0.1), abs=EXACT)


@pytest.mark.parametrize("convention", ["sae", "hots", "speed-invariant"])
def test_no_events_give_zeros_of_the_right_shape(convention: str) -> None:
    found = time_surface(Events.empty(), sensor_size=SIZE, convention=convention, bins=3)

    assert found.shape == (3, 2, 5, 7)
    assert not found.any()


@pytest.mark.parametrize("convention", ["sae", "hots", "speed-invariant"])
def test_out_is_returned_whatever_it_held(convention: str) -> None:
    ev = pile(3)
    expected = time_surface(ev, sensor_size=SIZE, convention=convention)
    out = np.full_like(expected, 77)

    assert time_surface(ev, sensor_size=SIZE, convention=convention, out=out) is out
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("bad", [0, 511, 512, 700, 999])
@pytest.mark.parametrize("convention", ["sae", "hots", "speed-invariant"])
def test_an_event_outside_is_named_or_dropped(bad: int, convention: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, 1000)
    x[bad] = 7
    ev = Events(x=x, y=rng.integers(0, 5, 1000), t=np.arange(1000), p=rng.integers(0, 2, 1000))
    kept = ev[ev.x < 7]

    with pytest.raises(InvalidEventsError, match=f"x=7 .* at event {bad};"):
        time_surface(ev, sensor_size=SIZE, convention=convention, bins=2)

    edges = [0, 500, 1000]
    options: dict[str, Any] = {"sensor_size": SIZE, "convention": convention, "edges_us": edges}
    dropped = time_surface(ev, outside="drop", **options)
    assert np.array_equal(dropped, time_surface(kept, **options))


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1500])
def test_the_blocks_of_the_kernels_meet_without_a_seam(n: int) -> None:
    rng = np.random.default_rng(n)
    size = (39, 27)
    ev = Events(
        x=rng.integers(0, 39, n),
        y=rng.integers(0, 27, n),
        t=np.sort(rng.integers(0, 9000, n)),
        p=rng.integers(0, 2, n),
    )
    found = windows(ev, bins=3)

    sae = time_surface(ev, sensor_size=size, tau_us=500, bins=3)
    hots = time_surface(ev, sensor_size=size, tau_us=500, bins=3, convention="hots")

    np.testing.assert_allclose(sae, slow_sae(ev, found, size, 500, "exp"), rtol=0, atol=EXACT)
    np.testing.assert_allclose(hots, slow_hots(ev, found, size, 500), rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"convention": "tonic"}, "convention among sae, hots, speed-invariant"),
        ({"tau_us": 0}, "tau_us above 0"),
        ({"tau_us": math.nan}, "tau_us above 0"),
        ({"decay": "cubic"}, "decay among exp, linear"),
        ({"radius": 3}, "radius does not go with convention 'sae'"),
        ({"convention": "hots", "decay": "exp"}, "decay does not go with convention 'hots'"),
        ({"convention": "speed-invariant", "radius": 0}, "radius of 1 to 127"),
        ({"convention": "speed-invariant", "radius": 128}, "radius of 1 to 127"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        time_surface(pile(1), sensor_size=SIZE, **settings)


@given(st.data(), st.integers(1, 4), st.integers(1, 2000))
def test_hots_equals_tonic_in_every_window_that_tonic_has(
    data: st.DataObject, tail: int, dt: int
) -> None:
    # tonic 1.7 leaves out the incomplete last window; within the others it is right.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transforms = pytest.importorskip("tonic.transforms")
    ev = data.draw(events(min_size=2, start_us=0))
    span = int(ev.t[-1] - ev.t[0])
    dt = max(1, min(dt, span // tail)) if span else 1
    if span < dt:
        return
    layout = [("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")]
    # tonic cannot start without an event in the first slice; the first event is always there.
    peer = transforms.ToTimesurface(sensor_size=(7, 5, 2), dt=dt, tau=350.0)(
        ev.to_structured().astype(layout)
    )

    frames = time_surface(ev, sensor_size=SIZE, tau_us=350, convention="hots", window_us=dt)

    assert len(frames) - len(peer) in (0, 1)
    np.testing.assert_allclose(frames[: len(peer)], peer, rtol=0, atol=EXACT)


@given(events(sensor_size=(9, 8), start_us=0))
def test_near_the_border_the_order_of_events_equals_dv_processing(ev: Events) -> None:
    # Away from the border dv-processing leaves out a row and a column of the patch; on a sensor
    # of at most nine columns no pixel is away from it.
    dv = pytest.importorskip("dv_processing")
    store = dv.EventStore()
    for x, y, t, p in rows(ev):
        store.push_back(t, x, y, bool(p))
    peer = dv.SpeedInvariantTimeSurface((9, 8))
    peer.accept(store)
    expected = [[peer.at(y, x) for x in range(9)] for y in range(8)]

    found = SpeedInvariant(radius=4, polarity="merged", ties="keep")(ev, sensor_size=(9, 8))

    assert np.array_equal(found[0], expected)


def test_real_events_equal_numpy(shared: Path) -> None:
    recording = eventkit.open(shared / "aedat4" / "davis346_first_170ms.aedat4")
    ev = recording.events

    surface = time_surface(ev, sensor_size=(346, 260), tau_us=20_000)

    last = np.full((2, 260, 346), -np.inf)
    np.maximum.at(last, (ev.p, ev.y, ev.x), (ev.t - ev.t[-1]).astype(np.float64))
    np.testing.assert_allclose(surface, np.exp(last / 20_000), rtol=0, atol=EXACT)
