"""The page on ablations shows the records of its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from velora.ablation.grid import read_grid
from velora.ablation.table import Result, as_markdown, read_csv

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = ("nmnist_ablations", "nmnist_frames")


def results(record: str) -> list[Result]:
    return read_csv(DOCS / "accuracy" / f"{record}.csv")


@pytest.mark.parametrize("record", RECORDS)
def test_the_page_shows_every_row_of_the_record(record: str) -> None:
    table = as_markdown(results(record), heading="").splitlines()
    table = [line for line in table if line[:1] == "|"]

    page = (DOCS / "ablations.md").read_text()

    assert "\n".join(table) in page


@pytest.mark.parametrize("record", RECORDS)
def test_the_record_is_of_rows_of_the_grid_with_two_seeds_each(record: str) -> None:
    grid = read_grid()
    made = results(record)

    assert all(result.title == grid[result.name].title for result in made)
    seeds = {(result.name, result.seed) for result in made}
    assert seeds == {(result.name, seed) for result in made for seed in (0, 1)}
