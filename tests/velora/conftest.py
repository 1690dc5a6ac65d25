"""Fixtures of the tests of velora: shard folders and a recipe that trains in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from velora_helpers import TINY_RECIPE, make_sample, write_shards

# The cores are shared, and two threads that wait for each other are slower than one.
torch.set_num_threads(1)

ShardMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def make_shards(tmp_path_factory: pytest.TempPathFactory) -> ShardMaker:
    """Return a maker of shard folders with three classes; see `make_sample` for the options."""

    def make(
        *,
        train: int = 24,
        val: int = 6,
        test: int = 9,
        labelled: bool = True,
        representation: str = "counts:eventkit",
        plan_id: str = "0123456789abcdef",
        classes: Mapping[int, str] | None = None,
        **options: Any,
    ) -> Path:
        splits = {}
        for number, (split, size) in enumerate((("train", train), ("val", val), ("test", test))):
            rng = np.random.default_rng(number)
            splits[split] = [
                make_sample(f"{split}_{i:03d}_000000", label=i % 3, rng=rng, **options)
                for i in range(size)
            ]
        names = {0: "low", 1: "middle", 2: "top"} if classes is None else classes
        folder = tmp_path_factory.mktemp("set") / "shards"
        filled = {split: samples for split, samples in splits.items() if samples}
        if not labelled:
            for samples in filled.values():
                for sample in samples:
                    object.__setattr__(sample, "label", -1)
            names = {}
        return write_shards(
            folder, filled, classes=names, representation=representation, plan_id=plan_id
        )

    return make


@pytest.fixture(scope="session")
def shards(make_shards: ShardMaker) -> Path:
    """Return a small set of counts with 3 bins and three classes."""
    return make_shards()


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """Return a recipe that trains in a second."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_RECIPE)
    return path
