"""The shape of the project: what imports what, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "timm", "dask", "zarr", "numba", "h5py", "webdataset", "matplotlib", "PIL", "av")


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after ``code``."""
    script = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import eventkit",
        "import eventkit; eventkit.Events; eventkit.open; eventkit.count_frames",
        "import eventkit.cli",
    ],
)
def test_importing_eventkit_loads_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & set(HEAVY)


def test_help_imports_click_and_nothing_else_of_weight() -> None:
    code = """
import sys
sys.argv = ["eventkit", "--help"]
from eventkit.cli import main
try:
    main()
except SystemExit:
    pass
"""
    loaded = modules_after(code)
    assert "click" in loaded
    assert not loaded & {*HEAVY, "numpy", "pipelines", "velora"}


def test_numba_loads_with_the_first_kernel() -> None:
    code = """
import eventkit
ev = eventkit.Events(x=[0], y=[0], t=[0], p=[0])
import sys
assert "numba" not in sys.modules
eventkit.count_frames(ev, sensor_size=(2, 3), bins=1)
assert "numba" in sys.modules
"""
    assert "numba" in modules_after(code)


def test_every_public_name_can_be_had() -> None:
    import eventkit

    for name in eventkit.__all__:
        assert getattr(eventkit, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = eventkit.no_such_name


def test_every_command_of_the_table_loads() -> None:
    import click

    from eventkit.cli import main_group

    context = click.Context(main_group)
    for name in main_group.list_commands(context):
        assert main_group.get_command(context, name) is not None, name


@pytest.mark.parametrize("planted", ["import torch", "def f():\n    import dask\n"])
def test_the_contracts_catch_a_planted_import(tmp_path: Path, planted: str) -> None:
    import shutil

    for package in ("eventkit", "pipelines", "velora"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "eventkit" / "slicing.py").open("a") as file:
        file.write(f"\n{planted}\n")

    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "eventkit.slicing" in done.stdout


def test_versions_agree() -> None:
    import eventkit

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == eventkit.__version__
    assert f"version: {project['version']}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_is_two_ideas() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ("eventkit", "pipelines", "velora")
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_kernels_work_where_nothing_can_be_cached(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(
        ROOT / "eventkit", tmp_path / "eventkit", ignore=shutil.ignore_patterns("__pycache__")
    )
    # A file where the cache folder would be stands for a folder that cannot be written.
    (tmp_path / "eventkit" / "kernels" / "__pycache__").write_bytes(b"")
    code = """
import eventkit
ev = eventkit.Events(x=[0], y=[0], t=[0], p=[1])
print(eventkit.__file__, eventkit.count_frames(ev, sensor_size=(2, 3), bins=1).sum())
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "eventkit" / "__init__.py"), "1"]
