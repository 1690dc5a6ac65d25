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
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventkit.atomic import TEMPORARY, remove, sync, sync_folder, write_atomic
from eventkit.errors import DamageError
from eventkit.faults import at
from eventkit.samples import encode_json
from eventkit.shards import manifest_digest

HIDDEN = ".eventkit"
PLAN = f"{HIDDEN}/plan.json"


def hash_file(path: Path) -> str:
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


def receipt_path(folder: Path, unit: str) -> Path:
    """Where the receipt of a unit stands."""
    return folder / HIDDEN / "receipts" / f"{unit}.json"


def write_receipt(folder: Path, unit: str, content: dict[str, Any]) -> None:
    """Commit a unit."""
    at("receipt")
    write_atomic(receipt_path(folder, unit), sealed(content))
    at("done")


def withdraw_receipt(folder: Path, unit: str) -> None:
    """Say, durably, that a unit is not there; before its files are touched."""
    path = receipt_path(folder, unit)
    if path.exists():
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def read_receipt(folder: Path, unit: str, *, plan_id: str) -> dict[str, Any] | None:
    """Return the receipt of a unit of this plan whose files are all there at their size."""
    content = read_json(receipt_path(folder, unit))
    if content is None or content.get("plan_id") != plan_id or not seal_holds(content):
        return None
    return content if _sizes_agree(folder, content.get("files", [])) else None


def read_plan(folder: Path) -> dict[str, Any] | None:
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


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan of a folder."""
    write_atomic(folder / PLAN, sealed(plan))


def sealed(content: dict[str, Any]) -> bytes:
    """Encode an object with the digest of what it holds."""
    return encode_json({**content, "digest": manifest_digest(content)})


def seal_holds(content: dict[str, Any]) -> bool:
    """Tell whether an object is what was sealed; one without a digest is taken as it is."""
    digest = manifest_digest(content)
    return bool(content.get("digest", digest) == digest)


def _sizes_agree(folder: Path, files: Iterable[dict[str, Any]]) -> bool:
    for entry in files:
        try:
            if (folder / entry["path"]).stat().st_size != entry["bytes"]:
                return False
        except OSError:
            return False
    return True


def read_json(path: Path) -> dict[str, Any] | None:
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
