"""The released model and its trunk, as the settings say."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from eventkit.errors import SettingsError
from velora.compat.model import CompatVELoRA
from velora.compat.towers import TARGETS
from velora.model.backbone import TrunkSource, build_trunk, timm
from velora.model.lora import Adapter
from velora.model.trunk import Trunk
from velora.settings import LoraSettings, ModelSettings, Settings
from velora.weights import find

# Where the layouts of CLIP keep the projection of the visual tower; True where as (p, D).
_PROJECTIONS = {"head.weight": True, "visual.proj": False, "visual.head.proj.weight": True}


def build_compat(settings: Settings, *, num_classes: int) -> tuple[CompatVELoRA, TrunkSource]:
    """Build trunk and model; the same settings give the same start.

    ``model.high_blocks`` has no meaning here and is not looked at.

    Raises
    ------
    SettingsError
        If a setting asks for what the release has not, the backbone is no CLIP ViT, or its weights
        have no projection.
    """
    m, lora = settings.model, settings.lora
    _check(m, lora)
    seed = settings.train.seed
    trunk, source = build_trunk(
        m.backbone,
        num_high=1,
        weights=m.weights,
        random_seed=seed if m.random_trunk else None,
        img_size=m.img_size,
        backbone_kwargs=m.backbone_kwargs,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projection = _projection(m, trunk)
        model = CompatVELoRA(
            trunk,
            projection,
            num_classes=num_classes,
            adapter=Adapter(lora.rank, lora.alpha, lora.dropout),
            compat=settings.compat,
            reconstruct=m.rec_weight > 0,
        )
    digest = hashlib.sha256(source.sha256.encode())
    digest.update(projection.contiguous().view(torch.uint8).numpy())
    return model, dataclasses.replace(source, sha256=digest.hexdigest())


def _check(m: ModelSettings, lora: LoraSettings) -> None:
    wanted = {
        "model.fusion": (m.fusion, "joint"),
        "model.streams": (m.streams, "fusion"),
        "model.difference": (m.difference, "both"),
        "model.temporal": (m.temporal, "mean"),
        "model.tuning": (m.tuning, "lora"),
        "model.trunks": (m.trunks, "shared"),
        "model.head_dropout": (m.head_dropout, 0.0),
        "model.keep_tokens": (m.keep_tokens, 1.0),
        "lora.targets": (tuple(sorted(lora.targets)), TARGETS),
        "lora.skip_blocks": (lora.skip_blocks, 0),
        "lora.shared": (lora.shared, True),
        "lora.train_a": (lora.train_a, True),
    }
    wrong = [f"{name} = {got!r}" for name, (got, only) in wanted.items() if got != only]
    if wrong:
        msg = (
            f"mode = 'compat' is what the release computes and has no {', '.join(wrong)}; "
            "leave that out, or choose mode = 'paper'"
        )
        raise SettingsError(msg)


def _projection(m: ModelSettings, trunk: Trunk) -> Tensor:
    """(D, p) float32: from the file or the hub, as the trunk itself, or drawn."""
    width = trunk.width
    if m.weights is not None:
        return _from_file(Path(m.weights), width)
    if m.random_trunk:
        return torch.randn(width, trunk.vit.pretrained_cfg["num_classes"]) * width**-0.5
    if find(m.backbone) is not None:
        raise SettingsError(_no_projection(m.backbone))
    # Its own weights are in the hub's cache by now.
    head = timm.create_model(m.backbone, pretrained=True).head
    if not isinstance(head, nn.Linear):
        raise SettingsError(_no_projection(m.backbone))
    return _checked(head.weight.detach().T, head.bias, width, m.backbone)


def _from_file(path: Path, width: int) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        bias = file.get_tensor("head.bias") if "head.bias" in names else None
        for name, transposed in _PROJECTIONS.items():
            if name in names:
                tensor = file.get_tensor(name).float()
                return _checked(tensor.T if transposed else tensor, bias, width, str(path))
    raise SettingsError(_no_projection(str(path)))


def _no_projection(where: str) -> str:
    return (
        f"{where} has no projection into CLIP's space, which mode = 'compat' needs: expected "
        f"{', '.join(_PROJECTIONS)}; give the weights of a whole CLIP visual tower"
    )


def _checked(projection: Tensor, bias: Tensor | None, width: int, where: str) -> Tensor:
    if bias is not None and bool(bias.any()):
        msg = f"{where}: its head is a classifier (its bias is not zero), not CLIP's projection"
        raise SettingsError(msg)
    if projection.ndim != 2 or projection.shape[0] != width:
        msg = f"{where}: expected a projection from {width}, got {tuple(projection.shape)}"
        raise SettingsError(msg)
    return projection.contiguous()
