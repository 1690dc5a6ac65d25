"""Rows of an array of a pack: what Zarr reads, and never anything else."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventkit.errors import DamageError

zarr = pytest.importorskip("zarr", reason="zarr is not installed")
google_crc32c = pytest.importorskip("google_crc32c", reason="google-crc32c is not installed")

from eventkit import guarded_array  # noqa: E402
from eventkit.guarded_array import GuardedArray  # noqa: E402
from eventkit.pack_arrays import PackArray, compressors  # noqa: E402

DTYPES = ["u1", "u2", "i2", "f4", "i8"]


@dataclass(frozen=True)
class Layout:
    """What an array is made of."""

    length: int
    rest: tuple[int, ...]
    chunk: int
    shard: int
    dtype: str
    compressed: bool

    def values(self) -> np.ndarray:
        """Return other bytes in every row; no row is of zeros."""
        shape = (self.length, *self.rest)
        size = math.prod(shape) * np.dtype(self.dtype).itemsize
        data = np.random.default_rng(size).integers(1, 120, size, np.uint8)
        return data.view(self.dtype).reshape(shape)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    return Layout(
        length=draw(st.integers(1, 30)),
        rest=tuple(draw(st.lists(st.integers(1, 4), max_size=3))),
        chunk=draw(st.integers(1, 7)),
        shard=draw(st.integers(1, 5)),
        dtype=draw(st.sampled_from(DTYPES)),
        compressed=draw(st.booleans()),
    )


def write_sharded(folder: Path, layout: Layout) -> Path:
    """Write an array as packs have it; the last chunk of the first axis is padded."""
    values = layout.values()
    group = zarr.create_group(str(folder / "p.zarr"), zarr_format=3)
    chunk = (layout.chunk, *layout.rest)
    array = PackArray(
        group,
        "a",
        chunk=chunk,
        shard=layout.shard,
        dtype=layout.dtype,
        compressed=layout.compressed,
    )
    padded = np.zeros((-layout.length % layout.chunk, *layout.rest), layout.dtype)
    for part in np.split(
        np.concatenate([values, padded]), range(chunk[0], layout.length, chunk[0])
    ):
        array.append(part)
    array.close(layout.length)
    return folder / "p.zarr"


def write_with_zarr(folder: Path, values: np.ndarray, **options: Any) -> Path:
    """Write an array of another layout, each by its own options."""
    group = zarr.create_group(str(folder / "p.zarr"), zarr_format=3)
    options = {"fill_value": 0, "config": {"write_empty_chunks": True}, **options}
    group.create_array("a", shape=values.shape, dtype=values.dtype, **options)[...] = values
    return folder / "p.zarr"


def opened(pack: Path) -> tuple[GuardedArray, Any]:
    """Return an array of ours, and Zarr's own."""
    array = zarr.open_group(str(pack), mode="r")["a"]
    return GuardedArray(pack, "a", array), array


def files_of(pack: Path) -> list[Path]:
    return sorted(file for file in (pack / "a" / "c").rglob("*") if file.is_file())


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Note what is read of which file, and do it."""
    noted: list[tuple[str, int, int]] = []

    def read(path: Path, start: int, length: int) -> bytes:
        noted.append((path.name, start, length))
        return read_part(path, start, length)

    read_part = guarded_array.read_part
    monkeypatch.setattr(guarded_array, "read_part", read)
    return noted


# The same as Zarr


@settings(max_examples=150, deadline=None)
@given(layout=layouts(), data=st.data())
def test_rows_are_those_that_zarr_reads(layout: Layout, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mine, theirs = opened(write_sharded(Path(folder), layout))

        assert np.array_equal(mine.read(), layout.values())
        for _ in range(4):
            start = data.draw(st.integers(0, layout.length))
            stop = data.draw(st.integers(start, layout.length))
            found, expected = mine.read(start, stop), theirs[start:stop]
            assert [found.dtype, found.shape] == [expected.dtype, expected.shape]
            assert found.tobytes() == expected.tobytes()
            assert found.flags.writeable


@settings(max_examples=50, deadline=None)
@given(layout=layouts())
def test_columns_without_shards_are_those_that_zarr_reads(layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pack = write_with_zarr(
            Path(folder),
            layout.values(),
            chunks=(layout.chunk, *layout.rest),
            compressors=compressors()[not layout.compressed :],
        )
        mine, theirs = opened(pack)

        assert np.array_equal(mine.read(), theirs[...])
        assert np.array_equal(mine.read(layout.length // 2), theirs[layout.length // 2 :])


def test_a_clip_is_one_read_of_its_bytes_and_the_index_is_read_once(
    tmp_path: Path, parts: list[tuple[str, int, int]]
) -> None:
    layout = Layout(length=8, rest=(3, 2), chunk=1, shard=8, dtype="u1", compressed=False)
    mine, _ = opened(write_sharded(tmp_path, layout))

    for row in (5, 0, 7):
        assert np.array_equal(mine.read(row, row + 1), layout.values()[row : row + 1])
    assert np.array_equal(mine.read(2, 6), layout.values()[2:6])

    index = ("0", 80, 8 * 16 + 4)
    assert parts == [index, ("0", 50, 10), ("0", 0, 10), ("0", 70, 10), ("0", 20, 40)]


def test_several_threads_read_one_array(tmp_path: Path) -> None:
    layout = Layout(length=60, rest=(5, 9), chunk=2, shard=7, dtype="i2", compressed=True)
    mine, _ = opened(write_sharded(tmp_path, layout))
    values = layout.values()

    with ThreadPoolExecutor(8) as pool:
        starts = list(range(60)) * 10
        found = pool.map(lambda start: mine.read(start, min(60, start + 3)), starts)
        for start, rows in zip(starts, found, strict=True):
            assert np.array_equal(rows, values[start : start + 3])


# Other layouts

FOREIGN: dict[str, dict[str, Any]] = {
    "gzip": {"chunks": (2, 4, 3), "compressors": zarr.codecs.GzipCodec()},
    "no checksum": {"chunks": (2, 4, 3), "shards": (4, 4, 3), "compressors": None},
    "big-endian": {
        "chunks": (2, 4, 3),
        "serializer": zarr.codecs.BytesCodec(endian="big"),
        "compressors": compressors(),
    },
    "cut rows": {"chunks": (2, 2, 3), "compressors": compressors()},
    "cut rows in whole shards": {
        "chunks": (1, 2, 3),
        "shards": (2, 4, 3),
        "compressors": compressors(),
    },
    "cut rows in shards": {"chunks": (1, 2, 2), "shards": (2, 4, 4), "compressors": compressors()},
    "turned": {"chunks": (2, 4, 3), "filters": zarr.codecs.TransposeCodec(order=(1, 0, 2))},
}


@pytest.mark.parametrize("layout", FOREIGN)
def test_another_layout_is_read_by_zarr_and_guarded_too(
    tmp_path: Path, layout: str, parts: list[tuple[str, int, int]]
) -> None:
    values = np.arange(1, 7 * 4 * 3 + 1, dtype="i4").reshape(7, 4, 3)
    mine, _ = opened(write_with_zarr(tmp_path, values, **FOREIGN[layout]))

    for start, stop in ((0, 7), (3, 5), (6, 7), (2, 2)):
        assert np.array_equal(mine.read(start, stop), values[start:stop])
    assert all(length % 16 == 4 for _, _, length in parts)  # indexes, at most

    for file in files_of(tmp_path / "p.zarr"):
        data = file.read_bytes()
        file.unlink()
        with pytest.raises(DamageError, match=rf"{file}: expected a part of the pack, it is miss"):
            mine.read()
        file.write_bytes(data)
    assert np.array_equal(mine.read(), values)


def test_a_chunk_that_another_layout_lacks_is_no_chunk_of_zeros(tmp_path: Path) -> None:
    values = np.ones((2, 4, 3), "i4")
    values[1, 2:] = 0
    options = {"chunks": (1, 2, 3), "shards": (2, 4, 3), "compressors": compressors()}
    pack = write_with_zarr(tmp_path, values, **options, config={"write_empty_chunks": False})
    mine, theirs = opened(pack)

    assert np.array_equal(theirs[...], values)
    with pytest.raises(DamageError, match=r"expected 4 chunks, got an index of fewer"):
        mine.read()


# Damage


def changed(data: bytes) -> Iterator[bytes]:
    """Yield a file with every byte flipped in turn, cut at every byte, and longer by one."""
    for place in range(len(data)):
        yield data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        yield data[:place]
    yield data + b"\0"


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("fresh", [True, False], ids=["before opening", "after a read"])
def test_no_flipped_byte_and_no_cut_reads_as_other_values(
    tmp_path: Path, compressed: bool, fresh: bool
) -> None:
    layout = Layout(length=5, rest=(3,), chunk=2, shard=2, dtype="u2", compressed=compressed)
    pack = write_sharded(tmp_path, layout)
    values, held = layout.values(), opened(pack)[0]
    assert np.array_equal(held.read(), values)
    cure = "run the same `eventkit convert` again, which makes it anew"

    for file in files_of(pack):
        data = file.read_bytes()
        for number, wrong in enumerate(changed(data)):
            file.write_bytes(wrong)
            os.utime(file, ns=(0, number))  # a clock that ticks rarely must not hide a change
            mine = opened(pack)[0] if fresh else held
            with pytest.raises(DamageError) as told:
                mine.read()
            assert str(told.value).startswith(f"{file} is damaged: expected ")
            assert str(told.value).endswith(cure)
        file.write_bytes(data)

    assert np.array_equal(held.read(), values)


@pytest.mark.parametrize("column", [True, False], ids=["column", "shard"])
def test_a_file_that_goes_after_a_read_is_missing(tmp_path: Path, column: bool) -> None:
    layout = Layout(length=4, rest=(3,), chunk=1, shard=2, dtype="u2", compressed=True)
    if column:
        values = layout.values()
        pack = write_with_zarr(tmp_path, values, chunks=(2, 3), compressors=compressors())
    else:
        pack = write_sharded(tmp_path, layout)
    mine, _ = opened(pack)
    mine.read()
    first, last = files_of(pack)
    last.unlink()

    assert np.array_equal(mine.read(0, 2), layout.values()[:2])
    with pytest.raises(DamageError, match=rf"{last}: expected a part of the pack, it is missing"):
        mine.read(1, 3)
    assert first.is_file()


def test_a_pack_that_is_made_anew_under_an_open_array_is_read_as_it_is_now(tmp_path: Path) -> None:
    layout = Layout(length=6, rest=(40,), chunk=1, shard=6, dtype="u2", compressed=True)
    pack = write_sharded(tmp_path / "new", layout)
    (anew,) = files_of(pack)
    other = write_with_zarr(
        tmp_path / "old",
        np.arange(240, dtype="u2").reshape(6, 40) % 3,
        chunks=(1, 40),
        shards=(6, 40),
        compressors=compressors(),
    )
    mine, _ = opened(other)
    before = mine.read(3, 4)

    anew.replace(files_of(other)[0])

    assert not np.array_equal(before, layout.values()[3:4])
    assert np.array_equal(mine.read(3, 4), layout.values()[3:4])


def sealed(body: bytes) -> bytes:
    return body + google_crc32c.value(body).to_bytes(4, "little")


def shard_of(*chunks: bytes, entries: list[tuple[int, int]] | None = None) -> bytes:
    """Return a file of one shard; ``entries`` are those that its index has instead of the true."""
    ends = np.cumsum([0, *map(len, chunks)]).tolist()
    true = [(start, len(chunk)) for start, chunk in zip(ends, chunks, strict=False)]
    return b"".join(chunks) + sealed(np.array(entries or true, "<u8").tobytes())


BEYOND = 2**64 - 8


@pytest.mark.parametrize("entry", [(BEYOND, 16), (0, BEYOND), (BEYOND, BEYOND), (40, 40), (0, 3)])
def test_an_index_whose_checksum_holds_leads_nowhere_else(
    tmp_path: Path, entry: tuple[int, int]
) -> None:
    layout = Layout(length=1, rest=(4,), chunk=1, shard=1, dtype="u2", compressed=False)
    pack = write_sharded(tmp_path, layout)
    (file,) = files_of(pack)
    file.write_bytes(shard_of(sealed(layout.values().tobytes()), entries=[entry]))

    with pytest.raises(DamageError, match=rf"{file} is damaged: expected "):
        opened(pack)[0].read()


def frame(body: bytes, *, content: int | None = None, whole: int | None = None) -> bytes:
    """Compress; the header may say another length of the content, or of the whole."""
    packed = bytearray(zarr.codecs.BloscCodec(cname="zstd")._blosc_codec.encode(body))
    for place, value in ((4, content), (12, whole)):
        if value is not None:
            packed[place : place + 4] = value.to_bytes(4, "little")
    return bytes(packed)


EIGHT = bytes(range(1, 9))


@pytest.mark.parametrize(
    "body",
    [b"", b"123", frame(EIGHT[:6]), frame(EIGHT * 2), frame(EIGHT, content=2**31)]
    + [frame(EIGHT, whole=9), frame(EIGHT, whole=2**31), frame(EIGHT)[:16], frame(EIGHT) + b"\0"],
)
def test_a_chunk_whose_checksum_holds_is_not_believed_its_size(tmp_path: Path, body: bytes) -> None:
    layout = Layout(length=1, rest=(4,), chunk=1, shard=1, dtype="u2", compressed=True)
    pack = write_sharded(tmp_path, layout)
    (file,) = files_of(pack)
    file.write_bytes(shard_of(sealed(frame(EIGHT))))
    assert opened(pack)[0].read().tobytes() == EIGHT
    file.write_bytes(shard_of(sealed(body)))

    with pytest.raises(DamageError, match=rf"{file} is damaged: expected chunk 0 to hold 8 bytes"):
        opened(pack)[0].read()


def test_a_file_that_goes_between_its_state_and_its_bytes_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(length=2, rest=(4,), chunk=1, shard=2, dtype="u2", compressed=True)
    pack = write_sharded(tmp_path, layout)
    (file,) = files_of(pack)

    def lose(path: Path) -> tuple[int, int]:
        state = state_of(path)
        path.unlink(missing_ok=True)
        return state

    state_of = guarded_array.state_of
    data = file.read_bytes()
    fresh, held = opened(pack)[0], opened(pack)[0]
    assert np.array_equal(held.read(), layout.values())
    monkeypatch.setattr(guarded_array, "state_of", lose)
    for mine in (held, fresh):
        with pytest.raises(DamageError, match=rf"{file}: expected a part of the pack, it is miss"):
            mine.read(1, 2)
        file.write_bytes(data)


@pytest.mark.parametrize("size", [6, 16])
def test_a_plain_chunk_of_another_size_is_damage(tmp_path: Path, size: int) -> None:
    layout = Layout(length=1, rest=(4,), chunk=1, shard=1, dtype="u2", compressed=False)
    pack = write_sharded(tmp_path, layout)
    (file,) = files_of(pack)
    file.write_bytes(shard_of(sealed(bytes(size))))

    with pytest.raises(DamageError, match=rf"expected chunk 0 to hold 8 bytes, got {size}"):
        opened(pack)[0].read()


def test_rows_that_an_array_does_not_have_are_damage(tmp_path: Path) -> None:
    layout = Layout(length=3, rest=(2,), chunk=2, shard=1, dtype="u1", compressed=True)
    mine, _ = opened(write_sharded(tmp_path, layout))

    for start, stop in ((2, 4), (-1, 2), (3, 4), (2, 1)):
        with pytest.raises(DamageError, match=rf"a is damaged: expected rows {start} to {stop}"):
            mine.read(start, stop)
    assert mine.read(3, 3).shape == (0, 2)
