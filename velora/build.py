"""A model and its trunk, as the settings say."""

from __future__ import annotations

import re

import msgspec
import torch

from eventkit.errors import SettingsError
from velora.compat import build_compat
from velora.model.backbone import TrunkSource, build_trunk
from velora.model.classifier import Classifier
from velora.model.paper import VELoRA
from velora.settings import Settings


def build_model(
    settings: Settings, *, num_classes: int, device: torch.device, num_bins: int | None = None
) -> tuple[Classifier, TrunkSource]:
    """Build trunk and model as the settings say; the same settings give the same start.

    ``num_bins`` are the frames of a clip in its shards. Where a single one is looked at, nothing
    differs from anything: ``mode = "paper"`` then has no difference stream, which would be counted
    among what trains and never receive a gradient.
    """
    m = settings.model
    if (settings.data.frames or num_bins) == 1:
        m = msgspec.structs.replace(m, difference="none")
    if m.mode == "compat":
        compat, source = build_compat(settings, num_classes=num_classes)
        return compat.to(device), source
    trunk, source = build_trunk(
        m.backbone,
        num_high=m.high_blocks,
        weights=m.weights,
        random_seed=settings.train.seed if m.random_trunk else None,
        img_size=m.img_size,
        backbone_kwargs=m.backbone_kwargs,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train.seed)
        model = VELoRA(trunk, num_classes=num_classes, settings=m, lora=settings.lora)
    return model.to(device), source


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one.

    Raises
    ------
    SettingsError
        For a name other than ``auto``, ``cpu``, ``cuda`` and ``cuda:N``, and where there is no such
        GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        msg = f"expected a device among auto, cpu, cuda and cuda:N, got {name!r}"
        raise SettingsError(msg)
    device = torch.device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        msg = "no CUDA device is to be had here; use --device cpu"
        raise SettingsError(msg)
    if device.index is not None and device.index >= count:
        msg = f"expected a CUDA device below cuda:{count}, got {name}; there are {count}"
        raise SettingsError(msg)
    return device
