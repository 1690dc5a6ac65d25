"""A run trained on real files: simulated recordings -> convert -> shard -> velora-train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from velora_helpers import TINY_RECIPE

import eventkit.cli
from velora.cli import train

BINS = 3


def invoke(command, *arguments: str | Path) -> str:
    """Run a command in this process and return what it printed."""
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def make_raw(folder: Path) -> Path:
    """Film bars with an event camera and an RGB camera: raw/<split>/<class>/<stem>."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("lying", "standing")):
            for i in range(count):
                image = rng.integers(0, 30, (40, 40, 3), dtype=np.uint8)
                image[(slice(16, 24), slice(None))[:: 1 - 2 * label]] = 220
                path = folder / "images" / split / name / f"{name}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    invoke(
        eventkit.cli.main_group,
        *("simulate", folder / "images", "--out", folder / "raw", "--size", "40x40"),
    )
    return folder / "raw"


def make_run(
    folder: Path,
    *,
    convert: tuple[str, ...] = (),
    shard: tuple[str, ...] = (),
    recipe: str = TINY_RECIPE,
) -> Path:
    """Make raw recordings, shards and a run below a folder; returns the run."""
    raw = make_raw(folder)
    store, shards = folder / "store", folder / "shards"
    bins = ("--bins", str(BINS), "--executor", "inline")
    invoke(eventkit.cli.main_group, "convert", raw, "--out", store, *bins, *convert)
    inline = ("--executor", "inline")
    invoke(eventkit.cli.main_group, "shard", store, "--out", shards, *inline, *shard)
    (folder / "tiny.toml").write_text(recipe)
    invoke(
        train,
        *("--shards", shards, "--recipe", folder / "tiny.toml", "--out", folder / "runs"),
        *("--device", "cpu", "--epochs", "1", "--name", "tiny", "--num-workers", "0"),
    )
    return folder / "runs" / "tiny"


def trained(factory: pytest.TempPathFactory) -> Path:
    """Return a run; made once a session, with ``raw`` and ``shards`` two folders above it."""
    folder = factory.getbasetemp() / "trained"
    if not (folder / "runs" / "tiny" / "result.json").is_file():
        make_run(folder)
    return folder / "runs" / "tiny"
