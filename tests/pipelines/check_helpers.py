"""Audits of small sets, and the sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.check.audit import Audit, check_raw
from pipelines.check.findings import Finding
from pipelines.datasets.splits import BY_RECORDING, SplitRule
from pipelines.executors import RunSettings
from pipelines.opening import ReadSettings

READ = ReadSettings()
INLINE = RunSettings(executor="inline")


def audit(
    *sources: Path,
    read: ReadSettings = READ,
    layout="auto",
    rule: SplitRule = BY_RECORDING,
    run: RunSettings = INLINE,
) -> Audit:
    return check_raw(sources, read=read, layout=layout, run=run, rule=rule)


def kinds(found: Audit) -> list[str]:
    return [finding.kind for finding in found.findings]


def only(found: Audit, kind: str) -> Finding:
    assert kinds(found) == [kind]
    return found.findings[0]


def write_lists(root: Path) -> None:
    """List every recording of a tree with splits, labels from 0 by the sorted class folders."""
    for split in ("train", "test"):
        folders = sorted(path for path in (root / split).iterdir() if path.is_dir())
        lines = [
            f"{split}/{folder.name}/{file.stem} 1 {label}\n"
            for label, folder in enumerate(folders)
            for file in sorted(folder.glob("*.bin"))
        ]
        (root / f"{split}_label.txt").write_text("".join(lines))


def write_npz_set(root: Path, *, number: int, size: int = 34) -> None:
    """Recordings as HARDVS has them: columns, no geometry."""
    for label in "ab":
        (root / label).mkdir()
        for i in range(number):
            rng = np.random.default_rng(100 * i + ord(label))
            t = np.sort(rng.integers(0, 300_000, 500))
            x, y = rng.integers(0, size, (2, 500))
            np.savez(root / label / f"{i}.npz", t=t, x=x, y=y, p=rng.integers(0, 2, 500))


def harms(*sources: Path) -> list[str]:
    """Kinds of the findings but for the notes."""
    return [finding.kind for finding in audit(*sources).findings if finding.severity != "note"]
