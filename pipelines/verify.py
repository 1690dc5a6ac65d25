"""Verify: hash, count and decode again what was written, and balance the events."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from eventkit.errors import DamageError, EventKitError
from eventkit.samples import decode_images, decode_sample
from eventkit.shards import MANIFEST, SampleIndex, ShardSet, load_manifest
from eventkit.store import StoredClip, open_store
from pipelines.executors import Pool
from pipelines.progress import progress
from pipelines.receipts import hash_file, read_json, read_plan, receipt_path


@dataclass(frozen=True, slots=True)
class TarJob:
    """One shard to check against its manifest entry and the rows of the index."""

    folder: str
    entry: dict[str, Any]
    split: str
    number: int


def verify_shards(folder: Path, pool: Pool) -> tuple[list[str], dict[str, int]]:
    """Check a shards folder.

    Returns
    -------
    list of str
        What is wrong, one sentence each; empty if all is well.
    dict
        Totals: shards, samples, decoded, binned, clipped, dropped events.
    """
    ShardSet.open(folder)
    manifest = load_manifest(folder / MANIFEST)
    if "digest" not in manifest:
        msg = f"{folder / MANIFEST}: expected a digest of its content, it has none; shard again"
        raise DamageError(msg)
    problems = [*_check_indexes(folder, manifest), *_check_strays(folder, manifest)]
    jobs = _jobs(folder, manifest)
    totals: Counter[str] = Counter()
    with progress("verify", sum(job.entry["samples"] for job in jobs), "samples") as bar:
        for job, (found, counts) in pool.run(check_tar, jobs):
            problems.extend(found)
            totals.update(counts)
            bar.advance(job.entry["samples"])
    for split, facts in manifest["splits"].items():
        written = sum(j.entry["samples"] for j in jobs if j.split == split)
        if written != facts["samples"]:
            problems.append(
                f"{split}: expected {facts['samples']} samples, the shards hold {written}"
            )
    return sorted(problems), dict(totals)


def _jobs(folder: Path, manifest: dict[str, Any]) -> list[TarJob]:
    jobs = []
    numbers: Counter[str] = Counter()
    for entry in manifest["shards"]:
        split = entry["name"].split("/")[0]
        jobs.append(TarJob(str(folder), entry, split, numbers[split]))
        numbers[split] += 1
    return jobs


def _check_indexes(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    for split, facts in manifest["splits"].items():
        path = folder / facts["index"]
        if not path.is_file():
            yield f"{path}: missing"
        elif hash_file(path) != facts["index_sha256"]:
            yield f"{path}: its hash is not the manifest's"
        else:
            samples = SampleIndex.load(path).labels.size
            if samples != facts["samples"]:
                yield f"{split}: expected {facts['samples']} samples, the index lists {samples}"


def _check_strays(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """A tar that the manifest does not list would be read by anyone who takes ``*.tar``."""
    known = {entry["name"] for entry in manifest["shards"]}
    for path in sorted(folder.rglob("*.tar")):
        if path.relative_to(folder).as_posix() not in known:
            yield f"{path}: the manifest does not list it"


def check_tar(job: TarJob) -> tuple[list[str], dict[str, int]]:
    """Check one shard: size, hashes, order, members, arrays, pictures, mass balance."""
    path, entry = Path(job.folder) / job.entry["name"], job.entry
    if not path.is_file():
        return [f"{path}: missing"], {}
    size = path.stat().st_size
    if size != entry["bytes"]:
        return [f"{path}: expected {entry['bytes']} bytes, got {size}"], {}
    problems: list[str] = []
    if hash_file(path) != entry["sha256"]:
        problems.append(f"{path}: its sha256 is not the manifest's")
    if _crc32c(path) != entry["crc32c"]:
        problems.append(f"{path}: its crc32c is not the manifest's")
    totals: Counter[str] = Counter(shards=1)
    try:
        for key, members in _samples(path):
            totals["samples"] += 1
            problems.extend(f"{path}: {text}" for text in _check_sample(key, members, totals))
    except (tarfile.TarError, EventKitError, LookupError, TypeError, ValueError, OSError) as err:
        problems.append(f"{path}: {type(err).__name__}: {err}")
    if totals["samples"] != entry["samples"]:
        problems.append(f"{path}: expected {entry['samples']} samples, got {totals['samples']}")
    return problems, dict(totals)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    key, members = "", {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            stem, _, suffix = member.name.partition(".")
            if stem != key and members:
                yield key, members
                members = {}
            key = stem
            file = tar.extractfile(member)
            if file is None:
                msg = f"{member.name} is no regular file"
                raise DamageError(msg)
            members[suffix] = file.read()
    if members:
        yield key, members


def _check_sample(key: str, members: dict[str, bytes], totals: Counter[str]) -> Iterator[str]:
    sample = decode_sample(key, members)
    decode_images(sample.rgb)
    meta = sample.meta
    dropped = sum(meta["dropped"].values())
    if meta["decoded"] != meta["binned"] + dropped:
        yield f"{key}: decoded {meta['decoded']} != binned {meta['binned']} + dropped {dropped}"
    if _keeps_counts(meta):
        frames = _sum(sample.events)
        if frames + meta["clipped"] != meta["binned"]:
            yield f"{key}: frames {frames} + clipped {meta['clipped']} != binned {meta['binned']}"
    if len(sample.rgb) != sample.events.shape[0]:
        yield f"{key}: {len(sample.rgb)} pictures for {sample.events.shape[0]} windows"
    if sample.label != meta["label"]:
        yield f"{key}: cls {sample.label} != label {meta['label']}"
    for name in ("decoded", "binned", "clipped"):
        totals[name] += meta[name]
    totals["dropped"] += dropped


def _keeps_counts(settings: dict[str, Any]) -> bool:
    """Tell whether frames and clipped events make up the binned ones."""
    if "mass" in settings:
        return bool(settings["mass"] == "counts")
    return str(settings["representation"]).startswith("counts")  # written before other families


def _sum(frames: NDArray[Any]) -> int:
    """Return the sum of frames; float64 holds it exactly where float32 does not."""
    return int(frames.sum(dtype=np.float64 if frames.dtype.kind == "f" else None))


def _crc32c(path: Path) -> str:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            checksum.update(piece)
    return str(checksum.digest().hex())


def verify_store(folder: Path) -> tuple[list[str], dict[str, int]]:
    """Check a Zarr store: every file of every receipt, then the mass balance of every clip."""
    plan = read_plan(folder) or {"packs": [], "settings": {}}
    problems: list[str] = []
    totals: Counter[str] = Counter()
    for pack in plan["packs"]:
        receipt = read_json(receipt_path(folder, pack["name"]))
        if receipt is None:
            problems.append(
                f"{folder}: pack {pack['name']} has no receipt; run the same convert again"
            )
            continue
        if receipt.get("plan_id") != plan["plan_id"]:
            problems.append(f"{folder}: pack {pack['name']} is of another plan; convert again")
        problems.extend(_check_files(folder, receipt["files"]))
        totals["packs"] += 1
    if not problems:
        with progress("verify", sum(pack["clips"] for pack in plan["packs"]), "clips") as bar:
            for clip in open_store(folder):
                name = f"{clip.facts['recording']} clip {clip.facts['clip']}"
                problems.extend(f"{name}: {text}" for text in _check_clip(clip, plan["settings"]))
                totals["clips"] += 1
                totals["decoded"] += int(clip.columns["decoded"])
                bar.advance(1)
    return problems, dict(totals)


def _check_clip(clip: StoredClip, settings: dict[str, Any]) -> Iterator[str]:
    binned = int(clip.columns["binned"].sum())
    dropped = clip.facts["dropped"]
    if clip.columns["decoded"] != binned + sum(dropped.values()):
        yield "decoded is not binned + dropped"
    if _keeps_counts(settings) and (
        _sum(clip.events) + int(clip.columns["clipped"].sum()) != binned
    ):
        yield "frames + clipped is not binned"
    if settings.get("raw_events"):
        kept, met = len(clip.raw_events), binned + dropped.get("unpaired", 0)
        if kept != met:
            yield f"{kept} raw events, {met} were binned or unpaired"


def _check_files(folder: Path, files: list[dict[str, Any]]) -> Iterator[str]:
    for entry in files:
        path = folder / entry["path"]
        if not path.is_file():
            yield f"{path}: missing"
        elif path.stat().st_size != entry["bytes"]:
            yield f"{path}: expected {entry['bytes']} bytes, got {path.stat().st_size}"
        elif hash_file(path) != entry["sha256"]:
            yield f"{path}: its sha256 is not the receipt's"


def require_undamaged(problems: list[str], folder: Path) -> None:
    """Raise `DamageError` that lists the first problems, if there are any."""
    if problems:
        shown = "; ".join(problems[:5]) + (
            f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        )
        msg = f"{folder} is damaged: {shown}"
        raise DamageError(msg)
