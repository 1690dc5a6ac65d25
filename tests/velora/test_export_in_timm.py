"""Who has timm, and PEFT for adapters, makes the model again from what the exported files say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from run_helpers import invoke, trained
from safetensors import safe_open
from safetensors.torch import load_file

import velora.cli
from velora.model.backbone import timm
from velora.opening import open_run
from velora.tools.export import main
from velora.weights import find

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {
    "velora_tiny": """
backbone = "velora_tiny"
""",
    "siglip": """
backbone = "vit_base_patch16_siglip_224"
random_trunk = true
[model.backbone_kwargs]
depth = 3
embed_dim = 48
num_heads = 3
""",
    "pe": """
backbone = "vit_pe_core_tiny_patch16_384"
random_trunk = true
[model.backbone_kwargs]
depth = 3
embed_dim = 48
num_heads = 3
""",
}


def run_of(kind: str, factory: pytest.TempPathFactory) -> Path:
    """Return a run of an epoch at 32 pixels; made once a session."""
    folder = trained(factory).parents[1]
    run = folder / "runs" / kind
    if not (run / "result.json").is_file():
        recipe = folder / f"{kind}.toml"
        head = "[train]\nlr = 3e-3\n[lora]\nrank = 4\n[model]\nimg_size = 32\nhigh_blocks = 1"
        recipe.write_text(head + RECIPES[kind])
        invoke(
            velora.cli.train,
            *("--shards", folder / "shards", "--recipe", recipe, "--out", folder / "runs"),
            *("--device", "cpu", "--epochs", "1", "--name", kind, "--num-workers", "0"),
        )
    return run


def exported(run: Path, to: str, out: Path) -> str:
    result = CliRunner().invoke(main, [str(run), "--to", to, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", RECIPES)
def test_the_description_makes_the_timm_model_that_the_weights_fit(
    kind: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run, out = run_of(kind, tmp_path_factory), tmp_path / "m.safetensors"

    exported(run, "safetensors", out)

    with safe_open(out, framework="pt") as file:
        facts = json.loads(file.metadata()["velora"])
    tensors = load_file(out)
    vit = timm.create_model(facts["backbone"], num_classes=0, **facts["backbone_kwargs"]).eval()
    parts = {k.split(".", 1)[1]: t for k, t in tensors.items() if k.startswith(("rgb.", "high."))}
    vit.load_state_dict(parts)  # strictly
    trunk = open_run(run, device=torch.device("cpu")).model.trunk
    pictures = torch.rand(2, 3, *facts["image_size_hw"])
    with torch.no_grad():
        found = tokens_of(vit, (pictures - trunk.mean) / trunk.std)
        torch.testing.assert_close(found, trunk.embed(pictures), rtol=0, atol=1e-5)


def tokens_of(vit: torch.nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    tokens = vit._pos_embed(vit.patch_embed(pictures))
    tokens = tokens[0] if isinstance(tokens, tuple) else tokens  # Eva: and the rotary table
    return vit.norm_pre(tokens)


def test_every_format_says_the_same_of_the_trunk(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run = run_of("velora_tiny", tmp_path_factory)

    for to in ("safetensors", "peft", "torch"):
        exported(run, to, tmp_path / to)

    with safe_open(tmp_path / "safetensors", framework="pt") as file:
        merged = json.loads(file.metadata()["velora"])
    extra = {"velora.json": ""}
    torch.export.load(tmp_path / "torch", extra_files=extra)
    adapters = json.loads((tmp_path / "peft" / "velora.json").read_text())
    assert merged == json.loads(extra["velora.json"])
    assert adapters.items() <= merged.items()
    assert merged["backbone_kwargs"]["img_size"] == 32
    assert merged["trunk"] == "velora_tiny"


def test_the_snippet_of_the_page_runs_in_a_fresh_process(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run = run_of("velora_tiny", tmp_path_factory)
    exported(run, "peft", tmp_path / "mine-peft")
    page = (ROOT / "docs" / "inference.md").read_text()
    (snippet,) = [c for c in re.findall(r"```py\n(.*?)```", page, re.DOTALL) if "PeftModel" in c]
    # No hub is asked: the trunk comes from its file, as the page says.
    embedded = find("velora_tiny")
    assert embedded is not None
    local = f"pretrained=True, pretrained_cfg_overlay={{'file': {str(embedded.path)!r}}}"
    assert "pretrained=True" in snippet
    model = open_run(run, device=torch.device("cpu")).model
    with torch.no_grad():
        x = model.trunk.embed(torch.rand(2, 3, 32, 32))
        with model.row_groups([2, 0, 0], like=x):
            expected = model.trunk.run(model.trunk.low, x)
    torch.save(x, tmp_path / "tokens.pt")
    code = f"""{snippet.replace("pretrained=True", local)}
import torch
vit, low = rgb.get_base_model().eval(), {len(model.trunk.low)}
with torch.no_grad():
    adapted = vit.blocks[:low](torch.load("tokens.pt"))
    with rgb.disable_adapter():
        plain = vit.blocks[:low](torch.load("tokens.pt"))
torch.save((adapted, plain), "found.pt")
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    adapted, plain = torch.load(tmp_path / "found.pt")
    torch.testing.assert_close(adapted, expected, rtol=1e-5, atol=1e-4)
    assert (plain - expected).abs().max() > 1e-2


def test_the_adapters_do_not_pass_for_those_of_another_model(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    for kind in ("velora_tiny", "siglip"):
        exported(run_of(kind, tmp_path_factory), "peft", tmp_path / kind)

    def name(kind: str) -> str:
        run = run_of(kind, tmp_path_factory) / "adapters"
        (found,) = {
            json.loads((folder / "shared" / "adapter_config.json").read_text())[
                "base_model_name_or_path"
            ]
            for folder in (run, tmp_path / kind)
        }
        return str(found)

    assert name("velora_tiny") == "velora_tiny"
    assert name("siglip") == "vit_base_patch16_siglip_224(depth=3, embed_dim=48, num_heads=3)"
    assert not any(timm.is_model(name(kind)) for kind in ("velora_tiny", "siglip"))
