"""Video through PyAV: every frame, its exact time, its picture."""

from __future__ import annotations

import gc
import gzip
import random
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import eventkit
from eventkit.errors import FormatError

av = pytest.importorskip("av", reason="PyAV is not installed")

N, SIZE = 12, (32, 24)


def film(
    path: Path, *, codec: str = "mpeg4", rate: int | Fraction = 25, ticks: list[int] | None = None
) -> Path:
    """Write N gray frames, each lighter than the one before, at given ticks of the rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for i, tick in enumerate(ticks if ticks is not None else range(N)):
            frame = av.VideoFrame.from_ndarray(gray(i), format="rgb24")
            frame.pts, frame.time_base = tick, 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def gray(i: int) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), 20 * i, np.uint8)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mpeg4"), ("a.avi", "rawvideo"), ("a.mkv", "ffv1"), ("a.mov", "mpeg4")],
)
def test_every_frame_has_its_time_and_its_picture(tmp_path: Path, name: str, codec: str) -> None:
    recording = eventkit.open(film(tmp_path / name, codec=codec))

    frames = recording.frames
    assert frames is not None
    assert recording.format == "video"
    assert (len(frames), frames.size, frames.channels) == (N, SIZE, 3)
    assert frames.t_us.tolist() == [40_000 * i for i in range(N)]
    assert frames.timing == "own-clock"
    # The way through YUV, and mpeg4, lose a few of 256 levels; frames are 20 levels apart.
    for i, image in enumerate(frames.images):
        assert np.abs(image.astype(int) - gray(i)).max() < 8


def test_times_of_an_uneven_video_are_kept(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", codec="ffv1", ticks=[0, 1, 2, 10, 11, 50])

    frames = eventkit.open(path).frames

    assert frames.t_us.tolist() == [0, 40_000, 80_000, 400_000, 440_000, 2_000_000]


def test_a_rate_that_is_no_whole_number_is_rounded_to_microseconds(tmp_path: Path) -> None:
    frames = eventkit.open(film(tmp_path / "a.mp4", rate=Fraction(30_000, 1_001))).frames

    assert frames.t_us.tolist() == [round(i * 1_001_000_000 / 30_000) for i in range(N)]


def test_the_clock_of_a_video_starts_at_its_first_frame(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", codec="ffv1", ticks=[100, 101, 102])

    recording = eventkit.open(path)

    assert recording.frames.t_us.tolist() == [0, 40_000, 80_000]
    assert recording.notes == ["video clock: its first frame is taken to be at the first event"]


def test_single_frames_are_picked_from_the_film(tmp_path: Path) -> None:
    frames = eventkit.open(film(tmp_path / "a.mp4")).frames

    levels = [round(float(p.pixels.mean()) / 20) for p in frames.pictures([1, 1, 7, 11])]

    assert levels == [1, 1, 7, 11]


def test_pixels_of_a_video_carry_no_file(tmp_path: Path) -> None:
    frames = eventkit.open(film(tmp_path / "a.mp4")).frames

    assert frames.suffix == ""
    assert next(frames.pictures([0])).encoded is None


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "ffv1")])
def test_a_last_frame_that_stands_for_long_is_no_damage(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        packets = []
        for i in range(4):
            packets += stream.encode(av.VideoFrame.from_ndarray(gray(i), format="rgb24"))
        packets += stream.encode()
        packets[-1].duration = 250  # ten seconds
        container.mux(packets)

    assert eventkit.open(path).frames.t_us.tolist() == [0, 40_000, 80_000, 120_000]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm"])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"no video at all" * 50)

    with pytest.raises(FormatError, match=r"expected a video"):
        eventkit.open(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.avi", "rawvideo")])
def test_a_video_cut_in_half_is_refused(tmp_path: Path, name: str, codec: str) -> None:
    path = film(tmp_path / name, codec=codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(FormatError, match="expected a video"):
        eventkit.open(path)


def test_a_matroska_video_cut_in_half_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", codec="ffv1")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(FormatError) as caught:
        eventkit.open(path)

    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "ffv1"), ("a.avi", "rawvideo")])
def test_a_cut_video_keeps_its_first_frames_under_skip_and_says_so(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = film(tmp_path / name, codec=codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    recording = eventkit.open(path, on_error="skip")

    assert 0 < len(recording.frames) < N
    assert recording.frames.t_us.tolist() == [40_000 * i for i in range(len(recording.frames))]
    assert len(recording.frames.images) == len(recording.frames)
    assert any("frames before" in note for note in recording.notes)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())

    with pytest.raises(FormatError, match="expected a video stream, the file has none"):
        eventkit.open(path)


@pytest.mark.parametrize(
    ("name", "codec", "words"),
    [
        ("a.mp4", "mpeg4", "an MP4 or QuickTime"),
        ("a.mov", "mpeg4", "an MP4 or QuickTime"),
        ("a.mkv", "ffv1", "a Matroska or WebM"),
        ("a.avi", "rawvideo", "an AVI"),
    ],
)
def test_a_video_is_known_by_its_container_whatever_it_is_called(
    tmp_path: Path, name: str, codec: str, words: str
) -> None:
    path = film(tmp_path / name, codec=codec).rename(tmp_path / "recording.dat")

    recording = eventkit.open(path)

    assert recording.format == "video"
    assert recording.evidence == f"first bytes of {words} file"
    assert len(recording.frames) == N


def test_frames_of_a_compressed_video_outlive_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4.gz"
    path.write_bytes(gzip.compress(film(tmp_path / "a.mp4").read_bytes()))

    frames = eventkit.open(path).frames
    gc.collect()

    assert len(frames.images) == N


@pytest.mark.parametrize(
    "content", ["#EXTM3U\n#EXTINF:1,\nsecret.mp4\n", "ffconcat version 1.0\nfile secret.mp4\n"]
)
def test_a_playlist_called_mp4_reads_no_other_file(tmp_path: Path, content: str) -> None:
    film(tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(content)

    with pytest.raises(FormatError, match="expected a video"):
        eventkit.open(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mpeg4"), ("a.avi", "rawvideo"), ("a.mkv", "ffv1")]
)
def test_flipped_bytes_of_a_video_end_in_frames_or_in_a_format_error(
    tmp_path: Path, name: str, codec: str
) -> None:
    av.logging.set_level(None)
    path = film(tmp_path / name, codec=codec)
    data = path.read_bytes()
    rng = random.Random(7)
    unexpected = set()
    for k in range(40):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(damaged if k % 4 else damaged[: rng.randrange(len(data))])
        started = time.process_time()
        try:
            frames = eventkit.open(path, on_error="skip").frames
            list(frames.pictures(range(len(frames))))
        except FormatError:
            pass
        except Exception as err:
            unexpected.add(f"{type(err).__name__}: {err}")
        assert time.process_time() - started < 2
    assert unexpected == set()
