"""What decides the bytes of the shards of a store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MIXES = ("all", "packs")
MIXED_PACKS = 256
"""Of the most clips, 512, and a megabyte each: what fits into the memory of one worker."""


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
    mix : {"all", "packs"}
        Samples in the order of a hash over the whole split, or among `MIXED_PACKS` packs at a
        time, which are all that is open then.
    md5 : bool
        Whether the index of wids gets one. It takes longer than all else that a tar costs.
    """

    codec: str = "npy.gz"
    with_diffs: bool = False
    num_shards: int | None = None
    shard_bytes: int | None = None
    seed: int = 0
    mix: str = "all"
    md5: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return what stands in the plan; the usual mix is not said, as in plans from before."""
        found = asdict(self)
        return found if self.mix != MIXES[0] else {k: v for k, v in found.items() if k != "mix"}
