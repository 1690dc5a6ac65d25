"""velora-predict as a user runs it: a subprocess, no terminal, a folder it may not write to."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import run_tool
from run_helpers import invoke, trained
from velora_helpers import SHARED

import velora
from velora.cli import train
from velora.tools.predict import main

DAVIS = SHARED / "data" / "aedat4" / "davis346_frames_events_imu.aedat4"
DVXPLORER = SHARED / "data" / "aedat4" / "dvxplorer.aedat4"

COMPAT_RECIPE = """
[model]
mode = "compat"
backbone = "vit_base_patch16_clip_224.openai"
random_trunk = true
img_size = 32

[model.backbone_kwargs]
patch_size = 8
depth = 3
embed_dim = 24
num_heads = 3

[compat]
text_towers = false
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory)


def predict(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.mark.skipif(not DAVIS.is_file(), reason=f"no {DAVIS}")
def test_a_real_recording_from_a_folder_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "runs" / "mine")
    here = tmp_path / "here"
    here.mkdir()
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    for folder in (here, tmp_path / "runs" / "mine", tmp_path):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)

    done = run_tool("../runs/mine", DAVIS, "--window-ms", "500", cwd=here, program="velora-predict")
    for folder in (tmp_path, tmp_path / "runs" / "mine", here):
        folder.chmod(stat.S_IRWXU)

    assert (done.returncode, done.stderr) == (0, "")
    windows = [line for line in done.stdout.splitlines() if " s  " in line]
    assert len(windows) == 5  # of 2.36 s: the last window holds more than half
    assert windows[0].split()[:5] == ["0.000", "..", "0.500", "s", "RGB"]
    assert all("lying 0." in line and "standing 0." in line for line in windows)
    assert "the trunk of this run is random" in done.stdout
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


@pytest.mark.skipif(not DVXPLORER.is_file(), reason=f"no {DVXPLORER}")
def test_events_alone_go_through_a_fusion_model_which_says_so(run: Path) -> None:
    code, text = predict(run, DVXPLORER, "--window-ms", "200", "--device", "cpu")

    assert code == 0
    assert "has no RGB: that sense is masked, in a model of both" in text
    assert "--rgb PATH gives pictures that lie elsewhere" in text
    assert "s  events " in text


def test_a_model_that_needs_both_senses_refuses_at_once(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    root = trained(tmp_path_factory).parents[1]
    (tmp_path / "compat.toml").write_text(COMPAT_RECIPE)
    invoke(
        train,
        *("--shards", root / "shards", "--recipe", tmp_path / "compat.toml", "--out", tmp_path),
        *("--device", "cpu", "--epochs", "1", "--name", "compat", "--num-workers", "0"),
    )
    raw = root / "raw" / "test" / "standing"

    done = run_tool("compat", raw / "standing0.npz", cwd=tmp_path, program="velora-predict")
    code, text = predict(
        tmp_path / "compat", raw / "standing0.npz", "--rgb", raw / "standing0", "--device", "cpu"
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "standing0.npz has no RGB, and this model cannot do without a sense" in done.stderr
    assert "--rgb PATH gives pictures that lie elsewhere" in done.stderr
    assert code == 0, text
    assert "s  RGB + events" in text


def test_what_there_is_nothing_to_say_of_leaves_no_empty_line(run: Path, tmp_path: Path) -> None:
    raw = run.parents[1] / "raw" / "test" / "standing"
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    # The small run of the tests stands on a random trunk, of which there is always a note.
    record["trunk"]["kind"] = "file"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))

    code, text = predict(
        tmp_path / "run", raw / "standing0.npz", "--rgb", raw / "standing0", "--device", "cpu"
    )

    assert code == 0, text
    assert text.splitlines()[0].strip().startswith("0.000 ..")


def test_json_and_csv_hold_what_the_library_says(run: Path) -> None:
    raw = run.parents[1] / "raw" / "test" / "standing"
    recording = raw / "standing0.npz"
    arguments = (run, recording, "--rgb", raw / "standing0", "--window-ms", "100", "--top", "1")
    expected = list(
        velora.load(run, device="cpu").predict_recording(
            recording, rgb=raw / "standing0", window_us=100_000
        )
    )

    result = CliRunner().invoke(main, [*map(str, arguments), "--json", "--device", "cpu"])
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    result = CliRunner().invoke(main, [*map(str, arguments), "--csv", "--device", "cpu"])
    rows = list(csv.DictReader(io.StringIO(result.stdout)))

    assert len(objects) == len(rows) == len(expected) == 3
    for item, row, p in zip(objects, rows, expected, strict=True):
        ((name, share),) = p.top(1)
        assert item["top"] == [{"class": name, "probability": pytest.approx(share, abs=1e-6)}]
        assert item["senses"] == ["rgb", "event"]
        assert (row["class"], row["rank"], row["senses"]) == (name, "1", "rgb+event")
        assert float(row["probability"]) == pytest.approx(share, abs=2e-6)
        assert item["stop_us"] - item["start_us"] == 100_000
        assert int(row["start_us"]) == item["start_us"]
    assert objects[0]["start_us"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["nowhere.aedat4"], 2, "nowhere.aedat4: no such file"),
        (["RECORDING", "--whole", "--window-ms", "5"], 2, "exclude each other"),
        (["RECORDING", "--json", "--csv"], 2, "exclude each other"),
        (["RECORDING", "--window-ms", "0.001"], 2, "less than a microsecond for each"),
        (["RECORDING", "--top", "0"], 2, "--top"),
        (["RECORDING", "--weights", "nowhere.safetensors"], 2, "leave --weights out"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_an_exit_code(
    run: Path, arguments: list[str], code: int, reason: str
) -> None:
    recording = run.parents[1] / "raw" / "test" / "lying" / "lying0.npz"
    words = [str(recording) if a == "RECORDING" else a for a in arguments]

    found, text = predict(run, *words)

    assert found == code
    assert reason in text
    assert "Traceback" not in text


def test_a_run_without_weights_says_to_train_on(run: Path, tmp_path: Path) -> None:
    for name in ("config.toml", "run.json"):
        shutil.copy(run / name, tmp_path / name)

    code, text = predict(tmp_path, run.parents[1] / "raw" / "test" / "lying" / "lying0.npz")

    assert code == 2
    assert "has no weights yet" in text
