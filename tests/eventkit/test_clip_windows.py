"""Adaptive windows of clips: where they are cut, that they tile the clip, how they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.adaptive import Bisection
from eventkit.clip_settings import ClipSettings
from eventkit.clip_windows import parse_bisection, spec_of_bisection
from eventkit.clips import Clip, clip_recording
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.recording import Chunk, Recording
from eventkit.representations import count_frames
from eventkit.testing.strategies import events, parts

SIZE = (7, 5)
CUT = "adaptive,min_events=1,cell=1,threshold=0"


def recording_of(*chunks: Events) -> Recording:
    def source(ledger):
        for chunk in chunks:
            ledger.decoded += len(chunk)
            yield Chunk(chunk)

    return Recording(path=Path("made.up"), format="test", sensor_size=SIZE, source=source)


def clips_of(*chunks: Events, **settings) -> list[Clip]:
    return list(clip_recording(recording_of(*chunks), ClipSettings(**settings)))


def halved_where_most_changes(ev: Events, bins: int) -> list[int]:
    """A plain twin of ``CUT`` by count: lists, no kernel, every window compared every time."""

    def difference(window: list[int]) -> float:
        middle = place(window)
        sides = [np.zeros(SIZE[::-1], int) for _ in range(2)]
        for k, i in enumerate(window):
            sides[k >= middle][ev.y[i], ev.x[i]] += 1
        apart = int(np.abs(sides[0] - sides[1]).sum())
        chance = sum(mean_of_coins(int(m)) for m in (sides[0] + sides[1]).ravel())
        return max(0.0, apart - chance) / len(window)

    def place(window: list[int]) -> int:
        t = [int(ev.t[i]) for i in window]
        middle = len(t) // 2
        if t[middle] == t[middle - 1]:
            behind = sum(x <= t[middle] for x in t)
            middle = behind if behind < len(t) else sum(x < t[middle] for x in t)
        return middle

    windows = [list(range(len(ev)))]
    while len(windows) < bins:
        able = [w for w in windows if int(ev.t[w[0]]) < int(ev.t[w[-1]])]
        if not able:
            break
        # The most different; where none differs, the fullest; of equals the earliest.
        chosen = min(
            able, key=lambda w: (-difference(w) if difference(w) > 0 else 0.0, -len(w), w[0])
        )
        k, middle = windows.index(chosen), place(chosen)
        windows[k : k + 1] = [chosen[:middle], chosen[middle:]]
    edges = [int(ev.t[w[0]]) for w in windows]
    last = int(ev.t[-1]) + 1
    return edges + [last] * (bins + 1 - len(edges))


def mean_of_coins(m: int) -> float:
    """Mean of |heads - tails| of m fair coins, counted out."""
    from math import comb

    return sum(comb(m, k) * abs(2 * k - m) for k in range(m + 1)) / 2**m


@given(events(min_size=1, max_size=25, sensor_size=SIZE), st.integers(1, 6))
def test_a_clip_is_cut_as_a_plain_twin_cuts_it(ev: Events, bins: int) -> None:
    (clip,) = clips_of(ev, bins=bins, windows=CUT)

    edges = [*clip.windows_us[:, 0].tolist(), int(clip.windows_us[-1, 1])]
    assert edges == halved_where_most_changes(ev, bins)


@given(st.data(), st.integers(1, 6), st.sampled_from(["count", "time"]))
def test_frames_are_those_of_the_whole_array_wherever_the_stream_is_cut(
    data: st.DataObject, bins: int, by: str
) -> None:
    ev = data.draw(events(min_size=1, sensor_size=SIZE))
    chunks = data.draw(parts(ev))
    rule = Bisection(windows=bins, by=by, min_events=2, cell=2)

    (clip,) = clips_of(*chunks, bins=bins, windows=spec_of_bisection(rule), dtype="u2")

    assert np.array_equal(clip.events, count_frames(ev, sensor_size=SIZE, adaptive=rule))
    assert clip.decoded == len(ev) == int(clip.binned.sum())
    assert not clip.dropped


@given(st.data(), st.integers(1, 4))
def test_windows_tile_every_clip_of_a_long_recording(data: st.DataObject, bins: int) -> None:
    ev = data.draw(events(min_size=2, sensor_size=SIZE, max_step_us=10))
    chunks = data.draw(parts(ev))
    found = clips_of(*chunks, bins=bins, windows=CUT, clip_us=20)

    for clip in found:
        assert clip.span_us == (clip.windows_us[0, 0], clip.windows_us[-1, 1])
        assert np.array_equal(clip.windows_us[1:, 0], clip.windows_us[:-1, 1])
        assert int(clip.binned.sum()) == clip.decoded
        start, stop = clip.span_us
        inside = ev[slice(*np.searchsorted(ev.t, [start, stop]))]
        assert len(inside) == clip.decoded


def test_a_scene_that_changes_late_is_cut_late() -> None:
    still = Events(x=[0] * 80, y=[0] * 80, t=range(80), p=[1] * 80)
    moving = Events(x=[i // 5 for i in range(20)], y=[4] * 20, t=range(80, 100), p=[1] * 20)

    (clip,) = clips_of(still, moving, bins=4, windows="adaptive,by=time,min_events=4,cell=1")
    (equal,) = clips_of(still, moving, bins=4)

    assert equal.windows_us[:, 0].tolist() == [0, 25, 50, 75]
    assert clip.windows_us[:, 0].tolist() == [0, 50, 75, 87]


def test_a_clip_without_events_between_others_is_cut_into_equal_times() -> None:
    ev = Events(x=[0] * 4, y=[0] * 4, t=[0, 3, 25, 29], p=[1] * 4)

    found = clips_of(ev, bins=2, windows=CUT, clip_us=10)

    assert [clip.decoded for clip in found] == [2, 0, 2]
    assert found[1].windows_us.tolist() == [[10, 15], [15, 20]]


def test_windows_that_there_are_too_few_times_for_stand_empty_at_the_end() -> None:
    ev = Events(x=[0, 1, 2], y=[0] * 3, t=[5, 5, 9], p=[1] * 3)

    found = clips_of(ev, bins=4, windows=CUT, clip_us=10)

    assert found[0].windows_us.tolist() == [[5, 9], [9, 15], [15, 15], [15, 15]]
    assert found[0].binned.tolist() == [2, 1, 0, 0]


def test_an_event_outside_the_sensor_is_named() -> None:
    ev = Events(x=[0, 9], y=[0, 0], t=[0, 1], p=[1, 1])

    with pytest.raises(InvalidEventsError, match="x=9"):
        clips_of(ev, bins=2, windows=CUT)


def test_the_spec_is_kept_in_full_and_read_back() -> None:
    settings = ClipSettings(bins=4, windows="adaptive, by=time ,min_events=50")

    assert settings.windows == "adaptive,by=time,threshold=0.2,min_events=50,cell=8,chance=subtract"
    assert ClipSettings(bins=4, windows=settings.windows) == settings
    assert settings.bisection == Bisection(windows=4, by="time", min_events=50)
    assert parse_bisection(settings.windows, windows=4) == settings.bisection
    assert ClipSettings().bisection is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"windows": "adaptive,windows=3"}, "expected setting=value with a setting of by"),
        ({"windows": "adaptive,by=size"}, "expected by among count, time"),
        ({"windows": "adaptive,min_events=few"}, "min_events of adaptive windows as int"),
        ({"windows": "adaptive,threshold=2"}, "threshold in 0..1"),
        ({"windows": "adapted"}, "time, rgb, adaptive"),
        ({"windows": "adaptive", "representation": "voxel:zhu"}, "windows 'adaptive' goes with"),
        ({"windows": "adaptive", "representation": "counts:tonic"}, "edges of its own"),
        ({"windows": "adaptive", "event_window": "exposure"}, "goes with windows 'rgb'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        ClipSettings(**settings)

    assert words in str(refused.value)


def test_real_events_are_all_kept_and_evened_out(shared: Path) -> None:
    recording = eventkit.open(shared / "aedat4/davis346_frames_events_imu.aedat4")
    wanted = {"bins": 8, "clip_us": 1_000_000, "dtype": "u2"}

    adaptive = list(clip_recording(recording, ClipSettings(windows="adaptive", **wanted)))
    equal = list(clip_recording(recording, ClipSettings(**wanted)))

    assert [clip.decoded for clip in adaptive] == [clip.decoded for clip in equal]
    for cut, even in zip(adaptive, equal, strict=True):
        assert cut.span_us == even.span_us
        assert int(cut.binned.sum()) == int(even.binned.sum())
        assert np.array_equal(cut.events.sum(axis=0), even.events.sum(axis=0))
        assert not np.array_equal(cut.windows_us, even.windows_us)
        # Each window has its picture: the one nearest to its middle.
        assert (np.diff(cut.rgb_index) >= 0).all()
