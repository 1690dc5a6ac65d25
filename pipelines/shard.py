"""Shard: Zarr store -> WebDataset tars. Plan, run the shards, finish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eventkit.errors import MissingDataError, SettingsError
from eventkit.shards import MANIFEST
from eventkit.store import open_store
from pipelines.executors import RunSettings, open_pool
from pipelines.finish import finish
from pipelines.lock import locked
from pipelines.progress import progress
from pipelines.receipts import hash_file, read_json, remove_temporaries
from pipelines.shard_plan import freeze_shards, plan_shards
from pipelines.shard_task import ShardJob, ShardSettings, write_shard


def shard_store(
    store: Path, out: Path, *, settings: ShardSettings, run: RunSettings
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
        If ``out`` belongs to another store or other settings.
    """
    opened = open_store(store)
    if not len(opened):
        msg = f"{store}: expected clips, the store holds none; see its .eventkit/quarantine.jsonl"
        raise MissingDataError(msg)
    if out.resolve().is_relative_to(store.resolve()):
        msg = f"--out {out} lies inside the store {store}; choose another --out"
        raise SettingsError(msg)
    with locked(out):
        remove_temporaries(out)
        plan = plan_shards(opened, settings)
        freeze_shards(out, plan)
        ready = _finished(out, plan)
        if ready is not None:
            return ready, True
        (out / MANIFEST).unlink(
            missing_ok=True
        )  # never a manifest over a set that is in the making
        receipts = _run(store, out, plan, settings, run)
        return finish(out, plan, [receipts[name] for name, _ in plan["shards"]]), False


def _run(
    store: Path, out: Path, plan: dict[str, Any], settings: ShardSettings, run: RunSettings
) -> dict[str, dict[str, Any]]:
    """Write every shard; returns the receipts by name."""
    representation = plan["settings"]["representation"]
    # A store from before other families has counts or voxels and does not say what they keep.
    mass = plan["settings"].get("mass", "counts" if representation.startswith("counts") else "none")
    jobs = [
        ShardJob(
            store=str(store.resolve()),
            out=str(out.resolve()),
            name=name,
            plan_id=plan["plan_id"],
            clips=tuple(clips),
            settings=settings,
            rgb_suffix=plan["settings"]["rgb_suffix"],
            representation=representation,
            mass=mass,
        )
        for name, clips in plan["shards"]
    ]
    receipts = {}
    with (
        open_pool(run.executor, workers=run.workers, tasks=len(jobs)) as pool,
        progress("shard", sum(len(job.clips) for job in jobs), "samples") as bar,
    ):
        for job, receipt in pool.run(write_shard, jobs):
            receipts[job.name] = receipt
            bar.advance(len(job.clips))
    return receipts


def _finished(out: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest if the set is complete, every shard at its size and index unchanged."""
    manifest = read_json(out / MANIFEST)
    if manifest is None or manifest.get("plan_id") != plan["plan_id"]:
        return None
    if not (out / "README.md").is_file():
        return None
    sizes = {entry["name"]: entry["bytes"] for entry in manifest["shards"]}
    for name, _ in plan["shards"]:
        file = out / name
        if not file.is_file() or file.stat().st_size != sizes.get(name):
            return None
    for facts in manifest["splits"].values():
        index = out / facts["index"]
        if not index.is_file() or hash_file(index) != facts["index_sha256"]:
            return None
    return manifest
