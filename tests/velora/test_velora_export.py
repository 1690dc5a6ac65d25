"""What is exported computes what the run computes, and needs nothing of this package for it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from helpers import run_tool
from run_helpers import trained
from safetensors import safe_open
from safetensors.torch import load_file
from test_merge import NAMES, as_frames, make_model

import velora.files.export
from eventkit.errors import DamageError, SettingsError
from velora.files.adapters import load_adapters
from velora.files.export import Exported, export
from velora.model.backbone import timm
from velora.model.paper import VELoRA
from velora.opening import open_run
from velora.tools.export import main

FACTS = {"backbone": "vit_tiny_patch16_224", "classes": ["a", "b", "c", "d", "e"]}


def pictures(model: VELoRA, *, clips: int, frames: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(clips)
    shape = (clips, frames, 3, *model.image_size_hw)
    return {sense: torch.rand(shape, generator=generator) for sense in model.senses}


@torch.no_grad()
def logits_of(model: VELoRA, given: dict[str, torch.Tensor]) -> np.ndarray:
    return model({sense: as_frames(p) for sense, p in given.items()}).logits.numpy()


@pytest.fixture(scope="module")
def model() -> VELoRA:
    return make_model().float()


def test_onnx_runs_without_this_package_on_any_number_of_clips(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run, out = trained(tmp_path_factory), tmp_path / "m.onnx"

    result = CliRunner().invoke(
        main, [str(run), "--to", "onnx", "--out", str(out), "--frames", "2"]
    )

    assert result.exit_code == 0, result.output
    assert "largest difference of logits from the run: " in result.output
    assert "ONNX opset 20, any number of clips, inputs: rgb, event" in result.output
    _, facts, model, _ = open_run(run, device=torch.device("cpu"))
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert {i.name: i.shape for i in session.get_inputs()} == {
        sense: ["batch", 2, 3, 32, 32] for sense in ("rgb", "event")
    }
    for clips in (1, 5):
        given = pictures(model, clips=clips, frames=2)
        (logits,) = session.run(["logits"], {name: p.numpy() for name, p in given.items()})
        np.testing.assert_allclose(logits, logits_of(model, given), rtol=0, atol=1e-5)
    proto = onnx.load(out)
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 20)]
    told = json.loads({p.key: p.value for p in proto.metadata_props}["velora"])
    assert told["classes"] == [facts.data.classes[i] for i in facts.data.class_ids]
    assert (told["inputs"], told["frames"]) == (["rgb", "event"], 2)


def test_the_torch_program_runs_in_a_process_that_knows_only_torch(
    tmp_path: Path,
) -> None:
    model = make_model(streams="event").float()
    export(model, tmp_path / "m.pt2", to="torch", frames=3, description=FACTS)
    given = pictures(model, clips=4)
    torch.save(list(given.values()), tmp_path / "given.pt")
    code = (
        "import sys, torch\n"
        "program = torch.export.load('m.pt2').module()\n"
        "torch.save(program(*torch.load('given.pt')), 'logits.pt')\n"
        "print([name for name in ('velora', 'timm', 'eventkit') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
    found = torch.load(tmp_path / "logits.pt").numpy()
    np.testing.assert_allclose(found, logits_of(model, given), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_merged_weights_go_into_timm(model: VELoRA, tmp_path: Path) -> None:
    export(model, tmp_path / "m.safetensors", to="safetensors", frames=3, description=FACTS)

    tensors = load_file(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["velora"])
    assert facts["frames"] == 3
    name, kwargs = NAMES["vit"]
    vit = timm.create_model(name, num_classes=0, img_size=32, **kwargs).eval()
    prefixes = ("rgb.", "high.")
    parts = {k.split(".", 1)[1]: t for k, t in tensors.items() if k.startswith(prefixes)}
    vit.load_state_dict(parts)
    given = pictures(model, clips=1)["rgb"][0]
    trunk = model.trunk
    with model.row_groups([3, 0, 0], like=given):
        x = trunk.run(trunk.low, trunk.embed(given))
    expected = trunk.final_norm(trunk.run(trunk.high, x))
    found = vit.forward_features((given - trunk.mean) / trunk.std)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_peft_folder_holds_the_whole_run(tmp_path: Path) -> None:
    model = make_model(fusion="figure", temporal="attention").float()

    export(model, tmp_path / "peft", to="peft", frames=3, description=FACTS)

    other = make_model(fusion="figure", temporal="attention").float()
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    load_adapters(other, tmp_path / "peft")
    rest = load_file(tmp_path / "peft" / "head.safetensors")
    unexpected = other.load_state_dict(rest, strict=False).unexpected_keys
    assert not unexpected
    assert {name for name, _ in model.named_parameters() if name in rest} == set(rest)
    given = pictures(model, clips=2)
    np.testing.assert_array_equal(logits_of(other, given), logits_of(model, given))
    assert json.loads((tmp_path / "peft" / "velora.json").read_text()) == FACTS


@pytest.mark.parametrize(
    ("to", "options", "reason"),
    [
        ("peft", {"lora": {"targets": ("ffn",)}}, "PEFT holds those of single layers only"),
        ("safetensors", {"lora": {"targets": ("ffn",)}}, "cannot be added to weights"),
        ("peft", {"tuning": "probe"}, "the run has no adapters"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    to: Any, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model = make_model(**options).float()

    with pytest.raises(SettingsError, match=reason):
        export(model, tmp_path / "out", to=to, frames=3, description=FACTS)

    assert not list(tmp_path.iterdir())


def test_what_computes_something_else_is_not_kept(
    model: VELoRA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(velora.files.export, "TOLERANCE", 0.0)

    with pytest.raises(DamageError, match="is rounding; nothing was written"):
        export(model, tmp_path / "m", to="safetensors", frames=3, description=FACTS)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "to",
    [
        "safetensors",
        "peft",
        pytest.param("torch", marks=pytest.mark.long),
        pytest.param("onnx", marks=pytest.mark.long),
    ],
)
def test_a_file_that_is_there_must_be_the_same(to: Any, tmp_path: Path) -> None:
    def written(**options: Any) -> Exported:
        model = make_model(**options).float()
        return export(model, tmp_path / "m", to=to, frames=3, description=FACTS)

    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    first, before = written(), content()
    again = written()
    with pytest.raises(SettingsError, match="is there already and is another"):
        written(lora={"rank": 2})

    assert (first.files.unchanged, again.files.unchanged) == (False, True)
    assert content() == before
    assert not any(b"/velora/" in data for data in before.values())  # no path of this machine
    if to == "peft":
        (tmp_path / "m" / "stray").write_text("x")
        with pytest.raises(SettingsError, match="is there already"):
            written()


def test_the_command_exports_a_run_that_it_may_only_read(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained(tmp_path_factory), run)
    before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
    run.chmod(stat.S_IRUSR | stat.S_IXUSR)

    done = run_tool(
        *(run, "--to", "safetensors", "--out", "out/m.safetensors"),
        cwd=tmp_path,
        program="velora-export",
    )
    run.chmod(stat.S_IRWXU)

    assert (done.returncode, done.stderr) == (0, "")
    assert "the trunk of this run is random" in done.stdout
    assert "out/m.safetensors: written" in done.stdout
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["m.safetensors"]
    assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["nowhere", "--to", "onnx", "--out", "m"], 2, "not a run folder"),
        (["RUN", "--to", "tflite", "--out", "m"], 2, "--to"),
        (["RUN", "--to", "peft"], 2, "--out"),
        (["RUN", "--to", "peft", "--out", "/dev/null/m"], 6, "error: /dev/null"),
        (["RUN", "--to", "onnx", "--out", "m", "--frames", "0"], 2, "--frames"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_an_exit_code(
    tmp_path_factory: pytest.TempPathFactory, arguments: list[str], code: int, reason: str
) -> None:
    run = str(trained(tmp_path_factory))

    result = CliRunner().invoke(main, [run if a == "RUN" else a for a in arguments])

    assert result.exit_code == code
    assert reason in result.output
    assert "Traceback" not in result.output


@pytest.mark.long
def test_weights_beyond_one_protobuf_lie_beside_the_graph(
    model: VELoRA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(velora.files.export, "_MOST_IN_ONE_FILE", 0)

    exported = export(model, tmp_path / "m.onnx", to="onnx", frames=2, description=FACTS)

    assert [p.name for p in exported.files.paths] == ["m.onnx", "m.onnx.data"]
    given = pictures(model, clips=2, frames=2)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (logits,) = session.run(None, {name: p.numpy() for name, p in given.items()})
    np.testing.assert_allclose(logits, logits_of(model, given), rtol=0, atol=1e-5)
