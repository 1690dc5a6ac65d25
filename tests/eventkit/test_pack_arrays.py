"""Arrays written chunk by chunk: to the bytes that Zarr writes, in memory for one chunk."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", reason="zarr is not installed")

from eventkit import pack_arrays  # noqa: E402
from eventkit.pack_arrays import PackArray, compressors  # noqa: E402


def files_below(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def written_by_zarr(
    folder: Path, values: np.ndarray, *, chunk: int, shard: int, compressed: bool
) -> None:
    """Write an array at once, as its documentation says."""
    rest = values.shape[1:]
    array = zarr.create_group(str(folder), zarr_format=3).create_array(
        "a",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk, *rest),
        shards=(chunk * shard, *rest),
        compressors=compressors() if compressed else zarr.codecs.Crc32cCodec(),
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    array[...] = values


def open_array(folder: Path, values: np.ndarray, **options: Any) -> PackArray:
    group = zarr.create_group(str(folder), zarr_format=3)
    return PackArray(group, "a", dtype=values.dtype, **options)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("length", [1, 3, 4, 8, 11])
def test_clips_are_the_bytes_that_zarr_writes(tmp_path: Path, dtype: str, length: int) -> None:
    values = np.random.default_rng(length).integers(0, 5, (length, 3, 2, 9, 7)).astype(dtype)
    values[0] = 0
    written_by_zarr(tmp_path / "zarr", values, chunk=1, shard=4, compressed=True)

    array = open_array(tmp_path / "mine", values, chunk=(1, *values.shape[1:]), shard=4)
    for i in range(length):
        array.append(values[i : i + 1])
    array.close(length)

    assert files_below(tmp_path / "mine") == files_below(tmp_path / "zarr")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("length", [1, 10, 40, 73])
def test_a_chunk_at_the_edge_is_the_bytes_that_zarr_writes(
    tmp_path: Path, length: int, compressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_arrays, "WRITE_BYTES", 50)  # several appends to a file
    values = np.arange(1, length + 1, dtype="u2")
    written_by_zarr(tmp_path / "zarr", values, chunk=10, shard=4, compressed=compressed)

    array = open_array(tmp_path / "mine", values, chunk=(10,), shard=4, compressed=compressed)
    padded = np.append(values, np.zeros(-length % 10, "u2"))
    for start in range(0, length, 10):
        array.append(padded[start : start + 10])
    array.close(length)

    assert files_below(tmp_path / "mine") == files_below(tmp_path / "zarr")


def test_a_placeholder_of_no_memory_is_written_as_the_values_it_stands_for(tmp_path: Path) -> None:
    parts = [np.broadcast_to(np.uint8(value), (1, 3, 5)) for value in (0, 7, 0, 9)]
    values = np.concatenate(parts)
    written_by_zarr(tmp_path / "zarr", values, chunk=1, shard=2, compressed=True)

    array = open_array(tmp_path / "mine", values, chunk=(1, 3, 5), shard=2)
    for part in parts:
        array.append(part)
    array.close(len(parts))

    assert files_below(tmp_path / "mine") == files_below(tmp_path / "zarr")


def test_a_chunk_of_another_shape_is_refused(tmp_path: Path) -> None:
    array = open_array(tmp_path, np.zeros(0, "u1"), chunk=(1, 3), shard=2)

    with pytest.raises(ValueError, match=r"expected a chunk of shape \(1, 3\), got \(1, 4\)"):
        array.append(np.zeros((1, 4), "u1"))


def test_writing_takes_the_memory_of_one_chunk_and_not_of_a_shard(tmp_path: Path) -> None:
    chunk = np.random.default_rng(0).integers(0, 256, (1, 1 << 20), np.uint8)  # does not compress
    array = open_array(tmp_path, chunk, chunk=chunk.shape, shard=32)
    array.append(chunk)  # imports what is needed

    tracemalloc.start()
    for _ in range(40):
        array.append(chunk)
    array.close(41)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 3 * chunk.nbytes
