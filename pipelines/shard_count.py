"""How many shards a split is cut into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventkit.cli.text import counted
from eventkit.errors import SettingsError
from pipelines.shard_settings import ShardSettings

SHARD_BYTES = 256 << 20
ROUND = 64
"""Shards are dealt out whole by most readers: a count that 2, 4, ... 64 of them divide evenly."""

MAX_SHARDS = 4_992
"""A tar and its index make two files of a folder; the Hugging Face Hub takes fewer than 10,000."""

FEW_SHARDS = 64


def count_shards(samples: int, settings: ShardSettings, *, tar_bytes: Callable[[], int]) -> int:
    """Return how many shards ``samples`` samples are cut into.

    Told a number or a size, that and nothing else. By default a shard is at most 256 MiB, and
    there are up to 64 where each has about 64 samples. Their number is a power of two, above 64 a
    multiple of 64.

    Parameters
    ----------
    samples : int
        At least one; no shard is left empty.
    settings : ShardSettings
    tar_bytes : function of nothing
        About how many bytes all of them take; called where it matters.

    Raises
    ------
    SettingsError
        If more shards were asked for than a folder may hold.
    """
    if settings.num_shards is not None:
        count = settings.num_shards
    elif settings.shard_bytes is not None:
        count = -(-tar_bytes() // settings.shard_bytes)
    else:
        least = max(-(-tar_bytes() // SHARD_BYTES), min(ROUND, samples // ROUND), 1)
        count = min(_rounded(least), MAX_SHARDS)
    count = min(count, samples)
    if count > MAX_SHARDS:
        msg = (
            f"expected at most {MAX_SHARDS:,} shards a split, got {count:,}: folders of more files "
            "are refused by hubs and slow to list; raise --shard-bytes or lower --num-shards"
        )
        raise SettingsError(msg)
    return count


def _rounded(count: int) -> int:
    if count > ROUND:
        return -(-count // ROUND) * ROUND
    return 1 << (count - 1).bit_length()


def shard_notes(manifest: dict[str, Any]) -> list[str]:
    """Return what a user of plain readers should know about a finished set."""
    few = {
        split: facts["shards"]
        for split, facts in manifest["splits"].items()
        if split == "train" and facts["shards"] < min(FEW_SHARDS, facts["samples"])
    }
    return [
        f"{split} has {counted(count, 'shards')}: webdataset and others that deal out whole shards "
        "want at least as many as processes that read; --num-shards makes more, velora-train needs "
        "no more"
        for split, count in few.items()
    ]
