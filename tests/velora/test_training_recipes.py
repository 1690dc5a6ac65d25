"""The recipes of the package: complete, and with the numbers that they say they have."""

from __future__ import annotations

import importlib.resources

import pytest

from velora.config import load_settings, recipe_names
from velora.settings import ModelSettings
from velora.training.loaders import check_settings


def test_the_sets_of_the_paper_and_of_this_project_have_recipes() -> None:
    assert {"default", "demo", "hardvs", "nmnist", "pokerevent"} <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_whole_and_says_why(name: str) -> None:
    text = (importlib.resources.files("velora") / "recipes" / f"{name}.toml").read_text()

    _, settings = load_settings(name)

    check_settings(settings)
    assert text.startswith("# ")
    assert settings.model.moving == ("rgb", "event")


@pytest.mark.parametrize("name", ["pokerevent", "hardvs", "default"])
def test_recipes_for_the_paper_have_the_adapters_and_the_shift_of_its_release(name: str) -> None:
    _, settings = load_settings(name)

    lora = settings.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (4, 8.0, 0.01)
    assert lora.targets == ("fc1", "fc2")
    assert settings.data.shift == pytest.approx(10 / 224, abs=5e-4)
    assert settings.train.weight_decay == 1e-4
    assert settings.model.backbone == "vit_base_patch16_clip_quickgelu_224.openai"


@pytest.mark.parametrize(
    ("settings", "moving"),
    [
        (ModelSettings(), ("rgb", "event")),
        (ModelSettings(difference="event"), ("event",)),
        (ModelSettings(difference="none"), ()),
        (ModelSettings(streams="rgb"), ("rgb",)),
    ],
)
def test_the_senses_that_move_are_those_that_the_model_looks_at(
    settings: ModelSettings, moving: tuple[str, ...]
) -> None:
    assert settings.moving == moving
