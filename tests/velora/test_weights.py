"""Published layouts become timm models that compute what the published model computes."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from helpers import run_tool
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eventkit.errors import DamageError, FormatError, MissingDataError, SettingsError
from velora.files.weight_files import read_weights, write_weights
from velora.model.backbone import build_trunk, timm
from velora.tools.weights import main

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 16,
}
WIDE = {**SIZES, "intermediate_size": 192}
# That of timm and of the models' own papers; the 1e-12 of Hugging Face changes tokens by 1e-4.
EPS = {"layer_norm_eps": 1e-6}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TIMM = {"depth": 2, "embed_dim": 48, "num_heads": 3, "patch_size": 16}

Published = tuple[str, nn.Module, Callable[[nn.Module, Tensor], Tensor], dict[str, Any]]


def randomized(model: nn.Module) -> nn.Module:
    """Draw every tensor, also those that start as zeros and ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.15)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def hugging_face(kind: str) -> Published:
    """Return the timm name, the model, its tokens after the last norm, and timm's settings."""
    import transformers as t  # not above: importing it takes a second

    def last(model: nn.Module, x: Tensor) -> Tensor:
        return model(pixel_values=x).last_hidden_state

    def normed(model: nn.Module, x: Tensor) -> Tensor:
        vision = getattr(model, "vision_model", model)
        tokens = vision(pixel_values=x).last_hidden_state
        return vision.post_layernorm(tokens)

    clip = "vit_base_patch16_clip_quickgelu_224"
    text = {**TEXT, "intermediate_size": 64}
    if kind == "vit":
        return "vit_tiny_patch16_224", t.ViTModel(t.ViTConfig(**WIDE, **EPS)), last, TIMM
    if kind == "vit classifier":
        model = t.ViTForImageClassification(t.ViTConfig(**WIDE, **EPS))
        return "vit_tiny_patch16_224", model, lambda m, x: last(m.vit, x), TIMM
    if kind == "deit":
        model = t.DeiTModel(t.DeiTConfig(**WIDE, **EPS))
        return "deit_tiny_distilled_patch16_224", model, last, TIMM
    if kind == "dinov2":
        return "vit_small_patch14_dinov2", t.Dinov2Model(t.Dinov2Config(**SIZES)), last, TIMM
    if kind == "dinov2 registers":
        model = t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=4)
        )
        return "vit_small_patch14_reg4_dinov2", model, last, TIMM
    if kind == "clip vision":
        return clip, t.CLIPVisionModel(t.CLIPVisionConfig(**WIDE)), normed, TIMM
    if kind == "clip":
        config = t.CLIPConfig(text_config=text, vision_config=WIDE, projection_dim=16)
        return clip, t.CLIPModel(config), normed, TIMM
    if kind == "siglip":
        model = t.SiglipVisionModel(t.SiglipVisionConfig(**WIDE))
        return "vit_base_patch16_siglip_224", model, last, {**TIMM, "act_layer": "gelu_tanh"}
    msg = kind
    raise ValueError(msg)


def tokens_of(path: Path, backbone: str, kwargs: dict[str, Any], pictures: Tensor) -> Tensor:
    """Tokens of the trunk that velora-train would build from the file."""
    trunk, source = build_trunk(
        backbone, num_high=1, weights=str(path), img_size=32, backbone_kwargs=kwargs
    )
    assert source.kind == "file"
    trunk.double()
    x = trunk.embed(pictures * trunk.std + trunk.mean)
    return trunk.final_norm(trunk.run([*trunk.low, *trunk.high], x))


@torch.no_grad()
@pytest.mark.parametrize(
    "kind",
    [
        "vit",
        "vit classifier",
        "deit",
        "dinov2",
        "dinov2 registers",
        "clip vision",
        "clip",
        "siglip",
    ],
)
def test_a_hugging_face_model_gives_the_same_tokens_in_timm(kind: str, tmp_path: Path) -> None:
    backbone, model, tokens, kwargs = hugging_face(kind)
    randomized(model).save_pretrained(tmp_path / "published")
    pictures = torch.randn(2, 3, 32, 32, dtype=torch.float64)

    weights = read_weights(
        tmp_path / "published", backbone=backbone, backbone_kwargs={**kwargs, "img_size": 32}
    )
    kept = write_weights(weights, tmp_path / "timm.safetensors")

    assert weights.notes == ()
    found = tokens_of(kept.paths[0], backbone, kwargs, pictures)
    expected = tokens(model.double(), pictures)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-6
    published = load_file(tmp_path / "published" / "model.safetensors")
    used = sum(t.numel() for t in published.values()) - sum(
        published[name].numel() for name in weights.unused
    )
    # With registers the position of CLS is added to CLS itself.
    folded = SIZES["hidden_size"] if kind == "dinov2 registers" else 0
    assert sum(t.numel() for t in weights.tensors.values()) == used - folded


@torch.no_grad()
def test_what_pools_siglip_goes_along(tmp_path: Path) -> None:
    backbone, model, _, kwargs = hugging_face("siglip")
    randomized(model).save_pretrained(tmp_path)
    pictures = torch.randn(2, 3, 32, 32)
    settings = {**kwargs, "img_size": 32}

    weights = read_weights(tmp_path, backbone=backbone, backbone_kwargs=settings)
    vit = timm.create_model(backbone, num_classes=0, **settings).eval()
    vit.load_state_dict(weights.tensors)

    expected = model(pixel_values=pictures).pooler_output
    assert (vit(pictures) - expected).abs().max() < 1e-5


def as_openai(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of a timm CLIP as OpenAI does, written down from its model.py."""
    names = [
        (r"cls_token", "visual.class_embedding"),
        (r"pos_embed", "visual.positional_embedding"),
        (r"patch_embed\.proj\.", "visual.conv1."),
        (r"norm_pre\.", "visual.ln_pre."),
        (r"norm\.", "visual.ln_post."),
        (r"blocks\.(\d+)\.norm", r"visual.transformer.resblocks.\1.ln_"),
        (r"blocks\.(\d+)\.attn\.qkv\.", r"visual.transformer.resblocks.\1.attn.in_proj_"),
        (r"blocks\.(\d+)\.attn\.proj\.", r"visual.transformer.resblocks.\1.attn.out_proj."),
        (r"blocks\.(\d+)\.mlp\.fc1\.", r"visual.transformer.resblocks.\1.mlp.c_fc."),
        (r"blocks\.(\d+)\.mlp\.fc2\.", r"visual.transformer.resblocks.\1.mlp.c_proj."),
    ]
    made = {}
    for name, tensor in tensors.items():
        for pattern, template in names:
            if re.match(pattern, name):
                made[re.sub(f"^{pattern}", template, name)] = tensor
                break
    assert len(made) == len(tensors)
    made["visual.class_embedding"] = made["visual.class_embedding"].flatten()
    made["visual.positional_embedding"] = made["visual.positional_embedding"][0]
    return made | {
        "visual.proj": torch.rand(48, 16),
        "positional_embedding": torch.rand(7, 32),
        "token_embedding.weight": torch.rand(9, 32),
        "transformer.resblocks.0.ln_1.weight": torch.rand(32),
        "ln_final.weight": torch.rand(32),
        "text_projection": torch.rand(32, 16),
        "logit_scale": torch.tensor(1.0),
    }


def as_dinov2_hub(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**tensors, "mask_token": torch.rand(1, 48)}


def as_openclip_trunk(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    trunk = {f"visual.trunk.{name}": tensor for name, tensor in tensors.items()}
    return trunk | {
        "visual.head.proj.weight": torch.rand(16, 48),
        "text.token_embedding.weight": torch.rand(9, 32),
        "logit_scale": torch.tensor(1.0),
        "logit_bias": torch.tensor(1.0),
    }


@pytest.mark.parametrize(
    ("backbone", "publish", "count"),
    [
        ("vit_base_patch16_clip_224", as_openai, 7),
        ("vit_small_patch14_dinov2", as_dinov2_hub, 1),
        ("vit_base_patch16_siglip_224", as_openclip_trunk, 4),
        ("eva02_tiny_patch14_224", lambda tensors: tensors, 0),
        ("vit_tiny_patch16_224", lambda t: {f"module.{k}": v for k, v in t.items()}, 0),
    ],
)
@pytest.mark.parametrize("kind", ["safetensors", "torch", "checkpoint", "parts"])
def test_other_layouts_and_files_come_back_as_the_timm_model(
    backbone: str,
    publish: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    count: int,
    kind: str,
    tmp_path: Path,
) -> None:
    settings = {**TIMM, "img_size": 32}
    vit = randomized(timm.create_model(backbone, num_classes=0, **settings))
    tensors = {name: t.contiguous() for name, t in publish(vit.state_dict()).items()}
    path = save_as(kind, tensors, tmp_path)

    weights = read_weights(path, backbone=backbone, backbone_kwargs=settings)

    assert len(weights.unused) == count
    assert weights.tensors.keys() == vit.state_dict().keys()
    for name, tensor in vit.state_dict().items():
        assert torch.equal(weights.tensors[name], tensor)


def save_as(kind: str, tensors: dict[str, Tensor], folder: Path) -> Path:
    if kind == "safetensors":
        save_file(tensors, folder / "model.safetensors")
        return folder / "model.safetensors"
    if kind == "torch":
        torch.save(tensors, folder / "model.pth")
        return folder / "model.pth"
    if kind == "checkpoint":
        torch.save({"epoch": 3, "state_dict": tensors, "optimizer": {}}, folder / "epoch.pt")
        return folder / "epoch.pt"
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / file)
    owners = {name: file for file, own in parts.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": owners}))
    return folder


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/tmp/this-file-must-never-be-made").touch, ())


def plain(**changes: Any) -> dict[str, Tensor]:
    settings = {**TIMM, "img_size": 32, **changes}
    return dict(timm.create_model("vit_tiny_patch16_224", num_classes=0, **settings).state_dict())


def test_what_is_not_exactly_the_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    settings = {**TIMM, "img_size": 32}

    def refused(kind: type[Exception], text: str) -> None:
        with pytest.raises(kind, match=text):
            read_weights(path, backbone="vit_tiny_patch16_224", backbone_kwargs=settings)

    refused(MissingDataError, "no weights file")
    save_file(plain(depth=3), path)
    refused(SettingsError, r"12 unexpected \(blocks.2.attn.proj.bias")
    tensors = plain()
    del tensors["blocks.1.mlp.fc1.bias"]
    save_file(tensors, path)
    refused(SettingsError, r"1 missing \(blocks.1.mlp.fc1.bias\)")
    save_file(plain(patch_size=8), path)
    refused(SettingsError, r"patch_embed.proj.weight \(48, 3, 8, 8\) instead of \(48, 3, 16, 16\)")
    save_file({"conv1.weight": torch.rand(3)}, path)
    refused(SettingsError, "in no layout that is known here .* it holds conv1.weight")
    hugging = {"embeddings.patch_embeddings.projection.weight": torch.rand(3), "odd": torch.rand(1)}
    save_file(hugging, path)
    refused(SettingsError, "tensors that such a model does not have: odd")
    path.write_bytes(path.read_bytes()[:-2])
    refused(DamageError, "model.safetensors is damaged")
    path.write_text("nothing of the kind")
    refused(FormatError, "neither a safetensors file nor one of torch")
    torch.save({"model": Payload()}, path)
    refused(FormatError, "nothing but tensors")
    path.write_bytes(pickle.dumps(Payload()))
    refused(FormatError, "nothing but tensors")
    assert not Path("/tmp/this-file-must-never-be-made").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is old, and what OpenAI's files are
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    refused(FormatError, "is a TorchScript program, not weights")


def test_a_part_that_lies_elsewhere_or_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"

    def refused(kind: type[Exception], text: str, weight_map: Any) -> None:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(kind, match=text):
            read_weights(tmp_path, backbone="vit_tiny_patch16_224")

    save_file({"a": torch.rand(1)}, tmp_path / "one.safetensors")
    refused(MissingDataError, "names ../two.safetensors", {"a": "../two.safetensors"})
    refused(DamageError, "names b, which one.safetensors does not", {"b": "one.safetensors"})
    refused(FormatError, "no index of a file in parts", ["a"])


def test_positions_of_another_grid_are_taken_and_said(tmp_path: Path) -> None:
    save_file(plain(img_size=64), tmp_path / "model.safetensors")

    weights = read_weights(
        tmp_path, backbone="vit_tiny_patch16_224", backbone_kwargs={**TIMM, "img_size": 32}
    )
    kept = write_weights(weights, tmp_path / "timm.safetensors")

    assert weights.notes == (
        "its positions are for 17 tokens, vit_tiny_patch16_224 has 5: they are resampled when it "
        "is loaded",
    )
    pictures = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    tokens = tokens_of(kept.paths[0], "vit_tiny_patch16_224", TIMM, pictures)
    assert tokens.shape == (1, 5, 48)


def test_another_activation_is_said(tmp_path: Path) -> None:
    _, model, _, kwargs = hugging_face("clip vision")
    model.save_pretrained(tmp_path)

    weights = read_weights(
        tmp_path,
        backbone="vit_base_patch16_clip_224",
        backbone_kwargs={**kwargs, "img_size": 32},
    )

    (note,) = weights.notes
    assert note.startswith(
        "its activation is quick_gelu, that of vit_base_patch16_clip_224 is GELU"
    )


def test_the_command_writes_what_training_takes(tmp_path: Path) -> None:
    backbone, model, _, _ = hugging_face("clip")
    model.save_pretrained(tmp_path / "published")
    settings = [f"--set={key}={value}" for key, value in {**TIMM, "img_size": 32}.items()]
    arguments = ("import", tmp_path / "published", "--backbone", backbone, *settings)

    first = run_tool(*arguments, cwd=tmp_path, program="velora-weights")
    again = CliRunner().invoke(
        main, [*map(str, arguments), "--out", str(tmp_path / f"{backbone}.safetensors")]
    )
    other = CliRunner().invoke(
        main, [*map(str, arguments), "--out", str(tmp_path / "published" / "config.json")]
    )

    assert (first.returncode, first.stderr) == (0, "")
    assert "Hugging Face CLIP or SigLIP: 31 tensors" in first.stdout
    assert "not used, of the text side: " in first.stdout
    assert f"{backbone}.safetensors: written" in first.stdout
    assert again.exit_code == 0
    assert "is there already, the same" in again.output
    assert other.exit_code == 2
    assert "is there already and is another" in other.output
    assert len(load_file(tmp_path / f"{backbone}.safetensors")) == 31


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["check", "nowhere.bin", "--backbone", "vit_tiny_patch16_224"], 2, "no weights file"),
        (["check", ".", "--backbone", "vit_tiny_patch16_999"], 2, "timm has no model"),
        (["check", ".", "--backbone", "velora_tiny", "--set", "num_heads=5"], 2, "num_heads=5"),
        (["check", ".", "--backbone", "vit_tiny_patch16_224"], 2, "holds none of model.safe"),
        (["check", ".", "--backbone", "vit_tiny_patch16_224", "--set", "x"], 2, "KEY=VALUE"),
        (["check", ".", "--backbone", "vit_tiny_patch16_224", "--set=x=1"], 2, "as given"),
        (["import", "."], 2, "--backbone"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == code
    assert reason in result.output
    assert "Traceback" not in result.output
