"""Adapters in PEFT's file layout: PEFT computes with them what the grouped pass computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eventkit.errors import DamageError, MissingDataError, SettingsError
from velora.files.adapters import (
    adapter_files,
    adapter_folders,
    load_adapters,
    needs_separate_bias,
    trunk_name,
    write_adapters,
)
from velora.model.backbone import build_trunk, timm
from velora.model.lora import GroupedLowRank
from velora.model.paper import VELoRA
from velora.model.trunk import join_prefixes
from velora.settings import LoraSettings, ModelSettings

SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 3}
NAMES = {
    "vit": ("vit_tiny_patch16_224", {**SMALL, "patch_size": 16}),
    "clip": ("vit_base_patch16_clip_224.openai", SMALL),
    "eva": ("eva02_tiny_patch14_224", {**SMALL, "patch_size": 16}),
    "dinov3": ("vit_small_patch16_dinov3", SMALL),
}


def make_model(
    kind: str = "vit", *, lora: dict[str, Any] | None = None, seed: int = 1, **options: Any
) -> VELoRA:
    name, kwargs = NAMES[kind]
    trunk, _ = build_trunk(name, num_high=1, random_seed=0, img_size=32, backbone_kwargs=kwargs)
    torch.manual_seed(seed)
    settings = LoraSettings(**{"rank": 4, "alpha": 6.0, **(lora or {})})
    model = VELoRA(trunk, num_classes=5, settings=ModelSettings(**options), lora=settings)
    for layer in model.modules():
        if isinstance(layer, GroupedLowRank):
            nn.init.normal_(layer.lora_b, std=0.3)
    return model.double().eval()


def plain_timm(kind: str) -> nn.Module:
    """The model that a user of timm and PEFT alone has, with the same frozen weights."""
    name, kwargs = NAMES[kind]
    trunk, _ = build_trunk(name, num_high=1, random_seed=0, img_size=32, backbone_kwargs=kwargs)
    vit = timm.create_model(name, num_classes=0, img_size=32, **kwargs)
    vit.attn_pool = None
    vit.load_state_dict(trunk.vit.state_dict())
    for block in vit.blocks:
        if hasattr(block.attn, "qkv_bias_separate"):  # as docs/inference.md says
            block.attn.qkv_bias_separate = True
    return vit.double().eval()


def load_with_peft(kind: str, folder: Path) -> nn.Module:
    import peft  # not above: torchvision has to be mended first where its extension does not load

    return peft.PeftModel.from_pretrained(plain_timm(kind), str(folder))


def run_blocks(vit: nn.Module, x: torch.Tensor, chosen: slice) -> torch.Tensor:
    rope = getattr(vit, "rope", None)
    table = {} if rope is None else {"rope": rope.get_embed(shape=vit.patch_embed.grid_size)}
    for block in vit.blocks[chosen]:
        x = block(x, **table)
    return x


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "targets", "skip_blocks"),
    [
        ("vit", ("fc1", "fc2"), 0),
        ("vit", ("qkv", "proj"), 0),
        ("vit", ("fc1", "fc2"), 1),
        ("clip", ("fc1", "fc2", "qkv", "proj"), 0),
        ("eva", ("qkv", "proj", "fc2"), 0),
        ("dinov3", ("qkv", "fc1"), 0),
    ],
)
def test_peft_computes_the_tokens_of_the_grouped_pass(
    kind: str, targets: tuple[str, ...], skip_blocks: int, tmp_path: Path
) -> None:
    model = make_model(kind, lora={"targets": targets, "skip_blocks": skip_blocks})
    write_adapters(model, tmp_path / "adapters", backbone=NAMES[kind][0])
    pictures = torch.rand(6, 3, 32, 32, dtype=torch.float64)
    trunk = model.trunk
    x = trunk.embed(pictures)
    with model.row_groups([3, 1, 2], like=x):
        low = trunk.run(trunk.low, x)
    join_prefixes(trunk.high[0], trunk.num_prefix)  # of one stream, as in the plain model
    expected = {
        "rgb": low[:3],
        "event": low[3:4],
        "diff": low[4:],
        "shared": trunk.run(trunk.high, x),
        "rec": trunk.run([model.rec], x),
    }
    inputs = {"rgb": x[:3], "event": x[3:4], "diff": x[4:], "shared": x, "rec": x}

    found = sorted(p.name for p in (tmp_path / "adapters").iterdir())
    assert found == sorted(expected)
    for name, tokens in expected.items():
        adapted = load_with_peft(kind, tmp_path / "adapters" / name)
        low_stream = name in model.streams
        blocks = slice(0, 2) if low_stream else slice(2, 3)
        others = slice(2, 3) if low_stream else slice(0, 2)
        vit = adapted.get_base_model()

        assert (run_blocks(vit, inputs[name], blocks) - tokens).abs().max() < 1e-10
        assert not torch.allclose(run_blocks(plain_timm(kind), inputs[name], blocks), tokens)
        # Nothing else is touched.
        untouched = run_blocks(plain_timm(kind), x, others)
        assert torch.equal(run_blocks(vit, x, others), untouched)


@pytest.mark.parametrize("streams", ["fusion", "rgb"])
def test_a_folder_that_peft_saved_loads_and_gives_the_same_logits(
    streams: str, tmp_path: Path
) -> None:
    model, other = (make_model(streams=streams, seed=seed) for seed in (1, 2))
    name = trunk_name(*NAMES["vit"])
    write_adapters(model, tmp_path / "ours", backbone=name)
    for folder in (tmp_path / "ours").iterdir():
        adapted = load_with_peft("vit", folder)
        adapted.save_pretrained(str(tmp_path / "theirs" / folder.name))

    load_adapters(other, tmp_path / "theirs")

    saved = json.loads((tmp_path / "theirs" / "rgb" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == name
    assert adapter_files(other, backbone="a") == adapter_files(model, backbone="a")


def test_a_bare_name_of_timm_is_kept_for_timms_own_model() -> None:
    named = [
        trunk_name("vit_base_patch16_224", {}),
        trunk_name("vit_base_patch16_224", {"patch_size": 8, "act_layer": "gelu_tanh"}),
        trunk_name("velora_tiny", {}),
    ]

    assert named == [
        "vit_base_patch16_224",
        "vit_base_patch16_224(act_layer='gelu_tanh', patch_size=8)",
        "velora_tiny",
    ]
    assert [name for name in named if timm.is_model(name)] == named[:1]


def test_writing_again_replaces_the_folder_with_the_same_bytes(tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
        return {str(p.relative_to(tmp_path)): p.read_bytes() for p in files}

    write_adapters(make_model(), tmp_path / "adapters", backbone="vit_tiny_patch16_224")
    first = content()
    (tmp_path / "adapters" / "stray").write_text("left over")
    write_adapters(make_model(), tmp_path / "adapters", backbone="vit_tiny_patch16_224")

    assert content() == first
    config = json.loads(first["adapters/diff/adapter_config.json"])
    assert config["base_model_name_or_path"] == "vit_tiny_patch16_224"
    assert config["target_modules"] == [f"blocks.{i}.mlp.fc{j}" for i in (0, 1) for j in (1, 2)]
    assert (config["r"], config["lora_alpha"]) == (4, 6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_adapters(make_model(), tmp_path / "adapters", backbone="vit_tiny_patch16_224")
    return tmp_path / "adapters"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_does_not_fit_is_refused_and_changes_nothing(folder: Path) -> None:
    model = make_model(seed=3)
    before = adapter_files(model, backbone="a")

    def refused(kind: type[Exception], text: str) -> None:
        with pytest.raises(kind, match=text):
            load_adapters(model, folder)
        assert adapter_files(model, backbone="a") == before

    with pytest.raises(SettingsError, match=r"lora_A.weight is \(4, 48\) instead of \(8, 48\)"):
        load_adapters(make_model(lora={"rank": 8, "alpha": 12.0}), folder)
    with pytest.raises(SettingsError, match=r"blocks.0.mlp.fc1.lora_A.weight is no adapter"):
        load_adapters(make_model(lora={"targets": ("fc2",)}), folder)
    with pytest.raises(SettingsError, match="has adapters of event, rec, the model of rgb, diff"):
        load_adapters(make_model(streams="rgb"), folder)
    edit(folder / "diff", use_dora=True)
    refused(SettingsError, "more than a plain LoRA: use_dora is True")
    edit(folder / "diff", use_dora=False, lora_alpha=3)
    refused(SettingsError, "scales by 3 / 4, the model by 1.5; set lora.alpha alike")
    edit(folder / "diff", lora_alpha=6)
    data = (folder / "shared" / "adapter_model.safetensors").read_bytes()
    (folder / "shared" / "adapter_model.safetensors").write_bytes(data[:-8])
    refused(DamageError, "shared is damaged")
    shutil.rmtree(folder / "shared")
    refused(MissingDataError, "no adapter_config.json")


def test_the_folders_hold_all_that_trains_but_embeddings_and_head() -> None:
    model = make_model()

    held = sum(
        t.numel() for f in adapter_folders(model).values() for a in f for t in a.tensors.values()
    )
    trains = sum(p.numel() for p in model.parameters() if p.requires_grad)

    rest = model.stream_embed.numel() + sum(p.numel() for p in model.head.parameters())
    assert held == trains - rest


def test_who_loads_adapters_on_qkv_into_eva_is_told() -> None:
    told = {
        (kind, target): needs_separate_bias(make_model(kind, lora={"targets": (target,)}))
        for kind in ("vit", "eva")
        for target in ("qkv", "fc2")
    }

    assert [case for case, note in told.items() if note] == [("eva", "qkv")]
