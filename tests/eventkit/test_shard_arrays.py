"""Arrays of samples are read into the rows of a batch, the same values by every codec."""

from __future__ import annotations

import gzip
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from shard_sets import make_sample, write

from eventkit import gunzip
from eventkit.errors import DamageError, SettingsError
from eventkit.samples import CODECS, encode_array
from eventkit.shard_arrays import ArrayReader
from eventkit.shards import ShardSet


def varied(i: int, *, shape: tuple[int, ...] = (2, 2, 3, 4), dtype: str = "u2") -> object:
    sample = make_sample(i)
    values = np.random.default_rng(i).integers(0, 60000, shape).astype(dtype)
    object.__setattr__(sample, "events", values)
    return sample


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_rows_of_a_batch_get_the_arrays_of_the_samples(
    tmp_path: Path, codec: str, dtype: str
) -> None:
    samples = [varied(i, dtype=dtype) for i in range(9)]
    reader = ArrayReader(
        ShardSet.open(write(tmp_path / "s", {"train": samples}, codec=codec)), "train", "events"
    )
    batch = np.zeros((9, *reader.shape), reader.dtype)

    for i in (8, 0, 3, 5, 1, 2, 4, 7, 6):
        reader.read_into(i, batch[i])

    assert np.array_equal(batch, np.stack([sample.events for sample in samples]))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "other", [{"shape": (2, 2, 4, 3)}, {"shape": (1, 2, 3, 4)}, {"dtype": "i2"}]
)
def test_a_sample_of_another_shape_or_type_is_named_with_the_cure(
    tmp_path: Path, codec: str, other: dict[str, object]
) -> None:
    samples = [varied(0), varied(1, **other)]
    path = write(tmp_path / "s", {"train": samples}, codec=codec)
    reader = ArrayReader(ShardSet.open(path), "train", "events")

    with pytest.raises(SettingsError, match=r"rec001_000000\.events.*train-000000\.tar.*transform"):
        reader.read_into(1, np.zeros(reader.shape, reader.dtype))


@pytest.mark.parametrize("codec", ["npy.gz", "npy.zst"])
def test_a_damaged_member_names_sample_and_shard(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path / "s", {"train": [varied(i) for i in range(3)]}, codec=codec)
    shards = ShardSet.open(path)
    index = shards.index("train")
    at = int(index.offset[2, index.fields.index(f"events.{codec}")])
    with (path / "train" / "train-000000.tar").open("r+b") as file:
        file.seek(at + 20)
        file.write(b"damaged")
    reader = ArrayReader(shards, "train", "events")

    with pytest.raises(DamageError, match=r"rec002_000000\.events.*train-000000\.tar.*verify"):
        reader.read_into(2, np.zeros(reader.shape, reader.dtype))


def test_a_member_that_the_samples_lack_is_refused_with_those_there_are(tmp_path: Path) -> None:
    shards = ShardSet.open(write(tmp_path / "s", {"train": [varied(0)]}))

    with pytest.raises(SettingsError, match=r"cls, events\.npy\.gz, json, .* got 'diff_events'"):
        ArrayReader(shards, "train", "diff_events")


@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib"])
def test_both_libraries_inflate_to_the_same_bytes_and_refuse_the_same_damage(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gunzip, "_zlib", lambda: import_module(library))
    plain = encode_array(np.arange(1000).reshape(10, 100), codec="npy")
    packed = gzip.compress(plain, 6, mtime=0)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0x10

    assert gunzip.gunzip(packed) == plain
    for damaged in (packed[:-1], packed[:30], b"", b"no gzip", packed + b"x", bytes(flipped)):
        with pytest.raises(gunzip.GzipError):
            gunzip.gunzip(damaged)
    assert gunzip.gunzip(packed, most=len(plain)) == plain
    with pytest.raises(gunzip.GzipError, match="holds more than"):
        gunzip.gunzip(packed, most=len(plain) - 1)
