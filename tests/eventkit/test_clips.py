"""Clips: what is in which clip, with which picture, and that every event is accounted for."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.clips import Clip, clip_recording, event_difference
from eventkit.differences import frame_difference
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.frames import Frames, Picture, Timing
from eventkit.ledger import Ledger
from eventkit.rebin import represent_clip
from eventkit.recording import Chunk, Recording
from eventkit.representations import (
    Representation,
    count_frames,
    names,
    parse,
    voxel_grid,
)
from eventkit.representations.windowed import BufferedAccumulator
from eventkit.survey import ClipSettings, cut_spans, survey
from eventkit.testing.strategies import events, parts
from eventkit.windows import Windows

SIZE = (7, 5)


def stream(times: Sequence[int], *, x: Sequence[int] | None = None) -> Events:
    n = len(times)
    return Events(x=[0] * n if x is None else x, y=[1] * n, t=times, p=[1] * n)


def recording_of(
    *chunks: Events | Chunk,
    frames: Frames | None = None,
    size: tuple[int, int] | None = SIZE,
) -> Recording:
    """Return a recording that hands its events on in these chunks; none at all: no event side."""

    def source(ledger: Ledger) -> Iterator[Chunk]:
        for chunk in chunks:
            found = chunk if isinstance(chunk, Chunk) else Chunk(chunk)
            lost = {reason: times.size for reason, times in found.dropped.items()}
            ledger.decoded += len(found.events) + sum(lost.values())
            ledger.drop(lost)
            yield found

    return Recording(
        path=Path("made.up"),
        format="test",
        sensor_size=size,
        source=source if chunks else None,
        frames=frames,
    )


def pictures(
    starts: Sequence[int],
    length: int = 0,
    *,
    timing: Timing = "recorded",
    shape: tuple[int, ...] = (4, 6, 3),
    dtype: Any = np.uint8,
    encoded: bool = False,
) -> Frames:
    """Return frames whose pixels are ten times their number."""
    start = np.array(starts, np.int64)

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        for i in indices:
            yield Picture(np.full(shape, 10 * i, dtype), b"file %d" % i if encoded else None)

    return Frames(
        start + length // 2,
        start,
        start + length,
        (shape[1], shape[0]),
        shape[2],
        timing,
        reader,
        "png" if encoded else "",
    )


def one(recording: Recording, **settings: Any) -> Clip:
    (clip,) = clip_recording(recording, ClipSettings(**settings))
    return clip


def assert_balanced(clip: Clip) -> None:
    assert clip.decoded == int(clip.binned.sum()) + sum(clip.dropped.values())
    assert int(clip.events.sum()) + int(clip.clipped.sum()) == int(clip.binned.sum())
    assert 0 not in clip.dropped.values()


# The event side


@given(st.data(), st.integers(1, 9))
def test_a_whole_recording_is_one_clip_of_the_frames_of_its_events(
    data: st.DataObject, bins: int
) -> None:
    ev = data.draw(events(min_size=1))
    chunks = data.draw(parts(ev))

    clip = one(recording_of(*chunks), bins=bins, dtype="u2")

    assert np.array_equal(clip.events, count_frames(ev, sensor_size=SIZE, bins=bins))
    assert clip.windows_us[0, 0] == ev.t[0]
    assert clip.windows_us[-1, 1] == ev.t[-1] + 1
    assert clip.decoded == len(ev)
    assert_balanced(clip)


@given(st.data(), st.integers(1, 9))
def test_voxels_of_a_stream_are_those_of_the_whole_array(data: st.DataObject, bins: int) -> None:
    ev = data.draw(events(min_size=1))
    chunks = data.draw(parts(ev))

    clip = one(recording_of(*chunks), bins=bins, representation="voxel:zhu")

    # The same additions in the same order: equal to the bit.
    assert np.array_equal(clip.events[:, 0], voxel_grid(ev, sensor_size=SIZE, bins=bins))
    assert clip.events.shape == (bins, 1, 5, 7)
    assert clip.events.dtype == np.float32
    assert clip.binned.sum() == clip.decoded == len(ev)


@given(st.data(), st.integers(1, 4), st.integers(8, 4000))
def test_cut_clips_count_the_events_of_their_span(
    data: st.DataObject, bins: int, clip_us: int
) -> None:
    ev = data.draw(events(min_size=1))
    recording = recording_of(*data.draw(parts(ev)))
    settings = ClipSettings(bins=bins, clip_us=clip_us)

    found = survey(recording, settings)
    clips = list(clip_recording(recording, settings, surveyed=found))

    assert [clip.index for clip in clips] == list(range(len(found.spans)))
    in_clips = 0
    for clip, (start, stop) in zip(clips, found.spans, strict=True):
        inside = ev[(ev.t >= start) & (ev.t < stop)]
        edges = np.append(clip.windows_us[:, 0], stop)
        assert np.array_equal(
            clip.events, count_frames(inside, sensor_size=SIZE, edges_us=edges, dtype="u1")
        )
        assert clip.decoded == len(inside)
        assert_balanced(clip)
        in_clips += clip.decoded
    tail = int((ev.t >= found.spans[-1][1]).sum())
    assert found.ledger.decoded == in_clips + tail


def test_clips_of_a_voxel_recording_keep_every_sign() -> None:
    ev = stream([0, 3, 10, 14, 19])

    clips = list(
        clip_recording(
            recording_of(ev[:3], ev[3:]),
            ClipSettings(bins=3, clip_us=10, representation="voxel:zhu"),
        )
    )

    assert [float(clip.events.sum()) for clip in clips] == [2.0, 3.0]
    assert [clip.binned.sum() for clip in clips] == [2, 3]


@pytest.mark.parametrize(
    ("length", "spans"),
    [
        (1, [(0, 1)]),
        (4, [(0, 4)]),
        (5, [(0, 10)]),
        (10, [(0, 10)]),
        (14, [(0, 10)]),
        (15, [(0, 10), (10, 20)]),
        (20, [(0, 10), (10, 20)]),
        (24, [(0, 10), (10, 20)]),
    ],
)
def test_a_tail_of_half_a_clip_is_kept_and_a_shorter_one_is_not(
    length: int, spans: list[tuple[int, int]]
) -> None:
    assert cut_spans(0, length, 10) == spans
    assert cut_spans(-7, length - 7, 10) == [(a - 7, b - 7) for a, b in spans]


def test_an_odd_clip_length_keeps_a_tail_from_its_exact_half() -> None:
    assert len(cut_spans(0, 11 + 5, 11)) == 1
    assert len(cut_spans(0, 11 + 6, 11)) == 2


def test_events_of_a_short_tail_are_in_no_clip() -> None:
    recording = recording_of(stream([0, 5, 10, 13]))
    settings = ClipSettings(bins=2, clip_us=10)

    found = survey(recording, settings)
    clips = list(clip_recording(recording, settings, surveyed=found))

    assert [clip.decoded for clip in clips] == [2]
    assert found.ledger.decoded - sum(clip.decoded for clip in clips) == 2


def test_a_clip_without_events_between_others_is_there_and_empty() -> None:
    clips = list(clip_recording(recording_of(stream([0, 25])), ClipSettings(bins=2, clip_us=10)))

    assert [clip.decoded for clip in clips] == [1, 0, 1]
    assert not clips[1].events.any()
    assert [clip.has_events for clip in clips] == [True, False, True]


def test_full_cells_are_counted_per_window() -> None:
    clip = one(recording_of(stream([0] * 300 + [9] * 10)), bins=2)

    assert clip.events.max() == 255
    assert clip.clipped.tolist() == [45, 0]
    assert_balanced(clip)


def test_clips_come_before_the_recording_is_read_to_its_end() -> None:
    taken: list[int] = []

    def source(ledger: Ledger) -> Iterator[Chunk]:
        for i in range(6):
            taken.append(i)
            yield Chunk(stream([10 * i, 10 * i + 9]))

    recording = Recording(path=Path("a"), format="test", sensor_size=SIZE, source=source)
    settings = ClipSettings(bins=1, clip_us=10)
    found = survey(recording, settings)
    taken.clear()

    next(clip_recording(recording, settings, surveyed=found))

    assert taken == [0, 1]


# Dropped events


def test_drops_are_booked_on_the_clip_they_fell_into() -> None:
    chunk = Chunk(stream([0, 12, 19]), {"outside": np.array([3, 13, 14])})

    clips = list(clip_recording(recording_of(chunk), ClipSettings(bins=2, clip_us=10)))

    assert [clip.dropped for clip in clips] == [{"outside": 1}, {"outside": 2}]
    assert [clip.decoded for clip in clips] == [2, 4]
    for clip in clips:
        assert_balanced(clip)


def test_a_drop_before_the_first_event_is_booked_on_the_first_clip() -> None:
    chunk = Chunk(stream([10, 19]), {"outside": np.array([-5])})

    assert one(recording_of(chunk), bins=2).dropped == {"outside": 1}


@given(st.data(), st.integers(1, 500))
def test_decoded_is_the_sum_over_clips_and_the_tail_whatever_is_dropped(
    data: st.DataObject, clip_us: int
) -> None:
    ev = data.draw(events(min_size=1, start_us=0, max_step_us=100))
    at = st.lists(st.integers(0, int(ev.t[-1])), max_size=4)
    chunks = [
        Chunk(part, {"outside": np.array(sorted(data.draw(at)), np.int64)})
        for part in data.draw(parts(ev))
    ]
    recording = recording_of(*chunks)
    settings = ClipSettings(bins=1, clip_us=clip_us)

    found = survey(recording, settings)
    clips = list(clip_recording(recording, settings, surveyed=found))

    for clip in clips:
        assert_balanced(clip)
    end = found.spans[-1][1]
    tail = int((ev.t >= end).sum())
    # Drops behind the last clip belong to it or to the tail.
    behind = sum(int((times >= end).sum()) for c in chunks for times in c.dropped.values())
    rest = found.ledger.decoded - sum(clip.decoded for clip in clips)
    assert tail <= rest <= tail + behind


def test_a_drop_that_lies_ahead_does_not_take_the_events_that_follow() -> None:
    first = Chunk(stream([0, 4]), {"outside": np.array([25])})
    recording = recording_of(first, stream([6, 14, 29]))

    clips = list(clip_recording(recording, ClipSettings(bins=1, clip_us=10)))

    assert [int(clip.events.sum()) for clip in clips] == [3, 1, 1]
    assert [clip.dropped for clip in clips] == [{}, {}, {"outside": 1}]


def test_a_drop_after_the_last_event_keeps_its_reason() -> None:
    chunk = Chunk(stream([0, 9]), {"outside": np.array([10, 1 << 50])})

    clip = one(recording_of(chunk), bins=2)

    assert clip.dropped == {"outside": 2}
    assert clip.decoded == 4


def test_drops_of_a_recording_without_a_good_event_keep_their_reason() -> None:
    chunk = Chunk(Events.empty(), {"outside": np.array([3, 5])})

    clip = one(recording_of(chunk, frames=pictures([0, 9])), bins=2)

    assert not clip.has_events
    assert (clip.decoded, clip.dropped) == (2, {"outside": 2})


# RGB


def test_each_bin_has_the_frame_nearest_to_its_middle() -> None:
    recording = recording_of(stream([0, 99]), frames=pictures([0, 30, 60, 90], length=4))

    clip = one(recording, bins=4)

    # Middles 12, 37, 62, 87 against exposures around 2, 32, 62, 92.
    assert clip.rgb_index.tolist() == [0, 1, 2, 3]
    assert clip.rgb[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert clip.rgb.shape == (4, 4, 6, 3)
    assert clip.exposure_us.tolist() == [[0, 4], [30, 34], [60, 64], [90, 94]]
    assert (clip.has_rgb, clip.rgb_static, clip.rgb_times) == (True, False, "recorded")


def test_bins_between_exposures_leave_the_rest_unpaired() -> None:
    ev = stream([0, 11, 12, 31, 32, 51, 52, 60])
    recording = recording_of(ev, frames=pictures([10, 30, 50], length=4))

    clip = one(recording, bins=2, windows="rgb")

    assert clip.windows_us.tolist() == [[12, 32], [32, 52]]
    assert clip.binned.tolist() == [2, 2]
    assert clip.dropped == {"unpaired": 4}
    assert clip.rgb_index.tolist() == [1, 2]
    assert clip.flags == ()
    assert_balanced(clip)


def test_exposure_windows_count_what_they_throw_away() -> None:
    ev = stream(list(range(100)))
    recording = recording_of(ev, frames=pictures([10, 30, 50], length=4))

    clip = one(recording, bins=2, windows="rgb", event_window="exposure")

    assert clip.windows_us.tolist() == clip.exposure_us.tolist() == [[30, 34], [50, 54]]
    assert clip.binned.tolist() == [4, 4]
    assert clip.dropped == {"unpaired": 92}


def test_too_few_exposures_fall_back_to_equal_time_and_say_so() -> None:
    recording = recording_of(stream([0, 99]), frames=pictures([10, 50]))

    clip = one(recording, bins=4, windows="rgb")

    assert clip.flags == ("rgb_fallback",)
    assert clip.windows_us.tolist() == [[0, 25], [25, 50], [50, 75], [75, 100]]
    assert clip.dropped == {}


def test_one_picture_is_static_and_in_every_bin() -> None:
    frames = pictures([0], timing="none", shape=(4, 4, 1), encoded=True)

    clip = one(recording_of(stream([0, 99]), frames=frames), bins=3)

    assert clip.rgb_static
    assert clip.rgb_times == "static"
    assert clip.rgb_index.tolist() == [0, 0, 0]
    assert clip.encoded == (b"file 0",) * 3
    assert clip.rgb_suffix == "png"
    assert not clip.diff_rgb.any()


def test_a_clip_of_events_alone_has_a_placeholder_of_zeros() -> None:
    clip = one(recording_of(stream([0, 99])), bins=3)

    assert (clip.has_events, clip.has_rgb, clip.rgb_times) == (True, False, "")
    assert clip.rgb.shape == (3, 5, 7, 1)
    assert clip.rgb.dtype == np.uint8
    assert not clip.rgb.any()
    assert clip.rgb_index.tolist() == [-1, -1, -1]
    assert clip.exposure_us.tolist() == [[-1, -1]] * 3
    assert clip.encoded is None


@pytest.mark.parametrize("representation", ["counts:eventkit", "voxel:zhu"])
def test_a_clip_of_pictures_alone_has_event_frames_of_zeros(representation: str) -> None:
    recording = recording_of(frames=pictures([100, 200, 300], length=10), size=None)

    clip = one(recording, bins=2, representation=representation)

    assert (clip.has_events, clip.has_rgb) == (False, True)
    assert clip.events.shape == (2, 1 if representation == "voxel:zhu" else 2, 4, 6)
    assert not clip.events.any()
    assert (clip.decoded, clip.dropped, clip.binned.tolist()) == (0, {}, [0, 0])
    assert clip.windows_us[0, 0] == 100
    assert clip.windows_us[-1, 1] == 311
    assert clip.rgb_index.tolist() == [0, 2]


def test_pictures_alone_without_times_are_all_shown() -> None:
    recording = recording_of(frames=pictures(range(4), timing="none"), size=None)

    assert one(recording, bins=4).rgb_index.tolist() == [0, 1, 2, 3]


def test_pictures_alone_without_times_are_all_shown_with_a_clip_length_too() -> None:
    recording = recording_of(frames=pictures(range(4), timing="none"), size=None)

    clip = one(recording, bins=4, clip_us=300_000)

    assert clip.rgb_index.tolist() == [0, 1, 2, 3]


def test_an_event_side_without_events_counts_as_none() -> None:
    recording = recording_of(Events.empty(), frames=pictures([0, 9]))

    clip = one(recording, bins=2)

    assert not clip.has_events
    assert clip.events.shape == (2, 2, 5, 7)


@pytest.mark.parametrize("recording", [recording_of(), recording_of(Events.empty())])
def test_neither_events_nor_pictures_is_refused(recording: Recording) -> None:
    with pytest.raises(FormatError, match="expected events or frames, got neither") as caught:
        one(recording)

    assert caught.value.reason == "empty"


def test_events_without_a_sensor_size_are_refused_with_the_cure() -> None:
    with pytest.raises(FormatError, match="give --sensor-size WxH") as caught:
        one(recording_of(stream([0]), size=None))

    assert caught.value.reason == "no_geometry"


def test_pictures_of_another_day_are_refused_with_the_cure() -> None:
    recording = recording_of(stream([0, 100]), frames=pictures([10_000, 10_100]))

    with pytest.raises(FormatError, match="--rgb-offset-us moves them") as caught:
        one(recording)

    assert caught.value.reason == "no_rgb_overlap"
    moved = one(recording, bins=2, rgb_offset_us=-10_000)
    assert moved.rgb_index.tolist() == [0, 1]
    assert moved.exposure_us.tolist() == [[0, 0], [100, 100]]


def test_a_video_starts_with_the_events() -> None:
    frames = pictures([0, 50], timing="own-clock")

    clip = one(recording_of(stream([1000, 1099]), frames=frames), bins=2)

    assert clip.rgb_times == "first frame at first event"
    assert clip.exposure_us.tolist() == [[1000, 1000], [1050, 1050]]


def test_pictures_of_a_folder_are_spread_over_the_events() -> None:
    frames = pictures(range(4), timing="none")

    clip = one(recording_of(stream([1000, 1399]), frames=frames), bins=4)

    assert clip.rgb_times == "spread evenly"
    assert clip.rgb_index.tolist() == [0, 1, 2, 3]


def test_a_static_picture_is_in_every_clip_of_a_cut_recording() -> None:
    frames = pictures([0], timing="none", encoded=True)

    clips = list(
        clip_recording(
            recording_of(stream([0, 10, 20, 29]), frames=frames), ClipSettings(bins=2, clip_us=10)
        )
    )

    assert [clip.rgb_index.tolist() for clip in clips] == [[0, 0]] * 3
    assert all(clip.encoded == (b"file 0",) * 2 for clip in clips)


def test_deep_pictures_are_stored_in_eight_bits() -> None:
    frames = pictures([0, 50], dtype=np.uint16)
    deep = Frames(
        frames.t_us,
        frames.start_us,
        frames.stop_us,
        (2, 1),
        1,
        "recorded",
        lambda indices: (Picture(np.array([[[257 * 7], [65535]]], np.uint16)) for _ in indices),
    )

    clip = one(recording_of(stream([0, 99]), frames=deep), bins=2)

    assert clip.rgb.dtype == np.uint8
    assert clip.rgb[0, 0, :, 0].tolist() == [7, 255]


def test_differences_are_those_of_the_stored_arrays() -> None:
    rng = np.random.default_rng(0)
    ev = Events(
        x=rng.integers(0, 7, 500),
        y=rng.integers(0, 5, 500),
        t=np.sort(rng.integers(0, 99, 500)),
        p=rng.integers(0, 2, 500),
    )

    clip = one(recording_of(ev, frames=pictures([0, 50, 90])), bins=3)
    bare = one(recording_of(ev, frames=pictures([0, 50, 90])), bins=3, diffs=False)

    assert np.array_equal(clip.diff_events, frame_difference(clip.events))
    assert np.array_equal(clip.diff_rgb, frame_difference(clip.rgb))
    assert clip.diff_events.dtype == clip.events.dtype
    assert bare.diff_events is None
    assert bare.diff_rgb is None


def test_one_bin_has_no_difference() -> None:
    clip = one(recording_of(stream([0, 9])), bins=1)

    assert clip.diff_events.shape == (0, 2, 5, 7)


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bins": 0}, r"bins within 1\.\.4096, got 0"),
        ({"bins": 5000}, r"bins within 1\.\.4096, got 5000"),
        ({"bins": 8, "clip_us": 7}, "at least one microsecond a bin, got 7"),
        ({"dtype": "i2"}, "dtype among u1, u2, u4, f4, got 'i2'"),
        ({"representation": "counts"}, "representation among"),
        ({"windows": "frames"}, "windows among time, rgb"),
        ({"windows": "rgb", "event_window": "all"}, "event_window among"),
        ({"event_window": "exposure"}, "goes with windows 'rgb'"),
        ({"representation": "voxel:zhu", "windows": "rgb"}, "goes with counts"),
        ({"representation": "voxel:zhu,bins=5", "bins": 8}, "expected bins 5.* got 8"),
        ({"representation": "counts:eventkit,dtype=u2", "dtype": "u1"}, "expected dtype u2"),
        ({"representation": "voxel:zhu", "dtype": "u2"}, "expected dtype f4"),
        ({"representation": "voxel:zhu,bins=5000"}, r"bins within 1\.\.4096, got 5000"),
        ({"representation": "counts:tonic,split_by=number"}, "choose split_by=time"),
        ({"representation": "voxel:zhu,steps=3"}, "bins, normalize"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        ClipSettings(**settings)


def test_a_garbage_time_does_not_make_clips_without_end() -> None:
    code = """
import resource
from eventkit.errors import EventKitError
from eventkit.survey import cut_spans
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), -1))
try:
    cut_spans(0, 1 << 62, 300_000)
except EventKitError as err:
    print(type(err).__name__)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.stdout.strip() in ("FormatError", "SettingsError"), ran.stderr[-300:]


@pytest.mark.parametrize(
    ("given", "bins", "dtype", "spec"),
    [
        ({}, 8, "u1", "counts:eventkit,dtype=u1"),
        ({"dtype": "u2", "bins": 3}, 3, "u2", "counts:eventkit,dtype=u2"),
        ({"representation": "counts:eventkit,dtype=f4"}, 8, "f4", "counts:eventkit,dtype=f4"),
        ({"representation": "voxel:zhu"}, 8, "f4", "voxel:zhu,bins=8,normalize=none"),
        ({"representation": "voxel:zhu", "bins": 3}, 3, "f4", "voxel:zhu,bins=3,normalize=none"),
        (
            {"representation": "voxel:zhu,bins=5,normalize=nonzero", "bins": 5},
            5,
            "f4",
            "voxel:zhu,bins=5,normalize=nonzero",
        ),
    ],
)
def test_spec_bins_and_dtype_are_settled_together(
    given: dict[str, Any], bins: int, dtype: str, spec: str
) -> None:
    settings = ClipSettings(**given)

    assert (settings.bins, settings.dtype, settings.representation) == (bins, dtype, spec)
    assert replace(settings) == settings
    assert {**settings.as_dict(), "mass": ""} == {**asdict(settings), "mass": ""}


# Representations


@dataclass(frozen=True, kw_only=True)
class Flags(Representation):
    """``mine:flags``: whether there was an event, ON above OFF; from another package."""

    name: ClassVar[str] = "mine:flags"
    edge: int = 2

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        return np.dtype(np.bool_)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        return 1, 2 * sensor_size[1], sensor_size[0] + self.edge

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: Any, outside: Any
    ) -> BufferedAccumulator:
        return FlagAccumulator(windows, sensor_size=sensor_size, out=out, outside=outside)


class FlagAccumulator(BufferedAccumulator):
    def _fill(self, k: int, events: Events) -> None:
        self.out[k] = False
        self.out[k, 0, events.y + self.sensor_size[1] * (1 - events.p), events.x] = True


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that registers `Flags`."""
    facts = tmp_path / "mine-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[eventkit.representations]\nmine:flags = mine_flags:Flags\n"
    )
    module = ModuleType("mine_flags")
    module.Flags = Flags  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine_flags", module)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_representation_of_another_package_is_a_name_like_any(mine: None) -> None:
    clip = one(recording_of(stream([0, 9], x=[2, 3])), bins=2, representation="mine:flags,edge=1")

    assert clip.events.shape == (2, 1, 10, 8)
    assert np.argwhere(clip.events).tolist() == [[0, 0, 1, 2], [1, 0, 1, 3]]
    assert clip.diff_events.dtype == np.uint8
    assert clip.diff_events.sum() == 2


@given(st.data(), st.sampled_from(names()))
def test_clips_of_every_name_are_those_of_the_whole_array(data: st.DataObject, name: str) -> None:
    ev = data.draw(events(min_size=1, sensor_size=(12, 11), max_step_us=50))
    chunks = data.draw(parts(ev))

    clip = one(recording_of(*chunks, size=(12, 11)), bins=3, representation=name)

    made = parse(ClipSettings(bins=3, representation=name).representation)
    rule = {} if made.stack else {"bins": 3}
    whole = made(ev, sensor_size=(12, 11), **rule)
    assert np.array_equal(clip.events, made.as_stored(whole[None] if made.stack else whole))
    assert clip.decoded == clip.binned.sum() + sum(clip.dropped.values()) == len(ev)
    if made.mass == "counts":
        assert clip.events.sum() + clip.clipped.sum() == clip.binned.sum()


def test_a_convention_with_edges_of_its_own_keeps_them() -> None:
    ev = stream(list(range(11)))

    clip = one(recording_of(ev), bins=3, representation="counts:tonic")

    assert clip.windows_us.tolist() == [[0, 3], [3, 6], [6, 9]]
    assert clip.binned.tolist() == [3, 3, 3]
    assert clip.dropped == {"unpaired": 2}


def test_what_a_stack_clips_is_a_total_in_the_first_window() -> None:
    ev = stream([0] * 30 + [9] * 10)

    clip = one(recording_of(ev), bins=2, representation="stack:rvt,count_cutoff=10")

    assert clip.binned.tolist() == [30, 10]
    assert clip.clipped.tolist() == [20, 0]


def test_differences_of_signed_frames_are_unsigned_and_exact() -> None:
    frames = np.array([[-128, 5], [127, -5]], np.int8)

    found = event_difference(frames)

    assert found.dtype == np.uint8
    assert found.tolist() == [[255, 10]]
    assert event_difference(np.array([[0.5], [2]], np.float16)).tolist() == [[1.5]]


def test_raw_events_are_those_of_the_clip_in_windows_or_not() -> None:
    ev = stream([0, 11, 12, 31, 32, 51, 52, 60])
    recording = recording_of(ev[:3], ev[3:], frames=pictures([10, 30, 50], length=4))

    clip = one(recording, bins=2, windows="rgb", raw_events=True)

    assert clip.raw_events.t.tolist() == ev.t.tolist()
    assert clip.binned.sum() == 4
    assert one(recording, bins=2).raw_events is None


@pytest.mark.parametrize("name", ["counts:eventkit", "voxel:zhu", "stack:rvt", "surface:sae"])
def test_raw_events_give_the_frames_of_another_representation(name: str) -> None:
    ev = stream([0, 3, 10, 14, 19, 27], x=[0, 1, 2, 3, 4, 5])
    kept = clip_recording(recording_of(ev), ClipSettings(bins=2, clip_us=10, raw_events=True))
    wanted = ClipSettings(bins=4, clip_us=10, representation=name)

    for clip, fresh in zip(kept, clip_recording(recording_of(ev), wanted), strict=True):
        made = wanted.make_representation()
        bins = None if made.stack else 4
        found = represent_clip(clip.raw_events, clip.span_us, made, sensor_size=SIZE, bins=bins)
        assert np.array_equal(found, fresh.events)


# A real recording


def test_every_event_of_a_real_recording_is_accounted_for(shared: Path) -> None:
    recording = eventkit.open(shared / "aedat4" / "davis346_frames_events_imu.aedat4")
    settings = ClipSettings(bins=8, clip_us=300_000)

    found = survey(recording, settings)
    clips = list(clip_recording(recording, settings, surveyed=found))

    totals: Counter[str] = Counter()
    for clip in clips:
        assert_balanced(clip)
        totals["events"] += int(clip.events.sum())
        totals["clipped"] += int(clip.clipped.sum())
        totals["decoded"] += clip.decoded
    # 2.36 s in clips of 0.3 s: seven, and a tail of 0.26 s that is more than half a clip.
    assert len(clips) == 8
    assert found.ledger.decoded == 78_830
    assert totals["decoded"] == 78_830
    assert totals["events"] + totals["clipped"] == 78_830
    assert all(clip.rgb.shape == (8, 260, 346, 1) for clip in clips)
    assert [int(i) for clip in clips for i in clip.rgb_index] == sorted(
        int(i) for clip in clips for i in clip.rgb_index
    )


# Memory


def test_chunks_and_clips_are_let_go_before_the_next_ones_are_made() -> None:
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def source(ledger: Ledger) -> Iterator[Chunk]:
        for k in range(5):
            alive.append(sum(ref() is not None for ref in made))
            ev = [stream([10 * k, 10 * k + 9])]
            made.append(weakref.ref(ev[0].t))
            yield Chunk(ev.pop())

    recording = Recording(path=Path("made.up"), format="test", sensor_size=SIZE, source=source)
    for clip in clip_recording(recording, ClipSettings(bins=2, clip_us=10)):
        for frames in (clip.events, clip.diff_events):
            made.append(weakref.ref(frames if frames.base is None else frames.base))
        del clip, frames

    assert len(made) == 2 * 5 + 2 * 5
    assert alive == [0] * 10


def test_a_placeholder_and_its_difference_take_no_memory() -> None:
    clip = one(recording_of(stream([0, 99])), bins=3)

    assert clip.rgb.strides == (0, 0, 0, 0)
    assert clip.diff_rgb.strides == (0, 0, 0, 0)
    assert clip.diff_rgb.shape == (2, 5, 7, 1)
    assert not clip.diff_rgb.any()
