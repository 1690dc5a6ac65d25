"""Rows of a grid that earlier calls trained: a table holds what is there, not what was asked last.

A run stands in the table only if this call would have trained the same: settings of the recipe with
the changes of its row, on the same shards and weights. A table of unlike runs compares nothing. A
row that failed has no run; the earlier table has its reason, and holds for the same settings alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventkit.errors import EventKitError
from velora.ablation.grid import REFERENCE, Row
from velora.ablation.table import TABLE, Result, read_csv, read_result
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


@dataclass(frozen=True)
class Expected:
    """What a call trains, known from its run of the full model."""

    recipe: str
    overrides: Mapping[str, object]
    rows: Mapping[str, Row]
    name: str
    plain: Settings
    of_full: Settings
    plan_id: str
    weights_sha256: str | None

    @classmethod
    def of(
        cls,
        *,
        recipe: str,
        overrides: Mapping[str, object],
        rows: Mapping[str, Row],
        reference: Path,
    ) -> Expected:
        """Read what the call's run of the full model stands on.

        Parameters
        ----------
        recipe : str
            As for `velora.config.load_settings`.
        overrides : mapping
            What this call sets in all rows.
        rows : mapping name -> Row
            The whole grid.
        reference : Path
            A finished run of the full model, of this call.
        """
        name, plain = load_settings(recipe, overrides)
        of_full, facts = RunFolder(reference).read()
        return cls(
            recipe=recipe,
            overrides=overrides,
            rows=rows,
            name=name,
            plain=plain,
            of_full=of_full,
            plan_id=facts.data.plan_id,
            weights_sha256=weights_hash(of_full.model.weights),
        )

    def settings(self, row: str, seed: int) -> Settings:
        """Return the settings of a run: of its row, with the command line's trunk and the seed.

        Raises
        ------
        SettingsError
            If the row is no valid change of the recipe.
        """
        weights = self.of_full.model.weights
        given = {
            "model.weights": msgspec.UNSET if weights is None else weights,
            "model.random_trunk": self.of_full.model.random_trunk,
            "train.seed": seed,
        }
        changes = {**self.overrides, **self.rows[row].changes(self.plain), **given}
        return load_settings(self.recipe, changes)[1]

    def sha256(self, settings: Settings) -> str:
        """Return the hash that a run of these settings has in this call."""
        return settings_hash(settings, plan_id=self.plan_id, weights_sha256=self.weights_sha256)

    def row_sha256(self, row: str, seed: int) -> str:
        """Return the hash that a run has in this call; that of the row where it is no valid one."""
        try:
            return self.sha256(self.settings(row, seed))
        except EventKitError:
            asked = (self.rows[row], seed, self.plan_id, sorted(self.overrides.items()))
            return hashlib.sha256(repr(asked).encode()).hexdigest()


def earlier_results(out: Path, expected: Expected) -> tuple[dict[Key, Result], list[str]]:
    """Read the finished runs of a grid in a folder, and what its table says of those that failed.

    Returns
    -------
    dict of results
    list of str
        A sentence for each finished run that is of other settings, shards or weights, and for a
        table that cannot be read.
    """
    kept: dict[Key, Path] = {}
    strange = []
    for key, run in _finished(out, expected).items():
        try:
            why = _differences(run, expected, key)
        except EventKitError as error:
            why = str(error)
        if why:
            strange.append(f"{run} is not in the table: {why}")
        else:
            kept[key] = run
    full = {key.seed: run for key, run in kept.items() if key.row == REFERENCE}
    finished = {
        key: _read(run, key, expected.rows[key.row].title, full.get(key.seed))
        for key, run in kept.items()
    }
    try:
        failed = _failed(out, expected)
    except EventKitError as error:
        failed = {}
        strange.append(f"rows that failed before are not in the table: {error}")
    return {**failed, **finished}, strange


def key_of(rows: Mapping[str, Row], row: str, seed: int) -> Key:
    """Return the place of a run in the table."""
    return Key(seed, list(rows).index(row), row)


def _finished(out: Path, expected: Expected) -> dict[Key, Path]:
    names = "|".join(map(re.escape, expected.rows))
    pattern = re.compile(re.escape(expected.name) + rf"-({names})-seed(-?\d+)")
    found = {}
    for path in out.iterdir():
        match = pattern.fullmatch(path.name)
        if match and RunFolder(path).finished:
            found[key_of(expected.rows, match[1], int(match[2]))] = path
    return found


def _failed(out: Path, expected: Expected) -> dict[Key, Result]:
    """Return the rows without numbers of the table that is there, if this call's would be alike."""
    return {
        key_of(expected.rows, r.name, r.seed): msgspec.structs.replace(
            r, title=expected.rows[r.name].title
        )
        for r in read_csv(out / f"{TABLE}.csv")
        if r.problem
        and r.name in expected.rows
        and r.settings_sha256 == expected.row_sha256(r.name, r.seed)
    }


def _differences(run: Path, expected: Expected, key: Key) -> str:
    """Say why a run is not the one that this call would train; nothing if it is."""
    settings = expected.settings(key.row, key.seed)
    differing = RunFolder(run).differences(
        settings, settings_sha256=expected.sha256(settings), plan_id=expected.plan_id
    )
    if differing is None:
        return ""
    what = "; ".join(differing) or "the weights file, or the settings that its version knew"
    return f"it and this call differ in {what}"


def _read(run: Path, key: Key, title: str, full: Path | None) -> Result:
    try:
        return read_result(run, name=key.row, title=title, seed=key.seed, full=full)
    except EventKitError as error:
        return Result(name=key.row, title=title, seed=key.seed, problem=str(error))
