"""Images and folders of images: pixels as they are, times from a text file, order by number."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import random
import struct
import time
import zipfile
import zlib
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

import eventkit
from eventkit.errors import FormatError, MissingDataError, SettingsError, UnsupportedFormatError
from eventkit.readers.images.reader import decode_pixels, image_kind, list_images

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


def png(pixels: np.ndarray, colour: int) -> bytes:
    """Encode 16-bit pixels, which Pillow writes of gray only; colour is that of IHDR."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(pixels: np.ndarray) -> bytes:
    """Encode 16-bit RGB, which Pillow does not write."""
    height, width, n = pixels.shape
    bits, start = 8 + 2 + 12 * 9 + 4, 8 + 2 + 12 * 9 + 4 + 2 * n
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, n, bits), (259, 4, 1, 1),
        (262, 4, 1, 2), (273, 4, 1, start), (277, 4, 1, n), (278, 4, 1, height),
        (279, 4, 1, pixels.nbytes),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return head + struct.pack(f"<{n}H", *[16] * n) + pixels.astype("<u2").tobytes()


COLOUR = np.random.default_rng(1).integers(0, 65536, (5, 7, 4)).astype(np.uint16)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", png(COLOUR[:, :, :3], 2), COLOUR[:, :, :3]),
        ("a.png", png(COLOUR, 6), COLOUR[:, :, :3]),
        ("a.png", png(COLOUR[:, :, :2], 4), COLOUR[:, :, :1]),
        ("a.tif", tiff(COLOUR[:, :, :3]), COLOUR[:, :, :3]),
    ],
    ids=["RGB", "RGBA", "gray and alpha", "TIFF"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_16_bit_of_colour_stay_16_bit(
    tmp_path: Path, name: str, data: bytes, expected: np.ndarray
) -> None:
    (tmp_path / name).write_bytes(data)

    frames = eventkit.open(tmp_path / name).frames

    assert frames.images.dtype == np.uint16
    assert np.array_equal(frames.images[0], expected)
    for length in range(0, len(data) - 12, 9):
        with pytest.raises(FormatError):
            decode_pixels(data[:length], path="a")


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.array([[0.25, 0.5]], np.float32), "got floats of 0.25 to 0.5; scale them"),
        (np.array([[0, 65536]], np.int32), "got 32-bit integers of 0 to 65536"),
        (np.array([[-1, 5]], np.int32), "got 32-bit integers of -1 to 5"),
    ],
)
def test_pixels_that_16_bit_do_not_hold_are_refused(
    tmp_path: Path, pixels: np.ndarray, words: str
) -> None:
    with pytest.raises(FormatError, match=words):
        eventkit.open(save(tmp_path / "a.tif", pixels))


def test_integers_that_16_bit_hold_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.array([[0, 65535]], np.int32))

    assert eventkit.open(path).frames.images[0, :, :, 0].tolist() == [[0, 65535]]


def test_an_alpha_channel_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "rgb"
    folder.mkdir()
    for name in ("1.png", "2.png"):
        save(folder / name, np.dstack([RGB, GRAY]))

    words = "the alpha channel of the pictures is left out"
    assert eventkit.open(folder).notes.count(words) == 1
    assert eventkit.open(folder / "1.png").notes == [words]
    assert eventkit.open(save(tmp_path / "b.png", RGB)).notes == []


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
    assert len(recording.notes) == 1
    assert f"of the pictures from {name}, microseconds" in recording.notes[0]
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
        ("0.1\n0.2s\n", "bad_value", r"got '0.2s' in line 2"),
        ("1e99\n1e99\n", "bad_value", r"got '1e99' in line 1"),
        ("1e999999999\n2\n", "bad_value", r"got '1e999999999' in line 1"),
        ("1.png 1\n1.png 2\n2.png 3\n", "bad_value", "got 3 lines with 2 names"),
        ("# x\n1\n2 3 4\n", "bad_value", r"got '2 3 4' in line 3"),
        ("name\n2\n", "bad_value", "expected 2 lines, one an image, got 1"),
        ("1\nname\n", "bad_value", "got 'name' in line 2"),
        (
            "2011-09-31 13:02:25\n2011-10-01 13:02:25\n",
            "bad_value",
            "2011-09-31 13:02:25. in line 1",
        ),
        ("2011-10-01 13:02:25\n7\n", "bad_value", r"dates or numbers, got both, as '7' in line 2"),
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


@pytest.mark.parametrize("content", [b"no picture", b"\x89PNG\r\n\x1a\n"])
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


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        # (file beside or in the folder, its lines, exposures in us)
        ("rgb/image_timestamps.txt", "5\n6\n7\n", [(5, 5), (6, 6), (7, 7)]),
        ("rgb/timestamp.txt", "5\n6\n7\n", [(5, 5), (6, 6), (7, 7)]),
        ("rgb_timestamps.txt", "5\n6\n7\n", [(5, 5), (6, 6), (7, 7)]),
        ("rgb_timestamps.csv", "start,stop\n5,6\n6,7\n7,9\n", [(5, 6), (6, 7), (7, 9)]),
        # DSEC: images of a sequence and both of its files
        ("thun_00_a_image_timestamps.txt", "500\n600\n700\n", [(500,) * 2, (600,) * 2, (700,) * 2]),
        (
            "exposure_timestamps.txt",
            "# exposure start [us], exposure end [us]\n500, 510\n600, 610\n700, 720\n",
            [(500, 510), (600, 610), (700, 720)],
        ),
        # The Event-Camera Dataset: seconds and a path, beside the folder
        (
            "images.txt",
            "0.003811 rgb/1.png\n0.048 rgb/2.png\n0.09 rgb/3.png\n",
            [(3811,) * 2, (48_000,) * 2, (90_000,) * 2],
        ),
        # TUM: seconds since 1970, where a float64 has no room for microseconds
        (
            "rgb.txt",
            "# color images\n# timestamp filename\n1305031102.175304 rgb/1.png\n"
            "1305031102.211214 rgb/2.png\n1305031102.243211 rgb/3.png\n1305031102.3 rgb/4.png\n",
            [
                (1_305_031_102_175_304,) * 2,
                (1_305_031_102_211_214,) * 2,
                (1_305_031_102_243_211,) * 2,
            ],
        ),
    ],
    ids=["inside", "timestamp", "named", "csv", "DSEC", "DSEC exposures", "ECD", "TUM"],
)
def test_files_of_times_are_found_where_labs_put_them(
    tmp_path: Path, name: str, text: str, expected: list[tuple[int, int]]
) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (tmp_path / name).write_text(text)

    recording = eventkit.open(folder)

    frames = recording.frames
    assert list(zip(frames.start_us.tolist(), frames.stop_us.tolist(), strict=True)) == expected
    assert frames.timing == "recorded"
    assert any(f"from {Path(name).name}, " in note for note in recording.notes)


@pytest.mark.parametrize(
    ("folder", "files", "expected"),
    [
        (
            "images/left/rectified",
            {
                "images/timestamps.txt": "55\n65\n",
                "images/left/exposure_timestamps.txt": "# start,end\n50,60\n60,70\n",
            },
            [50, 60],
        ),
        ("images/left/rectified", {"images/timestamps.txt": "55\n65\n"}, [55, 65]),
        ("images/data", {"images/timestamps.txt": "55\n65\n"}, [55, 65]),
        (
            "a_images_left",
            {
                "a_image_exposure_timestamps_left.txt": "5,6\n7,8\n",
                "a_image_exposure_timestamps_right.txt": "1,2\n3,4\n",
            },
            [5, 7],
        ),
        ("b", {"a/1.txt": "", "a_image_timestamps.txt": "5\n6\n"}, None),
        ("other/rectified", {"timestamps.txt": "5\n6\n"}, None),
    ],
    ids=["DSEC", "DSEC times", "KITTI", "two cameras", "another recording", "anything above"],
)
def test_times_of_a_tree_of_folders_are_those_of_its_own(
    tmp_path: Path, folder: str, files: dict[str, str], expected: list[int] | None
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    folder_of(tmp_path / folder, ["1.png", "2.png"])
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    frames = eventkit.open(tmp_path / folder).frames

    assert (frames.timing == "recorded") == (expected is not None)
    assert expected is None or frames.start_us.tolist() == expected


@pytest.mark.parametrize(
    ("lines", "unit", "expected", "words"),
    [
        ("0.00\n0.04\n0.08\n", None, [0, 40_000, 80_000], "seconds taken from steps of 0.04"),
        ("0.0\n33.3\n66.7\n", None, [0, 33_300, 66_700], "milliseconds taken from steps"),
        ("0.5\n33333.4\n66666.7\n", None, [0, 33_333, 66_667], "microseconds taken from steps"),
        ("4.0e+04\n8.0e+04\n1.2e+05\n", None, [40_000, 80_000, 120_000], "microseconds"),
        (
            "1700000000000000000\n1700000000033333000\n1700000000066666999\n",
            None,
            [1_700_000_000_000_000, 1_700_000_000_033_333, 1_700_000_000_066_666],
            "nanoseconds taken from times of",
        ),
        ("0\n40000000\n80000000\n", None, [0, 40_000, 80_000], "nanoseconds taken from"),
        ("0\n33\n67\n", None, [0, 33, 67], "is --time-unit ms?"),
        ("0\n33\n67\n", "ms", [0, 33_000, 67_000], "milliseconds as given"),
        ("# timestamp_ns\n1000\n2000\n3999\n", None, [1, 2, 3], "nanoseconds by its header"),
        ("time (s)\n1\n2\n3\n", None, [1_000_000, 2_000_000, 3_000_000], "seconds by its header"),
        ("# milliseconds\n1\n2\n3\n", None, [1000, 2000, 3000], "milliseconds by its header"),
        ("# the camera's own time for us\n100\n200\n300\n", None, [100, 200, 300], "microseconds"),
        (
            "# a film of 60 seconds\n40000\n80000\n120000\n",
            None,
            [40_000, 80_000, 120_000],
            "micro",
        ),
        ("0 0.00\n1 0.04\n2 0.08\n", None, [0, 40_000, 80_000], "times of the pictures"),
        ("1 100\n2 200\n3 300\n", None, [100, 200, 300], "times of the pictures"),
    ],
)
def test_units_are_told_by_header_evidence_or_the_caller(
    tmp_path: Path, lines: str, unit: str | None, expected: list[int], words: str
) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (folder / "timestamps.txt").write_text(lines)

    recording = eventkit.open(folder, time_unit=unit)

    assert recording.frames.t_us.tolist() == expected
    assert words in recording.notes[-1]


SINCE = 1_317_042_145  # 2011-09-26 13:02:25 UTC


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "2011-09-26 13:02:25.964389445\n2011-09-26 13:02:26.067\n",
            [SINCE * 10**6 + 964_389, SINCE * 10**6 + 1_067_000],
        ),
        ("2011-09-26T13:02:25\n2011-09-26T13:02:27\n", [SINCE * 10**6, (SINCE + 2) * 10**6]),
        (
            "1.png,2011-09-26T15:02:25.5+02:00\n2.png,2011-09-26T13:02:26.5Z\n",
            [SINCE * 10**6 + 500_000, SINCE * 10**6 + 1_500_000],
        ),
        ("1969-12-31 23:59:59.25\n1970-01-01 00:00:00\n", [-750_000, 0]),
    ],
    ids=["KITTI", "whole seconds", "zones", "before 1970"],
)
@pytest.mark.parametrize("unit", [None, "ms"])
def test_dates_are_times_since_1970(
    tmp_path: Path, lines: str, expected: list[int], unit: str | None
) -> None:
    folder = folder_of(tmp_path / "data", ["1.png", "2.png"])
    (tmp_path / "timestamps.txt").write_text(lines)

    recording = eventkit.open(folder, time_unit=unit)

    assert recording.frames.t_us.tolist() == expected
    assert "seconds since 1970, from dates" in recording.notes[-1]


@pytest.mark.parametrize(
    "text",
    [
        "frame_id,t_us\n0,1000\n1,51000\n2,101000\n",
        "frame_id,t_us\n7,1000\n9,51000\n11,101000\n",
        "name;t_us\n1.png;1000\n2.png;51000\n3.png;101000\n",
        "frame;t [s]\n1;0.001\n2;0.051\n3;0.101\n",
        ",t\n0,1000\n1,51000\n2,101000\n",
    ],
)
def test_a_first_line_without_a_number_is_a_header(tmp_path: Path, text: str) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (folder / "timestamps.csv").write_text(text)

    assert eventkit.open(folder).frames.t_us.tolist() == [1000, 51_000, 101_000]


def test_a_first_column_of_names_is_no_numbering(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png"])
    (folder / "timestamps.csv").write_text("frame,begin,end\n1.png,100,110\n2.png,200,210\n")

    assert eventkit.open(folder).frames.start_us.tolist() == [100, 200]


def test_a_file_of_times_of_any_name_in_the_folder_is_used_if_one_fits(tmp_path: Path) -> None:
    """TUM-VIE: image_timestamps_left.txt, beside image_exposures_left.txt."""
    folder = folder_of(tmp_path / "left_images", ["1.jpg", "2.jpg"])
    (folder / "image_timestamps_left.txt").write_text("# timestamps [us]\n1000\n51000\n")
    (folder / "image_exposures_left.txt").write_text("3000\n3000\n")
    (folder / "imu_timestamps.txt").write_text("1\n2\n3\n4\n")

    recording = eventkit.open(folder)

    assert recording.frames.t_us.tolist() == [1000, 51_000]
    assert "imu_timestamps.txt has 4 times for 2 images: not used" in recording.notes
    (folder / "my_timestamps.txt").write_text("5\n6\n")
    two = eventkit.open(folder)
    assert two.frames.timing == "none"
    words = "image_timestamps_left.txt, my_timestamps.txt may all hold the times: not used"
    assert any(note.startswith(words) for note in two.notes)


def test_opening_a_folder_reads_the_first_picture_only(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png"])
    for i in range(2, 40):
        (folder / f"{i}.png").symlink_to(tmp_path / "moved" / f"{i}.png")
        (folder / f"{i}.jpg").write_bytes(b"not a picture")

    frames = eventkit.open(folder).frames

    assert len(frames) == 39
    with pytest.raises(FormatError, match=r"2\.jpg: expected an image"):
        list(frames.pictures([1]))


def test_exposures_that_look_like_line_numbers_stay_exposures_under_their_header(
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (folder / "timestamps.txt").write_text("# start_us stop_us\n0 1\n1 2\n2 3\n")

    assert eventkit.open(folder).frames.stop_us.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("names", "expected", "words"),
    [
        (
            ["1468939993067416.png", "1468939993107416.png", "1468939993147417.png"],
            [1_468_939_993_067_416, 1_468_939_993_107_416, 1_468_939_993_147_417],
            "from their names, microseconds",
        ),
        (
            ["1468939993067416000.png", "1468939993107416000.png", "1468939993147417999.png"],
            [1_468_939_993_067_416, 1_468_939_993_107_416, 1_468_939_993_147_417],
            "from their names, nanoseconds",
        ),
        (["0.033.png", "0.066.png", "0.100.png"], [33_000, 66_000, 100_000], "seconds"),
        (["000000.png", "000001.png", "000002.png"], None, "an order but no times"),
        (["0.png", "5.png", "10.png"], None, "an order but no times"),
        (["1000.png", "3000.png"], None, "an order but no times"),
        (["a1468939993067416.png", "a1468939993107416.png", "b.png"], None, "but no times"),
    ],
)
def test_names_are_times_only_where_they_step_like_times(
    tmp_path: Path, names: list[str], expected: list[int] | None, words: str
) -> None:
    recording = eventkit.open(folder_of(tmp_path / "rgb", names))

    assert words in recording.notes[-1]
    assert (recording.frames.timing == "none") == (expected is None)
    if expected is not None:
        assert recording.frames.t_us.tolist() == expected


def test_under_skip_times_that_do_not_fit_are_left_out_with_both_numbers(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (folder / "timestamps.txt").write_text("1\n2\n")

    recording = eventkit.open(folder, on_error="skip")

    assert recording.frames.timing == "none"
    assert "expected 3 lines, one an image, got 2" in recording.notes[0]


def test_a_file_beside_the_folder_that_is_about_others_is_not_used(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (tmp_path / "a_image_timestamps.txt").write_text("1\n2\n")
    (tmp_path / "images.txt").write_text("0.1 other/7.png\n")

    recording = eventkit.open(folder)

    assert recording.frames.timing == "none"
    assert recording.notes[0] == "a_image_timestamps.txt has 2 times for 3 images: not used"
    (tmp_path / "b_image_timestamps.txt").write_text("1\n2\n3\n")
    assert "may all hold the times: not used" in eventkit.open(folder).notes[0]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\x01" * 50, b"1\n2\n3" + b"0" * 500, b",,,\n\n\x00", b"#" * 99]
)
def test_times_that_are_no_text_are_refused(tmp_path: Path, content: bytes) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    (folder / "timestamps.txt").write_bytes(content)

    with pytest.raises(FormatError):
        eventkit.open(folder)


def test_flipped_bytes_of_a_file_of_times_end_in_a_format_error_or_in_times(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png", "2.png", "3.png"])
    text = b"# start, stop\n1.png 1468939993.067416 1468939993.068\n2.png 3e9 4e9\n3.png 5e9 6e9\n"
    rng = random.Random(3)
    read = 0
    for _ in range(200):
        damaged = bytearray(text)
        for _ in range(rng.choice([1, 1, 4])):
            damaged[rng.randrange(len(text))] = rng.randrange(256)
        (folder / "timestamps.txt").write_bytes(damaged)
        with contextlib.suppress(FormatError):
            read += len(eventkit.open(folder).frames.t_us)
    assert read


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_an_image_is_known_by_its_bytes_whatever_it_is_called(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "frame.dat"
    Image.fromarray(RGB).save(path, kind)

    recording = eventkit.open(path)

    assert recording.format == "image"
    assert recording.evidence == f"first bytes of a {kind} image"
    assert image_kind(path.read_bytes()) == kind
    assert recording.frames.images.shape == (1, 4, 6, 3)


def test_pictures_without_suffixes_make_a_folder_of_images(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["a2.png", "a10.png"])
    for path in sorted(folder.iterdir()):
        path.rename(path.with_suffix(""))
    (folder / "README").write_text("not a picture")

    assert values(eventkit.open(folder)) == [0, 1]


def test_a_jpeg_called_png_gives_pixels_and_no_bytes_of_the_wrong_kind(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "rgb", ["1.png"])
    Image.fromarray(RGB).save(folder / "2.png", "JPEG")
    save(folder / "1.png", RGB)

    pictures = list(eventkit.open(folder).frames.pictures([0, 1]))

    assert [picture.encoded is None for picture in pictures] == [False, True]
    assert pictures[1].pixels.shape == (4, 6, 3)


def test_an_image_is_read_from_a_compressed_file_and_an_archive(tmp_path: Path) -> None:
    data = save(tmp_path / "a.png", RGB).read_bytes()
    (tmp_path / "b.png.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("in/a.png", data)

    for name in (tmp_path / "b.png.gz", f"zip://in/a.png::{tmp_path / 'c.zip'}"):
        frames = eventkit.open(name).frames
        gc.collect()
        assert np.array_equal(frames.images[0], RGB)
        assert frames.suffix == "png"
        assert next(frames.pictures([0])).encoded == data


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_header_that_claims_more_pixels_than_the_file_can_hold_is_refused(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    at, order = (16, "big") if kind == "PNG" else (18, "little")
    data[at : at + 8] = (9_000).to_bytes(4, order) * 2
    started = time.process_time()

    with pytest.raises(FormatError, match="expected an image"):
        decode_pixels(bytes(data), path="a")

    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a", b"8BPS", b"\0\0\0\x0cjP"]
)
def test_only_four_kinds_of_images_are_handed_to_pillow(content: bytes) -> None:
    with pytest.raises(FormatError, match="expected an image"):
        decode_pixels(content + bytes(100), path="a")


def test_more_pixels_than_any_camera_has_are_refused(tmp_path: Path) -> None:
    """A palette of one bit: 59 kB that would take 1.4 GB."""
    Image.new("1", (11_000, 11_000)).convert("P").save(tmp_path / "a.png", bits=1)

    with pytest.raises(FormatError, match="11000x11000 pixels claimed by"):
        eventkit.open(tmp_path / "a.png")
