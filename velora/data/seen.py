"""Which clips a model can see, by what their samples say of themselves: no pixel is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError, SettingsError
from eventkit.shards import ShardSet

#: Where a sample says that it has frames of a sense; one that does not say has them.
_FIELDS = {"rgb": "has_rgb", "event": "has_events"}
_SPOKEN = {"rgb": "RGB", "event": "events"}


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
    return np.fromiter(_seen(shards, split, senses), np.bool_)


def any_seen(shards: ShardSet, split: str, senses: Sequence[str]) -> bool:
    """Tell whether any clip of a split has one of these senses; reads no further than the first.

    Parameters
    ----------
    shards : ShardSet
    split : str
    senses : sequence of {"rgb", "event"}

    Raises
    ------
    DamageError
        If a sample on the way does not hold what it should; names it.
    """
    return any(_seen(shards, split, senses))


def check_seen(shards: ShardSet, split: str, senses: Sequence[str]) -> None:
    """Refuse a split of which a model of these senses would see nothing.

    Raises
    ------
    SettingsError
        Says which sense is missing, and the cure.
    """
    if any_seen(shards, split, senses):
        return
    others = [sense for sense in _FIELDS if sense not in senses]
    another = f"train one with --streams {others[0]}, or " if others else ""
    msg = (
        f"no {split} clip of {shards.path} has {spoken(senses)}, which is all that this model "
        f"looks at: {another}convert recordings that have {spoken(senses)}"
    )
    raise SettingsError(msg)


def check_whole(shards: ShardSet, split: str, senses: Sequence[str]) -> None:
    """Refuse a split with clips that lack a sense, for a model that can do without none.

    Raises
    ------
    SettingsError
        Says how many, and the cure.
    """
    lacking = sum(not whole for whole in _seen(shards, split, senses, enough=all))
    if lacking:
        msg = (
            f"{lacking} of {shards.num_samples(split)} {split} clips of {shards.path} lack "
            f"{spoken(senses)}, which the released model cannot leave out: train model.mode = "
            "'paper', or convert recordings that have both"
        )
        raise SettingsError(msg)


def spoken(senses: Sequence[str]) -> str:
    """Return senses as words, as "RGB or events"."""
    return " or ".join(_SPOKEN[sense] for sense in senses)


def _seen(
    shards: ShardSet,
    split: str,
    senses: Sequence[str],
    *,
    enough: Callable[[Iterable[bool]], bool] = any,
) -> Iterator[bool]:
    """Yield of each clip whether it has one of these senses, or ``all``; reads it only then."""
    fields = [_FIELDS[sense] for sense in senses]
    for i in range(shards.num_samples(split)):
        meta = _meta(shards, split, i)
        yield enough(meta.get(field, True) for field in fields)


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
