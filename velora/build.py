"""A model and its trunk, as the settings say."""

from __future__ import annotations

import torch

from eventkit.errors import SettingsError
from velora.compat import build_compat
from velora.model.backbone import TrunkSource, build_trunk
from velora.model.classifier import Classifier
from velora.model.paper import VELoRA
from velora.settings import Settings


def build_model(
    settings: Settings, *, num_classes: int, device: torch.device
) -> tuple[Classifier, TrunkSource]:
    """Build trunk and model as the settings say; the same settings give the same start."""
    m = settings.model
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
    """``auto`` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        msg = "no CUDA device is to be had here; use --device cpu"
        raise SettingsError(msg)
    return torch.device(name)
