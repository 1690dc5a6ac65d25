"""The trunk: any plain ViT of timm, real weights loaded strictly, never silently random."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from velora_helpers import SHARED, TINY

from eventkit.errors import EventKitError, SettingsError
from velora.model.backbone import build_trunk

WEIGHTS = SHARED / "weights" / "vit_small_patch14_dinov2_imgfocus_fp16.safetensors"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no {WEIGHTS}")
SMALL = {"embed_dim": 48, "num_heads": 3}


def tiny_trunk(seed: int = 0, **changes: object):
    kwargs = {**TINY["backbone_kwargs"], **changes}
    return build_trunk(
        TINY["backbone"], num_high=1, random_seed=seed, img_size=32, backbone_kwargs=kwargs
    )


@pytest.mark.parametrize(
    ("name", "kwargs", "num_prefix", "has_cls"),
    [
        ("vit_tiny_patch16_224", SMALL, 1, True),
        ("vit_base_patch16_clip_224.openai", SMALL, 1, True),  # norm_pre, no patch bias
        ("vit_base_patch16_siglip_224", SMALL, 0, False),  # no CLS, pooled by attention
        ("vit_medium_patch16_gap_240", SMALL, 0, False),  # the last norm is fc_norm
        ("vit_small_patch14_reg4_dinov2", SMALL, 5, True),  # registers, positions without prefix
        ("vit_small_patch16_dinov3", {"embed_dim": 48, "num_heads": 3}, 5, True),  # rotary
        ("deit_tiny_distilled_patch16_224", SMALL, 2, True),
    ],
)
def test_the_split_trunk_computes_what_timm_computes(
    name: str, kwargs: dict[str, int], num_prefix: int, has_cls: bool
) -> None:
    size = 28 if "patch14" in name else 32
    trunk, _ = build_trunk(
        name, num_high=1, random_seed=0, img_size=size, backbone_kwargs={**kwargs, "depth": 2}
    )
    pictures = torch.rand(2, 3, size, size)

    with torch.no_grad():
        x = trunk.embed(pictures)
        x = trunk.run([*trunk.low, *trunk.high], x)
        expected = trunk.vit.forward_features((pictures - trunk.mean) / trunk.std)

    assert (trunk.num_prefix, trunk.has_cls) == (num_prefix, has_cls)
    if name == "vit_medium_patch16_gap_240":
        expected = trunk.vit.fc_norm(expected)
    torch.testing.assert_close(trunk.final_norm(x), expected)
    assert not any(p.requires_grad for p in trunk.parameters())


def test_a_random_trunk_is_the_same_for_the_same_seed_and_leaves_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    (_, first), (_, again), (_, other) = (tiny_trunk(seed) for seed in (3, 3, 4))

    assert first.kind == "random"
    assert first.sha256 == again.sha256 != other.sha256
    assert torch.equal(torch.get_rng_state(), before)


@needs_weights
def test_real_half_precision_weights_load_strictly_at_another_picture_size() -> None:
    trunk, source = build_trunk(
        "vit_small_patch14_dinov2", num_high=2, weights=str(WEIGHTS), img_size=70
    )

    assert source.kind == "file"
    assert trunk.image_size_hw == (70, 70)
    assert (trunk.width, len(trunk.low), len(trunk.high)) == (384, 10, 2)
    assert {p.dtype for p in trunk.parameters()} == {torch.float32}
    assert trunk.vit.pos_embed.shape == (1, 26, 384)


@needs_weights
def test_weights_of_another_model_are_refused_with_the_keys() -> None:
    with pytest.raises(SettingsError, match=r"does not fit vit_tiny.*(missing|unexpected|shape)"):
        build_trunk("vit_tiny_patch16_224", num_high=2, weights=str(WEIGHTS))


def test_a_classifier_in_the_weights_file_is_passed_over_and_a_missing_key_is_not(
    tmp_path: Path,
) -> None:
    trunk, made = tiny_trunk(5)
    state = dict(trunk.vit.state_dict())
    options = {"num_high": 1, "img_size": 32, "backbone_kwargs": TINY["backbone_kwargs"]}
    save_file({**state, "head.weight": torch.zeros(9, 48)}, tmp_path / "whole.safetensors")
    del state["blocks.1.mlp.fc1.bias"]
    save_file(state, tmp_path / "part.safetensors")

    _, loaded = build_trunk(
        TINY["backbone"], weights=str(tmp_path / "whole.safetensors"), **options
    )

    assert loaded.sha256 == made.sha256
    with pytest.raises(SettingsError, match=r"1 missing \(blocks.1.mlp.fc1.bias\)"):
        build_trunk(TINY["backbone"], weights=str(tmp_path / "part.safetensors"), **options)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"backbone": "swin_tiny_patch4_window7_224"}, "not a plain ViT"),
        ({"backbone": "resnet18"}, "not a plain ViT"),
        ({"backbone": "vit_small_patch16_18x2_224"}, "not a plain ViT"),
        ({"backbone": "vit_tiny_patch16_22"}, "close names: vit_tiny_patch16_224"),
        ({"backbone": "vit_tiny_patch16_224", "img_size": 50}, "multiple of the patch size"),
        ({"backbone": "vit_tiny_patch16_224", "num_high": 12}, "model.high_blocks"),
        ({"backbone": "vit_tiny_patch16_224", "backbone_kwargs": {"dept": 3}}, "dept"),
        ({"backbone": "vit_tiny_patch16_224", "backbone_kwargs": {"num_heads": 5}}, "num_heads=5"),
        ({"backbone": "vit_tiny_patch16_224", "backbone_kwargs": {"act_layer": "no"}}, "act_layer"),
        ({"backbone": "vit_tiny_patch16_224", "backbone_kwargs": {"patch_size": 0}}, "ZeroDiv"),
        ({"backbone": "vit_tiny_patch16_224", "backbone_kwargs": {"depth": -1}}, "depth=-1"),
        ({"backbone": "vit_tiny_patch16_224", "weights": "nowhere.safetensors"}, "no weights file"),
        ({"backbone": "vit_tiny_patch16_224", "weights": __file__}, "not a safetensors file"),
    ],
)
def test_what_cannot_be_a_trunk_is_refused_with_one_sentence(
    arguments: dict[str, object], reason: str
) -> None:
    options = {"num_high": 2, "random_seed": None if "weights" in arguments else 0, **arguments}

    with pytest.raises(EventKitError, match=reason):
        build_trunk(**options)


def test_without_weights_nothing_random_is_built_and_the_message_says_how_to_get_some(
    tmp_path: Path,
) -> None:
    code = (
        "from velora.model.backbone import build_trunk\n"
        "build_trunk('vit_tiny_patch16_224', num_high=2)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": root}

    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    assert done.returncode != 0
    assert "SettingsError: the pretrained weights of vit_tiny_patch16_224" in done.stderr
    assert "--weights FILE" in done.stderr
    assert "--random-trunk" in done.stderr
