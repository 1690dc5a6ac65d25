"""One tar against its entry in the manifest: bytes, order, members, arrays, pictures, balance."""

from __future__ import annotations

import re
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
from eventkit.location import location
from eventkit.samples import decode_images, decode_sample
from pipelines.receipts import hash_file
from pipelines.scratch import on_disk

CURE = "run `eventkit shard` again"
_ADVICE = re.compile(r"run `eventkit verify`( on the shards| there)?")


@dataclass(frozen=True, slots=True)
class TarJob:
    """One shard to check against its manifest entry."""

    folder: str
    entry: dict[str, Any]


def check_tar(job: TarJob) -> tuple[list[str], dict[str, int]]:
    """Check one shard: size, hashes, order, members, arrays, pictures, mass balance."""
    path, entry = location(job.folder) / job.entry["name"], job.entry
    if not path.is_file():
        return [f"{path}: missing; {CURE}"], {}
    size = path.stat().st_size
    if size != entry["bytes"]:
        return [f"{path}: expected {entry['bytes']} bytes, got {size}; {CURE}"], {}
    problems: list[str] = []
    totals: Counter[str] = Counter(shards=1)
    with on_disk(path) as file:
        if hash_file(file) != entry["sha256"]:
            problems.append(f"{path}: its sha256 is not the manifest's; remove it, then {CURE}")
        if _crc32c(file) != entry["crc32c"]:
            problems.append(f"{path}: its crc32c is not the manifest's")
        try:
            for key, members in samples_of(file):
                totals["samples"] += 1
                problems.extend(f"{path}: {text}" for text in _check_sample(key, members, totals))
        except (
            tarfile.TarError,
            EventKitError,
            LookupError,
            TypeError,
            ValueError,
            OSError,
        ) as err:
            problems.append(f"{path}: expected samples that can be read, {in_words(err)}")
    if totals["samples"] != entry["samples"]:
        problems.append(f"{path}: expected {entry['samples']} samples, got {totals['samples']}")
    return problems, dict(totals)


def in_words(err: Exception) -> str:
    """Return what an error says, with a cure that is not to run verify."""
    return _ADVICE.sub(f"remove it, then {CURE}", str(err))


def samples_of(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield key and members, suffix -> bytes, of the samples of a tar."""
    key, members = "", {}
    room = path.stat().st_size
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            stem, _, suffix = member.name.partition(".")
            if stem != key and members:
                yield key, members
                members = {}
            key = stem
            file = tar.extractfile(member) if member.isreg() and not member.sparse else None
            if file is None:
                msg = f"{member.name} is no regular file"
                raise DamageError(msg)
            if member.size > room:
                msg = f"{member.name} claims {member.size} bytes in a tar of {room}"
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
    if keeps_counts(meta):
        frames = total_of(sample.events)
        if frames + meta["clipped"] != meta["binned"]:
            yield f"{key}: frames {frames} + clipped {meta['clipped']} != binned {meta['binned']}"
    if len(sample.rgb) != sample.events.shape[0]:
        yield f"{key}: {len(sample.rgb)} pictures for {sample.events.shape[0]} windows"
    if sample.label != meta["label"]:
        yield f"{key}: cls {sample.label} != label {meta['label']}"
    for name in ("decoded", "binned", "clipped"):
        totals[name] += meta[name]
    totals["dropped"] += dropped


def keeps_counts(settings: dict[str, Any]) -> bool:
    """Tell whether frames and clipped events make up the binned ones."""
    if "mass" in settings:
        return bool(settings["mass"] == "counts")
    return str(settings["representation"]).startswith("counts")  # written before other families


def total_of(frames: NDArray[Any]) -> int:
    """Return the sum of frames; float64 holds it exactly where float32 does not."""
    return int(frames.sum(dtype=np.float64 if frames.dtype.kind == "f" else None))


def _crc32c(path: Path) -> str:
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            checksum.update(piece)
    return str(checksum.digest().hex())
