"""Receipts: a unit is there whole, hashed and on the disk, or it is not there.

What a unit consists of is written as `eventkit.atomic` does, then the receipt the same way. The
receipt is the commit: what has none is not there, whatever files lie around, and the next run makes
it again to the same bytes. Tars are hashed as they are written. The files of a pack are read once
more for it, from memory that they have just been written to: Zarr writes the small ones itself.

Plans and receipts are sealed: they hold the sha256 of their own content.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventkit.atomic import TEMPORARY, remove, sync, sync_folder
from eventkit.errors import DamageError
from eventkit.faults import at
from eventkit.location import Location, RemotePath
from eventkit.samples import encode_json
from eventkit.shards import manifest_digest
from pipelines.put import put, put_unless_there, take_away

logger = logging.getLogger(__name__)

HIDDEN = ".eventkit"
PLAN = f"{HIDDEN}/plan.json"


def hash_file(path: Location) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_tree(folder: Path, *, relative_to: Path) -> list[dict[str, Any]]:
    """Sync and hash every file below ``folder``: path, bytes, sha256, sorted by path.

    Afterwards the folder itself is durable too.
    """
    sync(folder)
    entries = [
        {
            "path": path.relative_to(relative_to).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hash_file(path),
        }
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
    ]
    at("folder")
    for sub in (folder.parent, folder, *(p for p in folder.rglob("*") if p.is_dir())):
        sync_folder(sub)
    return entries


def receipt_path(folder: Location, unit: str) -> Location:
    """Where the receipt of a unit stands."""
    return folder / HIDDEN / "receipts" / f"{unit}.json"


def write_receipt(folder: Location, unit: str, content: dict[str, Any]) -> None:
    """Commit a unit.

    Two that made the same unit at a time behind a URL wrote the same bytes. If they did not, as
    one of them met a fault, the receipt is that of the files that were put last.
    """
    path = receipt_path(folder, unit)
    at("receipt")
    if not put_unless_there(path, sealed(content)):
        logger.warning(
            "%s: made twice at a time, with differing results; the later one counts", path
        )
        put(path, sealed(content))
    at("done")


def withdraw_receipt(folder: Location, unit: str) -> None:
    """Say, durably, that a unit is not there; before its files are touched."""
    take_away(receipt_path(folder, unit))


def read_receipt(folder: Location, unit: str, *, plan_id: str) -> dict[str, Any] | None:
    """Return the receipt of a unit of this plan whose files are all there at their size."""
    content = read_json(receipt_path(folder, unit))
    if content is None or content.get("plan_id") != plan_id or not seal_holds(content):
        return None
    return content if _sizes_agree(folder, content.get("files", [])) else None


def read_plan(folder: Location) -> dict[str, Any] | None:
    """Return the plan of a folder, None if it has none.

    Raises
    ------
    DamageError
        If there is a plan that cannot be read: it must not pass for none.
    """
    path = folder / PLAN
    plan = read_json(path)
    if (plan is None and path.exists()) or not seal_holds(plan or {}):
        msg = f"{path}: expected a plan, got a damaged file; remove {folder} and run again"
        raise DamageError(msg)
    return plan


def write_plan(folder: Location, plan: dict[str, Any]) -> None:
    """Write the plan of a folder."""
    put(folder / PLAN, sealed(plan))


def sealed(content: dict[str, Any]) -> bytes:
    """Encode an object with the digest of what it holds."""
    return encode_json({**content, "digest": manifest_digest(content)})


def seal_holds(content: dict[str, Any]) -> bool:
    """Tell whether an object is what was sealed; one without a digest is taken as it is."""
    digest = manifest_digest(content)
    return bool(content.get("digest", digest) == digest)


def _sizes_agree(folder: Location, files: Iterable[dict[str, Any]]) -> bool:
    for entry in files:
        try:
            if (folder / entry["path"]).stat().st_size != entry["bytes"]:
                return False
        except OSError as err:
            if isinstance(folder, RemotePath) and not isinstance(err, FileNotFoundError):
                raise  # a store that does not answer says nothing about the file
            return False
    return True


def read_json(path: Location) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left under a temporary name; call it under the lock only.

    There is none in a pack: it is written under its own names, and anew if it has no receipt.
    """
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if name.startswith(TEMPORARY):
                remove(Path(base, name))
        folders[:] = [f for f in folders if not f.startswith(TEMPORARY) and f[-5:] != ".zarr"]
