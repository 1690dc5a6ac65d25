"""Augmentations: one draw for all arrays of a clip, nothing invented, everything accounted for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.augment import (
    Augmentation,
    ClipArrays,
    Compose,
    DropByArea,
    DropByChance,
    DropByTime,
    FlipX,
    FlipY,
    SpatialJitter,
    TimeJitter,
    TimeReversal,
    TimeSkew,
    Transform,
    UniformNoise,
    augment_clip,
)
from eventkit.differences import frame_difference
from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations.counts import count_frames
from eventkit.representations.registry import make
from eventkit.slicing import equal_edges
from eventkit.testing.strategies import events

SIZE = (7, 5)
ALL: list[Augmentation] = [
    DropByChance(chance=0.4),
    DropByTime(share=(0.1, 0.6)),
    DropByArea(share=(0.1, 0.5)),
    SpatialJitter(sigma_px=1.5),
    SpatialJitter(sigma_px=1.5, outside="clamp"),
    TimeJitter(sigma_us=300),
    TimeJitter(sigma_us=300, outside="clamp"),
    TimeSkew(factor=(0.5, 2.0)),
    TimeSkew(factor=(0.5, 2.0), outside="keep"),
    UniformNoise(rate_hz=100),
    FlipX(),
    FlipY(),
    TimeReversal(),
    TimeReversal(chance=1, invert=False),
    Compose((FlipX(chance=1), DropByArea(share=0.3), TimeReversal(chance=1))),
]
ON_FRAMES: list[Augmentation] = [
    DropByArea(share=0.3),
    FlipX(chance=1),
    FlipY(chance=1),
    TimeReversal(chance=1),
    TimeReversal(chance=1, invert=False),
    Compose((FlipX(chance=1), DropByArea(share=0.3), TimeReversal(chance=1))),
]
ON_EVENTS = [
    DropByChance(),
    DropByTime(),
    SpatialJitter(),
    TimeJitter(),
    TimeSkew(),
    UniformNoise(),
]


def span_of(ev: Events) -> tuple[int, int]:
    return (int(ev.t[0]), int(ev.t[-1]) + 1) if len(ev) else (0, 1)


def drawn(augmentation: Augmentation, span: tuple[int, int], *, seed: int = 0) -> Transform:
    return augmentation.draw(rng=np.random.default_rng(seed), sensor_size=SIZE, span=span)


def rows(ev: Events, names: str = "xytp") -> Counter[tuple[int, ...]]:
    return Counter(zip(*(getattr(ev, name).tolist() for name in names), strict=True))


def busy(n: int = 2000, *, span: int = 8000) -> Events:
    rng = np.random.default_rng(1)
    return Events(
        x=rng.integers(0, SIZE[0], n),
        y=rng.integers(0, SIZE[1], n),
        t=np.sort(rng.integers(0, span, n)),
        p=rng.integers(0, 2, n),
    )


# What holds for all


@given(events(), st.sampled_from(ALL), st.integers(0, 20))
def test_what_comes_out_is_in_order_and_on_the_sensor_and_nothing_is_invented_but_by_noise(
    ev: Events, augmentation: Augmentation, seed: int
) -> None:
    before = ev.to_structured()

    found = augmentation(ev, sensor_size=SIZE, rng=np.random.default_rng(seed))

    # Events() checks order, types and polarities again.
    again = Events(x=found.x, y=found.y, t=found.t, p=found.p)
    assert again == found
    assert (found.x.dtype, found.t.dtype, found.p.dtype) == (np.uint16, np.int64, np.int8)
    assert not len(found) or (int(found.x.max()) < SIZE[0] and int(found.y.max()) < SIZE[1])
    assert isinstance(augmentation, UniformNoise) or len(found) <= len(ev)
    assert np.array_equal(ev.to_structured(), before)


@given(events(), st.sampled_from(ALL), st.integers(0, 20))
def test_the_same_seed_gives_the_same(ev: Events, augmentation: Augmentation, seed: int) -> None:
    transform = drawn(augmentation, span_of(ev), seed=seed)

    assert transform == drawn(augmentation, span_of(ev), seed=seed)
    assert transform.events(ev) == transform.events(ev)


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
@pytest.mark.parametrize("rng", [None, 3, np.random.RandomState(0)])
def test_chance_comes_from_a_generator_only(augmentation: Augmentation, rng: Any) -> None:
    with pytest.raises(SettingsError, match="expected rng as"):
        augmentation(busy(3), sensor_size=SIZE, rng=rng)


@pytest.mark.parametrize("span", [(5, 5), (6, 5), (0, 2**63), (-(2**63), 2**63 - 1)])
def test_a_span_that_is_none_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match="span that ends after"):
        drawn(FlipX(), span)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (DropByChance, {"chance": 1.1}),
        (DropByChance, {"chance": float("nan")}),
        (DropByTime, {"share": (0.5, 0.2)}),
        (DropByArea, {"share": -0.1}),
        (DropByArea, {"fill": 256}),
        (SpatialJitter, {"sigma_px": -1}),
        (SpatialJitter, {"outside": "wrap"}),
        (TimeJitter, {"sigma_us": float("inf")}),
        (TimeJitter, {"outside": "keep"}),
        (TimeSkew, {"factor": 0}),
        (TimeSkew, {"factor": 2000}),
        (TimeSkew, {"outside": "clamp"}),
        (UniformNoise, {"rate_hz": -1}),
        (FlipX, {"chance": 2}),
        (FlipY, {"chance": -1}),
        (TimeReversal, {"chance": 2}),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        kind(**settings)


# Each one


@pytest.mark.parametrize(("chance", "left", "off"), [(0, 2000, 0), (1, 0, 0), (0.3, 1400, 100)])
def test_chance_drops_its_share(chance: float, left: int, off: int) -> None:
    found = DropByChance(chance=chance)(busy(), sensor_size=SIZE, rng=np.random.default_rng(0))

    assert abs(len(found) - left) <= off
    assert rows(found) <= rows(busy())


@given(events(min_size=1), st.floats(0, 1), st.integers(0, 20))
def test_time_is_dropped_in_one_interval_of_the_clip(ev: Events, share: float, seed: int) -> None:
    span = span_of(ev)
    transform: Any = drawn(DropByTime(share=share), span, seed=seed)

    found = transform.events(ev)

    assert span[0] <= transform.start <= transform.stop <= span[1]
    assert transform.stop - transform.start == int((span[1] - span[0]) * share)
    kept = (ev.t < transform.start) | (ev.t >= transform.stop)
    assert found == ev[kept]


@given(events(), st.floats(0.01, 1), st.integers(0, 20))
def test_area_is_dropped_in_one_rectangle(ev: Events, share: float, seed: int) -> None:
    t: Any = drawn(DropByArea(share=share), span_of(ev), seed=seed)

    found = t.events(ev)

    assert 0 <= t.x0 < t.x1 <= SIZE[0]
    assert 0 <= t.y0 < t.y1 <= SIZE[1]
    kept = [not (t.x0 <= x < t.x1 and t.y0 <= y < t.y1) for x, y in zip(ev.x, ev.y, strict=True)]
    assert found == ev[np.array(kept, bool)]


def test_no_area_drops_nothing() -> None:
    transform = drawn(DropByArea(share=0), (0, 8000))
    picture = np.ones((1, 10, 14, 3), np.uint8)

    assert transform.events(busy()) == busy()
    assert transform.rgb(picture).all()


@given(events(), st.integers(0, 20))
def test_clamped_jitters_lose_no_event(ev: Events, seed: int) -> None:
    rng = np.random.default_rng(seed)

    moved = SpatialJitter(sigma_px=2, outside="clamp")(ev, sensor_size=SIZE, rng=rng)
    late = TimeJitter(sigma_us=500, outside="clamp")(ev, sensor_size=SIZE, rng=rng)

    assert rows(moved, "tp") == rows(ev, "tp")
    assert rows(late, "xyp") == rows(ev, "xyp")
    assert not len(ev) or (late.t[0] >= ev.t[0] and late.t[-1] <= ev.t[-1])


@given(events(), st.integers(0, 20))
def test_dropping_jitters_keep_what_they_do_not_move_out(ev: Events, seed: int) -> None:
    rng = np.random.default_rng(seed)

    moved = SpatialJitter(sigma_px=2)(ev, sensor_size=SIZE, rng=rng)
    late = TimeJitter(sigma_us=500)(ev, sensor_size=SIZE, rng=rng)

    assert rows(moved, "tp") <= rows(ev, "tp")
    assert rows(late, "xyp") <= rows(ev, "xyp")


def test_no_jitter_is_no_change() -> None:
    ev, rng = busy(), np.random.default_rng(0)

    assert SpatialJitter(sigma_px=0)(ev, sensor_size=SIZE, rng=rng) == ev
    assert TimeJitter(sigma_us=0)(ev, sensor_size=SIZE, rng=rng) == ev


@given(events(min_size=1), st.floats(0.01, 50), st.integers(0, 20))
def test_skewed_times_are_exact_integers(ev: Events, factor: float, seed: int) -> None:
    span = (int(ev.t[0]) - 3, int(ev.t[-1]) + 5)
    rule = TimeSkew(factor=factor, outside="keep")
    transform: Any = drawn(rule, span, seed=seed)

    found = transform.events(ev)

    exact = [span[0] + (t - span[0]) * transform.factor // 2**20 for t in ev.t.tolist()]
    assert found.t.tolist() == exact
    inside = drawn(TimeSkew(factor=factor), span, seed=seed).events(ev)
    assert inside == found[found.t < span[1]]


def test_a_skew_far_out_is_exact_or_refused() -> None:
    ev = Events(x=[0, 0], y=[0, 0], t=[0, 2**61 + 1], p=[1, 1])
    span = (0, 2**61 + 2)

    doubled = drawn(TimeSkew(factor=2, outside="keep"), span).events(ev)

    assert doubled.t.tolist() == [0, 2**62 + 2]
    with pytest.raises(SettingsError, match="within 2\\^63 us"):
        drawn(TimeSkew(factor=8, outside="keep"), span).events(ev)
    assert drawn(TimeSkew(factor=8), span).events(ev).t.tolist() == [0]


@given(events(), st.integers(0, 20))
def test_noise_adds_its_number_and_leaves_the_rest(ev: Events, seed: int) -> None:
    span = span_of(ev)
    transform: Any = drawn(UniformNoise(rate_hz=300), span, seed=seed)

    found = transform.events(ev)

    assert len(found) == len(ev) + transform.count
    assert rows(ev) <= rows(found)
    assert not len(found) or (found.t[0] >= span[0] and found.t[-1] < span[1])


def test_noise_is_even() -> None:
    transform = drawn(UniformNoise(rate_hz=1000), (0, 1_000_000))

    frame = count_frames(transform.events(Events.empty()), sensor_size=SIZE, bins=1)[0]

    assert abs(int(frame.sum()) - 35_000) < 1000
    assert frame.min() > 400


@given(events(), st.sampled_from([FlipX, FlipY, TimeReversal]))
def test_mirrored_twice_is_as_before(ev: Events, kind: Any) -> None:
    transform = drawn(kind(chance=1), span_of(ev))

    assert transform.events(transform.events(ev)) == ev


@given(events(min_size=1), st.booleans())
def test_reversal_mirrors_the_clip_onto_itself(ev: Events, invert: bool) -> None:
    span = (int(ev.t[0]) - 2, int(ev.t[-1]) + 9)

    found = drawn(TimeReversal(chance=1, invert=invert), span).events(ev)

    assert found.t.tolist() == [sum(span) - 1 - t for t in ev.t.tolist()[::-1]]
    expected = ev.p[::-1] ^ 1 if invert else ev.p[::-1]
    assert np.array_equal(found.p, expected)
    assert np.array_equal(found.x, ev.x[::-1])


def test_reversal_near_the_end_of_the_clock_does_not_wrap() -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[2**63 - 9, 2**63 - 3], p=[0, 1])

    found = TimeReversal(chance=1)(ev, sensor_size=SIZE, rng=np.random.default_rng(0))

    assert found.t.tolist() == [2**63 - 9, 2**63 - 3]
    assert found.x.tolist() == [1, 0]


@pytest.mark.parametrize(
    "augmentation", [TimeReversal(chance=1), TimeSkew(), TimeJitter()], ids=repr
)
def test_events_outside_the_span_are_named(augmentation: Augmentation) -> None:
    ev = Events(x=[0, 0], y=[0, 0], t=[5, 20], p=[1, 1])

    with pytest.raises(InvalidEventsError, match=r"span \[0, 20\) us, got 20 us at event 1"):
        drawn(augmentation, (0, 20)).events(ev)


@pytest.mark.parametrize(
    "augmentation",
    [FlipX(chance=1), FlipY(chance=1), DropByArea(), SpatialJitter()],
    ids=repr,
)
def test_events_outside_the_sensor_are_named(augmentation: Augmentation) -> None:
    ev = Events(x=[0, 7], y=[0, 0], t=[0, 1], p=[1, 1])

    with pytest.raises(InvalidEventsError, match="x=7 y=0 p=1 at event 1"):
        drawn(augmentation, (0, 2)).events(ev)


# One draw for the whole clip


@pytest.mark.parametrize("augmentation", ON_FRAMES, ids=repr)
@pytest.mark.parametrize("kind", ["absolute", "signed", "thresholded"])
def test_frames_and_differences_are_those_of_the_augmented_events(
    augmentation: Augmentation, kind: Any
) -> None:
    ev, edges = busy(), equal_edges(0, 8000, 8)
    frames = count_frames(ev, sensor_size=SIZE, edges_us=edges)
    rgb = np.random.default_rng(2).integers(0, 256, (8, 10, 21, 3)).astype(np.uint8)
    clip = ClipArrays(
        stream=ev,
        events=frames,
        rgb=rgb,
        diff_events=frame_difference(frames, kind=kind),
        diff_rgb=frame_difference(rgb, kind=kind),
        diff_kind=kind,
    )

    found: Any = augment_clip(clip, drawn(augmentation, (0, 8000), seed=3))

    assert np.array_equal(
        found.events, count_frames(found.stream, sensor_size=SIZE, edges_us=edges)
    )
    assert np.array_equal(found.diff_events, frame_difference(found.events, kind=kind))
    assert np.array_equal(found.diff_rgb, frame_difference(found.rgb, kind=kind))
    assert found.rgb.shape == rgb.shape
    assert not np.array_equal(found.rgb, rgb)
    assert np.array_equal(frames, count_frames(ev, sensor_size=SIZE, edges_us=edges))


@pytest.mark.parametrize("augmentation", ON_FRAMES, ids=repr)
@pytest.mark.parametrize("kind", ["absolute", "signed"])
def test_voxels_and_their_differences_are_those_of_the_augmented_events(
    augmentation: Augmentation, kind: Any
) -> None:
    ev, zhu = busy(), make("voxel:zhu", bins=5)
    whole = {"sensor_size": SIZE, "edges_us": [0, 8000]}
    frames = zhu.as_stored(zhu(ev, **whole))
    clip = ClipArrays(
        events=frames,
        diff_events=frame_difference(frames, kind=kind),
        diff_kind=kind,
        representation="voxel:zhu",
    )
    transform = drawn(augmentation, (0, 8000), seed=3)

    found: Any = augment_clip(clip, transform)

    expected = zhu.as_stored(zhu(transform.events(ev), **whole))
    np.testing.assert_allclose(found.events, expected, rtol=0, atol=1e-4)
    assert np.array_equal(found.diff_events, frame_difference(found.events, kind=kind))


@pytest.mark.parametrize("augmentation", ON_EVENTS, ids=repr)
def test_what_concerns_events_leaves_pictures_and_refuses_frames(
    augmentation: Augmentation,
) -> None:
    rgb = np.zeros((2, 4, 4, 3), np.uint8)
    transform = drawn(augmentation, (0, 8000))

    found = augment_clip(ClipArrays(stream=busy(), rgb=rgb, diff_rgb=rgb[1:]), transform)

    assert found.rgb is rgb
    assert np.array_equal(found.diff_rgb, rgb[1:])
    counts = np.zeros((2, 2, 5, 7), np.uint16)
    with pytest.raises(SettingsError, match="treats single events"):
        augment_clip(ClipArrays(events=counts), transform)
    with pytest.raises(SettingsError, match="treats single events"):
        augment_clip(ClipArrays(diff_events=counts[1:]), transform)


def test_pictures_of_another_size_lose_every_pixel_the_rectangle_touches() -> None:
    from eventkit.augment.drops import AreaDrop

    transform = AreaDrop((4, 2), 1, 2, 0, 1, 9)

    found = transform.rgb(np.zeros((1, 3, 6, 1), np.uint8))[0, :, :, 0]

    # Column 1 of 4 is 1.5 .. 3 of 6; row 0 of 2 is 0 .. 1.5 of 3.
    assert np.argwhere(found == 9).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


@pytest.mark.parametrize("name", ["voxel:tonic", "surface:sae", "stack:rvt", "image:event-ahu"])
def test_frames_that_tell_late_from_early_are_not_reversed(name: str) -> None:
    frames = np.zeros((3, 2, 5, 7), np.uint8)
    transform = drawn(TimeReversal(chance=1), (0, 10))

    with pytest.raises(SettingsError, match="from the reversed events"):
        transform.frames(frames, representation=name)
    with pytest.raises(SettingsError, match="from the reversed events"):
        transform.differences(frames, of="events", representation=name)


@pytest.mark.parametrize(("name", "channels"), [("counts:eventkit", 1), ("voxel:zhu", 2)])
def test_frames_that_are_not_what_they_are_called_are_not_reversed(
    name: str, channels: int
) -> None:
    with pytest.raises(SettingsError, match="say what it is by representation="):
        drawn(TimeReversal(chance=1), (0, 10)).frames(
            np.zeros((3, channels, 5, 7), np.float32), representation=name
        )


@pytest.mark.parametrize("augmentation", [FlipX(chance=1), FlipY(chance=1), DropByArea()], ids=repr)
def test_frames_of_another_size_than_the_sensor_are_refused(augmentation: Augmentation) -> None:
    transform = drawn(augmentation, (0, 10))

    with pytest.raises(SettingsError, match=r"event frames \(T, C, 5, 7\)"):
        transform.frames(np.zeros((3, 2, 2, 3), np.uint8))


@pytest.mark.parametrize("name", ["image:event-ahu", "surface:sae", "surface:tore", "voxel:cube"])
@pytest.mark.parametrize("augmentation", ON_FRAMES[:3], ids=repr)
def test_other_representations_are_mirrored_and_emptied_as_their_events(
    name: str, augmentation: Augmentation
) -> None:
    ev, representation = busy(400), make(name)
    transform = drawn(augmentation, (0, 8000), seed=3)
    whole: dict[str, Any] = {"sensor_size": SIZE, "edges_us": [0, 8000]}
    frames = representation.as_stored(representation(ev, **whole))

    found = transform.frames(frames, representation=name)

    expected = representation.as_stored(representation(transform.events(ev), **whole))
    assert np.array_equal(found, expected)


def test_differences_to_the_first_frame_are_not_reversed() -> None:
    clip = ClipArrays(diff_rgb=np.zeros((1, 2, 2, 3), np.uint8), diff_order="first")

    with pytest.raises(SettingsError, match="reverse the frames instead"):
        augment_clip(clip, drawn(TimeReversal(chance=1), (0, 10)))


@pytest.mark.parametrize("kind", [FlipX, FlipY, TimeReversal])
def test_without_luck_nothing_is_mirrored(kind: Any) -> None:
    clip = ClipArrays(
        stream=busy(5), events=np.ones((2, 2, 5, 7), np.float32), diff_rgb=np.ones((1, 2, 2, 3))
    )

    found = augment_clip(clip, drawn(kind(chance=0), (0, 8000)))

    assert found.stream == clip.stream
    assert found.events is clip.events
    assert found.diff_rgb is clip.diff_rgb


def test_polarity_is_inverted_as_by_the_peer() -> None:
    transforms = pytest.importorskip("tonic.transforms")
    ev = busy(200)
    theirs = np.empty(200, [("x", int), ("y", int), ("t", int), ("p", int)])
    for name in "xytp":
        theirs[name] = getattr(ev, name)

    back = transforms.RandomTimeReversal(p=1.0)(theirs)

    ours = TimeReversal(chance=1)(ev, sensor_size=SIZE, rng=np.random.default_rng(0))
    for name in "xyp":
        assert np.array_equal(getattr(ours, name), back[name])
    # The peer's clip starts at 0, ours where it did.
    assert np.array_equal(ours.t - ev.t[0], back["t"])
