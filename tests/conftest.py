"""Shared by all tests: real recordings, the command line in a subprocess, Hypothesis profiles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from helpers import ROOT, run_tool
from hypothesis import HealthCheck, settings

SHARED = ROOT.parent / "shared"

# The first call of a kernel compiles it, so no deadline; derandomised, so that red stays red.
settings.register_profile(
    "eventkit",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("eventkit")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real recordings are not here: {SHARED}/data")
    return SHARED / "data"


@pytest.fixture(scope="session")
def nmnist_pairs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unzipped N-MNIST pairs."""
    folder = tmp_path_factory.mktemp("nmnist")
    with zipfile.ZipFile(shared / "nmnist_pairs.zip") as archive:
        archive.extractall(folder)
    return folder / "nmnist_pairs"


@pytest.fixture
def tool(tmp_path: Path):
    """Run a command in this test's folder."""

    def run(
        *arguments: str | Path,
        cwd: Path | None = None,
        program: str = "eventkit",
        timeout: float = 280,
    ):
        return run_tool(*arguments, cwd=cwd or tmp_path, program=program, timeout=timeout)

    return run
