"""convert by name and with steps on events: shapes, bytes, balance, what plans and shards carry."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines_helpers import atis_bytes, tree_bytes, write_recording

import eventkit
from eventkit.filters import chain
from eventkit.representations import make

SIDE = 34


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Four recordings of two classes."""
    root = tmp_path / "few"
    for label in range(2):
        for i in range(2):
            write_recording(root / f"c{label}" / f"{i:04d}", seed=10 * label + i)
    return root


def metas(shards: Path) -> list[dict]:
    found = []
    for path in sorted(shards.rglob("*.tar")):
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar}
        found += [json.loads(data) for name, data in members.items() if name.endswith(".json")]
    return found


def assert_whole(tool, *folders: str) -> None:
    for folder in folders:
        verified = tool("verify", folder)
        assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize(
    ("spec", "full", "shape", "dtype", "mass"),
    [
        ("voxel:zhu,bins=5", "voxel:zhu,bins=5,normalize=none", (5, 1, 34, 34), "f4", "signs"),
        ("voxel:cube,bins=8", None, (8, 1, 34, 34), "f4", "none"),
        ("stack:mdes", None, (8, 1, 34, 34), "i1", "none"),
        ("image:event-ahu", None, (8, 3, 34, 34), "u1", "none"),
        ("surface:hats,cell_size=10", None, (8, 2, 20, 20), "f4", "none"),
    ],
)
def test_any_name_goes_from_raw_files_to_shards(
    few: Path, tool, tmp_path: Path, spec: str, full: str, shape: tuple, dtype: str, mass: str
) -> None:
    converted = tool("convert", few, "--repr", spec)
    sharded = tool("shard", "--with-diffs")

    assert (converted.returncode, sharded.returncode) == (0, 0), converted.stderr + sharded.stderr
    assert "800 events decoded = 800 in windows + 0 dropped" in converted.stdout
    assert_whole(tool, "store", "shards")
    manifest = json.loads((tmp_path / "shards/manifest.json").read_text())
    written = manifest["settings"]["representation"]
    assert written == full if full else written.startswith(spec)
    for meta in metas(tmp_path / "shards"):
        assert meta["representation"] == written
        assert meta["mass"] == manifest["settings"]["mass"]
        assert meta["mass"] == mass
    for clip in eventkit.open_store(tmp_path / "store"):
        assert clip.events.shape == shape
        assert clip.events.dtype == np.dtype(dtype)
        assert clip.columns["window_us"].shape == (shape[0], 2)
        assert clip.diff_events.shape == (shape[0] - 1, *shape[1:])
        assert clip.diff_events.dtype.itemsize == clip.events.dtype.itemsize
        assert clip.columns["binned"].sum() == clip.columns["decoded"]


def test_the_stored_frames_are_those_of_the_representation(few: Path, tool, tmp_path: Path) -> None:
    tool("convert", few, "--representation", "stack:rvt,bins=4", "--no-diffs")

    found = eventkit.open_store(tmp_path / "store")[0]
    ev = eventkit.open(few / "c0" / "0000.bin").events
    made = make("stack:rvt", bins=4)

    whole = made(ev, sensor_size=(SIDE, SIDE))
    np.testing.assert_array_equal(found.events, made.as_stored(whole[None]))


@pytest.mark.parametrize(
    "options",
    [
        ["--repr", "stack:mdes,bins=4", "--downsample", "2"],
        ["--repr", "image:tencode", "--filter", "hot-pixels,background:within_us=20000"],
        ["--repr", "voxel:zhu", "--crop", "3,4,20,25", "--raw-events"],
    ],
)
def test_one_worker_and_two_give_the_same_bytes(
    few: Path, tool, tmp_path: Path, options: list[str]
) -> None:
    for workers in ("1", "2"):
        out = f"store{workers}"
        done = tool("convert", few, *options, "--out", out, "--workers", workers)
        assert done.returncode == 0, done.stderr
        assert tool("shard", out, "--out", f"shards{workers}").returncode == 0

    assert_whole(tool, "store1", "shards1")
    for kind in ("store", "shards"):
        assert tree_bytes(tmp_path / f"{kind}1") == tree_bytes(tmp_path / f"{kind}2")


def test_steps_on_events_balance_and_give_the_frames_of_the_chain(
    few: Path, tool, tmp_path: Path
) -> None:
    steps = ["crop:box=3/4/28/26", "refractory:period_us=9000", "downsample:factor=2"]

    converted = tool(
        "convert", few, "--crop", "3,4,28,26", "--filter", "refractory:period_us=9000",
        "--downsample", "2", "--size", "7x13", "--clip-us", "100000", "--raw-events",
    )  # fmt: skip

    assert converted.returncode == 0, converted.stderr
    assert "filtered.crop" in converted.stdout
    assert "filtered.refractory" in converted.stdout
    tool("shard")
    assert_whole(tool, "store", "shards")
    for clip in eventkit.open_store(tmp_path / "store"):
        decoded = int(clip.columns["decoded"])
        assert decoded == clip.columns["binned"].sum() + sum(clip.facts["dropped"].values())
        assert clip.facts["sensor_size"] == [7, 13]
        recording = eventkit.open(few / f"{clip.facts['recording']}.bin")
        kept = chain(steps)(recording.events, sensor_size=(SIDE, SIDE)).events
        start, stop = clip.columns["window_us"][0, 0], clip.columns["window_us"][-1, 1]
        part = kept[(kept.t >= start) & (kept.t < stop)]
        truth = np.zeros((8, 2, 13, 7), int)
        k = np.searchsorted(clip.columns["window_us"][:, 0], part.t, side="right") - 1
        np.add.at(truth, (k, part.p, part.y.astype(int), part.x.astype(int) * 7 // 14), 1)
        np.testing.assert_array_equal(clip.events, truth)
        assert clip.raw_events.t.tolist() == part.t.tolist()
        assert clip.raw_events.y.tolist() == part.y.tolist()
    total = json.loads((tmp_path / "shards/manifest.json").read_text())["clips"]
    assert total["decoded"] == total["binned"] + sum(total["dropped"].values()) == 800


def test_a_homography_puts_rgb_on_the_grid_of_the_events(few: Path, tool, tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("1 0 3\n0 1 2\n0 0 1\n")
    (tmp_path / "again.json").write_text("[[1, 0, 3], [0, 1, 2], [0, 0, 1]]")

    done = tool("convert", few, "--homography", "h.txt")
    same = tool("convert", few, "--homography", "again.json")
    other = tool("convert", few)
    tool("shard")

    assert done.returncode == 0, done.stderr
    assert "nothing to do" in same.stdout  # the matrix counts, not its file
    assert other.returncode == 2
    assert "homography [1.0, 0.0, 3.0" in other.stderr
    assert_whole(tool, "store", "shards")
    for clip in eventkit.open_store(tmp_path / "store"):
        with Image.open(few / f"{clip.facts['recording']}.png") as image:
            expected = np.zeros((SIDE, SIDE), np.uint8)
            expected[2:30, 3:31] = np.asarray(image)
        assert clip.encoded is None
        np.testing.assert_array_equal(clip.rgb[0, :, :, 0], expected)
    with tarfile.open(next((tmp_path / "shards").rglob("*.tar"))) as tar:
        names = [m.name for m in tar]
        data = tar.extractfile(next(n for n in names if n.endswith("rgb00.png"))).read()
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (SIDE, SIDE)


def test_other_steps_are_other_plans(few: Path, tool) -> None:
    tool("convert", few, "--crop", "0,0,20,20")

    other = tool("convert", few, "--crop", "0,0,20,30", "--repr", "voxel:zhu")

    assert other.returncode == 2
    assert "crop [0, 0, 20, 20] there, (0, 0, 20, 30) now" in other.stderr
    assert "representation counts:eventkit,dtype=u1 there" in other.stderr


def test_a_recording_whose_events_are_all_filtered_is_set_aside(tmp_path: Path, tool) -> None:
    (tmp_path / "a.bin").write_bytes(atis_bytes([9], [9], [5], [1]))
    (tmp_path / "b.bin").write_bytes(atis_bytes([1, 9], [1, 9], [5, 6], [1, 1]))

    done = tool("convert", "a.bin", "b.bin", "--crop", "0,0,4,4")

    assert done.returncode == 3
    assert "a: empty" in done.stderr
    assert "all 1 were dropped (1 filtered.crop)" in done.stderr
    assert "2 events decoded = 1 in frames + 0 clipped + 1 dropped (filtered.crop)" in done.stdout


def test_one_assumed_sensor_stays_the_rule_when_events_are_brought_to_one_size(
    few: Path, tool
) -> None:
    victim = few / "c0" / "0001.bin"
    data = bytearray(victim.read_bytes())
    data[0] = 120
    victim.write_bytes(data)

    result = tool("convert", few, "--size", "16x16")

    assert result.returncode == 3
    assert "c0/0001: outside_sensor" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--repr", "voxel:nonsense"], "voxel:zhu"),
        (["--repr", "voxel:zhu,steps=3"], "bins, normalize"),
        (["--repr", "voxel:zhu,bins=5", "--bins", "8"], "expected bins 5"),
        (["--repr", "counts:eventkit,dtype=u2", "--dtype", "u1"], "expected dtype u2"),
        (["--repr", "voxel:zhu", "--dtype", "u2"], "expected dtype f4"),
        (["--repr", "stack:rvt", "--windows", "rgb"], "goes with counts"),
        (["--repr", "counts:tonic,split_by=number"], "split_by=time"),
        (["--crop", "1,2,3"], "10,20,64,48"),
        (["--filter", "nonsense"], "background"),
        (["--filter", "background:within=3"], "within_us"),
        (["--downsample", "0"], "downsample"),
        (["--size", "99x99"], "not enlarged"),
        (["--homography", "nowhere.txt"], "no such file"),
    ],
)
def test_a_users_mistake_is_one_sentence(few: Path, tool, options: list[str], words: str) -> None:
    result = tool("convert", few, *options)

    assert result.returncode in (2, 3)
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_shards_carry_no_raw_events(few: Path, tool, tmp_path: Path) -> None:
    tool("convert", few, "--raw-events")
    tool("shard")

    with tarfile.open(next((tmp_path / "shards").rglob("*.tar"))) as tar:
        suffixes = {m.name.split(".", 1)[1] for m in tar}
        events = next(m for m in tar if m.name.endswith("events.npy.gz"))
        frames = np.load(io.BytesIO(gzip.decompress(tar.extractfile(events).read())))
    assert not [name for name in suffixes if "raw" in name]
    assert frames.shape == (8, 2, SIDE, SIDE)


def test_verify_finds_a_flipped_byte_among_the_raw_events(few: Path, tool, tmp_path: Path) -> None:
    tool("convert", few, "--raw-events")
    victim = tmp_path / "store/pack-00000.zarr/raw_t/c/0"
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 4
    victim.write_bytes(data)

    result = tool("verify", "store")

    assert result.returncode == 4
    assert "raw_t" in result.stderr
