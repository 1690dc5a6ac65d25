"""Before clips are cut: where events go, what is dropped and when, and RGB on the same grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.clip_settings import ClipSettings
from eventkit.clips import clip_recording
from eventkit.errors import EventKitError, FormatError, SettingsError
from eventkit.events import Events
from eventkit.filters import chain
from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.preprocess import Preprocessing, Resize, preprocess
from eventkit.recording import Chunk, Recording
from eventkit.survey import survey
from eventkit.testing.strategies import events, parts

SIZE = (7, 5)


def recording_of(
    *chunks: Events | Chunk, frames: Frames | None = None, size: tuple[int, int] | None = SIZE
) -> Recording:
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


def picture(pixels: np.ndarray) -> Frames:
    times = np.array([0], np.int64)

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        return (Picture(pixels) for _ in indices)

    height, width, channels = pixels.shape
    return Frames(times, times, times, (width, height), channels, "none", reader)


def rows(ev: Events) -> list[tuple[int, int, int, int]]:
    return list(zip(ev.x.tolist(), ev.y.tolist(), ev.t.tolist(), ev.p.tolist(), strict=True))


settings = st.builds(
    Preprocessing,
    crop=st.sampled_from([None, (0, 0, 7, 5), (2, 1, 4, 3)]),
    filters=st.sampled_from(
        [(), ("refractory:period_us=50",), ("flip", "background:within_us=300"), ("transpose",)]
    ),
    downsample=st.integers(1, 3),
    size=st.sampled_from([None, (1, 1)]),
)


@given(st.data(), settings)
def test_kept_and_dropped_events_make_up_the_stream_however_it_is_cut(
    data: st.DataObject, wanted: Preprocessing
) -> None:
    ev = data.draw(events(min_size=1, sensor_size=SIZE, max_step_us=200))
    whole = preprocess(recording_of(ev), wanted)
    cut = preprocess(recording_of(*data.draw(parts(ev))), wanted)

    ledger, chunks = Ledger(), []
    chunks = list(cut.stream(ledger))

    kept = Events.concatenate(chunk.events for chunk in chunks)
    assert rows(kept) == rows(whole.events)
    lost = [t for chunk in chunks for times in chunk.dropped.values() for t in times.tolist()]
    # Times are never changed: what is missing is missing at its own time.
    assert Counter(kept.t.tolist()) + Counter(lost) == Counter(ev.t.tolist())
    assert ledger.decoded == len(ev)
    assert ledger.kept == len(kept)
    if len(kept):
        assert kept.x.max() < cut.sensor_size[0]
        assert kept.y.max() < cut.sensor_size[1]


@given(st.data())
def test_steps_move_events_as_written(data: st.DataObject) -> None:
    ev = data.draw(events(min_size=1, sensor_size=SIZE))
    wanted = Preprocessing(crop=(2, 1, 5, 4), downsample=2, size=(2, 1))

    found = preprocess(recording_of(ev), wanted)

    expected = [
        (((x - 2) // 2) * 2 // 3, ((y - 1) // 2) * 1 // 2, t, p)
        for x, y, t, p in rows(ev)
        if 2 <= x < 7 and 1 <= y < 5
    ]
    assert found.sensor_size == (2, 1)
    assert rows(found.events) == expected


def test_filters_come_after_the_crop_and_before_the_downsampling() -> None:
    # Two pixels that become one: each is quiet by itself, together they are not.
    ev = Events(x=[4, 5, 0], y=[2, 2, 0], t=[0, 10, 20], p=[1, 1, 1])
    wanted = Preprocessing(crop=(4, 2, 2, 2), filters=("refractory:period_us=50",), downsample=2)

    found = preprocess(recording_of(ev), wanted)

    assert found.events.t.tolist() == [0, 10]
    assert dict(found.ledger.dropped) == {"filtered.crop": 1}


@given(st.data())
def test_hot_pixels_are_learnt_from_what_the_steps_before_keep(data: st.DataObject) -> None:
    ev = data.draw(events(min_size=1, sensor_size=SIZE, max_size=80))
    specs = ("refractory:period_us=20", "hot-pixels:n_std=1.0")

    found = preprocess(
        recording_of(*data.draw(parts(ev))), Preprocessing(crop=(1, 0, 6, 5), filters=specs)
    )

    expected = chain(["crop:box=1/0/6/5", *specs])(ev, sensor_size=SIZE)
    assert rows(found.events) == rows(expected.events)
    assert found.ledger.dropped.total() == expected.dropped


def test_nothing_is_done_where_nothing_is_asked_for() -> None:
    recording = recording_of(Events(x=[1], y=[1], t=[0], p=[1]))

    assert preprocess(recording, Preprocessing()) is recording


def test_drops_of_filters_are_booked_on_the_clip_they_fell_into() -> None:
    ev = Events(x=[0, 6, 0, 6, 6, 0], y=[0] * 6, t=[0, 3, 5, 12, 14, 19], p=[1] * 6)
    wanted = ClipSettings(bins=2, clip_us=10, crop=(0, 0, 4, 5))

    clips = list(clip_recording(recording_of(ev[:3], ev[3:]), wanted))

    assert [clip.dropped for clip in clips] == [{"filtered.crop": 1}, {"filtered.crop": 2}]
    for clip in clips:
        assert clip.decoded == clip.binned.sum() + sum(clip.dropped.values())
        assert clip.events.shape == (2, 2, 5, 4)


@given(st.data(), settings, st.integers(8, 400))
def test_every_clip_balances_whatever_is_filtered(
    data: st.DataObject, wanted: Preprocessing, clip_us: int
) -> None:
    ev = data.draw(events(min_size=1, sensor_size=SIZE, max_step_us=100))
    recording = recording_of(*data.draw(parts(ev)))
    asked = ClipSettings(
        bins=2,
        clip_us=clip_us,
        crop=wanted.crop,
        filters=wanted.filters,
        downsample=wanted.downsample,
        size=wanted.size,
        raw_events=True,
    )
    if not len(preprocess(recording, asked.preprocessing).events):
        with pytest.raises(FormatError, match=r"all \d+ were dropped \(\d+ filtered"):
            survey(recording, asked)
        return

    found = survey(recording, asked)
    clips = list(clip_recording(recording, asked, surveyed=found))

    for clip in clips:
        assert clip.decoded == clip.binned.sum() + sum(clip.dropped.values())
        assert clip.events.sum() + clip.clipped.sum() == clip.binned.sum()
        assert len(clip.raw_events) == clip.binned.sum()
    assert found.ledger.decoded == len(ev)
    assert sum(clip.decoded for clip in clips) <= len(ev)


def test_events_are_not_enlarged() -> None:
    with pytest.raises(SettingsError, match="at most 7x5"):
        preprocess(recording_of(), Preprocessing(size=(8, 5)))
    with pytest.raises(SettingsError, match="at most 7x5"):
        Resize(to=(7, 6)).size(SIZE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": (0, 0, 0, 5)},
        {"downsample": 0},
        {"size": (0, 4)},
        {"filters": ("nonsense",)},
        {"filters": ("background:within=5",)},
        {"homography": (1.0, 2.0)},
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ClipSettings(**wrong)


def test_a_box_beyond_the_sensor_is_refused() -> None:
    with pytest.raises(EventKitError, match="7x5 sensor"):
        preprocess(recording_of(), Preprocessing(crop=(4, 0, 4, 5)))


def test_specs_of_filters_are_kept_in_full() -> None:
    (spec,) = ClipSettings(filters=("refractory",)).filters

    assert spec.startswith("refractory:period_us=")


# RGB


def test_rgb_stays_as_it_is_without_a_homography() -> None:
    frames = picture(np.zeros((9, 8, 3), np.uint8))

    assert preprocess(recording_of(frames=frames), Preprocessing(downsample=2)).frames is frames


@pytest.mark.parametrize(
    ("steps", "moved"),
    [
        ({}, lambda p: p),
        ({"crop": (2, 1, 4, 3)}, lambda p: p[1:4, 2:6]),
        ({"filters": ("flip:axis=x",)}, lambda p: p[:, ::-1]),
        ({"filters": ("flip:axis=y",)}, lambda p: p[::-1]),
        ({"filters": ("transpose",)}, lambda p: p.transpose(1, 0, 2)),
        ({"crop": (1, 0, 6, 4), "filters": ("transpose", "flip:axis=x")},
         lambda p: p[:4, 1:].transpose(1, 0, 2)[:, ::-1]),
    ],
)  # fmt: skip
def test_rgb_follows_the_events_through_every_step(steps: dict[str, Any], moved: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    same = tuple(np.eye(3).ravel())

    found = preprocess(
        recording_of(frames=picture(pixels)), Preprocessing(homography=same, **steps)
    )

    expected = moved(pixels)
    assert found.frames.size == found.sensor_size == expected.shape[1::-1]
    np.testing.assert_array_equal(found.frames.images[0], expected)


@pytest.mark.parametrize("steps", [{"downsample": 2}, {"size": (4, 3)}])
def test_rgb_shrinks_with_the_events_around_the_same_corner(steps: dict[str, Any]) -> None:
    ramp = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 20, 6, axis=0)

    found = preprocess(
        recording_of(frames=picture(ramp), size=(8, 6)),
        Preprocessing(homography=tuple(np.eye(3).ravel()), **steps),
    )

    # The middle of a new pixel lies between two old ones.
    assert found.frames.images[0][1, :, 0].tolist() == [10, 50, 90, 130]


def test_a_homography_needs_to_know_the_sensor() -> None:
    frames = picture(np.zeros((2, 2, 1), np.uint8))

    with pytest.raises(FormatError, match="needs the size of the sensor"):
        preprocess(
            recording_of(frames=frames, size=None),
            Preprocessing(homography=tuple(np.eye(3).ravel())),
        )


def test_pictures_alone_get_the_asked_grid_for_their_empty_events() -> None:
    recording = recording_of(frames=picture(np.zeros((2, 2, 1), np.uint8)), size=None)

    (clip,) = clip_recording(recording, ClipSettings(bins=2, size=(4, 3)))

    assert clip.events.shape == (2, 2, 3, 4)
    assert clip.rgb.shape == (2, 2, 2, 1)
