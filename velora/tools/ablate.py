"""``velora-ablate``: train every row of a grid, go on where it stopped, and write one table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventkit.cli.run import GO_ON
from eventkit.errors import EventKitError, SettingsError
from velora.tools.common import CONTEXT, FILE, running

if TYPE_CHECKING:
    from velora.ablation.table import Result

TABLE = "ablations"


@click.command(context_settings=CONTEXT)
@click.argument("recipe")
@click.option("--shards", default="shards", help="Folder or URL of `eventkit shard`.")
@click.option("--out", type=FILE, default="ablations", help="Folder of the runs and the table.")
@click.option("--only", help="Rows, with commas between; the full model is always one.")
@click.option("--grid", type=FILE, help="A TOML file of rows.  [default: the package's]")
@click.option("--seed", "seeds", type=int, multiple=True, help="May be repeated.  [the recipe's]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="For all rows.")
@click.option("--weights", type=FILE, help="Local safetensors file of the backbone.")
@click.option("--device", default="auto", help="auto is cuda where there is one.")
@click.option("--num-workers", type=click.IntRange(0), default=2, help="Decoding threads.")
@click.option("--list", "listing", is_flag=True, help="Print the rows and what they change.")
def main(
    *,
    recipe: str,
    shards: str,
    out: Path,
    only: str | None,
    grid: Path | None,
    seeds: tuple[int, ...],
    assignments: tuple[str, ...],
    weights: Path | None,
    device: str,
    num_workers: int,
    listing: bool,
) -> None:
    """Train RECIPE with one idea changed at a time and compare on the test split.

    Every row is a run of velora-train in a process of its own. The same command goes on after an
    interruption; rows that are finished are not trained again. A row that the shards or the trunk
    do not allow is named in the table, and the command ends with exit code 2; without the full
    model there is no table. Rows that were finished before stand in it too, of all seeds, where
    they differ from the recipe in nothing but what the grid says.
    """
    with running("velora-ablate", go_on=GO_ON):
        from velora.ablation.earlier import Key, earlier_results, key_of, run_name
        from velora.ablation.grid import REFERENCE, choose, read_grid
        from velora.ablation.table import as_csv, as_markdown
        from velora.config import load_settings, parse_assignments

        overrides = parse_assignments(assignments)
        name, settings = load_settings(recipe, overrides)
        rows = read_grid(grid)
        chosen = choose(rows, [n for n in (only or "").split(",") if n])
        if listing:
            for row_name, row in chosen.items():
                changes = " ".join(_words(row.changes(settings))) or "the recipe as it is"
                click.echo(f"{row_name:<20} {row.title:<32} {changes}")
            return
        common = ["--recipe", recipe, "--shards", shards, "--out", str(out)]
        common += ["--device", device, "--num-workers", str(num_workers)]
        common += [] if weights is None else ["--weights", str(weights)]
        common += [word for a in assignments for word in ("--set", a)]
        results: dict[Key, Result] = {}
        failed = []
        for seed in seeds or (settings.train.seed,):
            for row_name, row in chosen.items():
                words = _words(row.changes(settings))
                flags = [word for a in words for word in ("--set", a)]
                run = run_name(name, row_name, seed)
                command = [*common, *flags, "--seed", str(seed), "--name", run]
                result = _result(out, run, row_name, row.title, seed, name, command)
                if row_name == REFERENCE and result.problem:
                    msg = f"the full model could not be trained: {result.problem}"
                    raise SettingsError(msg)
                if not results:
                    results, strange = earlier_results(
                        out, recipe=recipe, overrides=overrides, rows=rows, reference=out / run
                    )
                    for sentence in strange:
                        click.echo(sentence, err=True)
                results[key_of(rows, row_name, seed)] = result
                if result.problem:
                    failed.append(row_name)
                table = [results[key] for key in sorted(results)]
                _write(out, as_markdown(table, heading=f"Ablations of {name}"), ".md")
                _write(out, as_csv(table), ".csv")
        click.echo((out / f"{TABLE}.md").read_text())
        click.echo(f"written: {out / TABLE}.md and .csv")
    if failed:
        click.echo(f"without numbers: {', '.join(failed)}; the table says why", err=True)
        sys.exit(2)


def _result(
    out: Path, run: str, row: str, title: str, seed: int, recipe: str, command: list[str]
) -> Result:
    """Train a row, unless it is finished, and read its numbers."""
    from velora.ablation.earlier import run_name
    from velora.ablation.grid import REFERENCE
    from velora.ablation.table import Result, read_result

    click.echo(f"== {title} (seed {seed})", err=True)
    problem = _train(command)
    if problem is None:
        full = out / run_name(recipe, REFERENCE, seed)
        reference = full if (full / "result.json").is_file() else None
        try:
            return read_result(out / run, name=row, title=title, seed=seed, full=reference)
        except EventKitError as error:
            problem = str(error)
    click.echo(problem, err=True)
    return Result(name=row, title=title, seed=seed, problem=problem)


def _train(command: list[str]) -> str | None:
    """Run velora-train; returns the last line of what it said, if it failed."""
    program = [sys.executable, "-c", "from velora.cli import train; train()"]
    process = subprocess.Popen(
        [*program, *command], stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    last = ""
    assert process.stderr is not None
    try:
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
    except BaseException:
        process.terminate()
        process.wait()
        raise
    code = process.wait()
    if code == 0:
        return None
    return last.removeprefix("error: ") or f"velora-train ended with exit code {code}"


def _words(changes: Mapping[str, object]) -> list[str]:
    """Write overrides as KEY=VALUE; JSON's strings, numbers, booleans and lists are TOML's."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _write(out: Path, text: str, suffix: str) -> None:
    from eventkit.atomic import write_atomic

    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / f"{TABLE}{suffix}", text.encode())
