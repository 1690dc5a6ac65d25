"""Every Python example of README and docs runs; every doctest of eventkit holds."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import run_tool

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "pipelines"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the examples find a recording and shards."""
    from pipelines_helpers import write_recording

    folder = tmp_path_factory.mktemp("docs")
    write_recording(folder / "0001", seed=1)
    for i in range(6):
        write_recording(folder / "raw" / "train" / f"c{i % 2}" / f"{i}", seed=i)
    assert run_tool("convert", "raw", cwd=folder).returncode == 0
    assert run_tool("shard", cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_runs(workplace: Path, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


def test_doctests_hold() -> None:
    import eventkit

    failed = []
    tried = 0
    for module in pkgutil.walk_packages(eventkit.__path__, "eventkit."):
        if module.name.startswith(("eventkit.testing", "eventkit.cli")):
            continue
        result = doctest.testmod(
            importlib.import_module(module.name),
            optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.ELLIPSIS,
        )
        tried += result.attempted
        if result.failed:
            failed.append(module.name)
    assert not failed
    assert tried > 10
