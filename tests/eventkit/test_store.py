"""Packs of the Zarr store: what is written comes back; a file that is gone or cut is noticed."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventkit.clips import Clip
from eventkit.differences import frame_difference
from eventkit.errors import DamageError, MissingDataError
from eventkit.events import Events
from eventkit.samples import encode_png

zarr = pytest.importorskip("zarr", reason="zarr is not installed")

from eventkit import packs  # noqa: E402
from eventkit.store import Pack, Store, StoredClip, check_files, open_store  # noqa: E402

BINS = 3


def make_clip(
    i: int, *, encoded: bool = False, dtype: str = "u1", events: bool = True, diffs: bool = True
) -> Clip:
    rng = np.random.default_rng(i)
    counts = rng.integers(0, 9, (BINS, 2, 5, 7)).astype(dtype) * events
    rgb = rng.integers(0, 256, (BINS, 4, 6, 3)).astype(np.uint8)
    files = tuple(encode_png(pixels) for pixels in rgb)
    binned = counts.sum(axis=(1, 2, 3)).astype(np.int64)
    return Clip(
        index=i,
        events=counts,
        rgb=rgb,
        windows_us=np.array([[10 * b, 10 * b + 10] for b in range(BINS)]),
        exposure_us=np.array([[10 * b, 10 * b + 5] for b in range(BINS)]),
        rgb_index=np.arange(BINS),
        binned=binned,
        clipped=np.zeros(BINS, np.int64),
        decoded=int(binned.sum()) + i,
        dropped={"outside": i} if i else {},
        has_events=events,
        has_rgb=True,
        rgb_static=False,
        rgb_times="recorded",
        # The first and the last picture are the same file.
        encoded=(files[0], files[1], files[0]) if encoded else None,
        rgb_suffix="png" if encoded else "",
        diff_events=frame_difference(counts) if diffs else None,
        diff_rgb=frame_difference(rgb) if diffs else None,
        flags=("rgb_fallback",) if i == 1 else (),
    )


def write_pack(path: Path, clips: list[Clip]) -> int:
    writer = packs.PackWriter(path, attributes={"settings": {"bins": BINS}}, clips=len(clips))
    for i, clip in enumerate(clips):
        facts = {"id": f"clip{i}", "recording": "a/b", "split": "train"}
        writer.append(packs.ClipRecord(clip, label=i - 1, facts=facts))
    return int(writer.close())


def receipt(store: Path, name: str) -> dict[str, Any]:
    """Return what a finished pack says of itself: every file and its size."""
    files = sorted(file for file in (store / f"{name}.zarr").rglob("*") if file.is_file())
    return {
        "files": [
            {"path": file.relative_to(store).as_posix(), "bytes": file.stat().st_size}
            for file in files
        ],
        "clips": len(Pack(store / f"{name}.zarr")),
    }


def write_store(folder: Path, contents: dict[str, list[Clip]]) -> Path:
    """Write packs, and by hand the plan and the receipts of a finished `eventkit convert`."""
    hidden = folder / ".eventkit"
    (hidden / "receipts").mkdir(parents=True)
    (hidden / "plan.json").write_text(json.dumps({"packs": [{"name": n} for n in contents]}))
    for name, clips in contents.items():
        write_pack(folder / f"{name}.zarr", clips)
        (hidden / "receipts" / f"{name}.json").write_text(json.dumps(receipt(folder, name)))
    return folder


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


def test_every_lost_or_cut_file_of_a_store_is_noticed(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": [make_clip(0)], "b": [make_clip(1)]})
    files = sorted(file for file in folder.glob("*.zarr/**/*") if file.is_file())
    assert len(files) > 20

    for file in files:
        data = file.read_bytes()
        for kept in (None, data[:-1], data + b"\0"):
            file.unlink() if kept is None else file.write_bytes(kept)
            with pytest.raises(DamageError, match=rf"{file.name}: expected {len(data)} bytes"):
                open_store(folder)
        file.write_bytes(data)

    assert len(open_store(folder)) == 2


def test_an_unfinished_store_says_what_to_run(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": [make_clip(0)]})
    (folder / ".eventkit" / "receipts" / "a.json").unlink()

    with pytest.raises(MissingDataError, match="pack a is not finished; run the same"):
        open_store(folder)
    for nothing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(MissingDataError, match="expected a store of `eventkit convert`"):
            open_store(nothing)


def test_a_folder_that_is_no_pack_is_damage(tmp_path: Path) -> None:
    with pytest.raises(DamageError, match="expected a Zarr group, found none"):
        Pack(tmp_path)
    zarr.create_group(str(tmp_path / "other.zarr"), zarr_format=3)
    with pytest.raises(DamageError, match="got another layout or version"):
        Pack(tmp_path / "other.zarr")


def test_files_are_checked_by_presence_and_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")

    check_files(tmp_path, [{"path": "a", "bytes": 3}])
    with pytest.raises(DamageError, match=r"expected 4 bytes, got 3; run `eventkit verify"):
        check_files(tmp_path, [{"path": "a", "bytes": 4}])
    with pytest.raises(DamageError, match="expected 3 bytes, it is missing"):
        check_files(tmp_path, [{"path": "b", "bytes": 3}])


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
@pytest.mark.parametrize("file", ["plan.json", "receipts/a.json"])
def test_a_damaged_plan_or_receipt_is_damage(tmp_path: Path, file: str, content: str) -> None:
    folder = write_store(tmp_path / "store", {"a": [make_clip(0)]})
    (folder / ".eventkit" / file).write_text(content)

    with pytest.raises(DamageError, match=Path(file).name):
        open_store(folder)


@pytest.mark.parametrize("array", ["events", "rgb_bytes", "label"])
def test_a_flipped_byte_in_a_chunk_is_damage(tmp_path: Path, array: str) -> None:
    folder = write_store(tmp_path / "store", {"a": [make_clip(0, encoded=True)]})
    (chunk,) = (f for f in (folder / "a.zarr" / array / "c").rglob("*") if f.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 3 if array != "label" else 12] ^= 0x10
    chunk.write_bytes(data)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DamageError, match=r"a\.zarr"):
            open_store(folder)[0]


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


def test_raw_events_that_step_back_are_damage(tmp_path: Path) -> None:
    ev = Events(x=[0, 1], y=[0, 1], t=[5, 9], p=[0, 1])
    write_pack(tmp_path / "p.zarr", [replace(make_clip(0), raw_events=ev)])
    zarr.open_group(str(tmp_path / "p.zarr"), mode="r+")["raw_t"][:] = [9, 5]

    with pytest.raises(DamageError, match="clip 0"):
        _ = Pack(tmp_path / "p.zarr").clip(0).raw_events
