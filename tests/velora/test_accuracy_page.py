"""The page on accuracy says what its record of single clips gives."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from velora.scoring.accuracy import accuracy
from velora.scoring.mcnemar import compared

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "accuracy.py"))
VERDICTS = SCRIPT["read_verdicts"](ROOT / "docs" / "accuracy" / "nmnist_pairs.csv")


@pytest.mark.parametrize("row", VERDICTS)
def test_the_page_quotes_what_the_record_gives(row: str) -> None:
    correct = VERDICTS[row]
    (line,) = [
        line
        for line in (ROOT / "docs" / "accuracy.md").read_text().splitlines()
        if line.startswith(f"| {row} |")
    ]

    got = accuracy(sum(correct.values()), len(correct))
    assert f"| {len(correct)} | {got.share:.4f} +- {got.error:.4f} |" in line
    against = SCRIPT["ROWS"][row].against
    if row != against:
        test = compared(VERDICTS[against], correct)
        assert f"{test.only_first} / {test.only_second}, {against} | {test.p_value:.3g}" in line
