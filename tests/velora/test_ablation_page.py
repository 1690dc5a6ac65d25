"""The page on ablations shows the record of its runs."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec

from velora.ablation.grid import read_grid
from velora.ablation.table import Result, as_markdown

DOCS = Path(__file__).parents[2] / "docs"
RECORD = DOCS / "accuracy" / "nmnist_ablations.csv"


def results() -> list[Result]:
    with RECORD.open(newline="") as file:
        rows = [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)]
    return [msgspec.convert(row, Result, strict=False) for row in rows]


def test_the_page_shows_every_row_of_the_record() -> None:
    table = [line for line in as_markdown(results(), heading="").splitlines() if line[:1] == "|"]

    page = (DOCS / "ablations.md").read_text().splitlines()

    start = page.index(table[0])
    assert page[start : start + len(table)] == table


def test_the_record_is_of_rows_of_the_grid_with_two_seeds_each() -> None:
    grid = read_grid()

    assert all(result.title == grid[result.name].title for result in results())
    seeds = {(result.name, result.seed) for result in results()}
    assert seeds == {(result.name, seed) for result in results() for seed in (0, 1)}
