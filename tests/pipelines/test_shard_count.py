"""How many shards: for 3 clips and for 3 million."""

from __future__ import annotations

import pytest

from eventkit.errors import SettingsError
from pipelines.shard_count import MAX_SHARDS, SHARD_BYTES, count_shards, shard_notes
from pipelines.shard_settings import ShardSettings

CLIP = 60_000


def count(samples: int, *, clip_bytes: int = CLIP, **settings: int) -> int:
    return count_shards(samples, ShardSettings(**settings), tar_bytes=lambda: samples * clip_bytes)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (1, 1),
        (3, 1),
        (127, 1),
        (128, 2),
        (1_000, 16),  # a power of two, 62 samples each
        (4_096, 64),
        (100_000, 64),  # 94 MB a shard
        (3_000_000, 704),  # 671 shards of 256 MiB, rounded up to a multiple of 64
        (300_000_000, MAX_SHARDS),
    ],
)
def test_the_default_suits_any_number_of_clips(samples: int, expected: int) -> None:
    assert count(samples) == expected


def test_a_default_shard_holds_256_mib_at_most() -> None:
    for samples in (1, 2, 7, 40, 500, 40_000):
        shards = count(samples, clip_bytes=20 << 20)

        assert samples * (20 << 20) / shards <= SHARD_BYTES


def test_no_shard_is_empty() -> None:
    assert count(3, clip_bytes=1 << 30) == 3
    assert count(3, num_shards=64) == 3
    assert count(3, shard_bytes=1 << 16) == 3


def test_a_size_that_was_asked_for_is_all_that_counts() -> None:
    assert count(100_000, shard_bytes=1 << 30) == -(-100_000 * CLIP // (1 << 30))
    assert count(1_000, shard_bytes=10 * CLIP) == 100


def test_a_number_that_was_asked_for_needs_no_estimate() -> None:
    def never() -> int:
        raise AssertionError

    assert count_shards(10_000, ShardSettings(num_shards=7), tar_bytes=never) == 7


@pytest.mark.parametrize("settings", [{"num_shards": 5_000}, {"shard_bytes": 1 << 16}])
def test_more_files_than_a_folder_should_have_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=r"expected at most 4,992 shards .* --shard-bytes"):
        count(1_000_000, **settings)


def test_few_shards_are_said_once_and_where_it_matters() -> None:
    def notes(shards: int, samples: int) -> list[str]:
        return shard_notes({"splits": {"train": {"shards": shards, "samples": samples}}})

    assert "train has 3 shards: webdataset" in notes(3, 1_000)[0]
    assert notes(64, 10_000) == notes(3, 3) == []
