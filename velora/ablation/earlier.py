"""Rows of a grid that earlier calls trained: a table holds what is there, not what was asked last.

A run stands in the table only if this call would have trained the same: settings of the recipe with
the changes of its row, on the same shards and weights. A table of unlike runs compares nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventkit.errors import EventKitError
from velora.ablation.grid import REFERENCE, Row
from velora.ablation.table import Result, read_result
from velora.config import load_settings, settings_hash, weights_hash
from velora.settings import Settings
from velora.training.checkpoint import RunFolder


class Key(NamedTuple):
    """A run of a grid; in the order of its table: by seed, then as the grid has the rows."""

    seed: int
    place: int
    row: str


def run_name(recipe: str, row: str, seed: int) -> str:
    """Return the name of a run's folder."""
    return f"{recipe}-{row}-seed{seed}"


def earlier_results(
    out: Path,
    *,
    recipe: str,
    overrides: Mapping[str, object],
    rows: Mapping[str, Row],
    reference: Path,
) -> tuple[dict[Key, Result], list[str]]:
    """Read the finished runs of a grid in a folder.

    Parameters
    ----------
    out : Path
    recipe : str
        As for `velora.config.load_settings`.
    overrides : mapping
        What this call sets in all rows.
    rows : mapping name -> Row
        The whole grid.
    reference : Path
        A finished run of the full model, of this call.

    Returns
    -------
    dict of results
    list of str
        A sentence for each finished run that is of other settings, shards or weights.
    """
    name, plain = load_settings(recipe, overrides)
    of_call, facts = RunFolder(reference).read()
    weights_sha256 = weights_hash(of_call.model.weights)
    kept: dict[Key, Path] = {}
    strange = []
    for key, run in _finished(out, name, rows).items():
        try:
            changes = {**overrides, **rows[key.row].changes(plain), **_given(of_call, key.seed)}
            _, expected = load_settings(recipe, changes)
            why = _differences(run, expected, facts.data.plan_id, weights_sha256)
        except EventKitError as error:
            why = str(error)
        if why:
            strange.append(f"{run} is not in the table: {why}")
        else:
            kept[key] = run
    full = {key.seed: run for key, run in kept.items() if key.row == REFERENCE}
    results = {
        key: _read(run, key, rows[key.row].title, full.get(key.seed)) for key, run in kept.items()
    }
    return results, strange


def key_of(rows: Mapping[str, Row], row: str, seed: int) -> Key:
    """Return the place of a run in the table."""
    return Key(seed, list(rows).index(row), row)


def _finished(out: Path, recipe: str, rows: Mapping[str, Row]) -> dict[Key, Path]:
    names = "|".join(map(re.escape, rows))
    pattern = re.compile(re.escape(recipe) + rf"-({names})-seed(-?\d+)")
    found = {}
    for path in out.iterdir():
        match = pattern.fullmatch(path.name)
        if match and RunFolder(path).finished:
            found[key_of(rows, match[1], int(match[2]))] = path
    return found


def _given(of_call: Settings, seed: int) -> dict[str, object]:
    """Return what the command line of a run says beside its row: the seed and the trunk."""
    weights = of_call.model.weights
    return {
        "model.weights": msgspec.UNSET if weights is None else weights,
        "model.random_trunk": of_call.model.random_trunk,
        "train.seed": seed,
    }


def _differences(run: Path, expected: Settings, plan_id: str, weights_sha256: str | None) -> str:
    """Say why a run is not the one that this call would train; nothing if it is."""
    sha256 = settings_hash(expected, plan_id=plan_id, weights_sha256=weights_sha256)
    differing = RunFolder(run).differences(expected, settings_sha256=sha256, plan_id=plan_id)
    if differing is None:
        return ""
    what = "; ".join(differing) or "the weights file, or the settings that its version knew"
    return f"it and this call differ in {what}"


def _read(run: Path, key: Key, title: str, full: Path | None) -> Result:
    try:
        return read_result(run, name=key.row, title=title, seed=key.seed, full=full)
    except EventKitError as error:
        return Result(name=key.row, title=title, seed=key.seed, problem=str(error))
