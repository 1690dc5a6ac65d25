"""Images and folders of images: pixels as they are, times from a text file, order by number."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eventkit
from eventkit.errors import FormatError, MissingDataError, SettingsError, UnsupportedFormatError
from eventkit.readers.images import decode_pixels, list_images

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
GRAY = RGB[:, :, 0]
DEEP = (GRAY.astype(np.uint16) << 8) + 7


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def folder_of(path: Path, names: list[str]) -> Path:
    """Fill a folder with gray pictures whose pixels are their position in ``names``."""
    path.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        save(path / name, np.full((4, 6), i, np.uint8))
    return path


def values(recording: eventkit.Recording) -> list[int]:
    assert recording.frames is not None
    return [int(image[0, 0, 0]) for image in recording.frames.images]


@pytest.mark.parametrize(
    ("pixels", "mode", "expected"),
    [
        (GRAY, None, GRAY[:, :, None]),
        (RGB, None, RGB),
        (RGB, "RGBA", RGB),
        (GRAY, "LA", GRAY[:, :, None]),
        (DEEP, None, DEEP[:, :, None]),
        (np.where(GRAY > 127, 255, 0).astype(np.uint8), "1", None),
    ],
    ids=["gray", "RGB", "RGBA", "gray and alpha", "16 bit", "black and white"],
)
def test_png_pixels_are_read_as_they_are(
    tmp_path: Path, pixels: np.ndarray, mode: str | None, expected: np.ndarray | None
) -> None:
    path = save(tmp_path / "a.png", pixels, mode)

    frames = eventkit.open(path).frames

    expected = pixels[:, :, None] if expected is None else expected
    assert np.array_equal(frames.images[0], expected)
    assert frames.images.dtype == expected.dtype
    assert (frames.size, frames.channels) == ((6, 4), expected.shape[2])
    assert frames.timing == "none"


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray((GRAY % 2).astype(np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png")

    frames = eventkit.open(tmp_path / "a.png").frames

    table = np.array([[10, 20, 30], [200, 100, 50]], np.uint8)
    assert np.array_equal(frames.images[0], table[GRAY % 2])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_every_suffix_of_a_lossless_image_is_known(tmp_path: Path, suffix: str) -> None:
    recording = eventkit.open(save(tmp_path / f"a{suffix}", RGB))

    assert recording.format == "image"
    assert np.array_equal(recording.frames.images[0], RGB)


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.png", "png"), ("a.jpg", "jpg"), ("a.jpeg", "jpg")]
)
def test_png_and_jpeg_keep_the_bytes_of_their_file(tmp_path: Path, name: str, suffix: str) -> None:
    path = save(tmp_path / name, RGB)

    frames = eventkit.open(path).frames

    picture = next(frames.pictures([0]))
    assert frames.suffix == suffix
    assert picture.encoded == path.read_bytes()
    assert picture.pixels.shape == (4, 6, 3)


def test_a_folder_of_two_kinds_keeps_pixels_only(tmp_path: Path) -> None:
    folder = tmp_path / "rgb"
    folder.mkdir()
    save(folder / "1.png", RGB)
    save(folder / "2.jpg", RGB)

    frames = eventkit.open(folder).frames

    assert frames.suffix == ""
    assert [picture.encoded for picture in frames.pictures([0, 1])] == [None, None]


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    names = ["img9.png", "img10.png", "img100.png", "z.png"]
    folder = folder_of(tmp_path / "rgb", names)
    (folder / "notes.md").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"not a picture either")

    recording = eventkit.open(folder)

    assert [file.name for file in list_images(folder)] == names
    assert values(recording) == [0, 1, 2, 3]
    assert recording.format == "images"
    assert recording.events is not None
    assert not recording.has_events
    assert recording.notes == ["no timestamps.txt: the pictures have an order but no times"]


@pytest.mark.parametrize(
    "lines",
    [
        "100\n200\n300\n",
        "# time in us\n\n100\n200\n300",
        "100,100\n200,200\n300,300\n",
        "1.png 100\n2.png 200\n3.png 300\n",
        "3.png,300\r\n1.png,100\r\n2.png,200\r\n",
        "1.png 100 100\n2.png\t200 200\n  3.png , 300 , 300\n",
        "+100\n200\n300\n",
    ],
    ids=["times", "comments", "start, stop", "names", "any order", "both", "sign"],
)
@pytest.mark.parametrize("name", ["timestamps.txt", "timestamps.csv"])
def test_times_are_read_in_every_form(tmp_path: Path, lines: str, name: str) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (folder / name).write_text(lines)

    recording = eventkit.open(folder)

    assert recording.frames.t_us.tolist() == [100, 200, 300]
    assert recording.frames.timing == "recorded"
    assert recording.notes == []
    assert values(recording) == [0, 1, 2]


def test_exposures_give_their_middle_and_may_lie_before_zero(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png"])
    (folder / "timestamps.txt").write_text("-20 -10\n0 5\n")

    frames = eventkit.open(folder).frames

    assert frames.start_us.tolist() == [-20, 0]
    assert frames.stop_us.tolist() == [-10, 5]
    assert frames.t_us.tolist() == [-15, 2]


@pytest.mark.parametrize(
    ("lines", "reason", "words"),
    [
        ("100\n", "bad_value", "expected 2 lines, one an image, got 1"),
        ("1\n2\n3\n", "bad_value", "expected 2 lines, one an image, got 3"),
        ("", "bad_value", "got 0"),
        ("0.1\n0.2\n", "bad_value", r"integer microseconds, got '0.1' in line 1"),
        ("# x\n1\n2 3 4\n", "bad_value", r"got '2 3 4' in line 3"),
        ("name\n2\n", "bad_value", "got 'name' in line 1"),
        ("1.png 5\n7.png 6\n", "bad_value", "a line for every image, 2.png has none"),
        ("1.png 5\n1.png 6\n", "bad_value", "a line for every image, 2.png has none"),
        ("20\n10\n", "backwards_time", "in time order"),
        ("5 4\n6 7\n", "backwards_time", "start before stop"),
    ],
)
def test_times_that_cannot_be_are_refused_with_the_line(
    tmp_path: Path, lines: str, reason: str, words: str
) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png"])
    (folder / "timestamps.txt").write_text(lines)

    with pytest.raises(FormatError, match=words) as caught:
        eventkit.open(folder)

    assert caught.value.reason == reason
    assert caught.value.path == str(folder / "timestamps.txt")


def test_a_time_that_is_no_int64_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png"])
    (folder / "timestamps.txt").write_text("9" * 30)

    with pytest.raises(FormatError, match="in line 1"):
        eventkit.open(folder)


def test_a_byte_order_mark_is_no_part_of_the_first_time(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png"])
    (folder / "timestamps.txt").write_text("100\n200\n", "utf-8-sig")

    assert eventkit.open(folder).frames.t_us.tolist() == [100, 200]


def test_pictures_of_different_shapes_are_refused_when_met(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png"])
    save(folder / "3.png", RGB)
    frames = eventkit.open(folder).frames

    assert len(list(frames.pictures([0, 1]))) == 2
    with pytest.raises(FormatError, match=r"3\.png: expected \(4, 6, 1\) like 1\.png"):
        list(frames.pictures([2]))


def test_a_folder_without_images_is_not_understood(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()

    with pytest.raises(UnsupportedFormatError, match="or a folder of images"):
        eventkit.open(tmp_path / "rgb")
    with pytest.raises(MissingDataError, match="found none"):
        eventkit.open(tmp_path / "rgb", format="images")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_an_image_cut_anywhere_is_refused_or_whole(kind: str, mode: str) -> None:
    if (kind, mode) == ("JPEG", "P"):
        mode = "CMYK"
    buffer = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(buffer, kind)
    data = buffer.getvalue()
    whole = decode_pixels(data, path="a")

    for length in range(0, len(data), 5):
        try:
            pixels = decode_pixels(data[:length], path="a")
        except FormatError:
            continue
        # Trailing checks of a format may be gone while all pixels are there.
        assert np.array_equal(pixels, whole)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_image_is_refused_when_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)

    with pytest.raises(FormatError, match=r"a\.png: expected an image") as caught:
        eventkit.open(path)

    assert caught.value.reason in ("corrupt", "truncated")


def test_a_broken_image_within_a_folder_is_named_when_met(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png"])
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:40])
    frames = eventkit.open(folder).frames

    with pytest.raises(FormatError, match=r"2\.png: expected an image"):
        _ = frames.images


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_flipped_bytes_of_an_image_end_in_a_format_error_or_in_pixels(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind)
    data = buffer.getvalue()

    unexpected = set()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x01
        try:
            decode_pixels(bytes(damaged), path="a")
        except FormatError:
            pass
        except Exception as err:
            unexpected.add(f"{type(err).__name__}: {err}")

    assert unexpected == set()


def test_images_are_the_rgb_side_of_an_event_file(tmp_path: Path) -> None:
    events = tmp_path / "a.bin"
    events.write_bytes(bytes([1, 2, 0x80, 0, 9]))
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png"])

    recording = eventkit.open(events, rgb=folder)

    assert len(recording.events) == 1
    assert len(recording.frames) == 2
    assert any("no timestamps.txt" in note for note in recording.notes)
    with pytest.raises(SettingsError, match="expected images or a video as the RGB side"):
        eventkit.open(events, rgb=events)
