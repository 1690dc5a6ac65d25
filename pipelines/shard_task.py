"""The task of shard: clips of a store -> one deterministic tar and its indexes, one receipt."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.location import Location, location
from pipelines.indexes.dali import dali_index, dali_path
from pipelines.indexes.energon import energon_index, energon_path
from pipelines.put import building, put
from pipelines.receipts import read_receipt, withdraw_receipt, write_receipt
from pipelines.shard_sample import SampleMaker
from pipelines.tar import HASHES, TarWriter, member_offsets

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One tar to write.

    ``clips`` lists (pack, number in the pack) in order.
    """

    out: str
    name: str
    clips: tuple[tuple[str, int], ...]
    maker: SampleMaker


def write_shard(job: ShardJob) -> str:
    """Write one shard and its indexes; returns its name. A finished shard is left as it is."""
    out = location(job.out)
    if read_shard_receipt(out, job.name, plan_id=job.maker.plan_id) is not None:
        return job.name
    path = out / job.name
    withdraw_receipt(out, unit_of(job.name))
    keys: list[str] = []
    labels: list[int] = []
    sizes: list[list[int]] = []
    fields: list[str] = []
    hashes = (*HASHES, "md5") if job.maker.settings.md5 else HASHES
    with building(path) as temporary, temporary.open("wb") as file:
        tar = TarWriter(file, hashes=hashes)
        for pack, number in job.clips:
            sample = job.maker.sample(pack, number)
            members = job.maker.members(sample)
            fields = fields or list(members)
            check_fields(sample.key, list(members), fields)
            for suffix, data in members.items():
                tar.add(f"{sample.key}.{suffix}", data)
            keys.append(sample.key)
            labels.append(sample.label)
            sizes.append([len(data) for data in members.values()])
        digests = tar.close()
    files = [{"path": job.name, "bytes": tar.size, "sha256": digests["sha256"]}]
    files += _write_indexes(out, job.name, keys, fields, np.array(sizes, np.int64))
    receipt = {
        "name": job.name,
        "plan_id": job.maker.plan_id,
        "files": files,
        "hashes": digests,
        "fields": fields,
        "keys": keys,
        "labels": labels,
        "sizes": sizes,
    }
    write_receipt(out, unit_of(job.name), receipt)
    logger.info("%s: %d samples, %d bytes", path, len(keys), tar.size)
    return job.name


def read_shard_receipt(out: Location, name: str, *, plan_id: str) -> dict[str, Any] | None:
    """Return the receipt of a finished shard of this plan, None if there is none."""
    return read_receipt(out, unit_of(name), plan_id=plan_id)


def check_fields(where: str, got: list[str], expected: list[str]) -> None:
    """Refuse members other than those of the first sample: readers take them for the rule."""
    if got != expected:
        msg = (
            f"{where}: expected the members {', '.join(expected)} as in the samples before, "
            f"got {', '.join(got)}; shard recordings of different settings apart"
        )
        raise SettingsError(msg)


def unit_of(name: str) -> str:
    """Return the name of a shard's receipt.

    Examples
    --------
    >>> unit_of("train/train-000000.tar")
    'train_train-000000'
    """
    return name.replace("/", "_").removesuffix(".tar")


def _write_indexes(
    out: Location, name: str, keys: list[str], fields: list[str], sizes: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Write the indexes that lie beside one tar; returns path, bytes and sha256 of each."""
    offsets = member_offsets(sizes)
    contents = {
        energon_path(name): energon_index(offsets=offsets, sizes=sizes),
        dali_path(name): dali_index(keys, fields, offsets=offsets, sizes=sizes),
    }
    return [write_described(out, path, data) for path, data in contents.items()]


def write_described(out: Location, path: str, data: bytes) -> dict[str, Any]:
    """Write a file of a set; returns path, bytes and sha256."""
    put(out / path, data)
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
