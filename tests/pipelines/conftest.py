from __future__ import annotations

from pathlib import Path

import pytest
from crash_helpers import Clean, run_clean
from pipelines_helpers import write_recording


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A class tree with splits: 3 classes, 6 train and 2 test recordings each."""
    root = tmp_path / "raw"
    for number, split in enumerate(("train", "test")):
        for label in range(3):
            for i in range(6 - 4 * number):
                seed = 1000 * number + 100 * label + i
                write_recording(root / split / f"c{label}" / f"{i:04d}", seed=seed)
    return root


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """One clean run of convert and shard, for runs that end otherwise to be held against."""
    return run_clean(tmp_path_factory.mktemp("clean"))
