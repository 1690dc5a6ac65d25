"""What must hold for every representation there is, whatever its formula."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from representation_twins import drawn_on, rounding

from eventkit.errors import EventKitError, InvalidEventsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.representations import Representation, names, parse
from eventkit.testing.strategies import events, parts, sensor_sizes, window_rules

Frames = NDArray[Any]
FEW = settings(max_examples=25)


def swap(frames: Frames, *, groups: int) -> Frames:
    """Swap OFF and ON in (T, groups * 2 * n, H, W), where n follow each polarity."""
    t, channels, *rest = frames.shape
    split = frames.reshape(t, groups, 2, channels // (2 * groups), *rest)
    return split[:, :, ::-1].reshape(frames.shape)


@dataclass(frozen=True)
class Law:
    """Which laws a representation obeys, beside those that all obey.

    Parameters
    ----------
    additive : bool
        Frames of two streams in the same windows add up to those of both.
    flip : function, optional
        What the other polarity does to (T, C, H, W).
    """

    additive: bool = False
    flip: Callable[[Frames], Frames] | None = None


def swap_colours(frames: Frames) -> Frames:
    """Swap the red of ON and the blue of OFF; white stays."""
    red, blue = (np.array(c, np.uint8)[:, None, None] for c in ((220, 30, 30), (30, 30, 200)))
    is_red, is_blue = ((frames == c).all(axis=1, keepdims=True) for c in (red, blue))
    return np.where(is_red, blue, np.where(is_blue, red, frames))


def swap_ends(frames: Frames) -> Frames:
    return frames[:, ::-1]


two_planes = partial(swap, groups=1)
LAWS = {
    "counts:eventkit": Law(additive=True, flip=two_planes),
    "counts:tonic": Law(additive=True, flip=two_planes),
    "counts:spikingjelly": Law(additive=True, flip=two_planes),
    "voxel:zhu": Law(additive=True, flip=np.negative),
    "voxel:zhu-spatial": Law(additive=True, flip=np.negative),
    "voxel:tonic": Law(additive=True, flip=np.negative),
    "voxel:cube": Law(additive=True, flip=np.negative),
    "stack:rvt": Law(flip=two_planes),
    "stack:mdes": Law(flip=np.negative),
    "surface:sae": Law(flip=two_planes),
    "surface:hots": Law(flip=two_planes),
    "surface:hats": Law(flip=two_planes),
    "surface:tore": Law(flip=two_planes),
    "surface:speed-invariant": Law(flip=two_planes),
    # Painted OFF over ON, a pixel with both stays blue.
    "image:event-ahu": Law(),
    "image:event-ahu,painting=last-wins": Law(flip=swap_colours),
    "image:tencode": Law(flip=swap_ends),
    "binary:sstformer": Law(flip=np.positive),
    "binary:binarep": Law(flip=two_planes),
    "counts:eventkit,dtype=u1": Law(additive=True, flip=two_planes),
    "counts:tonic,split_by=number": Law(additive=True, flip=two_planes),
    "counts:spikingjelly,split_by=number,dtype=f4": Law(additive=True, flip=two_planes),
    "voxel:zhu,bins=1": Law(additive=True, flip=np.negative),
    "voxel:zhu,normalize=nonzero": Law(flip=np.negative),
    "voxel:cube,edges=clamp,polarity=split": Law(additive=True, flip=partial(swap, groups=5)),
    "stack:rvt,bins=3,count_cutoff=2": Law(flip=two_planes),
    "stack:mdes,bins=25": Law(flip=np.negative),
    "surface:hats,cell_size=3,surface_size=3,decay=linear": Law(flip=two_planes),
    "surface:tore,k=2,convention=evutils": Law(flip=two_planes),
    "surface:sae,decay=linear": Law(flip=two_planes),
    "surface:speed-invariant,radius=1,polarity=merged,ties=keep": Law(flip=np.positive),
    "binary:sstformer,edges=sstformer": Law(flip=np.positive),
    "binary:binarep,edges=tonic": Law(flip=two_planes),
}
NAMES = [*names(), *(spec for spec in LAWS if "," in spec)]
every_name = pytest.mark.parametrize("name", NAMES)


def made(name: str) -> Representation:
    """Return a representation by its spec."""
    try:
        return parse(name)
    except ModuleNotFoundError as err:
        pytest.skip(f"{name} is not written yet: {err}")


def whole(ev: Events) -> list[int]:
    """Return two windows that hold every event."""
    first, last = (int(ev.t[0]), int(ev.t[-1])) if len(ev) else (0, 0)
    return [first, first + (last - first) // 2, last + 1]


def same_bits(one: Frames, other: Frames) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    )


def changed(ev: Events, **columns: Any) -> Events:
    return Events(**{**{name: getattr(ev, name) for name in "xytp"}, **columns})


def test_the_table_of_laws_names_what_there_is() -> None:
    assert set(names()) >= {spec.partition(",")[0] for spec in LAWS}


# Streams that break code


@every_name
@pytest.mark.parametrize("size", [(7, 5), (1, 1), (1, 6), (13, 2)])
def test_frames_of_any_stream_have_the_shape_and_type_that_are_stated(
    name: str, size: tuple[int, int]
) -> None:
    kind = made(name)
    frame = kind.frame_shape(size)

    for n in (0, 1, 50):
        ev = drawn_on(size, n)
        one = kind(ev, sensor_size=size)
        many = kind(ev, sensor_size=size, edges_us=[0, 10, 9_000, 20_000])
        assert (one.shape, many.shape) == (frame, (3, *frame))
        assert one.dtype == many.dtype == kind.frame_dtype
        assert np.isfinite(many.astype(np.float64)).all()
        assert kind(ev, sensor_size=size, count=20).shape == (-(-n // 20), *frame)


@every_name
def test_a_window_without_events_looks_like_a_stream_without_events(name: str) -> None:
    kind = made(name)
    ev = drawn_on((7, 5), 30, span_us=100)

    frames = kind(ev, sensor_size=(7, 5), edges_us=[-500, -300, -200])

    nothing = kind(Events.empty(), sensor_size=(7, 5))
    assert same_bits(frames[0], nothing)
    assert same_bits(frames[1], nothing)


@every_name
def test_where_no_window_fits_there_are_no_frames(name: str) -> None:
    kind, ev = made(name), drawn_on((7, 5), 30, span_us=100)

    frames = kind(ev, sensor_size=(7, 5), window_us=200, last="exclude")

    assert frames.shape == (0, *kind.frame_shape((7, 5)))
    assert kind(ev, sensor_size=(7, 5), count=31, last="exclude", out=frames) is frames


@every_name
@pytest.mark.parametrize("t", [0, -7, (1 << 53) + 1, 1_589_163_147_368_868])
@pytest.mark.parametrize("n", [1, 9])
def test_events_at_one_time_leave_one_picture_wherever_the_clock_starts(
    name: str, t: int, n: int
) -> None:
    kind = made(name)
    ev = changed(drawn_on((7, 5), n), t=np.full(n, t))

    frame = kind(ev, sensor_size=(7, 5))

    assert np.isfinite(frame.astype(np.float64)).all()
    assert same_bits(frame, kind(changed(ev, t=np.zeros(n, np.int64)), sensor_size=(7, 5)))
    assert same_bits(frame, kind(ev, sensor_size=(7, 5), window_us=1)[0])


@every_name
@pytest.mark.parametrize(
    "times",
    [
        [(1 << 63) - 1],
        [-(1 << 63), (1 << 63) - 1],
        [-(1 << 63), (1 << 63) - 2],
        [-(1 << 62) - 10, (1 << 62) + 10],
    ],
)
def test_times_at_the_ends_of_int64_are_drawn_or_refused_with_a_sentence(
    name: str, times: list[int]
) -> None:
    kind = made(name)
    ev = changed(drawn_on((7, 5), len(times)), t=np.array(times))
    rules: list[dict[str, Any]] = [{}, {"last": "exclude"}, {"count": 1}, {"window_us": 1 << 62}]
    rules += [{"edges_us": [-(1 << 63), (1 << 63) - 1]}]
    rules += [] if kind.stack else [{"bins": 1}, {"bins": 3, "last": "exclude"}]

    for rule in rules:
        try:
            frames = kind(ev, sensor_size=(7, 5), **rule)
        except EventKitError as refusal:
            sentence = str(refusal)
        else:
            sentence = "2^63"
            assert np.isfinite(frames.astype(np.float64)).all()
        assert re.search(r"2\^6|at most", sentence)


@every_name
def test_times_out_of_order_are_named_or_sorted(name: str) -> None:
    kind = made(name)
    ev = drawn_on((7, 5), 40, span_us=1 << 40)
    order = np.arange(40)
    order[[17, 23]] = order[[23, 17]]
    columns = {column: getattr(ev, column)[order] for column in "xytp"}

    with pytest.raises(InvalidEventsError, match="at event 18;"):
        kind(columns, sensor_size=(7, 5))

    frames = kind(columns, sensor_size=(7, 5), window_us=1 << 37, sort=True)
    assert same_bits(frames, kind(ev, sensor_size=(7, 5), window_us=1 << 37))


@every_name
@pytest.mark.parametrize("bad", [0, 700, 999])
@pytest.mark.parametrize("column", ["x", "y"])
def test_events_outside_the_sensor_are_named_or_dropped_and_counted(
    name: str, bad: int, column: str
) -> None:
    kind, size = made(name), (7, 5)
    ev = drawn_on(size, 1000)
    values = getattr(ev, column).copy()
    values[bad:] = size["xy".index(column)]
    broken = changed(ev, **{column: values})
    got = f"got x={broken.x[bad]} y={broken.y[bad]} p={broken.p[bad]} at event {bad};"

    with pytest.raises(InvalidEventsError, match=re.escape("7x5 sensor (W x H), " + got)):
        kind(broken, sensor_size=size, edges_us=[0, 20_000])

    ledger, rule = Ledger(), {"edges_us": [0, 5_000, 20_000]}
    frames = kind(broken, sensor_size=size, outside="drop", ledger=ledger, **rule)
    assert same_bits(frames, kind(ev[:bad], sensor_size=size, **rule))
    assert (ledger.decoded, ledger.dropped["outside"]) == (1000, 1000 - bad)


@every_name
def test_events_outside_are_dropped_from_chunks_too(name: str) -> None:
    kind, ev = made(name), drawn_on((9, 9), 600)
    kept = ev[(ev.x < 7) & (ev.y < 5)]
    windows = kind.windows(kept, (7, 5), window_us=3_000)
    frames = kind.accumulator(windows, sensor_size=(7, 5), outside="drop")

    for i in range(0, 600, 100):
        frames.update(ev[i : i + 100])

    assert same_bits(frames.finish(), kind(kept, sensor_size=(7, 5), window_us=3_000))
    assert frames.ledger.dropped["outside"] == 600 - len(kept)
    assert frames.ledger.decoded == 600


# Laws


@every_name
@FEW
@given(ev=events())
def test_mass_is_what_the_class_states(name: str, ev: Events) -> None:
    kind = made(name)

    frames = kind(ev, sensor_size=(7, 5), edges_us=whole(ev)).astype(np.float64)

    if kind.mass == "counts":
        assert frames.sum() == len(ev)
    elif kind.mass == "signs" and kind.settings["normalize"] == "none":
        signs = int((2 * ev.p.astype(int) - 1).sum())
        assert frames.sum() == pytest.approx(signs, abs=rounding(ev))


@pytest.mark.parametrize("name", [name for name in NAMES if LAWS.get(name, Law()).additive])
@FEW
@given(data=st.data())
def test_the_frames_of_two_streams_add_up_to_those_of_both(name: str, data: st.DataObject) -> None:
    kind, ev = made(name), data.draw(events())
    half = np.array(data.draw(st.lists(st.booleans(), min_size=len(ev), max_size=len(ev))), bool)
    rule = {"sensor_size": (7, 5), "edges_us": whole(ev)}

    one, other = (kind(ev[mask], **rule).astype(np.float64) for mask in (half, ~half))

    np.testing.assert_allclose(one + other, kind(ev, **rule), rtol=0, atol=rounding(ev))


@every_name
@FEW
@given(data=st.data())
def test_another_start_of_the_clock_changes_no_bit(name: str, data: st.DataObject) -> None:
    kind, ev = made(name), data.draw(events(start_us=0))
    rule = data.draw(window_rules(ev, bins=not kind.stack))
    shift = data.draw(st.sampled_from([-1_000_003, 1 << 40, (1 << 53) + 1, -(1 << 61)]))
    later = dict(rule)
    if "edges_us" in rule:
        later["edges_us"] = [edge + shift for edge in rule["edges_us"]]
    if not len(ev):
        return

    frames = kind(changed(ev, t=ev.t + shift), sensor_size=(7, 5), **later)

    assert same_bits(frames, kind(ev, sensor_size=(7, 5), **rule))


@pytest.mark.parametrize("name", [name for name in NAMES if LAWS.get(name, Law()).flip])
@FEW
@given(data=st.data())
def test_the_other_polarity_does_what_the_table_says(name: str, data: st.DataObject) -> None:
    kind, ev = made(name), data.draw(events())
    rule = {"sensor_size": (7, 5), "edges_us": whole(ev)}

    flipped = kind(changed(ev, p=1 - ev.p), **rule)

    flip = LAWS[name].flip
    assert flip is not None
    assert np.array_equal(flipped, flip(kind(ev, **rule)))


@every_name
@FEW
@given(data=st.data(), size=sensor_sizes())
def test_the_transposed_stream_gives_the_transposed_frames(
    name: str, data: st.DataObject, size: tuple[int, int]
) -> None:
    kind, ev = made(name), data.draw(events(sensor_size=size))
    rule = data.draw(window_rules(ev, bins=not kind.stack))

    frames = kind(changed(ev, x=ev.y, y=ev.x), sensor_size=size[::-1], **rule)

    straight = kind(ev, sensor_size=size, **rule)
    close = np.array_equal if frames.dtype.kind != "f" else partial(np.allclose, atol=1e-5)
    assert close(frames.swapaxes(-1, -2), straight)


# Roads that lead to the same bits


@every_name
@settings(max_examples=60)
@given(data=st.data(), size=sensor_sizes())
def test_chunks_give_the_bits_of_the_whole(
    name: str, data: st.DataObject, size: tuple[int, int]
) -> None:
    kind, ev = made(name), data.draw(events(sensor_size=size))
    rule = data.draw(window_rules(ev, bins=not kind.stack))
    windows = kind.windows(ev, size, **rule)
    out = np.full((len(windows), *kind.frame_shape(size)), 77, kind.frame_dtype)
    frames = kind.accumulator(windows, sensor_size=size, out=out)

    for part in data.draw(parts(ev)):
        frames.update(part)

    assert frames.finish() is out
    expected = kind(ev, sensor_size=size, **rule)
    assert same_bits(out, expected.reshape(out.shape))
    assert frames.ledger.decoded == len(ev)
    assert frames.ledger.kept + frames.ledger.dropped["unpaired"] == len(ev)


@every_name
@FEW
@given(data=st.data())
def test_a_kept_buffer_is_filled_with_the_bits_of_a_fresh_one(
    name: str, data: st.DataObject
) -> None:
    kind, ev = made(name), data.draw(events())
    rule = data.draw(window_rules(ev, bins=not kind.stack))
    fresh = kind(ev, sensor_size=(7, 5), **rule)
    noise = np.random.default_rng(0).integers(0, 256, fresh.nbytes, np.uint8)
    out = np.frombuffer(noise.tobytes(), fresh.dtype).reshape(fresh.shape).copy()

    again = kind(ev, sensor_size=(7, 5), out=out, **rule)

    assert again is out
    assert same_bits(out, fresh)


@every_name
def test_two_threads_give_the_bits_of_one(name: str) -> None:
    kind = made(name)
    streams = [drawn_on((13, 8), 4_000, seed=seed) for seed in range(6)]
    frames = partial(kind, sensor_size=(13, 8), window_us=2_500)

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(frames, streams))

    for ev, result in zip(streams, together, strict=True):
        assert same_bits(result, frames(ev))


@every_name
def test_the_events_stay_as_they_are(name: str) -> None:
    ev = drawn_on((7, 5), 200)
    columns = {column: getattr(ev, column).copy() for column in "xytp"}
    before = {column: values.copy() for column, values in columns.items()}

    made(name)(columns, sensor_size=(7, 5), window_us=3_000)

    assert all(np.array_equal(columns[column], before[column]) for column in "xytp")


@every_name
def test_what_is_stored_of_a_clip_has_a_time_axis(name: str) -> None:
    kind = made(name)
    rule: dict[str, Any] = {"edges_us": [0, 20_000]} if kind.stack else {"bins": 4}

    frames = kind(drawn_on((7, 5), 200), sensor_size=(7, 5), **rule)

    stored = kind.as_stored(frames)
    assert stored.ndim == 4
    assert stored.size == frames.size
