"""A folder of 1,000 small ATIS files (N-MNIST): open, decode, all events in memory; one thread."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import common
import numpy as np

import eventkit

ARCHIVE = Path(__file__).resolve().parents[2] / "shared/data/nmnist_pairs.zip"
FILES = 1000
TARGET = 10.0


def main(report: common.Report, *, rounds: int) -> None:
    if not ARCHIVE.is_file():
        print(f"left out: no {ARCHIVE.name}")
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(folder)
        paths = sorted(Path(folder).rglob("train/**/*.bin"))[:FILES]
        rows: common.Rows = {
            "eventkit": lambda: [eventkit.open(path).events for path in paths],
        }
        if common.peer("tonic"):
            from tonic.io import read_mnist_file

            kind = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
            rows["tonic"] = lambda: [read_mnist_file(str(path), dtype=kind) for path in paths]
        ratios = common.compare(
            f"{len(paths)} N-MNIST files", rows, against="eventkit", rounds=rounds
        )
        ratio = ratios.get("tonic")
        report.add("N-MNIST folder", "tonic", f"{len(paths)} files", ratio, TARGET)


if __name__ == "__main__":
    summary = common.Report()
    main(summary, rounds=5)
    summary.print()
