"""What a folder is: a store, a set of shards, or neither."""

from __future__ import annotations

from typing import Literal

from eventkit.errors import SettingsError
from eventkit.location import Location
from eventkit.shards import MANIFEST
from pipelines.receipts import HIDDEN, PLAN, read_json
from pipelines.scan_log import SCAN_FILE

Kind = Literal["store", "shards"]
_NAMES: dict[Kind, str] = {"store": "a store", "shards": "shards"}


def kind_of(folder: Location) -> Kind | None:
    """Tell a store from a set of shards, finished or not; a damaged plan does not hide it.

    A store of which every recording was set aside has no pack, and is one by its plan.
    """
    if (folder / HIDDEN / "packs").is_dir() or _has_packs(folder):
        return "store"
    if (folder / MANIFEST).is_file():
        return "shards"
    plan = read_json(folder / PLAN) or {}
    if "store_plan_id" in plan:
        return "shards"
    return "store" if "packs" in plan or (folder / SCAN_FILE).is_file() else None


def _has_packs(folder: Location) -> bool:
    try:
        return any(path.suffix == ".zarr" for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def refuse_kind(folder: Location, kind: Kind, *, cure: str) -> None:
    """Refuse a folder that holds ``kind`` where the other one is wanted.

    Raises
    ------
    SettingsError
        If it is of that kind; ``cure`` says what to give instead.
    """
    if kind_of(folder) == kind:
        wanted = _NAMES["shards" if kind == "store" else "store"]
        got = _NAMES[kind]
        msg = f"{folder} holds {got}, not {wanted}: expected {wanted}, got {got}; {cure}"
        raise SettingsError(msg)
