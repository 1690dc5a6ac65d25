"""Packs of the Zarr store: what is written comes back, as plain zarr and in a notebook."""

from __future__ import annotations

import hashlib
import tracemalloc
import weakref
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from store_helpers import BINS, make_clip, write_pack, write_store

from eventkit.clips import Clip
from eventkit.errors import MissingDataError
from eventkit.events import Events

zarr = pytest.importorskip("zarr", reason="zarr is not installed")

from eventkit import guarded_array, packs  # noqa: E402
from eventkit.store import (  # noqa: E402
    ENCODING,
    RAW_DTYPES,
    Pack,
    Store,
    StoredClip,
    open_store,
)


def assert_same(found: StoredClip, clip: Clip) -> None:
    assert np.array_equal(found.events, clip.events)
    assert found.events.dtype == clip.events.dtype
    assert found.encoded == clip.encoded
    if clip.encoded is None:
        assert np.array_equal(found.rgb, clip.rgb)
    else:
        assert found.rgb is None
    for name in ("diff_events", "diff_rgb"):
        mine, theirs = getattr(found, name), getattr(clip, name)
        assert (mine is None) == (theirs is None)
        assert theirs is None or np.array_equal(mine, theirs)
    for column, values in (
        ("window_us", clip.windows_us),
        ("exposure_us", clip.exposure_us),
        ("rgb_index", clip.rgb_index),
        ("binned", clip.binned),
        ("clipped", clip.clipped),
        ("decoded", clip.decoded),
        ("has_events", clip.has_events),
        ("has_rgb", clip.has_rgb),
    ):
        assert np.array_equal(found.columns[column], values), column


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "files"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_clips_come_back(tmp_path: Path, encoded: bool, dtype: str) -> None:
    clips = [make_clip(i, encoded=encoded, dtype=dtype) for i in range(3)]

    count = write_pack(tmp_path / "p.zarr", clips)

    pack = Pack(tmp_path / "p.zarr")
    assert count == len(pack) == 3
    assert pack.attributes["settings"] == {"bins": BINS}
    for i, clip in enumerate(clips):
        found = pack.clip(i)
        assert_same(found, clip)
        assert found.columns["label"] == i - 1
        assert found.facts == {
            "id": f"clip{i}",
            "recording": "a/b",
            "split": "train",
            "clip": i,
            "dropped": clip.dropped,
            "flags": list(clip.flags),
            "rgb_static": False,
            "rgb_suffix": "png" if encoded else "",
            "rgb_times": "recorded",
        }


def test_a_repeated_picture_is_stored_once(tmp_path: Path) -> None:
    clip = make_clip(0, encoded=True)
    write_pack(tmp_path / "p.zarr", [clip])

    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")

    assert group["rgb_slot"][...].tolist() == [[0, 1, 0]]
    assert group["rgb_bytes"].shape == (len(clip.encoded[0]) + len(clip.encoded[1]),)


def test_differences_are_left_out_where_there_are_none(tmp_path: Path) -> None:
    write_pack(tmp_path / "p.zarr", [make_clip(0, diffs=False)])

    found = Pack(tmp_path / "p.zarr").clip(0)

    assert found.diff_events is None
    assert found.diff_rgb is None


def test_clips_of_one_sense_come_back(tmp_path: Path) -> None:
    clip = make_clip(0, events=False)
    write_pack(tmp_path / "p.zarr", [clip])

    found = Pack(tmp_path / "p.zarr").clip(0)

    assert not found.columns["has_events"]
    assert not found.events.any()


def test_packs_longer_than_an_outer_shard_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "SHARD_BYTES", 500)  # two clips of events, less than two of RGB
    monkeypatch.setattr(packs, "BYTES_CHUNK", 100)
    for name, encoded in (("pixels", False), ("files", True)):
        clips = [make_clip(i, encoded=encoded) for i in range(7)]
        write_pack(tmp_path / f"{name}.zarr", clips)

        pack = Pack(tmp_path / f"{name}.zarr")

        for i, clip in enumerate(clips):
            assert_same(pack.clip(i), clip)


def test_plain_zarr_reads_a_pack(tmp_path: Path) -> None:
    clips = [make_clip(i) for i in range(2)]
    write_pack(tmp_path / "p.zarr", clips)

    group = zarr.open_group(str(tmp_path / "p.zarr"), mode="r")

    assert np.array_equal(group["events"][...], np.stack([clip.events for clip in clips]))
    assert group["events"].chunks == (1, BINS, 2, 5, 7)
    assert group["events"].shards is not None
    assert group["label"][...].tolist() == [-1, 0]
    assert group.attrs["encoding-type"] == "eventkit-pack"


def test_empty_clips_are_written_as_chunks_and_not_left_out(tmp_path: Path) -> None:
    write_pack(tmp_path / "p.zarr", [make_clip(0, events=False)])

    assert list((tmp_path / "p.zarr" / "events" / "c").rglob("0"))


def test_equal_clips_make_equal_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("once", "again"):
        write_pack(tmp_path / name, [make_clip(i, encoded=True) for i in range(3)])
        files = sorted(f for f in (tmp_path / name).rglob("*") if f.is_file())
        digests.append(
            {f.relative_to(tmp_path / name): hashlib.sha256(f.read_bytes()) for f in files}
        )

    once, again = digests
    assert {f: d.hexdigest() for f, d in once.items()} == {
        f: d.hexdigest() for f, d in again.items()
    }


def test_a_store_is_one_sequence_over_its_packs(tmp_path: Path) -> None:
    contents = {"a": [make_clip(0), make_clip(1)], "b": [make_clip(2, encoded=True)]}

    store = open_store(write_store(tmp_path / "store", contents))

    assert isinstance(store, Store)
    assert len(store) == 3
    expected = [*contents["a"], *contents["b"]]
    for found, clip in zip(store, expected, strict=True):
        assert_same(found, clip)
    assert_same(store[-1], expected[-1])
    for outside in (3, -4):
        with pytest.raises(IndexError, match="of 3"):
            store[outside]


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "files"])
def test_a_clip_is_one_read_of_each_of_its_arrays(
    tmp_path: Path, encoded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pack(tmp_path / "p.zarr", [make_clip(i, encoded=encoded) for i in range(3)])
    pack = Pack(tmp_path / "p.zarr")
    contents(pack.clip(0))  # reads the indexes
    asked: list[tuple[str, str]] = []

    def noted(name: str) -> None:
        asks = getattr(guarded_array, name)

        def ask(path: Path, *where: int) -> object:
            asked.append((name, path.relative_to(pack.path).parts[0]))
            return asks(path, *where)

        monkeypatch.setattr(guarded_array, name, ask)

    noted("read_part")
    noted("state_of")
    contents(pack.clip(2))

    pictures = "rgb_bytes" if encoded else "rgb"
    arrays = [pictures, "events", "diff_events", "diff_rgb"]
    assert asked == [(name, array) for array in arrays for name in ("state_of", "read_part")]


def contents(clip: StoredClip) -> tuple[object, ...]:
    pictures = clip.encoded if clip.encoded is not None else clip.rgb
    return clip.events, pictures, clip.diff_events, clip.diff_rgb


def test_pictures_that_stand_apart_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "BYTES_CHUNK", 100)
    clips = [make_clip(i, encoded=True) for i in range(3)]
    write_pack(tmp_path / "p.zarr", clips)
    (first, second, _), (third, fourth, _) = clips[0].encoded, clips[2].encoded
    # As no pack of ours has them, and a foreign writer may: of several clips, in any order.
    slots = zarr.open_group(str(tmp_path / "p.zarr"), mode="r+")["rgb_slot"]
    slots[1] = [5, 0, 4]

    pack = Pack(tmp_path / "p.zarr")

    assert pack.images(1) == (fourth, first, third)
    assert pack.images(0) == (first, second, first)


def test_an_open_pack_does_not_keep_the_list_of_its_raw_files(tmp_path: Path) -> None:
    attributes = {"settings": {"bins": BINS}, "sources": [{"path": "a", "bytes": 1}]}
    writer = packs.PackWriter(tmp_path / "p.zarr", attributes=attributes, clips=1)
    writer.append(packs.ClipRecord(make_clip(0), label=0, facts={"recording": "a"}))
    writer.close()

    pack = Pack(tmp_path / "p.zarr")

    assert zarr.open_group(str(tmp_path / "p.zarr"), mode="r").attrs["sources"]
    assert pack.attributes == {**ENCODING, "settings": {"bins": BINS}}
    assert pack.facts[0]["recording"] == "a"


# Events beside the frames


def test_raw_events_come_back_clip_by_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Shards of four events, so that clips begin within a shard and reach over several.
    monkeypatch.setattr(packs, "SHARD_BYTES", 32)
    monkeypatch.setattr(packs, "BYTES_CHUNK", 16)
    rng = np.random.default_rng(3)
    streams = [
        Events(
            x=rng.integers(0, 7, n),
            y=rng.integers(0, 5, n),
            t=np.sort(rng.integers(-(2**60), 2**60, n)),
            p=rng.integers(0, 2, n),
        )
        for n in (5, 0, 1, 11)
    ]
    clips = [replace(make_clip(i), raw_events=ev) for i, ev in enumerate(streams)]

    write_pack(tmp_path / "p.zarr", clips)
    pack = Pack(tmp_path / "p.zarr")

    for i, ev in enumerate(streams):
        found = pack.clip(i).raw_events
        for name in ("x", "y", "t", "p"):
            assert np.array_equal(getattr(found, name), getattr(ev, name)), name
            assert getattr(found, name).dtype == getattr(ev, name).dtype


def test_clips_without_any_event_have_empty_raw_events(tmp_path: Path) -> None:
    write_pack(tmp_path / "p.zarr", [replace(make_clip(0), raw_events=Events.empty())])

    assert len(Pack(tmp_path / "p.zarr").clip(0).raw_events) == 0


def test_a_store_without_raw_events_says_how_to_get_them(tmp_path: Path) -> None:
    write_pack(tmp_path / "p.zarr", [make_clip(0)])

    with pytest.raises(MissingDataError, match="--raw-events"):
        _ = Pack(tmp_path / "p.zarr").clip(0).raw_events


# Memory


def test_a_pack_is_written_in_memory_for_one_clip(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 1 << 16
    clip = replace(
        make_clip(0, diffs=False),
        events=rng.integers(0, 256, (BINS, 2, 256, 512), np.uint8),  # does not compress
        raw_events=Events(x=np.arange(n) % 7, y=np.arange(n) % 5, t=np.arange(n), p=[1] * n),
    )
    write_pack(tmp_path / "first.zarr", [clip])  # imports what is needed

    tracemalloc.start()
    write_pack(tmp_path / "p.zarr", [clip] * 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2 * (clip.events.nbytes + len(RAW_DTYPES) * packs.BYTES_CHUNK)


def test_no_array_of_a_clip_is_kept_until_the_pack_is_closed(tmp_path: Path) -> None:
    writer = packs.PackWriter(tmp_path / "p.zarr", attributes={}, clips=2)
    clip = replace(make_clip(0), raw_events=Events(x=[1], y=[1], t=[5], p=[1]))
    values = [getattr(clip, field.name) for field in fields(clip)]
    arrays = [weakref.ref(value) for value in values if isinstance(value, np.ndarray)]

    writer.append(packs.ClipRecord(clip, label=0, facts={}))
    del clip, values

    assert len(arrays) > 6
    assert [ref() for ref in arrays] == [None] * len(arrays)
