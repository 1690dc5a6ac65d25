"""The frozen trunk: any plain ViT of timm, split into low and high blocks.

Every size comes from the timm model. The trunk owns no adapters; ``velora.model.paper`` adds them.
Weights come from a local file, from this package, from timm's own hub, or - only when asked for by
name - from a seeded random generator; never silently from chance.

    M rows (images), N tokens (prefix + patches), P prefix tokens, D width, L blocks
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import socket
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eventkit.errors import FormatError, MissingDataError, SettingsError
from velora._torchvision import ensure_torchvision
from velora.model.quick_gelu import QuickGELU
from velora.model.trunk import Trunk, Vit
from velora.out_of_memory import is_out_of_memory
from velora.weights import find, names, timm_model

ensure_torchvision()

import timm  # noqa: E402  (needs the line above)
from timm.models.eva import Eva  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

logger = logging.getLogger(__name__)

_VIT_MODULES = frozenset({"vision_transformer", "eva", "deit"})

#: How timm refuses arguments: it asserts that widths divide, looks layers up by name and divides by
#: patch sizes. ValueError and RuntimeError are those of the hub too.
NOT_TAKEN = (TypeError, AssertionError, LookupError, ArithmeticError)

_HOW_TO_GET_WEIGHTS = (
    "give --weights FILE (a local safetensors file of this model), run once where the hub can be "
    "reached so that its cache has them, take the small trunk of this package with --backbone "
    "velora_tiny, or ask for an untrained trunk with --random-trunk"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkSource:
    """Where the trunk's weights came from; enough to build the same trunk again.

    ``sha256`` covers every tensor but the position embedding, which is resampled to the picture
    size and may differ in the last bit between machines.
    """

    kind: Literal["file", "package", "pretrained", "random"]
    backbone: str
    origin: str
    sha256: str


def build_trunk(
    backbone: str,
    *,
    num_high: int,
    weights: str | None = None,
    random_seed: int | None = None,
    img_size: int | None = None,
    backbone_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Trunk, TrunkSource]:
    """Build the frozen trunk and say where its weights came from.

    Parameters
    ----------
    backbone : str
        A timm model name, or that of a trunk in ``velora.weights``.
    num_high : int
        Number of last blocks that see all streams together.
    weights : str, optional
        A local safetensors file, loaded strictly; positions are resampled to the picture size.
    random_seed : int, optional
        Draw the weights from this seed. Without it and without ``weights``, the published ones are
        used: of this package, or timm's.
    img_size : int, pixels, optional
        The model's own when not given.
    backbone_kwargs : mapping, optional
        Passed on to ``timm.create_model``.

    Raises
    ------
    SettingsError
        If the name is unknown, the model is no plain ViT, or weights are missing or do not fit.
    """
    embedded = find(backbone)
    name, kwargs = timm_model(backbone, backbone_kwargs or {})
    if img_size is not None:
        kwargs["img_size"] = img_size
    pretrained = weights is None and random_seed is None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed or 0)
        vit = _create(name, kwargs, pretrained=pretrained and embedded is None)
    _check_sizes(vit, backbone)
    kind: Literal["file", "package", "pretrained", "random"] = "pretrained"
    origin = str(vit.pretrained_cfg.get("hf_hub_id") or vit.pretrained_cfg.get("url") or backbone)
    if weights is not None:
        kind, origin = "file", weights
        _load_file(vit, Path(weights), backbone)
    elif random_seed is not None:
        kind, origin = "random", f"seed {random_seed}"
    elif embedded is not None:
        kind, origin = "package", f"velora.weights, sha256 {embedded.sha256[:12]}"
        embedded.check()
        _load_file(vit, embedded.path, backbone)
    sha256 = _digest(vit)
    # Pooling and classifier of the trunk's old task; the head of the model replaces them.
    vit.head = nn.Identity()
    if getattr(vit, "attn_pool", None) is not None:
        vit.attn_pool = None
    _unfuse_qkv_bias(vit)
    for block in vit.blocks:
        if isinstance(getattr(block.mlp, "act", None), timm.layers.QuickGELU):
            block.mlp.act = QuickGELU()
    source = TrunkSource(kind=kind, backbone=backbone, origin=origin, sha256=sha256)
    return Trunk(vit, num_high=num_high), source


def _create(backbone: str, kwargs: dict[str, Any], *, pretrained: bool) -> Vit:
    if not timm.is_model(backbone):
        known = [*timm.list_models(), *names()]
        near = difflib.get_close_matches(backbone.split(".")[0], known, n=3)
        hint = f"; close names: {', '.join(near)}" if near else ""
        msg = f"neither timm nor this package has a model {backbone!r}{hint}"
        raise SettingsError(msg)
    entrypoint = timm.models.model_entrypoint(backbone.split(".")[0])
    if entrypoint.__module__.rsplit(".", 1)[-1] not in _VIT_MODULES:
        raise SettingsError(_not_a_vit(backbone))
    if pretrained:
        cfg = timm.get_pretrained_cfg(backbone)
        if cfg is None or not cfg.has_weights:
            msg = f"timm has no pretrained weights for {backbone}: {_HOW_TO_GET_WEIGHTS}"
            raise SettingsError(msg)
        _go_offline_if_unreachable()
    try:
        vit = timm.create_model(backbone, pretrained=pretrained, num_classes=0, **kwargs)
    except (OSError, RuntimeError, ValueError) as error:
        # hub errors are OSError (not found, offline), RuntimeError (bad hash, wrong shapes)
        # and ValueError; all mean the same to the user.
        if is_out_of_memory(error):
            raise
        if not pretrained:
            raise SettingsError(not_taken(backbone, kwargs, error)) from error
        msg = f"the pretrained weights of {backbone} could not be had: {_HOW_TO_GET_WEIGHTS}"
        raise SettingsError(msg) from error
    except NOT_TAKEN as error:
        raise SettingsError(not_taken(backbone, kwargs, error)) from error
    parts = ("attn", "mlp")
    if not isinstance(vit, VisionTransformer | Eva) or not all(
        hasattr(block, part) for block in vit.blocks for part in parts
    ):
        raise SettingsError(_not_a_vit(backbone))
    return vit


def not_taken(backbone: str, kwargs: Mapping[str, Any], error: Exception) -> str:
    """Say which arguments ``timm.create_model`` refused."""
    given = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
    return (
        f"{backbone} does not take model.backbone_kwargs or img_size as given ({given}): "
        f"{type(error).__name__} {error}".rstrip()
    )


def _not_a_vit(backbone: str) -> str:
    return (
        f"{backbone} is not a plain ViT (timm's VisionTransformer or Eva with .blocks), which the "
        "streams need to share tokens; choose a vit_*, deit*, eva* or *_clip_* model"
    )


def _check_sizes(vit: Vit, backbone: str) -> None:
    if getattr(vit, "rope_mixed", False):
        msg = f"{backbone} learns its rotary positions per block, which joint blocks cannot repeat"
        raise SettingsError(msg)
    image, patch = vit.patch_embed.img_size, vit.patch_embed.patch_size
    if image is None or any(i % p for i, p in zip(image, patch, strict=True)):
        msg = f"model.img_size {image} must be a multiple of the patch size {patch} of {backbone}"
        raise SettingsError(msg)


def _go_offline_if_unreachable() -> None:
    """Make the hub client use its cache at once when its host cannot even be resolved.

    Otherwise it retries for most of a minute, printing, before it fails.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(constants.ENDPOINT.split("://")[-1].split("/")[0], 443)
    except OSError:
        logger.info("%s cannot be resolved: only cached weights are tried", constants.ENDPOINT)
        constants.HF_HUB_OFFLINE = True


def _load_file(vit: Vit, path: Path, backbone: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        msg = f"no weights file {path}; give --weights a safetensors file of {backbone}"
        raise MissingDataError(msg)
    try:
        state = load_file(path)
    except SafetensorError as error:
        msg = f"{path} is not a safetensors file ({error}); convert the checkpoint first"
        raise FormatError(msg) from error
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    adapt = getattr(sys.modules[type(vit).__module__], "checkpoint_filter_fn", None)
    if adapt is not None:
        try:
            state = adapt(state, vit)
        except (KeyError, RuntimeError, ValueError, AttributeError) as error:
            msg = f"{path} holds no weights of {backbone}: {error}"
            raise SettingsError(msg) from error
    classifier = vit.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    dropped = [n for n in state if n.startswith(tuple(f"{head}." for head in heads))]
    if dropped:
        logger.info("%s: the classifier %s is not used", path, ", ".join(dropped))
    _load_strictly(vit, {n: t for n, t in state.items() if n not in dropped}, path, backbone)


def _load_strictly(vit: Vit, state: Mapping[str, Tensor], path: Path, backbone: str) -> None:
    own = vit.state_dict()
    problems = {
        "missing": [n for n in own if n not in state],
        "unexpected": [n for n in state if n not in own],
        "of another shape": [
            f"{n} {tuple(state[n].shape)} instead of {tuple(t.shape)}"
            for n, t in own.items()
            if n in state and state[n].shape != t.shape
        ],
    }
    found = [f"{len(n)} {what} ({_few(n)})" for what, n in problems.items() if n]
    if found:
        msg = (
            f"{path} does not fit {backbone}: {'; '.join(found)}; "
            "give the --backbone (and model.backbone_kwargs) that these weights belong to"
        )
        raise SettingsError(msg)
    vit.load_state_dict(state)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _digest(vit: Vit) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(vit.state_dict().items()):
        if name != "pos_embed":
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _unfuse_qkv_bias(vit: Vit) -> None:
    # Eva's attention reads qkv.weight directly unless told to add its bias apart, and an adapter
    # on qkv would then train without any effect.
    for block in vit.blocks:
        if hasattr(block.attn, "qkv_bias_separate"):
            block.attn.qkv_bias_separate = True
