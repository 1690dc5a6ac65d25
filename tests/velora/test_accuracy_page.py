"""The page on accuracy says what its record of single clips gives."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from velora.scoring.accuracy import accuracy
from velora.scoring.mcnemar import compared

DOCS = Path(__file__).parents[2] / "docs"


def verdicts() -> dict[str, dict[str, bool]]:
    with (DOCS / "accuracy" / "nmnist_pairs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = [name for name in lines[0] if name != "key"]
    return {
        row: {line["key"]: line[row] == "1" for line in lines if line[row] != ""} for row in rows
    }


@pytest.mark.parametrize("row", verdicts())
def test_the_page_quotes_what_the_record_gives(row: str) -> None:
    correct = verdicts()[row]
    (line,) = [
        line
        for line in (DOCS / "accuracy.md").read_text().splitlines()
        if line.startswith(f"| {row} |")
    ]

    got = accuracy(sum(correct.values()), len(correct))
    assert f"| {len(correct)} | {got.share:.4f} +- {got.error:.4f} |" in line
    against = "fusion-bent" if row == "rgb-bent" else "fusion"
    if row != against:
        test = compared(verdicts()[against], correct)
        assert f"{test.only_first} / {test.only_second}, {against} | {test.p_value:.3g}" in line
