"""Shard: Zarr store -> WebDataset tars. Plan, run the shards, finish."""

from __future__ import annotations

from typing import Any

from eventkit.errors import MissingDataError, SettingsError
from eventkit.location import Location, lies_in, location, now
from eventkit.shards import MANIFEST
from eventkit.store import Store, open_store
from pipelines.executors import RunSettings, Site, open_pool
from pipelines.finish import finish, listed_files
from pipelines.kinds import refuse_kind
from pipelines.lock import locked
from pipelines.origin import note_origin
from pipelines.progress import progress
from pipelines.put import take_away
from pipelines.quarantine import too_many_bad
from pipelines.receipts import PLAN, hash_file
from pipelines.shard_plan import freeze_shards, plan_shards
from pipelines.shard_sample import SampleMaker
from pipelines.shard_settings import ShardSettings
from pipelines.shard_task import ShardJob, write_shard
from pipelines.verify.files import check_sealed


def shard_store(
    store: Location, out: Location, *, settings: ShardSettings, run: RunSettings
) -> tuple[dict[str, Any], bool]:
    """Zarr store to shards: plan, shard, finish.

    Returns
    -------
    dict
        The manifest.
    bool
        Whether everything had been finished before.

    Raises
    ------
    MissingDataError
        If the store is none, not finished, or holds no clip.
    SettingsError
        If ``store`` holds shards or ``out`` a store; if ``out`` belongs to another store or other
        settings, or too many recordings are bad.
    """
    opened = check_shardable(store, out)
    with locked(out):
        plan = plan_shards(opened, settings, out=out)
        freeze_shards(out, plan)
        note_origin(out, store)
        ready = finished(out, plan)
        if ready is not None:
            return ready, True
        # Never a manifest over a set that is in the making.
        take_away(out / MANIFEST)
        _run(out, plan, SampleMaker.of_plan(store, plan, settings), run)
        return finish(out, plan), False


def check_shardable(store: Location, out: Location) -> Store:
    """Open a store to be sharded; refuses what `shard_store` refuses before it plans."""
    refuse_kind(store, "shards", cure="give the folder that `eventkit convert` made")
    refuse_kind(out, "store", cure="choose another --out")
    refused = too_many_bad(store)
    if refused is not None:
        msg = f"{store}: {refused}"
        raise SettingsError(msg)
    opened = open_store(store)
    if not len(opened):
        msg = f"{store}: expected clips, the store holds none; see its .eventkit/quarantine.jsonl"
        raise MissingDataError(msg)
    if lies_in(out.resolve(), store.resolve()):
        msg = f"--out {out} lies inside the store {store}; choose another --out"
        raise SettingsError(msg)
    return opened


def _run(out: Location, plan: dict[str, Any], maker: SampleMaker, run: RunSettings) -> None:
    """Write every shard; jobs are made as they are taken, results are names."""
    parts = plan["parts"]
    folder = out.resolve()
    jobs = (ShardJob(out=str(folder), name=p.name, clips=p.clips(), maker=maker) for p in parts)
    site = Site(folder=folder, inputs=(location(maker.store) / PLAN,))
    with (
        open_pool(run.executor, workers=run.workers, tasks=len(parts), site=site) as pool,
        progress("shard", sum(len(part) for part in parts), "samples") as bar,
    ):
        for job, _ in pool.run(write_shard, jobs):
            bar.advance(len(job.clips))


def finished(out: Location, plan: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest if the set is complete: files at their size, the small ones unchanged.

    A manifest that is not byte for byte what was written counts for none.
    """
    manifest, problems = check_sealed(out / MANIFEST, cure="", end=b"\n")
    if problems or manifest.get("plan_id") != plan["plan_id"]:
        return None
    out = now(out)
    for entry in listed_files(manifest):
        file = out / entry["path"]
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            return None
    if any(hash_file(out / entry["path"]) != entry["sha256"] for entry in manifest["files"]):
        return None
    return manifest
