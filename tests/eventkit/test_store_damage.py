"""Stores that are not whole: every loss is told with the file and the cure, none reads as zeros."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_helpers import make_clip, write_pack, write_store

from eventkit.errors import DamageError, MissingDataError, UnsupportedFormatError
from eventkit.events import Events

zarr = pytest.importorskip("zarr", reason="zarr is not installed")
google_crc32c = pytest.importorskip("google_crc32c", reason="google-crc32c is not installed")

from eventkit import packs  # noqa: E402
from eventkit.store import Pack, Store, StoredClip, check_files, open_store  # noqa: E402

AGAIN = "run the same `eventkit convert` again"
CURE = r"remove .*a\.zarr and run the same `eventkit convert` again"


def read_all(store: Store) -> list[tuple[object, ...]]:
    """Read everything of every clip, as plain bytes."""
    return [contents(clip) for clip in store]


def contents(clip: StoredClip) -> tuple[object, ...]:
    events = clip.raw_events
    arrays = [clip.events, clip.rgb, clip.diff_events, clip.diff_rgb, events.t, events.x]
    return (
        *(None if array is None else array.tobytes() for array in arrays),
        clip.encoded,
        {name: np.asarray(values).tolist() for name, values in clip.columns.items()},
        clip.facts,
    )


def full_clips(count: int, *, encoded: bool = False) -> list[packs.Clip]:
    events = Events(x=[1, 2, 3], y=[0, 1, 2], t=[5, 6, 7], p=[0, 1, 1])
    return [replace(make_clip(i, encoded=encoded), raw_events=events) for i in range(count)]


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of libraries about what they are given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def chunk_files(folder: Path, array: str) -> list[Path]:
    return sorted(f for f in (folder / "a.zarr" / array / "c").rglob("*") if f.is_file())


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

    with pytest.raises(MissingDataError, match=r"1 of 1 packs \(a\).* missing; run the same"):
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


def test_raw_events_that_step_back_are_damage(tmp_path: Path) -> None:
    ev = Events(x=[0, 1], y=[0, 1], t=[5, 9], p=[0, 1])
    write_pack(tmp_path / "p.zarr", [replace(make_clip(0), raw_events=ev)])
    zarr.open_group(str(tmp_path / "p.zarr"), mode="r+")["raw_t"][:] = [9, 5]

    with pytest.raises(DamageError, match="clip 0"):
        _ = Pack(tmp_path / "p.zarr").clip(0).raw_events


# Between opening and reading


LARGE = ["events", "rgb", "diff_events", "diff_rgb", "raw_t"]


@pytest.mark.parametrize("array", LARGE)
def test_a_file_that_goes_after_opening_raises_and_never_reads_as_zeros(
    tmp_path: Path, array: str
) -> None:
    store = open_store(write_store(tmp_path / "store", {"a": full_clips(2)}))
    clip = store[0]
    (file,) = chunk_files(store.path, array)
    file.unlink()

    with pytest.raises(DamageError, match=rf"{file}: expected .* missing; {CURE}"):
        contents(clip)


@pytest.mark.parametrize("array", LARGE)
def test_a_file_that_is_cut_after_opening_raises(tmp_path: Path, array: str) -> None:
    store = open_store(write_store(tmp_path / "store", {"a": full_clips(2)}))
    (file,) = chunk_files(store.path, array)
    data = file.read_bytes()

    for length in (0, 3, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        with quiet(), pytest.raises(DamageError, match=rf"{file} is damaged: expected .*{CURE}"):
            read_all(store)


def test_a_chunk_that_the_index_of_its_file_does_not_name_raises(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "store", {"a": full_clips(2)}))
    (file,) = chunk_files(store.path, "events")
    data = file.read_bytes()
    index = np.frombuffer(data[-36:-4], "<u8").reshape(2, 2).copy()
    index[1] = np.iinfo(np.uint64).max
    checksum = google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    file.write_bytes(data[:-36] + index.tobytes() + checksum)  # a valid shard of one chunk

    zeros = zarr.open_group(str(store.path / "a.zarr"), mode="r")["events"][1]
    assert not zeros.any()  # what plain Zarr makes of it
    with pytest.raises(DamageError, match=rf"{file} is damaged: expected 2 chunks.*{CURE}"):
        _ = store[1].events


@pytest.mark.parametrize("encoded", [False, True], ids=["pixels", "files"])
def test_no_flipped_byte_is_read_as_other_data(tmp_path: Path, encoded: bool) -> None:
    folder = write_store(tmp_path / "store", {"a": full_clips(2, encoded=encoded)})
    truth = read_all(open_store(folder))
    rng = np.random.default_rng(7)
    files = sorted(f for f in (folder / "a.zarr").rglob("*") if f.is_file())
    told = []

    for file in files:
        data = file.read_bytes()
        for place in {0, len(data) - 1, *rng.integers(0, len(data), 3).tolist()}:
            flipped = bytearray(data)
            flipped[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(flipped)
            try:
                with quiet():
                    assert read_all(open_store(folder)) == truth, (file, place)
            except DamageError as err:
                told.append(str(err))
        file.write_bytes(data)

    # What is behind the last event or picture in a chunk is checked, but belongs to none.
    assert len(told) > 3 * len(files)
    assert all(str(folder / "a.zarr") in text and AGAIN in text for text in told)


def test_the_file_of_a_flipped_byte_is_named(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": full_clips(1)})
    (file,) = chunk_files(folder, "events")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0x10
    file.write_bytes(data)

    with quiet(), pytest.raises(DamageError, match=rf"{file} is damaged: expected .*{CURE}"):
        _ = open_store(folder)[0].events


# Not finished, or of another version


def test_what_is_finished_of_a_store_opens_when_asked_for(tmp_path: Path) -> None:
    clips = {"a": [make_clip(0)], "b": [make_clip(1), make_clip(2)], "c": [make_clip(3)]}
    folder = write_store(tmp_path / "store", clips)
    (folder / ".eventkit" / "receipts" / "b.json").unlink()

    with pytest.raises(MissingDataError, match=r"1 of 3 packs \(b\)"):
        open_store(folder)
    store = open_store(folder, partial=True)

    assert [store.names, len(store)] == [["a", "c"], 2]
    assert np.array_equal(store[1].events, clips["c"][0].events)
    os.truncate(chunk_files(folder, "events")[0], 3)
    with pytest.raises(DamageError, match="expected"):
        open_store(folder, partial=True)


def test_a_store_that_was_only_scanned_says_so(tmp_path: Path) -> None:
    (tmp_path / ".eventkit").mkdir()
    (tmp_path / ".eventkit" / "scan.jsonl").touch()

    with pytest.raises(MissingDataError, match="found only its scan; run the same"):
        open_store(tmp_path, partial=True)


def test_a_store_of_a_newer_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": [make_clip(0)]})
    plan = folder / ".eventkit" / "plan.json"
    content = json.loads(plan.read_text())

    plan.write_text(json.dumps({"version": 2, "parts": "of another form"}))
    with pytest.raises(UnsupportedFormatError, match=r"plan.json: expected .* 1 .* got version 2"):
        open_store(folder)

    plan.write_text(json.dumps(content))
    zarr.open_group(str(folder / "a.zarr"), mode="r+").attrs["encoding-version"] = "2"
    with pytest.raises(UnsupportedFormatError, match=r"a.zarr: expected .* newer eventkit"):
        Pack(folder / "a.zarr")


def test_a_receipt_that_is_not_as_it_was_sealed_is_damage(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", {"a": [make_clip(0)]})
    receipt = folder / ".eventkit" / "receipts" / "a.json"
    receipt.write_text(json.dumps({**json.loads(receipt.read_text()), "digest": "0" * 64}))

    with pytest.raises(DamageError, match=r"a\.json: expected 'files' in it as they were written"):
        open_store(folder)
