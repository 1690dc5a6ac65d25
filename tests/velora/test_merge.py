"""The merged model computes what the model with adapters computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from eventkit.errors import SettingsError
from velora.files.merge import DenseVELoRA
from velora.frames.frames import Frames
from velora.model.backbone import build_trunk, timm
from velora.model.lora import GroupedLowRank
from velora.model.paper import VELoRA
from velora.settings import LoraSettings, ModelSettings

SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 3}
NAMES = {
    "vit": ("vit_tiny_patch16_224", {**SMALL, "patch_size": 16}),
    "deep": ("vit_tiny_patch16_224", {**SMALL, "patch_size": 16, "depth": 4}),
    "gap": ("vit_medium_patch16_gap_240", SMALL),  # no CLS; its last norm is fc_norm
    "dinov3": ("vit_small_patch16_dinov3", SMALL),  # rotary, registers
}


def make_model(kind: str = "vit", *, lora: dict[str, Any] | None = None, **options: Any) -> VELoRA:
    """Return a model in float64 all of whose numbers are awake."""
    name, kwargs = NAMES[kind]
    trunk, _ = build_trunk(name, num_high=2, random_seed=0, img_size=32, backbone_kwargs=kwargs)
    torch.manual_seed(1)
    settings = LoraSettings(**(lora or {}))
    model = VELoRA(trunk, num_classes=5, settings=ModelSettings(**options), lora=settings)
    for module in model.modules():
        if isinstance(module, GroupedLowRank):
            nn.init.normal_(module.lora_b, std=0.3)
    for name, parameter in model.named_parameters():
        if name == "stream_embed" or name.startswith(("frame_pooling", "towers")):
            nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def random_pictures(*, clips: int = 3, frames: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(clips, frames, 3, 32, 32, generator=generator, dtype=torch.float64)


def as_frames(pictures: torch.Tensor) -> Frames:
    clips, frames = pictures.shape[:2]
    return Frames(pictures.flatten(0, 1), torch.arange(clips * frames).view(clips, frames))


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize(
    ("kind", "options", "lora"),
    [
        ("vit", {}, {}),
        ("vit", {}, {"targets": ("qkv", "proj", "fc1")}),
        ("vit", {}, {"targets": ("ffn",)}),
        ("vit", {}, {"shared": False}),
        ("deep", {}, {"skip_blocks": 1}),
        ("vit", {"fusion": "figure"}, {}),
        ("vit", {"fusion": "figure"}, {"shared": False}),
        ("vit", {"temporal": "attention"}, {}),
        ("vit", {"streams": "rgb"}, {}),
        ("vit", {"streams": "event", "difference": "none"}, {}),
        ("vit", {"difference": "rgb"}, {}),
        ("vit", {"tuning": "full", "trunks": "separate"}, {}),
        ("vit", {"tuning": "probe"}, {}),
        ("gap", {}, {}),
        ("dinov3", {}, {"targets": ("qkv", "fc2")}),
        ("dinov3", {"fusion": "figure"}, {}),
    ],
)
def test_merged_equals_unmerged(
    kind: str, options: dict[str, Any], lora: dict[str, Any], frames: int
) -> None:
    model = make_model(kind, lora=lora, **options)
    pictures = {
        sense: random_pictures(frames=frames, seed=seed) for seed, sense in enumerate(model.senses)
    }
    expected = model({sense: as_frames(p) for sense, p in pictures.items()}).logits

    dense = DenseVELoRA(model, frames=frames)

    assert dense.inputs == model.senses
    assert (dense(*pictures.values()) - expected).abs().max() < 1e-10
    assert not any(isinstance(m, GroupedLowRank) for m in dense.modules())


@torch.no_grad()
def test_stored_differences_are_an_input_of_their_own() -> None:
    model = make_model()
    rgb, event, diff = (random_pictures(frames=t, seed=t) for t in (4, 4, 3))
    frames = {"rgb": as_frames(rgb), "event": as_frames(event), "diff": as_frames(diff)}

    dense = DenseVELoRA(model, frames=4, stored_differences=True)

    assert dense.inputs == ("rgb", "event", "diff")
    assert (dense(rgb, event, diff) - model(frames).logits).abs().max() < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "gap"])
@pytest.mark.parametrize("stream", ["rgb", "event", "diff"])
def test_the_tensors_of_a_stream_are_a_timm_model(kind: str, stream: str) -> None:
    model = make_model(kind)
    tensors = DenseVELoRA(model, frames=3).named_tensors()
    name, kwargs = NAMES[kind]
    vit = timm.create_model(name, num_classes=0, img_size=32, **kwargs).double().eval()
    state = {
        key.removeprefix(prefix): tensor
        for prefix in (f"{stream}.", "high.")
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }

    vit.load_state_dict(state)  # strict: a whole model, and nothing besides

    pictures = random_pictures(clips=1)[0]
    trunk, own = model.trunk, model.streams.index(stream)
    sizes = [len(pictures) * (i == own) for i in range(3)]
    with model.row_groups(sizes, like=pictures):
        x = trunk.run(trunk.low, trunk.embed(pictures))
    expected = trunk.final_norm(trunk.run(trunk.high, x))
    tokens = vit.forward_features((pictures - trunk.mean) / trunk.std)
    tokens = vit.fc_norm(tokens) if kind == "gap" else tokens
    assert (tokens - expected).abs().max() < 1e-10
    others = {key for key in tensors if key.split(".")[0] not in (*model.streams, "high")}
    assert others == {
        "head.weight",
        "head.bias",
        *(f"stream_embed.{stream}" for stream in model.streams),
    }


def test_what_weights_cannot_hold_is_refused() -> None:
    dense = DenseVELoRA(make_model(lora={"targets": ("ffn",)}), frames=3)

    with pytest.raises(SettingsError, match="cannot be added to weights; export to onnx or torch"):
        dense.named_tensors()


def test_merging_leaves_the_model_as_it_was_and_shares_what_is_frozen() -> None:
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    dense = DenseVELoRA(model, frames=3)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    attention = dense.low["diff"].vit.blocks[0].attn.qkv.weight
    assert attention is model.trunk.vit.blocks[0].attn.qkv.weight
    assert not any(parameter.requires_grad for parameter in dense.parameters())
    assert model.head.weight.requires_grad
