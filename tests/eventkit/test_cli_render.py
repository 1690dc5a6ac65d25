"""`eventkit render` as a user runs it: recordings, stores and shards to pictures and films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import eventkit
from eventkit.cli import main_group
from eventkit.errors import EventKitError

SIZE = (34, 30)


def run(*arguments: str | Path) -> str:
    ran = CliRunner().invoke(main_group, [*map(str, arguments)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def recording(path: Path, *, events: int = 600, pictures: int = 4) -> Path:
    """A recording of 300 ms from time 5000 on, with a folder of gray pictures beside it."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(5_000, 305_000, events))
    t[0], t[-1] = 5_000, 304_999
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        t=t,
        x=rng.integers(0, SIZE[0], events),
        y=rng.integers(0, SIZE[1], events),
        p=rng.integers(0, 2, events),
        sensor_size=np.array(SIZE),
    )
    if pictures:
        folder = path.with_suffix("")
        folder.mkdir()
        for k in range(pictures):
            pixels = rng.integers(0, 255, (SIZE[1], SIZE[0]), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
    return path


def picture(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def test_a_recording_becomes_a_sheet_with_rgb_events_and_differences(tmp_path: Path) -> None:
    path = recording(tmp_path / "r.npz")
    both, alone, laid = (tmp_path / f"{name}.png" for name in ("both", "alone", "laid"))

    said = run("render", path, "--rgb", tmp_path / "r", "-o", both, "--bins", 3)
    run("render", path, "-o", alone, "--bins", 3)
    run("render", path, "--rgb", tmp_path / "r", "-o", laid, "--bins", 3, "--overlay")

    assert "0.000 - 300.000 ms, 600 events, counts:eventkit,dtype=u1, 3 bins" in said
    widths = {picture(path)[0] for path in (both, alone, laid)}
    assert widths == {72 + 3 * (34 * 4 + 6)}
    heights = [picture(path)[1] for path in (both, alone, laid)]
    assert heights[0] > heights[1] == heights[2]


@pytest.mark.parametrize("suffix", ["png", "gif", "mp4"])
def test_the_same_command_writes_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    path = recording(tmp_path / "r.npz")
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"

    for target in (first, second):
        run("render", path, "--rgb", tmp_path / "r", "-o", target)

    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [first.name, second.name, "r", "r.npz"]
    )


def test_films_have_a_frame_for_each_bin(tmp_path: Path) -> None:
    path = recording(tmp_path / "r.npz", pictures=0)

    run("render", path, "-o", tmp_path / "r.gif", "--bins", 5, "--fps", 4)
    run("render", path, "-o", tmp_path / "r.mp4", "--bins", 5, "--fps", 4)

    with Image.open(tmp_path / "r.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (5, 250)
    frames = eventkit.open(tmp_path / "r.mp4").frames
    assert frames is not None
    assert np.diff(frames.t_us).tolist() == [250_000] * 4


@pytest.mark.parametrize("name", eventkit.representations.names())
def test_every_representation_can_be_drawn(tmp_path: Path, name: str) -> None:
    path = recording(tmp_path / "r.npz")

    for suffix in ("png", "gif"):
        out = tmp_path / f"r.{suffix}"
        said = run("render", path, "--rgb", tmp_path / "r", "--repr", name, "--bins", 3, "-o", out)
        assert f"{name}" in said
        assert picture(out)[0] > 100


def test_a_part_is_read_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recording(tmp_path / "r.npz", pictures=0)
    t = eventkit.open(path).events.t
    inside = int(((t >= 105_000) & (t < 205_000)).sum())

    said = run(
        "render", path, "--start-us", 100_000, "--stop-us", 200_000, "-o", tmp_path / "p.png"
    )
    second = run("render", path, "--clip-us", 100_000, "--index", 1, "-o", tmp_path / "c.png")
    rest = run("render", path, "--start-us", 100_000, "-o", tmp_path / "d.png")

    assert f"100.000 - 200.000 ms, {inside} events" in said
    assert f"100.000 - 200.000 ms, {inside} events" in second
    assert (tmp_path / "p.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    assert f"100.000 - 300.000 ms, {int((t >= 105_000).sum())} events" in rest


def test_a_still_image_and_a_folder_of_images_are_drawn_too(tmp_path: Path) -> None:
    recording(tmp_path / "r.npz")

    run("render", tmp_path / "r", "-o", tmp_path / "a.png", "--bins", 2)
    run("render", tmp_path / "r" / "0.png", "-o", tmp_path / "b.png", "--bins", 2)

    assert picture(tmp_path / "a.png") == picture(tmp_path / "b.png")


def test_rgb_of_another_time_is_drawn_with_its_offset(tmp_path: Path, converted: Path) -> None:
    path = recording(tmp_path / "a.npz")
    times = "".join(f"{9_000_000 + 70_000 * k}\n" for k in range(4))
    (tmp_path / "a" / "timestamps.txt").write_text(times)
    drawn = (path, "--rgb", tmp_path / "a", "-o", tmp_path / "b.png")

    assert "--rgb-offset-us moves them" in refused(*drawn)
    assert "8 bins" in run("render", *drawn, "--rgb-offset-us", -8_990_000)
    store = refused(converted / "store", "--rgb-offset-us", 5)
    assert "--rgb-offset-us goes with a recording" in store


def test_the_real_recording_is_drawn_without_a_terminal(tool: Any, shared: Path) -> None:
    path = shared / "aedat4" / "davis346_frames_events_imu.aedat4"

    ran = tool("render", path, "--stop-us", 100_000, "--bins", 4)

    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "clip.png: davis346_frames_events_imu.aedat4, 346x260, 0.000 - 100.000 ms" in ran.stdout
    assert "3,938 events" in ran.stdout


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``store`` and ``shards`` of three recordings."""
    folder = tmp_path_factory.mktemp("converted")
    for k in range(3):
        recording(folder / "raw" / "train" / "c0" / f"{k}.npz")
    store, shards = folder / "store", folder / "shards"
    inline = ("--executor", "inline")
    run("convert", folder / "raw", "--out", store, "--bins", 3, *inline)
    run("shard", store, "--out", shards, *inline)
    run(
        "convert", folder / "raw", "--out", folder / "voxels", "--repr", "voxel:zhu,bins=3", *inline
    )
    return folder


def test_a_clip_of_a_store_and_of_shards_is_drawn(converted: Path, tmp_path: Path) -> None:
    of_store = run("render", converted / "store", "--index", 2, "-o", tmp_path / "store.png")
    run("render", converted / "store", "--clip", 2, "-o", tmp_path / "clip.png")
    of_shards = run("render", converted / "shards", "-o", tmp_path / "shards.png")
    film = run("render", converted / "shards", "-o", tmp_path / "s.mp4", "--overlay")
    voxels = run("render", converted / "voxels", "-o", tmp_path / "voxels.png")

    assert "counts:eventkit,dtype=u1, 3 bins" in of_store
    assert "class c0" in of_store
    assert "class c0" in of_shards
    assert "3 bins" in film
    assert "voxel:zhu,bins=3" in voxels
    assert (tmp_path / "store.png").read_bytes() == (tmp_path / "clip.png").read_bytes()
    sizes = [picture(tmp_path / f"{name}.png") for name in ("store", "shards", "voxels")]
    assert sizes[0] == sizes[1]
    # The bins of voxels are not the windows of the RGB: they have an axis of their own.
    assert sizes[2][1] == sizes[0][1] + 16


def test_a_store_with_its_events_shows_any_representation(converted: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(
        *("convert", converted / "raw", "--out", store, "--bins", 3, "--raw-events"),
        *("--downsample", 2, "--executor", "inline"),
    )

    run("render", store, "-o", tmp_path / "a.png")
    again = run(
        "render", store, "--repr", "counts:eventkit,dtype=u1", "--bins", 3, "-o", tmp_path / "b.png"
    )
    voxels = run("render", store, "--repr", "voxel:zhu,bins=5", "-o", tmp_path / "c.png")

    assert "3 bins" in again
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "voxel:zhu,bins=5,normalize=none, 5 bins" in voxels


def refused(*arguments: str | Path) -> str:
    with pytest.raises(EventKitError) as caught:
        run("render", *arguments)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_what_is_drawn_is_never_written_over(tmp_path: Path) -> None:
    recording(tmp_path / "r.npz")
    still, video = tmp_path / "r" / "0.png", tmp_path / "v.mp4"
    run("render", tmp_path / "r.npz", "-o", video)
    (tmp_path / "link.png").symlink_to(still)
    before = {path: path.read_bytes() for path in (still, video)}

    cases = {
        (still, "-o", still): "got the source",
        (still, "-o", tmp_path / "link.png"): "got the source",
        (video, "-o", video): "got the source",
        (tmp_path / "r", "-o", tmp_path / "r" / "new.png"): "got inside",
        (tmp_path / "r.npz", "--rgb", tmp_path / "r", "-o", still): "got inside",
        (tmp_path / "r.npz", "--rgb", video, "-o", video): "got the source",
    }
    for arguments, words in cases.items():
        assert words in refused(*arguments)

    assert {path: path.read_bytes() for path in before} == before
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [f"{k}.png" for k in range(4)]


def test_a_folder_is_no_place_for_a_picture(tmp_path: Path) -> None:
    path = recording(tmp_path / "r.npz", pictures=0)
    (tmp_path / "a.png").mkdir()

    said = refused(path, "-o", tmp_path / "a.png")

    assert (
        said == f"{tmp_path / 'a.png'}: expected a file to write, got a folder; name a file in it"
    )


def test_what_goes_wrong_is_said_in_one_sentence(converted: Path, tmp_path: Path) -> None:
    path, out = recording(tmp_path / "r.npz"), tmp_path / "a.png"
    (tmp_path / "nothing").mkdir()
    np.savez(tmp_path / "empty.npz", t=[], x=[], y=[], p=[], sensor_size=np.array(SIZE))

    cases = {
        (path, "-o", tmp_path / "a.jpg"): ".png, .gif, .mp4, got .jpg",
        (path, "-o", tmp_path / "a"): "got no suffix",
        (path, "-o", out, "--fps", "3"): ".gif or .mp4",
        (tmp_path / "nothing", "-o", out): "a recording, a store",
        (tmp_path / "missing", "-o", out): "no such file or folder",
        (tmp_path / "empty.npz", "-o", out): "got neither",
        (tmp_path / "empty.npz", "-o", out, "--stop-us", "10"): "got neither",
        (path, "-o", out, "--overlay"): "leave --overlay out",
        (path, "-o", out, "--start-us", "300000"): "--start-us below 300.000 ms",
        (path, "-o", out, "--start-us", "900000", "--stop-us", "900001"): "another --start-us",
        (path, "-o", out, "--start-us", "9", "--stop-us", "9"): "--stop-us above it",
        (path, "-o", out, "--clip-us", "100", "--stop-us", "9"): "got both",
        (path, "-o", out, "--index", "1"): "without --clip-us",
        (path, "-o", out, "--clip-us", "100000", "--index", "3"): "--index below 3",
        (path, "-o", out, "--repr", "voxel:nothing"): "voxel:zhu",
        (path, "-o", out, "--split", "train"): "--split goes with shards",
        (path, "-o", out, "--bins", "4096", "--scale", "64"): "fewer --bins",
        (converted / "store", "-o", out, "--bins", "4"): "convert again with --raw-events",
        (converted / "store", "-o", out, "--clip-us", "9"): "--clip-us goes with a recording",
        (converted / "shards", "-o", out, "--repr", "voxel:zhu"): "--repr goes with a recording",
        (converted / "store", "-o", out, "--index", "3"): "--index below 3",
        (converted / "shards", "-o", out, "--index", "3"): "--index below 3, the samples of train",
        (converted / "shards", "-o", out, "--split", "val"): "expected a split among",
    }
    for arguments, words in cases.items():
        assert words in refused(*arguments)
    assert not out.exists()


def test_a_url_is_no_folder_of_a_strange_name(tool: Any, tmp_path: Path) -> None:
    path = recording(tmp_path / "r.npz")
    before = sorted(tmp_path.rglob("*"))

    for arguments in ((path, "-o", "s3://bucket/a.png"), ("s3://bucket/r.npz", "-o", "a.png")):
        ran = tool("render", *arguments)
        assert ran.returncode == 2
        assert "expected a path of this machine, got s3://bucket/" in ran.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_shards_are_the_source_unless_another_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert "`eventkit shard` make it" in refused()
