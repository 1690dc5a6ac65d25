"""Receipts: a unit is there whole, hashed and on the disk, or it is not there.

What a unit consists of is written as `eventkit.atomic` does, then the receipt the same way. The
receipt is the commit: what has none is not there, whatever files lie around, and the next run makes
it again to the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eventkit.atomic import TEMPORARY, remove, sync, sync_folder, write_atomic
from eventkit.errors import DamageError
from eventkit.samples import encode_json

HIDDEN = ".eventkit"


def hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_tree(folder: Path, *, relative_to: Path) -> list[dict[str, Any]]:
    """Sync and hash every file below ``folder``: path, bytes, sha256, sorted by path."""
    sync(folder)
    entries = [
        {
            "path": path.relative_to(relative_to).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hash_file(path),
        }
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
    ]
    for sub in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        sync_folder(sub)
    return entries


def receipt_path(folder: Path, unit: str) -> Path:
    """Where the receipt of a unit stands."""
    return folder / HIDDEN / "receipts" / f"{unit}.json"


def write_receipt(folder: Path, unit: str, content: dict[str, Any]) -> None:
    """Commit a unit."""
    write_atomic(receipt_path(folder, unit), encode_json(content))


def read_receipt(folder: Path, unit: str, *, plan_id: str) -> dict[str, Any] | None:
    """Return the receipt of a unit of this plan whose files are all there at their size."""
    content = read_json(receipt_path(folder, unit))
    if content is None or content.get("plan_id") != plan_id:
        return None
    return content if _sizes_agree(folder, content.get("files", [])) else None


def read_plan(folder: Path) -> dict[str, Any] | None:
    """Return the plan of a folder, None if it has none.

    Raises
    ------
    DamageError
        If there is a plan that cannot be read: it must not pass for none.
    """
    path = folder / HIDDEN / "plan.json"
    plan = read_json(path)
    if plan is None and path.exists():
        msg = f"{path}: expected a plan, got a damaged file; remove {folder} and run again"
        raise DamageError(msg)
    return plan


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
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed run left under a temporary name; call it under the lock only."""
    for path in list(folder.rglob(f"{TEMPORARY}*")):
        remove(path)
