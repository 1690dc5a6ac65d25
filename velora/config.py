"""Recipes: settings read from TOML, checked when read, overridden, hashed and written.

A recipe is a TOML file with any part of the tables of `velora.settings`; the command line overrides
it.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from eventkit.errors import MissingDataError, SettingsError
from velora.settings import Settings


def recipe_names() -> list[str]:
    """List the recipes that come with the package."""
    folder = importlib.resources.files("velora") / "recipes"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith("toml"))


def load_settings(
    recipe: str, overrides: Mapping[str, object] | None = None
) -> tuple[str, Settings]:
    """Read a recipe and put overrides on top of it.

    Parameters
    ----------
    recipe : str
        Name of a packaged recipe, or path of a TOML file.
    overrides : mapping
        ``{"train.lr": 1e-3}``; None overrides nothing, ``msgspec.UNSET`` takes the recipe's value
        away.

    Returns
    -------
    (str, Settings)
        The recipe's short name and the checked settings.

    Raises
    ------
    SettingsError
        For an unknown recipe, bad TOML, an unknown key or a bad value, with the key's path.
    """
    if recipe in recipe_names():
        name, where = recipe, f"recipe {recipe}"
        text = (importlib.resources.files("velora") / "recipes" / f"{recipe}.toml").read_text()
    else:
        path = Path(recipe)
        if not path.is_file():
            msg = (
                f"no recipe {recipe!r}: neither a TOML file nor one of {', '.join(recipe_names())}"
            )
            raise MissingDataError(msg)
        name = path.resolve().parent.name if path.name == "config.toml" else path.stem
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            msg = f"{path} is not a UTF-8 text file; a recipe is TOML"
            raise SettingsError(msg) from error
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{where} is not valid TOML: {error}"
        raise SettingsError(msg) from error
    settings = parse_settings(tree, where=where)
    changes = {key: value for key, value in (overrides or {}).items() if value is not None}
    if changes:
        for key, value in changes.items():
            _put(tree, key, value)
        settings = parse_settings(tree, where="the command line with " + where)
    return name, settings


def _put(tree: dict[str, Any], key: str, value: object) -> None:
    """Set the value of a key as ``train.lr`` in a tree, or take it away."""
    *tables, field = key.split(".")
    place = tree
    for depth, table in enumerate(tables, start=1):
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            name = ".".join(tables[:depth])
            msg = f"{name} is a value, {place!r}, and has no {key.removeprefix(name + '.')!r}"
            raise SettingsError(msg)
    place[field] = value
    if value is msgspec.UNSET:
        del place[field]


def parse_settings(tree: Mapping[str, object], *, where: str) -> Settings:
    """Check a tree of plain values; ``where`` names its origin in messages."""
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        msg = f"{where}: {_with_full_path(str(error))}"
        raise SettingsError(msg) from error


def _with_full_path(message: str) -> str:
    """Put the unknown key at the end of msgspec's path: ``$.lora.rnk`` instead of ``$.lora``."""
    unknown = re.fullmatch(r"Object contains unknown field `(.+?)`(?: - at `(.+)`)?", message)
    if unknown is None:
        return message
    return f"unknown key `{unknown[2] or '$'}.{unknown[1]}`"


def parse_assignments(assignments: Iterable[str]) -> dict[str, object]:
    """Read ``KEY=VALUE`` words, as ``train.mixup=0.2``, into overrides.

    A value is TOML; what is none is taken as text, so that strings need no quotes.

    Raises
    ------
    SettingsError
        For a word without ``=`` or whose key names no table.
    """
    overrides: dict[str, object] = {}
    for word in assignments:
        key, equals, text = word.partition("=")
        if not equals or "." not in key:
            msg = f"expected TABLE.KEY=VALUE, as train.mixup=0.2, got {word!r}"
            raise SettingsError(msg)
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        overrides[key.strip()] = value
    return overrides


def settings_hash(settings: Settings, *, plan_id: str, weights_sha256: str | None) -> str:
    """Hash the settings and the data's plan; a weights file counts by content, not by path."""
    tree = msgspec.to_builtins(settings)
    tree["model"]["weights"] = weights_sha256
    text = json.dumps({"settings": tree, "plan_id": plan_id}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def weights_hash(path: str | None) -> str | None:
    """Return the SHA-256 of a weights file; None without one.

    Raises
    ------
    MissingDataError
        If there is no such file.
    """
    if path is None:
        return None
    if not Path(path).is_file():
        msg = f"no weights file {path}; give --weights a safetensors file"
        raise MissingDataError(msg)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differing_keys(a: Settings, b: Settings) -> list[str]:
    """List the settings in which two runs differ, as ``train.lr: 0.001 and 0.01``."""
    left, right = msgspec.to_builtins(a), msgspec.to_builtins(b)
    return [
        f"{table}.{key}: {left[table][key]} and {right[table][key]}"
        for table in left
        for key in left[table]
        if left[table][key] != right[table][key]
    ]


def to_toml(settings: Settings) -> str:
    """Write settings as TOML that :func:`load_settings` reads; absent values are left out."""
    lines: list[str] = []
    for table, fields in msgspec.to_builtins(settings).items():
        nested = {key: value for key, value in fields.items() if isinstance(value, dict)}
        plain = {key: value for key, value in fields.items() if key not in nested}
        lines += [f"[{table}]", *_toml_lines(plain), ""]
        for key, values in nested.items():
            if values:
                lines += [f"[{table}.{key}]", *_toml_lines(values), ""]
    return "\n".join(lines)


def _toml_lines(fields: Mapping[str, object]) -> list[str]:
    # JSON's strings, numbers, booleans and lists are TOML's, DEL excepted.
    return [
        f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
        for key, value in fields.items()
        if value is not None
    ]
