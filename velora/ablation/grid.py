"""The rows of an ablation table: names and the settings that each changes."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from eventkit.errors import EventKitError, MissingDataError, SettingsError
from velora.config import load_settings
from velora.settings import Settings

#: The row that the others are compared with.
REFERENCE = "full"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a row changes in a recipe.

    ``set`` gives values, ``scale`` multiplies those of the recipe, ``keep`` leaves a setting as it
    is in the recipe or, where it has none there, gives it the recipe's value of another one, and
    ``rank`` sets the rank at the recipe's alpha / rank.
    """

    title: str
    set: dict[str, Any] = {}
    scale: dict[str, float] = {}
    keep: dict[str, str] = {}
    rank: int | None = None

    def changes(self, recipe: Settings) -> dict[str, object]:
        """Return the overrides of this row, as `velora.config.load_settings` takes them."""
        made: dict[str, object] = dict(self.set)
        made |= {key: _kept(recipe, key, other) for key, other in self.keep.items()}
        made |= {key: _number(recipe, key) * factor for key, factor in self.scale.items()}
        if self.rank is not None:
            ratio = recipe.lora.alpha / recipe.lora.rank
            made |= {"lora.rank": self.rank, "lora.alpha": self.rank * ratio}
        return made


def value_of(settings: Settings, key: str) -> Any:
    """Return the setting of a key as ``train.lr``.

    Raises
    ------
    SettingsError
        If there is no such setting.
    """
    table, _, field = key.partition(".")
    try:
        return getattr(getattr(settings, table), field)
    except AttributeError as error:
        msg = f"a grid names the setting {key!r}, which there is not; see velora/settings.py"
        raise SettingsError(msg) from error


def _kept(settings: Settings, key: str, other: str) -> Any:
    own, instead = value_of(settings, key), value_of(settings, other)
    return instead if own is None else own


def _number(settings: Settings, key: str) -> float:
    value = value_of(settings, key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"a grid scales {key}, which is no number in this recipe but {value!r}; set it"
        raise SettingsError(msg)
    return value


def read_grid(path: Path | None = None) -> dict[str, Row]:
    """Read the rows of a TOML file, or those that come with the package; ``full`` first.

    Raises
    ------
    MissingDataError, SettingsError
        Without the file, for bad TOML, an unknown key, a name that is none, or no row ``full``.
    """
    where = str(path or "velora/ablation/grid.toml")
    try:
        if path is None:
            text = (importlib.resources.files("velora.ablation") / "grid.toml").read_text()
        else:
            text = path.read_text(encoding="utf-8")
        rows = msgspec.convert(tomllib.loads(text), dict[str, Row])
    except FileNotFoundError as error:
        msg = f"no grid {where}: give a TOML file with a table for every row"
        raise MissingDataError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        msg = f"{where} is no grid of ablations: {error}"
        raise SettingsError(msg) from error
    for name in rows:
        if not _NAME.fullmatch(name) or name in (".", ".."):
            msg = (
                f"{where}: {name!r} is no name of a row, which its run's folder has as well: "
                "expected letters, digits, '.', '_' and '-'"
            )
            raise SettingsError(msg)
    if REFERENCE not in rows:
        msg = f"{where} has no row [{REFERENCE}], with which the others are compared"
        raise SettingsError(msg)
    return {REFERENCE: rows[REFERENCE], **rows}


def choose(rows: Mapping[str, Row], names: Sequence[str]) -> dict[str, Row]:
    """Return the rows of these names and the reference; all without names.

    Raises
    ------
    SettingsError
        For a name that is none.
    """
    strange = [name for name in names if name not in rows]
    if strange:
        msg = f"no ablation {strange[0]!r}; there are {', '.join(rows)}"
        raise SettingsError(msg)
    return {n: row for n, row in rows.items() if not names or n in names or n == REFERENCE}


def same_as_full(
    rows: Mapping[str, Row], recipe: str, overrides: Mapping[str, object]
) -> list[str]:
    """Return the rows that would train the full model again: all their settings are its own."""
    _, plain = load_settings(recipe, overrides)

    def settings_of(row: Row) -> Settings | None:
        try:
            return load_settings(recipe, {**overrides, **row.changes(plain)})[1]
        except EventKitError:  # velora-train says what is wrong with it
            return None

    full = settings_of(rows[REFERENCE])
    others = (name for name in rows if name != REFERENCE)
    return [name for name in others if full and settings_of(rows[name]) == full]


def longer_than(bins: int, rows: Mapping[str, Row], recipe: Settings) -> list[str]:
    """Return the rows that ask for more frames than there are bins."""
    asked = {name: row.changes(recipe).get("data.frames") for name, row in rows.items()}
    return [name for name, n in asked.items() if isinstance(n, int | float) and n > bins]
