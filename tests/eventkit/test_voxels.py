"""Voxel grids: every convention against a slow twin, and what must always hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from representation_twins import (
    SIZE,
    drawn_on,
    pile,
    rounding,
    signed,
    slow_nonzero,
    slow_spatial,
    slow_voxels,
)

from eventkit.errors import InvalidEventsError, SettingsError
from eventkit.events import Events
from eventkit.representations import make, voxel_grid
from eventkit.testing.strategies import events, parts, sensor_sizes
from eventkit.windows import Windows

CONVENTIONS = ["zhu", "tonic", "cube"]
BINS = st.integers(1, 9)


def signs(ev: Events) -> int:
    return int((2 * ev.p.astype(int) - 1).sum())


def close(grid: Any, expected: Any, ev: Events) -> None:
    assert grid.dtype == np.float32
    np.testing.assert_allclose(grid, expected, rtol=0, atol=rounding(ev))


# In time


@given(st.data(), sensor_sizes(), BINS, st.sampled_from(CONVENTIONS))
def test_voxels_equal_those_of_the_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int, convention: str
) -> None:
    ev = data.draw(events(sensor_size=size))

    grid = voxel_grid(ev, sensor_size=size, bins=bins, convention=convention)

    close(grid, signed(slow_voxels(ev, bins, size, convention=convention)), ev)


@given(events(), BINS, st.sampled_from(CONVENTIONS), st.integers(-300, 300), st.integers(1, 3000))
def test_voxels_of_a_given_window_equal_those_of_the_slow_twin(
    ev: Events, bins: int, convention: str, offset: int, length: int
) -> None:
    start = (int(ev.t[0]) if len(ev) else 0) + offset
    stop = start + length

    grid = voxel_grid(
        ev, sensor_size=SIZE, bins=bins, convention=convention, edges_us=[start, stop]
    )

    twin = slow_voxels(ev, bins, SIZE, convention=convention, window=(start, stop))
    close(grid[0], signed(twin), ev)


@given(events(), BINS, st.sampled_from(CONVENTIONS), st.integers(1, 12), st.integers(1, 12))
def test_voxels_of_windows_by_count_are_those_of_their_events(
    ev: Events, bins: int, convention: str, count: int, stride: int
) -> None:
    grids = voxel_grid(
        ev, sensor_size=SIZE, bins=bins, convention=convention, count=count, stride=stride
    )

    for k, grid in enumerate(grids):
        part = ev[k * stride : k * stride + count]
        alone = voxel_grid(part, sensor_size=SIZE, bins=bins, convention=convention)
        assert np.array_equal(grid, alone)


@given(events(), BINS, st.sampled_from(["drop", "clamp"]))
def test_cubes_of_split_polarity_equal_those_of_the_slow_twin(
    ev: Events, bins: int, edges: Any
) -> None:
    grid = voxel_grid(
        ev, sensor_size=SIZE, bins=bins, convention="cube", edges=edges, polarity="split"
    )
    together = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention="cube", edges=edges)

    twin = slow_voxels(ev, bins, SIZE, convention="cube", clamp=edges == "clamp")
    close(grid, twin.reshape(2 * bins, 5, 7), ev)
    close(together, signed(twin), ev)


@given(events(), BINS)
def test_conventions_that_conserve_mass_sum_to_the_signs(ev: Events, bins: int) -> None:
    zhu = voxel_grid(ev, sensor_size=SIZE, bins=bins)
    cube = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention="cube", edges="clamp")
    spatial = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention="zhu-spatial")

    for grid in (zhu, cube, spatial):
        assert grid.sum(dtype=np.float64) == pytest.approx(signs(ev), abs=rounding(ev))


def test_what_tonic_and_the_dropping_cube_lose_is_what_is_stated() -> None:
    ev = Events(x=[0] * 5, y=[0] * 5, t=[0, 250, 500, 750, 1000], p=[1] * 5)

    tonic = voxel_grid(ev, sensor_size=(1, 1), bins=2, convention="tonic").ravel()
    cube = voxel_grid(ev, sensor_size=(1, 1), bins=2, convention="cube", edges_us=[0, 2000])

    # tau = 0, 0.5, 1, 1.5 and 2: half of the event at 1.5 and all of the last are lost.
    assert tonic.tolist() == [1.5, 2.0]
    # tau = -0.5, -0.25, 0, 0.25, 0.5: 0.5 and 0.25 fall before the first centre.
    assert cube.ravel().tolist() == [0.5 + 0.75 + 1 + 0.75 + 0.5, 0.25 + 0.5]


@given(events(), st.integers(1, 9), st.sampled_from(CONVENTIONS), st.integers(-(1 << 40), 1 << 40))
def test_another_start_of_the_clock_changes_no_voxel(
    ev: Events, bins: int, convention: str, shift: int
) -> None:
    moved = Events(x=ev.x, y=ev.y, t=ev.t + shift, p=ev.p)

    grid = voxel_grid(moved, sensor_size=SIZE, bins=bins, convention=convention)

    alone = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention=convention)
    assert np.array_equal(grid, alone)


@given(events(), BINS, st.sampled_from([*CONVENTIONS, "zhu-spatial"]))
def test_the_other_polarity_gives_the_other_sign(ev: Events, bins: int, convention: str) -> None:
    flipped = Events(x=ev.x, y=ev.y, t=ev.t, p=1 - ev.p)

    grid = voxel_grid(flipped, sensor_size=SIZE, bins=bins, convention=convention)

    straight = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention=convention)
    assert np.array_equal(grid, -straight)


@given(st.data(), BINS)
def test_the_order_of_events_at_one_time_changes_voxels_by_rounding_only(
    data: st.DataObject, bins: int
) -> None:
    ev = data.draw(events(max_step_us=3))
    order = np.lexsort((data.draw(st.permutations(range(len(ev)))), ev.t))
    mixed = Events(x=ev.x[order], y=ev.y[order], t=ev.t[order], p=ev.p[order])

    grid = voxel_grid(mixed, sensor_size=SIZE, bins=bins)

    close(grid, voxel_grid(ev, sensor_size=SIZE, bins=bins), ev)


@given(st.data(), BINS, st.sampled_from([*CONVENTIONS, "zhu-spatial"]), st.booleans())
def test_chunks_give_the_bits_of_the_whole(
    data: st.DataObject, bins: int, convention: str, normal: bool
) -> None:
    ev = data.draw(events(min_size=1))
    kind = make(f"voxel:{convention}", bins=bins, normalize="nonzero" if normal else "none")
    first, stop = int(ev.t[0]), int(ev.t[-1]) + 1
    edges = [first, (first + stop) // 2, stop, stop + 5]
    voxels = kind.accumulator(Windows.of_edges(edges), sensor_size=SIZE)

    for part in data.draw(parts(ev)):
        voxels.update(part)

    # The same additions in the same order: equal to the bit.
    assert np.array_equal(voxels.finish(), kind(ev, sensor_size=SIZE, edges_us=edges))


@pytest.mark.parametrize("n", [511, 512, 513, 1025, 5000])
def test_the_blocks_of_the_kernel_meet_without_a_seam(n: int) -> None:
    ev = drawn_on(SIZE, n)

    grid = voxel_grid(ev, sensor_size=SIZE, bins=4)

    np.testing.assert_allclose(grid, signed(slow_voxels(ev, 4, SIZE)), rtol=0, atol=n * 2.0**-20)


def test_the_last_event_is_wholly_in_the_last_bin() -> None:
    ev = Events(x=[0, 6], y=[0, 4], t=[0, 1000], p=[1, 1])

    grid = voxel_grid(ev, sensor_size=SIZE, bins=5)

    assert (grid[0, 0, 0], grid[4, 4, 6]) == (1.0, 1.0)
    assert np.count_nonzero(grid) == 2


def test_equal_times_are_in_the_first_bin() -> None:
    grid = voxel_grid(pile(4, t=7), sensor_size=SIZE, bins=3)

    assert grid[:, 1, 2].tolist() == [4.0, 0.0, 0.0]


def test_one_bin_holds_the_sum_of_signs_of_each_pixel() -> None:
    ev = Events(x=[1, 1, 1, 2], y=[0, 0, 0, 3], t=[0, 3, 9, 10], p=[1, 1, 0, 0])

    grid = voxel_grid(ev, sensor_size=SIZE, bins=1)

    assert (grid[0, 0, 1], grid[0, 3, 2]) == (1.0, -1.0)


@pytest.mark.parametrize("convention", [*CONVENTIONS, "zhu-spatial"])
def test_no_events_give_zeros_in_a_kept_buffer(convention: str) -> None:
    out = np.full((3, 5, 7), 77, np.float32)

    grid = voxel_grid(Events.empty(), sensor_size=SIZE, bins=3, convention=convention, out=out)

    assert grid is out
    assert not out.any()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_span_of_half_of_int64_and_more_is_spread_or_refused(convention: str) -> None:
    ev = Events(x=[0, 0, 0], y=[0, 0, 0], t=[-(1 << 62), 0, (1 << 62) + 1], p=[1, 1, 1])

    try:
        grid = voxel_grid(ev, sensor_size=SIZE, bins=3, convention=convention)
    except InvalidEventsError:
        return
    close(grid, signed(slow_voxels(ev, 3, SIZE, convention=convention)), ev)


def test_an_event_that_the_convention_loses_must_lie_on_the_sensor_all_the_same() -> None:
    ev = Events(x=[0, 7], y=[0, 0], t=[0, 1000], p=[1, 1])

    with pytest.raises(InvalidEventsError, match="x=7 y=0 p=1 at event 1"):
        voxel_grid(ev, sensor_size=SIZE, bins=2, convention="tonic")


# In space


@given(st.data(), sensor_sizes(max_side=5), st.integers(1, 4))
def test_rectified_positions_are_shared_like_the_slow_twin(
    data: st.DataObject, size: tuple[int, int], bins: int
) -> None:
    ev = data.draw(events(sensor_size=size, max_size=12))
    place = st.floats(-2.5, 7.5, width=32)
    xy = data.draw(st.lists(st.tuples(place, place), min_size=len(ev), max_size=len(ev)))
    positions = np.array(xy, np.float32).reshape(-1, 2)

    grid = voxel_grid(ev, sensor_size=size, bins=bins, convention="zhu-spatial", xy=positions)

    close(grid, slow_spatial(ev, positions, bins, size), ev)


@given(events(), BINS)
def test_whole_positions_make_the_spatial_grid_that_of_zhu(ev: Events, bins: int) -> None:
    xy = np.stack([ev.x, ev.y], axis=1)

    spatial = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention="zhu-spatial", xy=xy)

    close(spatial, voxel_grid(ev, sensor_size=SIZE, bins=bins), ev)


def test_shares_outside_the_sensor_are_lost() -> None:
    ev = Events(x=[0] * 3, y=[0] * 3, t=[0, 0, 0], p=[1, 1, 1])
    xy = [(-0.25, 0.0), (6.5, 4.5), (9e9, -3.0)]

    grid = voxel_grid(ev, sensor_size=SIZE, bins=1, convention="zhu-spatial", xy=xy)[0]

    assert np.argwhere(grid).tolist() == [[0, 0], [4, 6]]
    assert (grid[0, 0], grid[4, 6]) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("xy", "words"),
    [
        (np.zeros((2, 2)), r"xy of shape \(1, 2\)"),
        (np.zeros(2), r"xy of shape \(1, 2\)"),
        ([[0.0, np.nan]], "finite positions, got .* at event 0"),
        ([[np.inf, 0.0]], "finite positions"),
    ],
)
def test_positions_that_cannot_be_are_refused(xy: Any, words: str) -> None:
    with pytest.raises(InvalidEventsError, match=words):
        voxel_grid(pile(1), sensor_size=SIZE, bins=2, convention="zhu-spatial", xy=xy)


# Normalised


@given(st.data(), BINS, st.sampled_from([*CONVENTIONS, "zhu-spatial"]))
def test_the_cells_that_are_not_zero_get_mean_zero_and_deviation_one(
    data: st.DataObject, bins: int, convention: str
) -> None:
    ev = data.draw(events())
    plain = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention=convention)

    grid = voxel_grid(ev, sensor_size=SIZE, bins=bins, convention=convention, normalize="nonzero")

    assert not grid[plain == 0].any()
    np.testing.assert_allclose(grid, slow_nonzero(plain), rtol=1e-6, atol=1e-6)


def test_one_cell_and_equal_cells_have_only_their_mean_taken_off() -> None:
    ev = Events(x=[0, 1], y=[0, 0], t=[5, 5], p=[1, 1])

    assert not voxel_grid(ev, sensor_size=SIZE, bins=2, normalize="nonzero").any()
    assert not voxel_grid(ev[:1], sensor_size=SIZE, bins=2, normalize="nonzero").any()


# Refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"convention": "voxel"}, "convention among zhu, zhu-spatial, tonic, cube"),
        ({"bins": 0}, "1 to 16777216 bins, got 0"),
        ({"bins": True}, "1 to 16777216 bins"),
        ({"bins": 2.5}, "1 to 16777216 bins"),
        ({"normalize": "max"}, "normalize among none, nonzero"),
        ({"edges": "drop"}, "edges goes with convention 'cube'"),
        ({"polarity": "split", "convention": "tonic"}, "polarity goes with convention 'cube'"),
        ({"convention": "cube", "edges": "wrap"}, "edges among drop, clamp"),
        ({"convention": "cube", "polarity": "both"}, "polarity among signed, split"),
        ({"xy": [[0, 0]]}, "xy goes with convention 'zhu-spatial'"),
        (
            {"xy": [[0, 0]], "convention": "zhu-spatial", "sort": True},
            "sort does not go with xy",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        voxel_grid(pile(1), sensor_size=SIZE, **{"bins": 2, **settings})


def test_bins_are_a_setting_of_the_grid_and_no_window_rule() -> None:
    with pytest.raises(SettingsError, match="bins is a setting of voxel:zhu"):
        make("voxel:zhu", bins=2)(pile(1), sensor_size=SIZE, bins=3)
