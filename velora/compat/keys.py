"""The names under which the release saves its tensors, and where each of them lies here.

A checkpoint of the release holds four state dicts: the head, and the three CLIP models as PEFT 0.10
names them. Every one of its tensors is a view of one of ours, except the frozen text towers, which
nothing computes with: their names and shapes are known here, their values are not kept.

    C classes, L blocks of the visual tower, N tokens, p width of CLIP's space
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from velora.compat.model import CompatVELoRA
from velora.compat.towers import TEXT_LAYERS, TEXT_WIDTH

HEAD = "model_state_dict"
# In the order of the streams.
TOWERS = ("ViT_model_state_dict", "Event_ViT_model_state_dict", "frame_ViT_model_state_dict")
# Beside the four state dicts.
OTHERS = ("optimizer_state_dict", "epoch")

PREFIX = "base_model.model."
_CONTEXT, _VOCABULARY = 77, 49408


class Place(NamedTuple):
    """A tensor of ours by name, and the part of it that is meant."""

    name: str
    index: Any = ...

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the part as a view."""
        part: Tensor = tensors[self.name][self.index]
        return part


def head_places(model: CompatVELoRA) -> dict[str, Place]:
    """Return the places of the names of the head."""
    places: dict[str, Place] = {}
    for release, own in {
        "blocks.0": "rec",
        "fuse_blocks.0": "fuse",
        "norm": "norm",
        "visual_embed": "visual_embed",
        "self_attention": "self_attention",
        "fc1": "head",
    }.items():
        for name in model.get_submodule(own).state_dict():
            places[f"{release}.{name}"] = Place(f"{own}.{name}")
    for group, stream in enumerate(("rgb", "event", "frame")):
        places[f"{stream}_embed"] = Place("stream_embed", (None, slice(group, group + 1)))
    for name in model.unused.state_dict():
        places[name] = Place(f"unused.{name}")
    return places


def tower_places(model: CompatVELoRA, group: int) -> dict[str, Place]:
    """Return the places of the names of a tower, the frozen text tower left out."""
    vit = "towers.trunk.vit."
    places = {
        "visual.class_embedding": Place(f"{vit}cls_token", (0, 0)),
        "visual.positional_embedding": Place(f"{vit}pos_embed", 0),
        "visual.proj": Place("towers.projection"),
        "visual.conv1.weight": Place(f"{vit}patch_embed.proj.weight"),
    }
    for kind in ("weight", "bias"):
        places[f"visual.ln_pre.{kind}"] = Place(f"{vit}norm_pre.{kind}")
        places[f"visual.ln_post.{kind}"] = Place(f"{vit}norm.{kind}")
    for i in range(len(model.towers.trunk.vit.blocks)):
        block = _block_places(f"{vit}blocks.{i}.", group)
        places |= {f"visual.transformer.resblocks.{i}.{n}": p for n, p in block.items()}
    if model.text is not None:
        for i in range(TEXT_LAYERS):
            for layer in ("c_fc", "c_proj"):
                name = f"transformer.resblocks.{i}.mlp.{layer}"
                places[f"{name}.lora_A.default.weight"] = Place(f"text.{layer}_a", (group, i))
                places[f"{name}.lora_B.default.weight"] = Place(f"text.{layer}_b", (group, i))
    return {PREFIX + name: place for name, place in places.items()}


def _block_places(block: str, group: int) -> dict[str, Place]:
    places = {}
    for kind in ("weight", "bias"):
        places[f"ln_1.{kind}"] = Place(f"{block}norm1.{kind}")
        places[f"ln_2.{kind}"] = Place(f"{block}norm2.{kind}")
        places[f"attn.in_proj_{kind}"] = Place(f"{block}attn.qkv.{kind}")
        places[f"attn.out_proj.{kind}"] = Place(f"{block}attn.proj.{kind}")
        for release, own in (("c_fc", "fc1"), ("c_proj", "fc2")):
            places[f"mlp.{release}.base_layer.{kind}"] = Place(f"{block}mlp.{own}.base.{kind}")
    for release, own in (("c_fc", "fc1"), ("c_proj", "fc2")):
        places[f"mlp.{release}.lora_A.default.weight"] = Place(f"{block}mlp.{own}.lora_a", group)
        places[f"mlp.{release}.lora_B.default.weight"] = Place(f"{block}mlp.{own}.lora_b", group)
    return places


def text_shapes(*, space: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a frozen text tower of CLIP ViT-B/16, by the release's names."""
    d = TEXT_WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (_CONTEXT, d),
        "text_projection": (d, space),
        "logit_scale": (),
        "token_embedding.weight": (_VOCABULARY, d),
        "ln_final.weight": (d,),
        "ln_final.bias": (d,),
    }
    layer = {
        "attn.in_proj": (3 * d, d),
        "attn.out_proj": (d, d),
        "mlp.c_fc.base_layer": (4 * d, d),
        "mlp.c_proj.base_layer": (d, 4 * d),
    }
    for i in range(TEXT_LAYERS):
        block = f"transformer.resblocks.{i}."
        for name, shape in layer.items():
            joint = "_" if name.endswith("in_proj") else "."
            shapes[f"{block}{name}{joint}weight"] = shape
            shapes[f"{block}{name}{joint}bias"] = shape[:1]
        for norm in ("ln_1", "ln_2"):
            shapes[f"{block}{norm}.weight"] = shapes[f"{block}{norm}.bias"] = (d,)
    return {PREFIX + name: shape for name, shape in shapes.items()}
