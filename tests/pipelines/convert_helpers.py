"""Convert and shard in this process: what the commands do, without their start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventkit.clip_settings import ClipSettings
from pipelines.convert import Outcome, convert_raw
from pipelines.datasets.splits import SplitRule
from pipelines.executors import RunSettings
from pipelines.opening import ReadSettings
from pipelines.shard import shard_store
from pipelines.shard_settings import ShardSettings

INLINE = RunSettings(executor="inline")


def convert(
    raw: Path,
    *,
    retry: bool = False,
    max_bad: float = 100.0,
    bins: int = 4,
    clip_us: int | None = None,
) -> Outcome:
    """Convert ``raw`` to the folder ``store`` beside it."""
    return convert_raw(
        [raw],
        raw.parent / "store",
        clip=ClipSettings(bins=bins, clip_us=clip_us),
        read=ReadSettings(sensor_size=(34, 34)),
        layout="auto",
        rule=SplitRule(),
        run=RunSettings(executor="inline", max_bad=max_bad),
        say=lambda text: None,
        retry=retry,
    )


def shard(raw: Path) -> dict[str, Any]:
    """Write the folder ``shards`` beside ``raw``; return the manifest."""
    folder = raw.parent
    return shard_store(folder / "store", folder / "shards", settings=ShardSettings(), run=INLINE)[0]
