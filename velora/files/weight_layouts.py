"""The layouts in which pretrained ViTs are published, and their way to the names of timm.

A layout is a table: how its names are called in timm, and which are of no use to a trunk, and why.
What no line of the table knows is an error, so that nothing is lost by accident.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eventkit.errors import SettingsError

_TEXT = "of the text side"
_TASK = "the head of its old task, which the run's own replaces"
_MASK = "stands for patches that training hides"
_SCALAR = "no part of the image side"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way to name the tensors of a ViT.

    Parameters
    ----------
    name : str
    sign : str
        The name of a tensor that tells this layout; what stands before it in a file stands before
        all names of the image side.
    renamed : mapping pattern -> template
        Of whole names; numbers of blocks are groups.
    unused : mapping pattern -> reason
    """

    name: str
    sign: str
    renamed: Mapping[str, str]
    unused: Mapping[str, str] = field(default_factory=dict)


_KIND = r"(weight|bias)"
_OF_TIMM = {r"(.+)": r"\1"}

LAYOUTS = (
    Layout(
        name="Hugging Face ViT, DeiT or DINOv2",
        sign="embeddings.patch_embeddings.projection.weight",
        renamed={
            r"embeddings\.cls_token": "cls_token",
            r"embeddings\.distillation_token": "dist_token",
            r"embeddings\.register_tokens": "register_tokens",
            r"embeddings\.position_embeddings": "pos_embed",
            rf"embeddings\.patch_embeddings\.projection\.{_KIND}": r"patch_embed.proj.\1",
            rf"encoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)[a-z]+\.{_KIND}": (
                r"blocks.\1.attn.\2.\3"
            ),
            rf"encoder\.layer\.(\d+)\.attention\.output\.dense\.{_KIND}": r"blocks.\1.attn.proj.\2",
            rf"encoder\.layer\.(\d+)\.layernorm_before\.{_KIND}": r"blocks.\1.norm1.\2",
            rf"encoder\.layer\.(\d+)\.layernorm_after\.{_KIND}": r"blocks.\1.norm2.\2",
            rf"encoder\.layer\.(\d+)\.intermediate\.dense\.{_KIND}": r"blocks.\1.mlp.fc1.\2",
            rf"encoder\.layer\.(\d+)\.output\.dense\.{_KIND}": r"blocks.\1.mlp.fc2.\2",
            rf"encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.{_KIND}": r"blocks.\1.\2.\3",
            rf"encoder\.layer\.(\d+)\.mlp\.weights_in\.{_KIND}": r"blocks.\1.mlp.fc1.\2",
            rf"encoder\.layer\.(\d+)\.mlp\.weights_out\.{_KIND}": r"blocks.\1.mlp.fc2.\2",
            r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
            rf"layernorm\.{_KIND}": r"norm.\1",
        },
        unused={
            r"embeddings\.mask_token": _MASK,
            r"pooler\..+": _TASK,
            r"(.+_)?classifier\..+": _TASK,
        },
    ),
    Layout(
        name="Hugging Face CLIP or SigLIP",
        sign="embeddings.patch_embedding.weight",
        renamed={
            r"embeddings\.class_embedding": "cls_token",
            r"embeddings\.position_embedding\.weight": "pos_embed",
            rf"embeddings\.patch_embedding\.{_KIND}": r"patch_embed.proj.\1",
            rf"pre_layrnorm\.{_KIND}": r"norm_pre.\1",
            rf"post_layernorm\.{_KIND}": r"norm.\1",
            rf"encoder\.layers\.(\d+)\.layer_norm([12])\.{_KIND}": r"blocks.\1.norm\2.\3",
            rf"encoder\.layers\.(\d+)\.self_attn\.(q|k|v)_proj\.{_KIND}": r"blocks.\1.attn.\2.\3",
            rf"encoder\.layers\.(\d+)\.self_attn\.out_proj\.{_KIND}": r"blocks.\1.attn.proj.\2",
            rf"encoder\.layers\.(\d+)\.mlp\.fc([12])\.{_KIND}": r"blocks.\1.mlp.fc\2.\3",
            r"head\.probe": "attn_pool.latent",
            rf"head\.attention\.in_proj_{_KIND}": r"attn_pool.qkv.\1",
            rf"head\.attention\.out_proj\.{_KIND}": r"attn_pool.proj.\1",
            rf"head\.layernorm\.{_KIND}": r"attn_pool.norm.\1",
            rf"head\.mlp\.fc([12])\.{_KIND}": r"attn_pool.mlp.fc\1.\2",
        },
        unused={
            r"embeddings\.position_ids": _SCALAR,
            r"text_model\..+|text_projection\.weight": _TEXT,
            r"visual_projection\.weight|classifier\..+": _TASK,
            r"logit_(scale|bias)": _SCALAR,
        },
    ),
    Layout(
        name="OpenAI CLIP or OpenCLIP",
        sign="visual.conv1.weight",
        renamed={
            r"visual\.class_embedding": "cls_token",
            r"visual\.positional_embedding": "pos_embed",
            rf"visual\.conv1\.{_KIND}": r"patch_embed.proj.\1",
            rf"visual\.ln_pre\.{_KIND}": r"norm_pre.\1",
            rf"visual\.ln_post\.{_KIND}": r"norm.\1",
            rf"visual\.transformer\.resblocks\.(\d+)\.ln_([12])\.{_KIND}": r"blocks.\1.norm\2.\3",
            rf"visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_{_KIND}": (
                r"blocks.\1.attn.qkv.\2"
            ),
            rf"visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.{_KIND}": (
                r"blocks.\1.attn.proj.\2"
            ),
            rf"visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.{_KIND}": r"blocks.\1.mlp.fc1.\2",
            rf"visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.{_KIND}": (
                r"blocks.\1.mlp.fc2.\2"
            ),
            r"visual\.transformer\.resblocks\.(\d+)\.ls_([12])\.gamma": r"blocks.\1.ls\2.gamma",
        },
        unused={
            r"visual\.proj": _TASK,
            r"(text|transformer|token_embedding|ln_final)\..+": _TEXT,
            r"positional_embedding|text_projection(\.weight|\.bias)?|attn_mask": _TEXT,
            r"logit_(scale|bias)|input_resolution|context_length|vocab_size": _SCALAR,
        },
    ),
    Layout(
        name="OpenCLIP around a model of timm",
        sign="visual.trunk.patch_embed.proj.weight",
        renamed={r"visual\.trunk\.(.+)": r"\1"},
        unused={
            r"visual\.head\..+": _TASK,
            r"(text|transformer|token_embedding|ln_final)\..+": _TEXT,
            r"positional_embedding|text_projection(\.weight|\.bias)?|attn_mask": _TEXT,
            r"logit_(scale|bias)": _SCALAR,
        },
    ),
    Layout(
        name="timm or DINOv2 of the torch hub",
        sign="patch_embed.proj.weight",
        renamed={
            r"blocks\.\d+\.(\d+)\.(.+)": r"blocks.\1.\2",  # blocks in chunks
            rf"blocks\.(\d+)\.mlp\.w12\.{_KIND}": r"blocks.\1.mlp.fc1.\2",
            rf"blocks\.(\d+)\.mlp\.w3\.{_KIND}": r"blocks.\1.mlp.fc2.\2",
            **_OF_TIMM,
        },
        unused={
            r"mask_token": _MASK,
            r"(head|head_dist|dino_head|ibot_head)\..+": _TASK,
        },
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """Tensors under the names of timm; ``unused`` gives the reason for each that is left out."""

    layout: str
    tensors: dict[str, Tensor]
    unused: dict[str, str]


def translate(tensors: Mapping[str, Tensor], *, where: str) -> Translated:
    """Bring the tensors of a file to the names of timm.

    Raises
    ------
    SettingsError
        If the layout is none that is known, or has tensors that it should not have.
    """
    layout, prefix = _recognised(tensors, where)
    found: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    strange = []
    for name, tensor in sorted(tensors.items()):
        own = name.removeprefix(prefix)
        reason = _first(layout.unused, own) or _first(layout.unused, name)
        renamed = _first(layout.renamed, own) if name.startswith(prefix) else None
        if reason is not None:
            unused[name] = reason
        elif renamed is None:
            strange.append(name)
        elif renamed in found:
            msg = f"{where} has two tensors for {renamed} of timm; it holds more than one model"
            raise SettingsError(msg)
        else:
            found[renamed] = tensor
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        msg = (
            f"{where} is a {layout.name} file with tensors that such a model does not have: "
            f"{', '.join(strange[:3])}{more}"
        )
        raise SettingsError(msg)
    return Translated(layout=layout.name, tensors=_shaped(found), unused=unused)


def _recognised(tensors: Mapping[str, Tensor], where: str) -> tuple[Layout, str]:
    for layout in LAYOUTS:
        for name in sorted(tensors):
            if name == layout.sign or name.endswith(f".{layout.sign}"):
                return layout, name.removesuffix(layout.sign)
    some = ", ".join(sorted(tensors)[:3]) or "no tensors"
    msg = (
        f"{where} is in no layout that is known here ({'; '.join(x.name for x in LAYOUTS)}): it "
        f"holds {some}"
    )
    raise SettingsError(msg)


def _first(table: Mapping[str, str], name: str) -> str | None:
    """Return what the first pattern that fits the whole name makes of it."""
    for pattern, template in table.items():
        match = re.fullmatch(pattern, name)
        if match is not None:
            return match.expand(template)
    return None


def _shaped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join what timm keeps in one, part what it keeps apart, and add the axes it has more."""
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        qkv = re.fullmatch(r"(blocks\.\d+\.attn)\.(q|k|v)\.(weight|bias)", name)
        pool = re.fullmatch(r"attn_pool\.qkv\.(weight|bias)", name)
        if qkv is not None:
            parts = [tensors.get(f"{qkv[1]}.{part}.{qkv[3]}") for part in "qkv"]
            if all(part is not None for part in parts):
                made[f"{qkv[1]}.qkv.{qkv[3]}"] = torch.cat([p for p in parts if p is not None])
            else:
                made[name] = tensor
        elif pool is not None:
            width = len(tensor) // 3
            made[f"attn_pool.q.{pool[1]}"] = tensor[:width]
            made[f"attn_pool.kv.{pool[1]}"] = tensor[width:]
        elif name in ("cls_token", "pos_embed"):
            made[name] = tensor.reshape(1, -1, tensor.shape[-1])
        else:
            made[name] = tensor
    if "register_tokens" in made:
        # timm has positions for patches only where there are registers.
        made["reg_token"] = made.pop("register_tokens")
        made["cls_token"] = made["cls_token"] + made["pos_embed"][:, :1]
        made["pos_embed"] = made["pos_embed"][:, 1:]
    return made
