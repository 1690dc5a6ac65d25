"""A folder of shards: manifest, plan, receipts, indexes, tars, and nothing besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventkit.errors import DamageError, MissingDataError
from eventkit.location import Location
from eventkit.shards import MANIFEST, SampleIndex, load_manifest
from pipelines.executors import Pool
from pipelines.finish import index_files, listed_files
from pipelines.progress import progress
from pipelines.receipts import HIDDEN, PLAN, receipt_path
from pipelines.scratch import on_disk
from pipelines.shard_task import unit_of
from pipelines.verify.files import check_files, check_sealed, find_strays
from pipelines.verify.tars import CURE, TarJob, check_tar, in_words
from pipelines.verify.verdict import Verdict

_CURE_HIDDEN = f"remove it and {MANIFEST}, then {CURE}"


def verify_shards(folder: Location, pool: Pool) -> Verdict:
    """Check every byte and count of a set of shards.

    Raises
    ------
    MissingDataError
        If there is no set.
    """
    found = Verdict()
    manifest, problems = _manifest(folder)
    found.add(problems)
    if not manifest:
        return found
    found.add(_check_indexes(folder, manifest))
    found.add(_check_hidden(folder, manifest))
    found.include(_strays(folder, manifest))
    jobs = [TarJob(str(folder), entry) for entry in manifest["shards"]]
    samples = dict.fromkeys(manifest["splits"], 0)
    with progress("verify", sum(job.entry["samples"] for job in jobs), "samples") as bar:
        for job, (wrong, totals) in pool.run(check_tar, jobs):
            found.add(wrong, totals)
            samples[_split(job.entry)] += job.entry["samples"]
            bar.advance(job.entry["samples"])
    found.add(
        f"{folder / MANIFEST}: {split}: expected {facts['samples']} samples, the shards hold "
        f"{samples[split]}"
        for split, facts in manifest["splits"].items()
        if samples[split] != facts["samples"]
    )
    clips = manifest["clips"]
    found.tell_outside(clips["decoded"], tail=clips.get("dropped", {}).get("tail", 0))
    return found


def _split(entry: dict[str, Any]) -> str:
    return str(entry["name"]).split("/")[0]


def _manifest(folder: Location) -> tuple[dict[str, Any], list[str]]:
    file = folder / MANIFEST
    if not folder.is_dir():
        msg = f"{folder}: no such folder; `eventkit convert RAW` and `eventkit shard` make it"
        raise MissingDataError(msg)
    if not file.is_file():
        why = f"{file}: missing: lost, or the shards are not finished; {CURE}"
        if not (folder / HIDDEN).is_dir():
            raise MissingDataError(why)
        return {}, [why]
    try:
        load_manifest(file)
    except DamageError as err:
        return {}, [in_words(err)]
    return check_sealed(file, cure=CURE, end=b"\n")


def _check_indexes(folder: Location, manifest: dict[str, Any]) -> Iterator[str]:
    yield from check_files(folder, index_files(manifest), noted_in="manifest", cure=CURE)
    for split, facts in manifest["splits"].items():
        path = folder / facts["index"]
        try:
            with on_disk(path) as file:
                samples = SampleIndex.load(file).labels.size
        except DamageError:  # its hash told
            continue
        if samples != facts["samples"]:
            yield f"{path}: expected {facts['samples']} samples of {split}, it lists {samples}"


def _check_hidden(folder: Location, manifest: dict[str, Any]) -> Iterator[str]:
    """Check plan and receipts; a copy of a set that left ``.eventkit`` out is whole without."""
    if not (folder / HIDDEN).is_dir():
        return
    plan, problems = check_sealed(folder / PLAN, cure=_CURE_HIDDEN)
    yield from problems
    for key in ("plan_id", "store_plan_id", "settings"):
        if plan and plan.get(key) != manifest[key]:
            yield f"{folder / PLAN}: its {key} is not the manifest's; {_CURE_HIDDEN}"
    for entry in manifest["shards"]:
        path = receipt_path(folder, unit_of(entry["name"]))
        receipt, problems = check_sealed(path, cure=_CURE_HIDDEN)
        yield from problems
        tar = {"path": entry["name"], "bytes": entry["bytes"], "sha256": entry["sha256"]}
        files = [tar, *entry.get("indexes", ())]
        if receipt and (receipt["plan_id"], receipt["files"]) != (manifest["plan_id"], files):
            yield f"{path}: its plan or its files are not the manifest's; {_CURE_HIDDEN}"


def _strays(folder: Location, manifest: dict[str, Any]) -> Verdict:
    """A tar that the manifest does not list would be read by anyone who takes ``*.tar``."""
    ends = (".tar", ".idx", ".npz")
    tops = {*manifest["splits"], "index"}
    listed = {entry["path"] for entry in listed_files(manifest)} | {MANIFEST}
    units = {f"receipts/{unit_of(entry['name'])}.json" for entry in manifest["shards"]}
    return find_strays(
        folder,
        listed=listed,
        hidden=units,
        is_read=lambda path: path.endswith(ends) or path.split("/")[0] in tops,
    )
