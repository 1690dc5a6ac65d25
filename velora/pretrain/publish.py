"""Weights and all that is to be known of them, as package data.

<name>.safetensors  fp16, the names of timm's state dict, without the classifier
<name>.json         the model, recipe, log, probe numbers, licences, and the hash of the weights
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor

from eventkit.atomic import write_atomic
from eventkit.errors import MissingDataError, SettingsError
from velora.pretrain.images import DEBIAN_FOLDER, LICENCES
from velora.pretrain.probe import SIDE, Probe, probe
from velora.pretrain.recipe import MEAN, NAME, STD, TIMM_KWARGS, TIMM_NAME, Recipe
from velora.pretrain.train import CHECKPOINT, LOG, Line, read_log

# Lines of the log that are kept.
_LINES = 100


def publish(
    run: Path,
    folder: Path,
    *,
    data: Path = DEBIAN_FOLDER,
    pairs: Path | None = None,
    side: int = SIDE,
) -> list[Probe]:
    """Write the weights of a finished run, probe them, and write the page beside them.

    Parameters
    ----------
    run : Path
        Folder of `velora.pretrain.train.train`.
    folder : Path
        Receives the two files.
    data, pairs, side
        See `velora.pretrain.probe.probe`.

    Returns
    -------
    list of Probe

    Raises
    ------
    MissingDataError, SettingsError
        If there is no run, or it is not finished.
    """
    checkpoint = run / CHECKPOINT
    if not checkpoint.exists():
        msg = f"no {checkpoint}; train first, with --out {run}"
        raise MissingDataError(msg)
    state = torch.load(checkpoint, weights_only=True)
    recipe = msgspec.convert(state["recipe"], Recipe)
    if state["step"] < recipe.steps:
        msg = f"{checkpoint} is at step {state['step']} of {recipe.steps}; train to the end first"
        raise SettingsError(msg)
    weights = folder / f"{NAME}.safetensors"
    write_atomic(weights, save(published(state["averaged"])))
    probes = probe(weights, data=data, pairs=pairs, side=side)
    page = {
        "name": NAME,
        "model": TIMM_NAME,
        "kwargs": TIMM_KWARGS,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "parameters": sum(value.numel() for value in published(state["averaged"]).values()),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "recipe": msgspec.to_builtins(recipe),
        "images_sha256": state["images"],
        "seconds": round(state["seconds"]),
        "torch": torch.__version__,
        "log": thinned(read_log(run / LOG)),
        "probe_side": side,
        "probes": [_as_page(found) for found in probes],
        "licences": list(LICENCES),
    }
    write_atomic(folder / f"{NAME}.json", f"{json.dumps(page, indent=1)}\n".encode())
    return probes


def published(averaged: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in fp16, without the classifier of the pretraining."""
    return {
        name: value.half().contiguous()
        for name, value in averaged.items()
        if not name.startswith("head.")
    }


def thinned(log: list[Line]) -> list[Line]:
    """Return at most 100 lines, evenly spaced, the last one among them."""
    step = max(1, -(-len(log) // _LINES))
    return log[::-1][::step][::-1]


def _as_page(found: Probe) -> dict[str, Any]:
    return {**msgspec.to_builtins(found), "error": round(found.error, 4)}
