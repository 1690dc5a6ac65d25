"""The example plug-in, installed into an environment of its own: its tests, and the commands."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "examples/reader_plugin"

WRITE = """
import numpy as np, toy_events
from eventkit import Events
from pathlib import Path
n = 500
ev = Events(x=np.arange(n) % 7, y=np.arange(n) % 5, t=np.arange(n) * 10, p=np.arange(n) % 2)
toy_events.write(ev, (7, 5), Path("a.toy"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that sees the libraries of this one, this project, and the plug-in."""
    folder = tmp_path_factory.mktemp("plugin") / "venv"
    venv.create(folder, with_pip=True, system_site_packages=False)
    site = next((folder / "lib").glob("python*/site-packages"))
    # What is installed here already need not be installed again.
    (site / "libraries.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", str(PLUGIN)]
    done = run(folder / "bin/python", *command, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin/python"


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return subprocess.run(
        [python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=250
    )


@pytest.mark.skipif(sys.platform == "win32", reason="paths of the environment are those of POSIX")
def test_the_plugin_passes_the_contract_and_the_commands_read_its_format(
    python: Path, tmp_path: Path
) -> None:
    contract = run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN / "tests"), cwd=tmp_path
    )
    written = run(python, "-c", WRITE, cwd=tmp_path)
    info = run(python, "-m", "eventkit", "info", "a.toy", cwd=tmp_path)
    export = run(python, "-m", "eventkit", "export", "a.toy", "a.csv", cwd=tmp_path)

    assert contract.returncode == 0, contract.stdout + contract.stderr
    assert "failed" not in contract.stdout
    assert " passed" in contract.stdout
    assert written.returncode == 0, written.stderr
    assert "a.toy: toy (magic bytes TOY1)" in info.stdout, info.stderr
    assert "sensor     7x5 (header)" in info.stdout
    assert export.returncode == 0, export.stderr
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 501
