"""Which clips a model can see, by what their samples say of themselves: no pixel is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError
from eventkit.shards import ShardSet

#: Where a sample says that it has frames of a sense; one that does not say has them.
_FIELDS = {"rgb": "has_rgb", "event": "has_events"}


def seen_clips(shards: ShardSet, split: str, senses: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which clips of a split have at least one of these senses.

    The index does not say, so the json member of every sample is read: 9 us each for small ones
    that the system has cached; the shards of a URL are fetched for it.

    Parameters
    ----------
    shards : ShardSet
    split : str
    senses : sequence of {"rgb", "event"}

    Returns
    -------
    (N,) bool

    Raises
    ------
    DamageError
        If a sample does not hold what it should; names it.
    """
    fields = [_FIELDS[sense] for sense in senses]
    metas = (_meta(shards, split, i) for i in range(shards.num_samples(split)))
    return np.array([any(meta.get(field, True) for field in fields) for meta in metas], np.bool_)


def _meta(shards: ShardSet, split: str, i: int) -> dict[str, Any]:
    try:
        meta = json.loads(shards.members(split, i, suffixes=["json"])["json"])
        if isinstance(meta, dict):
            return meta
        cause = f"expected an object, got {type(meta).__name__}"
    except (ValueError, RecursionError) as error:
        cause = str(error)
    index = shards.index(split)
    msg = (
        f"sample {index.keys[i].decode()} in {shards.path}/{index.shards[int(index.shard[i])]}: "
        f"its json member: {cause}; run `eventkit verify` on the shards"
    )
    raise DamageError(msg)
