"""Settings: what a run is made of, read from TOML, checked when read.

Four tables, ``model``, ``lora``, ``data``, ``train``; their fields and defaults are the structs
below. A recipe is a TOML file with any part of them; the command line overrides it. How a run is
executed (device, threads, folder) is no setting: it changes no result and is in no hash.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from eventkit.errors import MissingDataError, SettingsError

PositiveInt = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0.0, lt=1.0)]
Positive = Annotated[float, Meta(gt=0.0, lt=1e9)]
NotNegative = Annotated[float, Meta(ge=0.0, lt=1e9)]


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The trunk and how the streams meet in it."""

    mode: Literal["paper"] = "paper"
    fusion: Literal["joint"] = "joint"
    #: "fusion" learns from both senses; "rgb" and "event" build single-sense models.
    streams: Literal["fusion", "rgb", "event"] = "fusion"
    #: A timm name of a plain ViT.
    backbone: str = "vit_base_patch16_clip_224.openai"
    #: Passed on to ``timm.create_model``.
    backbone_kwargs: dict[str, bool | int | float | str] = {}
    #: A local safetensors file; without it timm's pretrained weights are used.
    weights: str | None = None
    #: Draw the trunk from ``train.seed`` instead.
    random_trunk: bool = False
    #: Pixels; the trunk's own when not given.
    img_size: PositiveInt | None = None
    #: Blocks at the end of the trunk that see all streams together.
    high_blocks: PositiveInt = 2
    #: Weight of the reconstruction loss; 0 leaves its block out.
    rec_weight: NotNegative = 1.0
    head_dropout: Share = 0.0

    def __post_init__(self) -> None:
        if self.weights is not None and self.random_trunk:
            msg = "weights and random_trunk exclude each other: choose one trunk"
            raise ValueError(msg)


class LoraSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapters."""

    rank: PositiveInt = 4
    alpha: Positive = 8.0
    dropout: Share = 0.01
    #: Last names of the linear layers that get an adapter, in every block.
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = ("fc1", "fc2")


class DataSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Augmentation; the same for RGB, events and differences of a clip."""

    #: Largest shift of a training clip, as a share of the picture's side.
    shift: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.045
    #: Mirror half of the training clips. Wrong for digits, letters and cards.
    flip: bool = False


class TrainSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The optimisation."""

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 16
    #: Highest learning rate of AdamW, after the warm-up and before the cosine.
    lr: Positive = 1e-3
    weight_decay: NotNegative = 1e-4
    warmup_epochs: NotNegative = 1.0
    #: Largest norm of the gradient; 0 clips nothing.
    grad_clip: NotNegative = 1.0
    label_smoothing: Share = 0.0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the outcome of a training run, besides the data."""

    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()


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
            table, field = key.split(".")
            tree.setdefault(table, {})[field] = value
            if value is msgspec.UNSET:
                del tree[table][field]
        settings = parse_settings(tree, where="the command line with " + where)
    return name, settings


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


def settings_hash(settings: Settings, *, plan_id: str, weights_sha256: str | None) -> str:
    """Hash the settings and the data's plan; a weights file counts by content, not by path."""
    tree = msgspec.to_builtins(settings)
    tree["model"]["weights"] = weights_sha256
    text = json.dumps({"settings": tree, "plan_id": plan_id}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
