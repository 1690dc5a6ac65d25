"""The simulated cameras: the kernel against a slow twin, what must always hold, the files."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from eventkit.cli.simulate import command, degradation_of, recording_rng
from eventkit.errors import EventKitError, FormatError, MissingDataError, SettingsError
from eventkit.events import Events
from eventkit.motion import moving_image, resize_to_view
from eventkit.simulate import (
    EventCamera,
    SimulationSettings,
    degraded,
    simulate_clip,
    simulate_events,
    simulate_film,
)

BLACK = 0.05
FILM = st.tuples(
    st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1)
).map(lambda drawn: random_film(*drawn))


def random_film(
    n: int, height: int, width: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (n, height, width)).astype(np.uint8)
    return frames, np.cumsum(rng.integers(1, 2000, n)) - 500


def quiet(frames: NDArray[np.uint8], t_us: NDArray[np.int64], **options: float) -> Events:
    """Simulate without anything random."""
    plain = {"mismatch": 0.0, "refractory_us": 0, "noise_hz": 0.0, "black_level": BLACK}
    return simulate_events(frames, t_us=t_us, rng=np.random.default_rng(0), **(plain | options))


def slow_twin(
    frames: NDArray[np.uint8],
    t_us: NDArray[np.int64],
    *,
    on: float,
    off: float,
    refractory_us: int,
) -> list[tuple[int, int, int, int]]:
    """Return (t, x, y, p) of every event: the definition, one pixel and one crossing at a time."""
    log = np.log((frames.astype(np.float32) / np.float32(255)).astype(np.float64) + BLACK)
    found = []
    for k in range(1, len(log)):
        for y in range(log.shape[1]):
            for x in range(log.shape[2]):
                reference, last = log[0, y, x], t_us[0] - refractory_us
                for j in range(1, k + 1):
                    before, after = log[j - 1, y, x], log[j, y, x]
                    step = on if after > before else -off
                    while after != before and (after - (reference + step)) * step >= 0:
                        reference += step
                        share = (reference - before) / (after - before)
                        now = int(t_us[j - 1]) + math.floor(share * (t_us[j] - t_us[j - 1]) + 0.5)
                        if now - last >= refractory_us:
                            last = now
                            if j == k:
                                found.append((now, x, y, int(step > 0)))
    return sorted(found, key=lambda event: event[0])


def as_tuples(events: Events) -> list[tuple[int, int, int, int]]:
    columns = (events.t, events.x, events.y, events.p)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    FILM, st.sampled_from([0.1, 0.37, 1.0]), st.sampled_from([0.1, 0.5]), st.sampled_from([0, 700])
)
def test_the_kernel_finds_the_events_of_its_slow_twin(
    film: tuple[NDArray[np.uint8], NDArray[np.int64]], on: float, off: float, refractory_us: int
) -> None:
    frames, t_us = film

    events = quiet(frames, t_us, threshold_on=on, threshold_off=off, refractory_us=refractory_us)

    assert as_tuples(events) == slow_twin(frames, t_us, on=on, off=off, refractory_us=refractory_us)


@settings(max_examples=40, deadline=None)
@given(FILM, st.sampled_from([0.1, 0.3]), st.sampled_from([0.1, 0.4]))
def test_the_sum_of_thresholds_follows_log_intensity_within_one_threshold(
    film: tuple[NDArray[np.uint8], NDArray[np.int64]], on: float, off: float
) -> None:
    frames, t_us = film

    events = quiet(frames, t_us, threshold_on=on, threshold_off=off)

    moved = np.zeros(frames.shape[1:])
    np.add.at(moved, (events.y, events.x), np.where(events.p == 1, on, -off))
    log = np.log(frames / 255 + BLACK)
    rest = log[-1] - log[0] - moved
    assert (rest < on + 1e-6).all()
    assert (rest > -off - 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(FILM)
def test_events_lie_within_the_film_in_time_order(
    film: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    frames, t_us = film

    events = simulate_events(frames, t_us=t_us, rng=np.random.default_rng(1), noise_hz=1000.0)

    assert (np.diff(events.t) >= 0).all()
    assert ((events.t >= t_us[0]) & (events.t <= t_us[-1])).all()
    assert ((events.x < frames.shape[2]) & (events.y < frames.shape[1])).all()
    assert np.isin(events.p, (0, 1)).all()


@settings(max_examples=25, deadline=None)
@given(FILM)
def test_turning_the_contrast_around_turns_every_polarity(
    film: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    frames, t_us = film
    log = np.log(frames / 255 + BLACK)
    mirrored = np.exp(math.log(BLACK) + math.log(1 + BLACK) - log) - BLACK

    events = quiet(frames, t_us)
    flipped = quiet(mirrored.clip(0, 1), t_us)

    # Intensities are float32 inside, so a crossing may fall a microsecond beside its mirror.
    assert abs(len(flipped) - len(events)) <= frames[0].size
    if len(flipped) == len(events):
        assert np.abs(flipped.t - events.t).max(initial=0) <= 1
        assert flipped.p.sum() == len(events) - events.p.sum()


@pytest.mark.parametrize("level", [0, 97, 255])
def test_a_static_picture_gives_nothing_but_noise(level: int) -> None:
    frames = np.full((50, 7, 11), level, np.uint8)
    t_us = np.arange(50) * 20_000

    silent = simulate_events(frames, t_us=t_us, rng=np.random.default_rng(0), noise_hz=0.0)
    noisy = simulate_events(frames, t_us=t_us, rng=np.random.default_rng(0), noise_hz=50.0)

    expected = 50.0 * 0.98 * 77
    assert len(silent) == 0
    assert abs(len(noisy) - expected) < 5 * math.sqrt(expected)  # five sigma of Poisson
    assert 0.4 < noisy.p.mean() < 0.6


def test_x_is_the_column_on_a_sensor_that_is_not_square() -> None:
    frames = np.zeros((2, 3, 9), np.uint8)
    frames[1, 1, 7] = 255

    events = quiet(frames, np.array([0, 1000]))

    assert len(events) > 5
    assert set(events.x.tolist()) == {7}
    assert set(events.y.tolist()) == {1}
    assert set(events.p.tolist()) == {1}


def test_the_dead_time_parts_the_events_of_a_pixel() -> None:
    frames, t_us = random_film(6, 3, 4, 5)

    events = quiet(frames, t_us, threshold_on=0.05, threshold_off=0.05, refractory_us=300)

    for pixel in set(zip(events.x.tolist(), events.y.tolist(), strict=True)):
        own = events[(events.x == pixel[0]) & (events.y == pixel[1])]
        assert (np.diff(own.t) >= 300).all()


def test_starving_keeps_a_share_of_the_events() -> None:
    frames, t_us = random_film(20, 16, 16, 3)

    whole = quiet(frames, t_us)
    starved = quiet(frames, t_us, keep=0.1)

    assert set(as_tuples(starved)) <= set(as_tuples(whole))
    assert 0.08 < len(starved) / len(whole) < 0.12
    assert len(quiet(frames, t_us, keep=0.0)) == 0


def test_thresholds_differ_from_pixel_to_pixel_by_the_mismatch() -> None:
    frames = np.zeros((2, 40, 40), np.uint8)
    frames[1] = 255

    even = quiet(frames, np.array([0, 10**6]))
    uneven = quiet(frames, np.array([0, 10**6]), mismatch=0.05)

    def first(events: Events) -> int:
        return int(np.unique(events.t).size)

    assert first(even) < 20
    assert first(uneven) > 1000


@settings(max_examples=25, deadline=None)
@given(FILM, st.integers(0, 6))
def test_a_film_shown_in_two_pieces_gives_the_events_of_the_whole(
    film: tuple[NDArray[np.uint8], NDArray[np.int64]], cut: int
) -> None:
    frames, t_us = film
    setting = SimulationSettings(size=frames.shape[:0:-1], noise_hz=0.0)

    whole = EventCamera(setting, rng=np.random.default_rng(4)).observe(frames, t_us=t_us)
    camera = EventCamera(setting, rng=np.random.default_rng(4))
    parts = [camera.observe(frames[s], t_us=t_us[s]) for s in (slice(0, cut), slice(cut, None))]

    assert sorted(as_tuples(Events.concatenate(parts))) == sorted(as_tuples(whole))


def test_the_same_seed_gives_the_same_clip() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    setting = SimulationSettings(size=(20, 12), duration_us=60_000)

    one, same, other = (
        simulate_clip(image, settings=setting, rng=np.random.default_rng(seed))
        for seed in (7, 7, 8)
    )

    assert one.events == same.events
    assert np.array_equal(one.images, same.images)
    assert one.events != other.events


@pytest.mark.parametrize(
    ("frames", "t_us", "message"),
    [
        (np.zeros((2, 3), np.uint8), [0, 1], "shape"),
        (np.zeros((2, 3, 3), np.int32), [0, 1], "uint8"),
        (np.full((2, 3, 3), np.nan), [0, 1], "intensities"),
        (np.full((2, 3, 3), 1.5), [0, 1], "intensities"),
        (np.zeros((2, 3, 3), np.uint8), [5, 5], "increase"),
        (np.zeros((2, 3, 3), np.uint8), [5], "times"),
        (np.zeros((2, 3, 3), np.uint8), [0.0, 1.0], "times"),
        (np.zeros((2, 0, 3), np.uint8), [0, 1], "size"),
    ],
)
def test_frames_that_cannot_be_are_refused(
    frames: NDArray[np.uint8], t_us: list[int], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        simulate_events(frames, t_us=np.array(t_us), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold_on": 0.0},
        {"noise_hz": -1.0},
        {"keep": 1.5},
        {"size": (0, 4)},
        {"fps": math.nan},
        {"duration_us": 10, "fps": 1.0},
    ],
)
def test_settings_that_cannot_be_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        SimulationSettings(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(5, 7), (300, 200), (200, 900, 3), (1, 1)])
def test_a_moving_image_of_any_size_fills_the_view(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 0.5, np.float32)

    frames, t_us = moving_image(
        image, size=(16, 10), duration_us=50_000, fps=200, rng=np.random.default_rng(0)
    )

    assert frames.shape == (11, 10, 16, *shape[2:])
    assert t_us.tolist() == list(range(0, 50_001, 5000))
    np.testing.assert_allclose(frames, 0.5, rtol=1e-6)  # float32 weights that sum to one


def test_the_image_moves_by_parts_of_a_pixel_and_starts_softly() -> None:
    ramp = np.tile(np.linspace(0, 1, 64), (64, 1))

    frames, _ = moving_image(
        ramp, size=(32, 32), duration_us=300_000, fps=1000, rng=np.random.default_rng(2)
    )

    middle = frames[:, 16, 16].astype(np.float64)
    steps = np.abs(np.diff(middle))
    assert steps[0] < 0.1 * steps.max()
    assert steps.max() < 1 / 32  # less than one pixel of the ramp a frame
    assert np.ptp(middle) > 2 / 32  # and several pixels in all


def test_a_long_clip_goes_on_from_piece_to_piece() -> None:
    image = np.random.default_rng(1).random((24, 24)).astype(np.float32)
    setting = SimulationSettings(size=(8, 8), duration_us=1_300_000, noise_hz=0.0)

    clip = simulate_clip(image, settings=setting, rng=np.random.default_rng(3))

    frames, t_us = moving_image(
        image, size=(8, 8), duration_us=1_300_000, fps=1000, rng=np.random.default_rng(3)
    )
    assert clip.start_us.size == 39
    assert (np.diff(clip.events.t) >= 0).all()
    assert np.histogram(clip.events.t, bins=13, range=(0, 1_300_000))[0].min() > 0
    assert frames.shape == (1301, 8, 8)
    assert t_us[-1] == 1_300_000


def test_resizing_averages_so_that_fine_stripes_turn_gray() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))

    small = resize_to_view(stripes, size=(8, 8))

    np.testing.assert_allclose(small, 0.5, atol=1e-6)


def test_an_exposure_averages_the_frames_in_it() -> None:
    t_us = np.arange(0, 100_001, 1000)
    light = (t_us % 2000 == 0).astype(np.float64)  # every other frame is white
    frames = np.tile(light[:, None, None], (1, 8, 8))
    setting = SimulationSettings(size=(8, 8), fps=20.0, exposure=0.5, read_noise=0.0)

    clip = simulate_film([(frames, t_us)], settings=setting, rng=np.random.default_rng(0))

    assert clip.start_us.tolist() == [0, 50_000]
    assert clip.stop_us.tolist() == [25_000, 75_000]
    assert clip.images.shape == (2, 8, 8, 3)
    assert abs(clip.images.mean() / 255 - 0.51) < 0.02  # 13 of 25 frames, and shot noise


def test_a_film_slower_than_the_shutter_repeats_its_last_frame() -> None:
    frames = np.stack([np.full((4, 4), v, np.uint8) for v in (0, 200)])
    setting = SimulationSettings(size=(4, 4), fps=100.0, read_noise=0.0)

    clip = simulate_film(
        [(frames, np.array([0, 100_000]))], settings=setting, rng=np.random.default_rng(0)
    )

    assert len(clip.images) == 10
    assert clip.images.max() == 0


@pytest.mark.parametrize("seed", range(4))
def test_degradations_spoil_the_sense_they_name(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.zeros((40, 40), np.uint8)
    image[10:30, 15:25] = 255
    base = SimulationSettings(size=(32, 32), duration_us=100_000)

    good, rgb, events = (
        simulate_clip(image, settings=degraded(base, kind, rng=rng), rng=np.random.default_rng(9))
        for kind in ("good", "rgb", "events")
    )

    assert rgb.images.max() < 0.4 * good.images.max()
    assert rgb.events == good.events
    assert len(events.events) < 0.6 * len(good.events)
    with pytest.raises(SettingsError, match="degradation"):
        degraded(base, "broken", rng=rng)  # type: ignore[arg-type]


def simulate(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    if isinstance(result.exception, EventKitError):
        raise result.exception
    return result


def write_image(path: Path, *, seed: int = 0, shape: tuple[int, ...] = (20, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


SHORT = ("--size", "12x10", "--duration-us", 120_000)


def test_the_command_mirrors_the_tree_in_ordinary_files(tmp_path: Path) -> None:
    write_image(tmp_path / "src/train/3/0001.png")
    write_image(tmp_path / "src/test/7/0002.jpg", shape=(30, 20, 3))

    result = simulate(tmp_path / "src", "--out", tmp_path / "raw", *SHORT)

    assert result.exit_code == 0, result.output
    assert "2 recordings" in result.output
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with np.load(tmp_path / "raw/train/3/0001.npz") as stored:
        assert {name: stored[name].dtype.str for name in stored.files} == {
            "t": "<i8",
            "x": "<u2",
            "y": "<u2",
            "p": "|u1",
            "sensor_size": "<i8",
        }
        assert stored["sensor_size"].tolist() == [12, 10]
        assert stored["x"].max() < 12
        assert stored["y"].max() < 10
        assert (np.diff(stored["t"]) >= 0).all()
    lines = (tmp_path / "raw/test/7/0002/timestamps.txt").read_text().splitlines()
    assert lines[0] == "# name t_start_us t_stop_us"
    assert [line for line in lines if not line.startswith("#")] == [
        "00000000.png 0 16666",
        "00000001.png 33333 49999",
        "00000002.png 66666 83332",
        "00000003.png 100000 116666",
    ]
    assert np.asarray(Image.open(tmp_path / "raw/test/7/0002/00000003.png")).shape == (10, 12, 3)


def test_a_recording_depends_on_seed_and_path_alone(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        write_image(tmp_path / "all" / name)
    write_image(tmp_path / "one/a/2.png")

    simulate(tmp_path / "all", "--out", tmp_path / "first", *SHORT, "--degrade", "mix")
    # Zip archives store times in steps of two seconds: a second run must not differ by one.
    stamped = time.localtime()
    while time.localtime().tm_sec // 2 == stamped.tm_sec // 2:
        time.sleep(0.1)
    simulate(tmp_path / "all", "--out", tmp_path / "second", *SHORT, "--degrade", "mix")
    simulate(tmp_path / "one", "--out", tmp_path / "third", *SHORT, "--degrade", "mix")
    simulate(
        tmp_path / "one", "--out", tmp_path / "seeded", *SHORT, "--degrade", "mix", "--seed", 5
    )

    first, third = contents(tmp_path / "first"), contents(tmp_path / "third")
    assert first == contents(tmp_path / "second")
    assert third == {name: first[name] for name in first if name.startswith("a/2")}
    assert first["a/1.npz"] != first["b/1.npz"]
    assert third["a/2.npz"] != contents(tmp_path / "seeded")["a/2.npz"]


def test_a_mix_has_a_third_of_each_kind() -> None:
    kinds = [degradation_of(f"train/{i % 10}/{i:04d}.png") for i in range(3000)]

    shares = {kind: kinds.count(kind) / 3000 for kind in ("good", "rgb", "events")}

    assert all(0.3 < share < 0.37 for share in shares.values()), shares
    assert recording_rng(0, "a").random() == recording_rng(0, "a").random()


def test_a_video_is_shown_as_it_is(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=50)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for k in range(40):
            pixels = np.zeros((24, 32, 3), np.uint8)
            pixels[:, (k // 2) % 32 :] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)

    simulate(tmp_path / "film.mkv", "--out", tmp_path / "whole", "--size", "32x24", "--fps", 10)
    simulate(
        tmp_path / "film.mkv",
        "--out",
        tmp_path / "cut",
        "--size",
        "32x24",
        "--fps",
        10,
        "--duration-us",
        200_000,
    )

    whole, cut = (np.load(tmp_path / name / "film.npz") for name in ("whole", "cut"))
    assert 700_000 < whole["t"].max() <= 780_000
    assert cut["t"].max() <= 200_000
    assert len(list((tmp_path / "whole/film").glob("*.png"))) == 8
    assert whole["p"].mean() < 0.05  # a bright edge leaves: the picture only gets darker


def test_mistakes_get_one_sentence_and_leave_nothing_behind(tmp_path: Path) -> None:
    write_image(tmp_path / "src/a.png")
    write_image(tmp_path / "twice/a.png")
    write_image(tmp_path / "twice/a.jpg")
    write_image(tmp_path / "nested/3.png")
    write_image(tmp_path / "nested/3/1.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes((tmp_path / "src/a.png").read_bytes()[:60])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    out = ("--out", tmp_path / "raw")

    for arguments, error, message in (
        ((tmp_path / "nowhere", *out), MissingDataError, "no such file"),
        ((tmp_path / "empty", *out), MissingDataError, "found none"),
        ((tmp_path / "notes.txt", *out), SettingsError, "expected an image"),
        ((tmp_path / "broken", *out), FormatError, "expected an image"),
        ((tmp_path / "twice", *out), SettingsError, "rename one"),
        ((tmp_path / "nested", *out), SettingsError, "rename one"),
        ((tmp_path / "src", "--out", tmp_path / "full"), SettingsError, "not empty"),
        ((tmp_path / "src", "--out", tmp_path / "src/raw"), SettingsError, "outside"),
        ((tmp_path / "src", *out, "--threshold", 0), SettingsError, "threshold"),
        ((tmp_path / "src", *out, "--fps", 0), SettingsError, "fps"),
    ):
        with pytest.raises(error, match=message):
            simulate(*arguments)

    assert simulate(tmp_path / "src", *out, "--size", "0x4").exit_code == 2
    assert not (tmp_path / "raw").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert contents(tmp_path / "full") == {"file": b"mine"}
