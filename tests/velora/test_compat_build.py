"""The released model from settings: its start, its weights, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from test_compat_model import CLASSES, tiny_settings

from eventkit.errors import SettingsError
from velora.compat import CompatVELoRA, build_compat
from velora.model.backbone import timm


def test_the_same_settings_give_the_same_start_and_the_projection_counts_for_the_trunk() -> None:
    (first, source), (second, again) = (
        build_compat(tiny_settings(), num_classes=CLASSES) for _ in range(2)
    )

    assert source == again
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert first.towers.projection.shape == (24, 512)
    assert [n for n, p in first.towers.named_parameters() if p.requires_grad] == [
        f"trunk.vit.blocks.{i}.mlp.{layer}.{half}"
        for i in range(3) for layer in ("fc1", "fc2") for half in ("lora_a", "lora_b")
    ]  # fmt: skip


def test_weights_come_with_their_projection_or_are_refused(tmp_path: Path) -> None:
    drawn, _ = build_compat(tiny_settings(), num_classes=CLASSES)
    vit = {
        n.replace(".base.", "."): t.contiguous()
        for n, t in drawn.towers.trunk.vit.state_dict().items()
        if ".lora_" not in n
    }
    head = {"head.weight": torch.randn(7, 24), "head.bias": torch.zeros(7)}
    save_file(vit | head, tmp_path / "clip.safetensors")
    save_file(vit, tmp_path / "bare.safetensors")
    save_file(vit | head | {"head.bias": torch.ones(7)}, tmp_path / "classifier.safetensors")

    def build(name: str) -> CompatVELoRA:
        model = {"random_trunk": False, "weights": str(tmp_path / name)}
        return build_compat(tiny_settings(model=model), num_classes=CLASSES)[0]

    model = build("clip.safetensors")

    assert torch.equal(model.towers.projection, head["head.weight"].T)
    assert model.visual_embed.in_features == 7
    assert torch.equal(model.towers.trunk.vit.pos_embed, drawn.towers.trunk.vit.pos_embed)
    with pytest.raises(SettingsError, match=r"bare.safetensors has no projection"):
        build("bare.safetensors")
    with pytest.raises(SettingsError, match=r"classifier.safetensors.*bias"):
        build("classifier.safetensors")


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("model", "streams", "rgb"),
        ("model", "fusion", "figure"),
        ("model", "difference", "event"),
        ("model", "temporal", "attention"),
        ("model", "tuning", "full"),
        ("model", "head_dropout", 0.5),
        ("lora", "targets", ("qkv",)),
        ("lora", "skip_blocks", 1),
        ("lora", "shared", False),
        ("lora", "train_a", False),
    ],
)
def test_what_the_release_has_not_is_refused_by_name(table: str, key: str, value: object) -> None:
    settings = tiny_settings()
    changed = msgspec.structs.replace(getattr(settings, table), **{key: value})

    with pytest.raises(SettingsError, match=rf"compat.*{table}\.{key} = "):
        build_compat(msgspec.structs.replace(settings, **{table: changed}), num_classes=CLASSES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": "vit_tiny_patch16_224"}, "needs a CLIP ViT"),
        ({"img_size": 16}, "last 10 tokens, this trunk has 5"),
    ],
)
def test_a_trunk_that_cannot_do_it_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        build_compat(tiny_settings(model=change), num_classes=CLASSES)


@pytest.mark.long
def test_pretrained_weights_come_with_their_projection_from_the_hubs_cache(tmp_path: Path) -> None:
    name = "vit_base_patch16_clip_224.openai"
    vit = timm.create_model(name, weight_init="moco")
    torch.nn.init.zeros_(vit.head.bias)
    cached = tmp_path / "hub" / f"models--timm--{name}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("revision")
    (cached / "snapshots" / "revision").mkdir(parents=True)
    file = cached / "snapshots" / "revision" / "model.safetensors"
    save_file({n: t.contiguous() for n, t in vit.state_dict().items()}, file)
    code = """
import sys, torch
from safetensors.torch import load_file
from velora.compat import build_compat
from velora.config import parse_settings
model, source = build_compat(
    parse_settings({"model": {"mode": "compat"}}, where="test"), num_classes=2
)
assert source.kind == "pretrained"
assert torch.equal(model.towers.projection, load_file(sys.argv[1])["head.weight"].T)
"""

    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
