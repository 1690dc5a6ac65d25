"""The wheel, built and installed into an empty environment: NumPy, Numba and click only."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of an environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.startswith("velora/recipes/") and name.endswith(".toml") for name in names)
    assert {"velora/weights/velora_tiny.safetensors", "velora/weights/velora_tiny.json"} <= {*names}
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "examples/"))]
    venv.create(folder / "env", with_pip=True)
    pip = [folder / "env/bin/python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel], check=True, capture_output=True)
    return folder / "env/bin"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_core_works_with_numpy_numba_and_click_alone(installed: Path, tmp_path: Path) -> None:
    code = """
import eventkit
ev = eventkit.Events(x=[0, 2], y=[1, 0], t=[0, 9], p=[0, 1])
print(eventkit.count_frames(ev, sensor_size=(3, 2), bins=2).sum())
print(eventkit.voxel_grid(ev, sensor_size=(3, 2), bins=2).shape)
"""
    done = run(installed / "python", "-c", code, cwd=tmp_path)

    assert done.stdout.split("\n")[:2] == ["2", "(2, 2, 3)"], done.stderr


def test_a_core_install_reads_atis_and_names_the_extra_for_the_rest(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(bytes([1, 2, 128, 0, 5]))
    (tmp_path / "b.aedat4").write_bytes(b"#!AER-DAT4.0\r\n" + bytes(64))

    atis = run(installed / "eventkit", "info", "a.bin", cwd=tmp_path)
    aedat = run(installed / "eventkit", "info", "b.aedat4", cwd=tmp_path)
    convert = run(installed / "eventkit", "convert", "a.bin", cwd=tmp_path)
    train = run(installed / "velora-train", "--shards", "x", cwd=tmp_path)

    assert atis.returncode == 0, atis.stderr
    assert "1 (1 ON)" in atis.stdout
    for done, extra in ((aedat, "aedat4"), (convert, "pipelines"), (train, "velora")):
        assert done.returncode == 2, done.stderr
        assert f"pip install 'velora-eventkit[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_help_works_without_a_terminal(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "eventkit", "--help", cwd=tmp_path)

    assert done.returncode == 0
    assert "convert" in done.stdout
