"""What decides the bytes of the shards of a store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """What decides the bytes of the shards.

    Parameters
    ----------
    codec : {"npy.gz", "npy", "npy.zst"}
        Of array members.
    with_diffs : bool
        Also write ``diff_events`` and ``diff_rgb``.
    num_shards : int, optional
        A split.
    shard_bytes : int, optional
        Aimed at; without it and ``num_shards`` the rule of `pipelines.shard_count`.
    seed : int
        Of the order of samples.
    md5 : bool
        Whether the index of wids gets one. It takes longer than all else that a tar costs.
    """

    codec: str = "npy.gz"
    with_diffs: bool = False
    num_shards: int | None = None
    shard_bytes: int | None = None
    seed: int = 0
    md5: bool = True
