"""Pictures: colours of events, the contact sheet, files that are whole or not there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import eventkit
from eventkit.differences import frame_difference
from eventkit.errors import SettingsError
from eventkit.render import (
    Scene,
    clip_sheet,
    draw_film,
    event_picture,
    paint,
    save_gif,
    save_mp4,
    save_png,
)
from eventkit.render.canvas import resized
from eventkit.render.scene import rows_of
from eventkit.render.times import captions
from eventkit.representations import names

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


def test_a_place_where_nothing_can_be_written_is_named_as_the_caller_named_it() -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        save_png("/proc/a.png", np.zeros((2, 2, 3), np.uint8))

    assert caught.value.filename == "/proc/a.png"


def test_any_representation_has_colours() -> None:
    surface = np.zeros((1, 2, 1, 3), np.float32)
    surface[0, 0, 0, 1] = 0.5
    surface[0, 1, 0, 2] = 1.0

    assert paint(surface)[0, 0].tolist() == [WHITE, [127, 127, 255], RED]
    assert paint(-surface[:, 1:])[0, 0].tolist() == [WHITE, WHITE, BLUE]
    assert paint(surface[:, 1:])[0, 0].tolist() == [WHITE, WHITE, [48, 16, 80]]
    order = (surface * 200).astype(np.uint8)
    assert paint(order)[0, 0].tolist() == [WHITE, BLUE, RED]
    assert paint(order, shaded=True)[0, 0].tolist() == [WHITE, [127, 127, 255], RED]


def test_a_picture_stays_as_it_is_and_other_channels_become_tiles() -> None:
    picture = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)

    assert np.array_equal(paint(picture), picture.transpose(0, 2, 3, 1))
    # 8 tiles of 4 x 5 pixels in two rows of four, a pixel apart.
    assert paint(np.ones((1, 8, 4, 5), np.uint8)).shape == (1, 2 * 5 - 1, 4 * 6 - 1, 3)
    with pytest.raises(SettingsError, match=r"\(T, C, H, W\)"):
        paint(np.zeros((2, 3)))


def test_ages_with_never_as_the_oldest_are_drawn_on_white() -> None:
    volume = np.full((1, 1, 2, 3), 10.0, np.float32)
    volume[0, 0, 0, 0] = 0.0

    assert paint(volume)[0].tolist() == [[[48, 16, 80], WHITE, WHITE], [WHITE] * 3]


@given(st.integers(0, 2**32 - 1))
def test_painting_takes_any_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 6))
    values = rng.normal(size=(2, channels, 3, 4)) * 10.0 ** rng.integers(-30, 30)
    values[rng.random(values.shape) < 0.3] = rng.choice([0.0, np.nan, np.inf, -np.inf])

    assert paint(values).dtype == np.uint8
    assert (paint(np.zeros_like(values))[0, :3, :4] == 255).all()


def test_shrinking_keeps_single_events_and_averages_pictures() -> None:
    white = np.full((6, 6, 3), 255, np.uint8)
    white[4, 4] = RED
    gray = np.zeros((6, 6, 3), np.uint8)
    gray[:3, :3] = 90

    small = resized(white, (2, 2), ink=True)

    assert small.tolist() == [[WHITE, WHITE], [WHITE, RED]]
    white[5, 5] = BLUE
    assert resized(white, (2, 2), ink=True)[1, 1].tolist() == [128, 0, 128]
    assert resized(gray, (2, 2), ink=False)[..., 0].tolist() == [[90, 0], [0, 0]]
    assert resized(gray, (1, 1), ink=False)[0, 0, 0] == 23
    assert np.array_equal(resized(resized(gray, (18, 18), ink=False), (6, 6), ink=False), gray)


def test_events_lie_over_rgb_and_white_is_clear() -> None:
    scene = Scene(
        rgb=np.full((2, 4, 4, 1), 100, np.uint8),
        events=np.eye(4, dtype=np.uint8).reshape(1, 1, 4, 4) * np.ones((2, 2, 1, 1), np.uint8),
    )

    rows = rows_of(scene, overlay=True)

    assert [row.name for row in rows] == ["events over RGB", "differences"]
    assert rows[0].pictures[0, 0, :2].tolist() == [BLUE, [100, 100, 100]]
    for missing in ("rgb", "events"):
        with pytest.raises(SettingsError, match="leave --overlay out"):
            rows_of(replace(scene, **{missing: None}), overlay=True)
    tiles = replace(scene, events=np.ones((2, 8, 4, 4), np.uint8))
    with pytest.raises(SettingsError, match="1 to 3 channels"):
        rows_of(tiles, overlay=True)


def test_every_bin_has_its_time_in_milliseconds() -> None:
    halves = np.array([[0, 12_500], [12_500, 25_000]])
    fine = np.array([[1, 3], [3, 6]])

    assert captions(halves, 2, 160) == ["0.0 - 12.5 ms", "12.5 - 25.0 ms"]
    assert captions(fine, 2, 160) == ["0.001 - 0.003 ms", "0.003 - 0.006 ms"]
    assert captions(np.array([[0, 7000], [7000, 9000]]), 2, 28) == ["0 - 7", "7 - 9"]
    assert captions(None, 2, 160) == ["bin 0", "bin 1"]
    assert captions(None, 2, 1) == ["", ""]


def test_a_wide_sheet_is_broken_into_bands() -> None:
    rgb = np.zeros((30, 200, 300, 3), np.uint8)

    sheet = clip_sheet(rgb=rgb, events=None)

    assert sheet.shape[1] <= 6000
    assert sheet.shape[0] > 4 * 200
    with pytest.raises(SettingsError, match="fewer --bins"):
        clip_sheet(rgb=rgb, events=None, scale=64)


def test_a_film_has_a_frame_for_each_bin_and_a_bar_that_grows() -> None:
    rgb, events = clip()
    windows = np.array([[0, 10], [10, 20], [20, 40]]) * 1000
    scene = Scene(rgb=rgb, events=events, windows_us=windows, title="a clip")

    frames = list(draw_film(scene))

    assert len({frame.shape for frame in frames}) == 1
    bars = [(frame[-20] == 40).all(axis=-1).sum() for frame in frames]
    assert len(frames) == 3
    assert bars[0] == bars[1]
    assert abs(bars[2] - 2 * bars[0]) <= 2
    # The first frame has no difference to show: paper where the last panel is.
    assert (frames[0][60, -40] == 245).all()
    assert len(list(draw_film(replace(scene, windows_us=None)))) == 3
    with pytest.raises(SettingsError, match=r"\(3, 2\)"):
        list(draw_film(replace(scene, windows_us=windows[:2])))


def film(count: int = 3) -> list[NDArray[np.uint8]]:
    frames = [np.full((35, 51, 3), 245, np.uint8) for _ in range(count)]
    for k, frame in enumerate(frames):
        frame[8:24, 10 * k : 10 * k + 16] = RED
    return frames


def test_a_gif_holds_the_frames_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    frames = film()

    save_gif(tmp_path / "a.gif", iter(frames), fps=10)
    save_gif(tmp_path / "b.gif", frames, fps=10)

    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (3, (51, 35), 100)
        image.seek(2)
        assert np.array_equal(np.asarray(image.convert("RGB")), frames[2])
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_an_mp4_holds_the_frames_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    frames = film()

    save_mp4(tmp_path / "a.mp4", iter(frames), fps=12.5)
    save_mp4(tmp_path / "b.mp4", frames, fps=12.5)

    video = eventkit.open(tmp_path / "a.mp4").frames
    assert video is not None
    assert (len(video), video.size) == (3, (52, 36))
    assert np.diff(video.t_us).tolist() == [80_000, 80_000]
    last = video.images[2][:35, :51].astype(int)
    assert np.abs(last[12:20, 24:32] - RED).max() < 40
    assert np.abs(last[28:] - 245).max() < 20
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("save", [save_gif, save_mp4])
def test_a_film_that_fails_leaves_the_old_one(tmp_path: Path, save: Any) -> None:
    def broken() -> Iterator[NDArray[np.uint8]]:
        yield film()[0]
        msg = "a fault on the way"
        raise RuntimeError(msg)

    target = tmp_path / "film"
    target.write_bytes(b"the old one")

    with pytest.raises(RuntimeError, match="on the way"):
        save(target, broken(), fps=8)
    for frames, fps in ((iter(()), 8), (film(), 0)):
        with pytest.raises(SettingsError, match=r"at least one frame|frames a second"):
            save(target, frames, fps=fps)
    assert target.read_bytes() == b"the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["film"]


@pytest.fixture(scope="module")
def maker() -> Any:
    """The script that remakes docs/representations.md."""
    path = Path(__file__).resolve().parents[2] / "docs" / "make_representations.py"
    spec = importlib.util.spec_from_file_location("make_representations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_a_section_with_a_picture_for_every_name(maker: Any) -> None:
    page = maker.PAGE.read_text()

    for name in names():
        section = re.search(rf"^### `{name}`\n(.*?)^(?:### |---)", page, re.DOTALL | re.MULTILINE)
        assert section is not None, name
        for word in ("Frame", "Settings", "Mass", "Formula", "Unit", "Edges", "Source"):
            assert f"- **{word}** " in section[1], (name, word)
        picture = maker.PICTURES / f"{maker.slug(name)}.png"
        assert f"(pictures/{picture.name})" in section[1]
        assert 1000 < picture.stat().st_size < 60_000


def test_the_facts_of_the_page_are_those_of_the_code(maker: Any) -> None:
    page = maker.PAGE.read_text()

    assert maker.filled(page) == page, "run `make docs`"
    assert maker.facts("voxel:zhu") in page


def test_the_page_lists_every_filter_and_augmentation(maker: Any) -> None:
    from eventkit import augment, filters

    page = maker.PAGE.read_text()

    for name in filters.names():
        assert f"| `{name}` |" in page, name
    for name in augment.__all__:
        kind = getattr(augment, name)
        if isinstance(kind, type) and augment.Augmentation in kind.__mro__[1:]:
            assert f"`{name}(" in page, name


def test_the_pictures_are_those_that_the_code_makes(maker: Any, shared: Path) -> None:
    for name, pixels in maker.pictures():
        with Image.open(maker.PICTURES / f"{name}.png") as image:
            assert image.size == (pixels.shape[1], pixels.shape[0])
            there = np.asarray(image.convert("RGB")).astype(int)
        # Letters may differ between font libraries, and colours were made fewer.
        assert np.abs(there - pixels)[20:].mean() < 1, f"{name}: run `make docs`"
