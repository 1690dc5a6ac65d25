"""Shards against the store they were made of: samples made again and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from eventkit.errors import EventKitError
from eventkit.location import Location, location
from eventkit.samples import decode_images, decode_sample
from eventkit.shards import MANIFEST, load_manifest
from eventkit.store import open_store
from pipelines.executors import Pool
from pipelines.progress import progress
from pipelines.scratch import on_disk
from pipelines.shard_plan import plan_shards
from pipelines.shard_sample import SampleMaker
from pipelines.shard_settings import ShardSettings
from pipelines.verify.share import same_array, share_of
from pipelines.verify.tars import in_words, samples_of
from pipelines.verify.verdict import Verdict


@dataclass(frozen=True, slots=True)
class SampleCheck:
    """Samples of one tar to make again: number in the tar, pack, number in the pack."""

    tar: str
    wanted: tuple[tuple[int, str, int], ...]
    maker: SampleMaker


def verify_against_store(
    out: Location, store: Location, pool: Pool, *, percent: float = 100.0
) -> Verdict:
    """Compare shards that are whole with the store they were made of.

    Parameters
    ----------
    out, store : Path or RemotePath
    pool : Pool
    percent : float
        Share of the samples that are looked at.
    """
    found = Verdict()
    manifest = load_manifest(out / MANIFEST)
    names = {field.name for field in fields(ShardSettings)}
    settings = ShardSettings(**{k: v for k, v in manifest["settings"].items() if k in names})
    plan = plan_shards(open_store(store), settings, out=out)
    if plan["plan_id"] != manifest["plan_id"]:
        found.problems.append(
            f"{store}: expected the store of plan {manifest['store_plan_id'][:12]} that {out} was "
            "made of, got another one, or it has changed since; shard again to another --out"
        )
        return found
    maker = SampleMaker.of_plan(store, plan, settings)
    jobs = _jobs(out, plan, maker, percent)
    with progress("compare", sum(len(job.wanted) for job in jobs), "samples") as bar:
        for job, (problems, totals) in pool.run(check_samples, jobs):
            found.add(problems, totals)
            bar.advance(len(job.wanted))
    return found


def _jobs(
    out: Location, plan: dict[str, Any], maker: SampleMaker, percent: float
) -> list[SampleCheck]:
    clips = {part.name: part.clips() for part in plan["parts"]}
    chosen = share_of([f"{p}:{n}" for p, n in chain.from_iterable(clips.values())], percent)
    jobs = []
    for name, held in clips.items():
        wanted = tuple((i, p, n) for i, (p, n) in enumerate(held) if f"{p}:{n}" in chosen)
        if wanted:
            jobs.append(SampleCheck(str(out.resolve() / name), wanted, maker))
    return jobs


def check_samples(check: SampleCheck) -> tuple[list[str], dict[str, int]]:
    """Make samples of a tar again and compare them with those that are there."""
    return list(_check(check)), {"samples compared": len(check.wanted)}


def _check(check: SampleCheck) -> Iterator[str]:
    wanted = {place: (pack, number) for place, pack, number in check.wanted}
    with on_disk(location(check.tar)) as file:
        yield from _check_tar(check, file, wanted)


def _check_tar(
    check: SampleCheck, file: Path, wanted: Mapping[int, tuple[str, int]]
) -> Iterator[str]:
    for place, (key, members) in enumerate(samples_of(file)):
        if place not in wanted:
            continue
        try:
            sample = check.maker.sample(*wanted[place])
            made = check.maker.members(sample)
            if key != sample.key:
                yield f"{check.tar}: expected {sample.key} at place {place}, got {key}"
            elif made != members and not _same(key, made, members):
                yield f"{check.tar}: {key}: it is not what the store holds"
        except EventKitError as err:
            yield f"{check.tar}: {key}: {in_words(err)}"


def _same(key: str, made: dict[str, bytes], there: dict[str, bytes]) -> bool:
    """Tell whether members hold the same; another zlib may have packed them to other bytes."""
    one, other = decode_sample(key, made), decode_sample(key, there)
    arrays = ("events", "diff_events", "diff_rgb")
    return (
        (one.label, one.meta) == (other.label, other.meta)
        and np.array_equal(decode_images(one.rgb), decode_images(other.rgb))
        and all(same_array(getattr(one, name), getattr(other, name)) for name in arrays)
    )
