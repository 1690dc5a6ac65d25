"""Pictures: colours of events, the contact sheet, files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eventkit.differences import frame_difference
from eventkit.errors import SettingsError
from eventkit.render import clip_sheet, event_picture, save_png

WHITE, RED, BLUE = [255, 255, 255], [255, 0, 0], [0, 0, 255]


def test_events_are_red_and_blue_on_white_with_off_over_on() -> None:
    counts = np.zeros((2, 2, 3), np.uint16)
    counts[1, 0, 1] = 7
    counts[0, 0, 2] = 1
    counts[:, 1, 0] = 3

    picture = event_picture(counts)

    assert picture.tolist() == [[WHITE, RED, BLUE], [BLUE, WHITE, WHITE]]


def test_signed_values_are_painted_by_their_sign() -> None:
    voxels = np.array([[[[0.0, 0.5, -2.0]]]], np.float32)

    assert event_picture(voxels).tolist() == [[[WHITE, RED, BLUE]]]


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (2, 5, 4, 4)])
def test_shapes_that_are_no_event_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match=r"1 or 2, H, W"):
        event_picture(np.zeros(shape))


def clip() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 120, (3, 28, 30, 3)).astype(np.uint8)
    return rgb, rng.integers(0, 2, (3, 2, 34, 36)).astype(np.uint8)


def test_a_sheet_has_a_column_for_each_bin_and_four_rows() -> None:
    rgb, events = clip()

    sheet = clip_sheet(rgb=rgb, events=events, title="a clip", scale=2)

    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 72 + 3 * (36 * 2 + 6)
    assert sheet.shape[0] > 4 * 34 * 2
    # The last cell of the events' row, drawn by whole pixels.
    top, left = 6 + 16 + 16 + (34 * 2 + 6), 72 + 2 * (36 * 2 + 6)
    cell = sheet[top : top + 68 : 2, left : left + 72 : 2]
    assert np.array_equal(cell, event_picture(events[2]))


def test_differences_are_computed_where_none_are_stored() -> None:
    rgb, events = clip()

    computed = clip_sheet(rgb=rgb, events=events)
    given = clip_sheet(
        rgb=rgb,
        events=events,
        diff_rgb=frame_difference(rgb),
        diff_events=frame_difference(events),
    )

    assert np.array_equal(computed, given)


def test_a_clip_with_one_sense_or_one_bin_gets_a_smaller_sheet() -> None:
    rgb, events = clip()

    both = clip_sheet(rgb=rgb, events=events, scale=1)
    gray = clip_sheet(rgb=rgb[..., :1], events=None, scale=1)
    single = clip_sheet(rgb=rgb[:1], events=events[:1], scale=1)

    assert gray.shape[0] < both.shape[0]
    assert single.shape[0] < both.shape[0]
    assert single.shape[1] < both.shape[1]


def test_senses_that_do_not_fit_are_refused() -> None:
    rgb, events = clip()

    with pytest.raises(SettingsError, match="number of bins"):
        clip_sheet(rgb=rgb, events=events[:2])
    with pytest.raises(SettingsError, match="number of bins"):
        clip_sheet(rgb=None, events=None)
    with pytest.raises(SettingsError, match="RGB frames of shape"):
        clip_sheet(rgb=rgb[..., :2], events=events)


def test_a_picture_is_saved_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    rgb, _ = clip()
    target = tmp_path / "new" / "clip.png"

    save_png(target, rgb[0])
    save_png(target, rgb[1])

    assert np.array_equal(np.asarray(Image.open(target)), rgb[1])
    assert [path.name for path in target.parent.iterdir()] == ["clip.png"]
    with pytest.raises(TypeError):
        save_png(target, np.zeros((2, 2, 7), np.uint8))
    assert np.array_equal(np.asarray(Image.open(target)), rgb[1])
    assert [path.name for path in target.parent.iterdir()] == ["clip.png"]
