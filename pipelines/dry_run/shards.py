"""What `eventkit shard` would do: shards known and left, and a forecast from a sample of clips."""

from __future__ import annotations

import tempfile
import time
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from eventkit.cli.text import counted
from eventkit.location import Location
from eventkit.samples import encode_json
from pipelines.dry_run.convert import workers_of
from pipelines.dry_run.forecast import Forecast, estimate, side_by_side
from pipelines.dry_run.measure import resident
from pipelines.executors import Death, RunSettings
from pipelines.executors.alone import run_alone
from pipelines.shard import check_shardable, finished
from pipelines.shard_plan import plan_shards, refuse_other_shards
from pipelines.shard_sample import SampleMaker
from pipelines.shard_settings import ShardSettings
from pipelines.shard_task import ShardJob, read_shard_receipt, write_shard
from pipelines.tar import BLOCK

PARTS = 4
MOST = 64
"""Clips in a sample."""
BUDGET_S = 15.0
_FILES_OF_A_SHARD = 4
"""The tar, two indexes and the receipt."""
_FILES_OF_A_SET = 9
"""Four of energon, README, manifest, plan, origin and lock; a split has two indexes more."""


@dataclass(frozen=True, slots=True)
class _Sample:
    maker: SampleMaker
    parts: tuple[tuple[tuple[str, int], ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What a part of a sample cost: bytes of its files, and seconds without those of a shard."""

    clips: int
    num_bytes: int
    seconds: float
    shard_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    parts: tuple[_Part, ...]
    base: int
    peak: int


def forecast_shards(
    store: Location, out: Location, *, settings: ShardSettings, run: RunSettings
) -> Forecast:
    """Say what `pipelines.shard.shard_store` would do with the same arguments; writes nothing.

    Raises
    ------
    MissingDataError, SettingsError
        What the run would raise before it makes a sample.
    """
    plan = plan_shards(check_shardable(store, out), settings, out=out)
    refuse_other_shards(out, plan)
    parts = plan["parts"]
    left = [p for p in parts if read_shard_receipt(out, p.name, plan_id=plan["plan_id"]) is None]
    samples = sum(len(part) for part in left)
    words = (
        "dry run: nothing is written",
        f"shard: {len(parts) - len(left):,} of {len(parts):,} shards done, {len(left):,} left "
        f"({counted(samples, 'samples')})",
    )
    workers = workers_of(run.executor, run, tasks=len(parts))
    if not left and finished(out, plan) is not None:
        return Forecast(
            plan=words, measured="nothing to measure: everything is there", workers=workers
        )
    maker = SampleMaker.of_plan(store, plan, settings)
    result = run_alone(_measure, _Sample(maker, _choose(plan)))
    if isinstance(result, Death):
        told = f"not measured: the process ended ({result})"
        return Forecast(plan=words, measured=told, workers=workers)
    every = sum(len(part) for part in parts)
    per_part = [(part.clips, part.seconds) for part in result.parts]
    shard_s = sum(part.shard_s for part in result.parts) / len(result.parts)
    at_once = max(1, min(workers, len(left)))
    measured = sum(part.clips for part in result.parts)
    return Forecast(
        plan=words,
        measured=f"measured: {counted(measured, 'samples')}",
        num_bytes=estimate([(part.clips, part.num_bytes) for part in result.parts], every),
        num_files=_FILES_OF_A_SHARD * len(parts) + 2 * len(plan["counts"]) + _FILES_OF_A_SET,
        seconds=(estimate(per_part, samples) + len(left) * shard_s).times(
            1 / side_by_side(at_once)
        ),
        memory=result.base + at_once * max(0, result.peak - result.base),
        workers=workers,
    )


def _choose(plan: dict[str, Any]) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Choose clips evenly over all shards, dealt to parts."""
    ends = list(accumulate(len(part) for part in plan["parts"]))
    count = min(MOST, ends[-1])
    chosen = []
    for i in range(count):
        place = (2 * i + 1) * ends[-1] // (2 * count)
        part = plan["parts"][bisect_right(ends, place)]
        number = part.stop - (ends[bisect_right(ends, place)] - place)
        chosen += part.order.clips(number, number + 1)
    return tuple(tuple(chosen[i::PARTS]) for i in range(min(PARTS, count)))


def _measure(sample: _Sample) -> _Measured:
    """Write the parts of a sample as shards; runs in a process of its own."""
    started = time.monotonic()
    _write(sample.maker, sample.parts[0][:1])  # what is imported and compiled once
    base = resident("VmRSS")
    parts: list[_Part] = []
    for clips in sample.parts:
        if parts and time.monotonic() - started > BUDGET_S:
            break
        one_s, _ = _write(sample.maker, clips[:1])
        all_s, num_bytes = _write(sample.maker, clips)
        more = len(clips) - 1
        each_s = max(0.0, all_s - one_s) / more if more else all_s
        shard_s = max(0.0, one_s - each_s) if more else 0.0
        parts.append(
            _Part(
                clips=len(clips),
                num_bytes=num_bytes,
                seconds=each_s * len(clips),
                shard_s=shard_s,
            )
        )
    return _Measured(parts=tuple(parts), base=base, peak=resident("VmHWM"))


def _write(maker: SampleMaker, clips: tuple[tuple[str, int], ...]) -> tuple[float, int]:
    """Write one shard; returns seconds, and bytes without the padding at the end of a tar."""
    name = "train/train-000000.tar"
    with tempfile.TemporaryDirectory(prefix="eventkit-dry-run-") as folder:
        out = Path(folder)
        begun = time.perf_counter()
        write_shard(ShardJob(out=folder, name=name, clips=clips, maker=maker))
        seconds = time.perf_counter() - begun
        receipt = read_shard_receipt(out, name, plan_id=maker.plan_id)
    assert receipt is not None
    members = [size for sizes in receipt["sizes"] for size in sizes]
    tar = sum(BLOCK + -(-size // BLOCK) * BLOCK for size in members)
    beside = sum(entry["bytes"] for entry in receipt["files"][1:])
    # The index of a split says once more what the receipts say.
    return seconds, tar + beside + 2 * len(encode_json(receipt))
