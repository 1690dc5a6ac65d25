"""Settings are read from TOML, checked with the path of the key, and written back the same."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eventkit.errors import EventKitError
from velora.config import (
    differing_keys,
    load_settings,
    recipe_names,
    settings_hash,
    to_toml,
)
from velora.settings import Settings


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[lora]\nrnk = 3", r"unknown key `\$\.lora\.rnk`"),
        ("[lorra]\nrank = 3", r"unknown key `\$\.lorra`"),
        ("[lora]\nrank = 0", r">= 1 - at `\$\.lora\.rank`"),
        ("[lora]\nrank = 'four'", r"`\$\.lora\.rank`"),
        ("[train]\nlr = inf", r"`\$\.train\.lr`"),
        ("[train]\nlr = nan", r"`\$\.train\.lr`"),
        ("[model]\nstreams = 'all'", r"`\$\.model\.streams`"),
        ("[model]\nmode = 'compact'", r"`\$\.model\.mode`"),
        ("[model]\nweights = 'a'\nrandom_trunk = true", "exclude each other"),
        ("[model", "not valid TOML"),
    ],
)
def test_a_mistake_is_refused_with_the_file_and_the_key(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(EventKitError, match=reason) as caught:
        load_settings(str(path))

    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("model.backbone.depth", "model.backbone is a value, 'velora_tiny', and has no"),
        ("train.mixup.alpha.x", r"train\.mixup"),
    ],
)
def test_a_key_below_a_value_is_refused(key: str, reason: str) -> None:
    with pytest.raises(EventKitError, match=reason):
        load_settings("demo", {"train.mixup": 0.2, key: 3})


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EventKitError, match="default, demo, hardvs, nmnist, pokerevent"):
        load_settings("poker")


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_are_valid_and_come_back_from_toml_unchanged(
    name: str, tmp_path: Path
) -> None:
    short, settings = load_settings(name)
    path = tmp_path / "copy.toml"
    path.write_text(to_toml(settings))

    assert short == name
    assert load_settings(str(path)) == ("copy", settings)


def test_odd_strings_and_nested_settings_come_back_from_toml_unchanged(tmp_path: Path) -> None:
    kwargs = {"a": 'quote " back \\ tab \t', "b": True, "c": 1.5, "d": "é\x7f"}
    settings = load_settings("default", {"model.backbone_kwargs": kwargs, "train.lr": 1e-7})[1]
    path = tmp_path / "copy.toml"
    path.write_text(to_toml(settings))

    assert load_settings(str(path))[1] == settings


def test_the_command_line_overrides_a_recipe_and_is_checked_like_it() -> None:
    _, settings = load_settings("nmnist", {"train.lr": 0.5, "lora.rank": None})

    assert settings.train.lr == 0.5
    assert settings.lora.rank == load_settings("nmnist")[1].lora.rank
    with pytest.raises(EventKitError, match=r"command line.*`\$\.lora\.rank`"):
        load_settings("nmnist", {"lora.rank": 0})


def test_a_value_of_the_recipe_can_be_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\nweights = 'a.safetensors'")

    _, settings = load_settings(
        str(path), {"model.weights": msgspec.UNSET, "model.random_trunk": True}
    )

    assert (settings.model.weights, settings.model.random_trunk) == (None, True)


def test_the_hash_changes_with_settings_data_and_weights_but_not_with_their_path() -> None:
    def hashed(plan: str = "p", weights: str | None = None, **overrides: object) -> str:
        changes = {key.replace("__", "."): value for key, value in overrides.items()}
        settings = load_settings("default", changes)[1]
        return settings_hash(settings, plan_id=plan, weights_sha256=weights)

    hashes = {
        hashed(),
        hashed(plan="q"),
        hashed(train__lr=0.5),
        hashed(model__streams="rgb"),
        hashed(weights="00", model__weights="a"),
        hashed(weights="11", model__weights="a"),
    }

    assert len(hashes) == 6
    assert hashed(weights="00", model__weights="a") == hashed(weights="00", model__weights="b")


def test_differences_are_named_by_key() -> None:
    other = load_settings("default", {"train.lr": 0.5})[1]

    assert differing_keys(load_settings("default")[1], other) == ["train.lr: 0.001 and 0.5"]
    assert differing_keys(Settings(), Settings()) == []
