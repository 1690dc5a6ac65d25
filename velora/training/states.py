"""The states of a run to go on from: ``state-<step>.pt``, the last two, whole or not at all.

The step is the number of updates that are done. A state is a plain file of `torch.save`, a zip
whose checksums torch does not look at and `load_state` does.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from eventkit.atomic import write_atomic
from eventkit.errors import DamageError, SettingsError

STATE_SCHEMA = 3
KEPT = 2

State = dict[str, Any]


def state_path(folder: Path, step: int) -> Path:
    """Return where the state after so many updates lies."""
    return folder / f"state-{step:08d}.pt"


def state_paths(folder: Path) -> list[Path]:
    """Return the states of a run, the newest first."""
    named = [path for path in folder.glob("state-*.pt") if re.fullmatch(r"state-\d+", path.stem)]
    return sorted(named, key=lambda path: int(path.stem.partition("-")[2]), reverse=True)


def save_state(folder: Path, state: State, *, step: int) -> None:
    """Save a state - tensors, numbers, strings, lists and dicts only - and drop the third last."""
    buffer = io.BytesIO()
    torch.save({"schema": STATE_SCHEMA, **state}, buffer)
    write_atomic(state_path(folder, step), buffer.getvalue())
    for old in state_paths(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[State | None, list[str]]:
    """Read the newest state that is whole, None before the first.

    Returns
    -------
    (dict or None, list of str)
        The state, and a sentence for each newer one that is damaged.

    Raises
    ------
    DamageError
        If there are states and none is whole.
    SettingsError
        If it is of another version.
    """
    damaged = []
    for path in state_paths(folder):
        try:
            state = _read(path)
        except DamageError as error:
            damaged.append(str(error))
            continue
        if state.get("schema") != STATE_SCHEMA:
            msg = f"{path} has schema {state.get('schema')}, this version reads {STATE_SCHEMA}"
            raise SettingsError(msg)
        return state, damaged
    if damaged:
        msg = (
            f"no state of {folder} is whole ({'; '.join(damaged)}): put back a copy, or delete the "
            "state files to train this run again from its first step"
        )
        raise DamageError(msg)
    return None, []


def _read(path: Path) -> State:
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            bad = file.testzip()
        if bad is not None:
            msg = f"{path} is damaged ({bad})"
            raise DamageError(msg)
        state: State = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
    ) as error:
        msg = f"{path} is damaged ({type(error).__name__})"
        raise DamageError(msg) from error
    return state
