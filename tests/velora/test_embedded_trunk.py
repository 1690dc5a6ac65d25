"""The trunk that comes with the package: built without a hub, and known by its bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import velora.weights
from eventkit.errors import DamageError, SettingsError
from velora.build import build_model
from velora.config import parse_settings
from velora.model.backbone import build_trunk
from velora.tools.weights import main
from velora.weights import find, names, timm_model


def test_it_is_small_named_and_described() -> None:
    assert names() == ("velora_tiny",)
    trunk = find("velora_tiny")
    assert trunk is not None

    page = json.loads(trunk.path.with_suffix(".json").read_text())
    assert trunk.path.stat().st_size < 6_000_000
    trunk.check()
    assert page["recipe"]["images"] == page["log"][-1]["step"] * page["recipe"]["batch_size"]
    assert {probe["data"] for probe in page["probes"]} >= {"Fashion-MNIST", "scikit-learn digits"}
    assert all("MIT" in word or "CC0" in word for word in page["licences"])
    assert find("vit_tiny_patch16_224") is None


def test_the_page_quotes_its_probe_numbers() -> None:
    trunk = find("velora_tiny")
    assert trunk is not None
    page = (Path(__file__).parents[2] / "docs" / "backbone.md").read_text()

    for probe in json.loads(trunk.path.with_suffix(".json").read_text())["probes"]:
        numbers = [f"{probe[name]:.3f}" for name in ("trained", "error", "untrained", "pixels")]
        assert any(all(number in line for number in numbers) for line in page.splitlines()), probe


@pytest.mark.parametrize("side", [32, 64])
def test_it_is_built_from_the_package_at_any_size(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    trunk, source = build_trunk("velora_tiny", num_high=2, img_size=side)
    again, same = build_trunk("velora_tiny", num_high=2, img_size=side)
    drawn, other = build_trunk("velora_tiny", num_high=2, img_size=side, random_seed=0)

    assert (source.kind, source.backbone) == ("package", "velora_tiny")
    assert trunk.image_size_hw == (side, side)
    assert (trunk.width, len(trunk.vit.blocks)) == (192, 6)
    assert source == same
    assert (other.kind, other.sha256 == source.sha256) == ("random", False)
    for a, b in zip(trunk.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sum(p.numel() for p in drawn.parameters()) == sum(p.numel() for p in trunk.parameters())


def test_what_timm_makes_it_with_is_what_exports_name() -> None:
    name, kwargs = timm_model("velora_tiny", {"img_size": 32})

    assert name == "vit_tiny_patch16_224"
    assert (kwargs["patch_size"], kwargs["depth"], kwargs["img_size"]) == (8, 6, 32)
    assert timm_model("vit_base_patch16_224", {}) == ("vit_base_patch16_224", {})


def test_other_bytes_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(Path(velora.weights.__file__).parent, folder)
    data = bytearray((folder / "velora_tiny.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "velora_tiny.safetensors").write_bytes(data)
    monkeypatch.setattr(velora.weights, "_folder", lambda: folder)

    with pytest.raises(DamageError, match="install the package again"):
        build_trunk("velora_tiny", num_high=1)


def test_its_file_is_checked_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = find("velora_tiny")
    assert trunk is not None
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(main, ["check", str(trunk.path), "--backbone", "velora_tiny"])

    assert done.exit_code == 0, done.output
    assert "timm" in done.output


def test_it_has_no_projection_for_what_the_release_computes() -> None:
    model = {"mode": "compat", "backbone": "velora_tiny", "img_size": 32}
    settings = parse_settings({"model": model}, where="here")

    with pytest.raises(SettingsError, match=r"velora_tiny has no projection"):
        build_model(settings, num_classes=3, device=torch.device("cpu"))
