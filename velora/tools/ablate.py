"""``velora-ablate``: train every row of a grid, go on where it stopped, and write one table."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from eventkit.cli.run import GO_ON
from eventkit.errors import EventKitError, SettingsError
from velora.tools.common import CONTEXT, FILE, running

if TYPE_CHECKING:
    from velora.ablation.grid import Row
    from velora.ablation.table import Result
    from velora.settings import Settings


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
    do not allow is named in the table, and the command ends with exit code 2, unless all that it
    wants is more frames than the shards have; without the full model there is no table. A row with
    the settings of the full model is that model, and not trained again. Rows of earlier calls
    stand in the table too, of all seeds, where they differ from the recipe in nothing but what the
    grid says.
    """
    with running("velora-ablate", go_on=GO_ON):
        from velora.ablation.grid import choose, longer_than, read_grid, same_as_full
        from velora.ablation.table import TABLE
        from velora.config import load_settings, parse_assignments

        overrides = parse_assignments(assignments)
        name, settings = load_settings(recipe, overrides)
        rows = read_grid(grid)
        chosen = choose(rows, _names(only))
        if listing:
            _list(chosen, settings)
            return
        words = ["--recipe", recipe, "--shards", shards, "--out", str(out)]
        words += ["--device", device, "--num-workers", str(num_workers)]
        words += [] if weights is None else ["--weights", str(weights)]
        words += [word for a in assignments for word in ("--set", a)]
        bins = _bins(shards)
        too_long = [] if bins is None else longer_than(bins, chosen, settings)
        same = same_as_full(rows, recipe, overrides)
        _tell(too_long, f"more frames than the {bins} bins of {shards}; the table says so")
        _tell([n for n in same if n in chosen], "the settings of full, which is trained once")
        todo = {n: row for n, row in chosen.items() if n not in same}
        call = _Call(
            recipe=recipe,
            name=name,
            overrides=overrides,
            plain=settings,
            rows=rows,
            same=same,
            out=out,
            words=words,
        )
        failed = _train_rows(call, todo, seeds or (settings.train.seed,))
        click.echo((out / f"{TABLE}.md").read_text())
        click.echo(f"written: {out / TABLE}.md and .csv")
    missed = dict.fromkeys(row for row, why in failed if _TOO_LONG not in why)
    if missed:
        click.echo(f"without numbers: {', '.join(missed)}; the table says why", err=True)
        sys.exit(2)


# Of velora-train, for a row of more frames than there are.
_TOO_LONG = "data.frames: expected at most"


class _Call(NamedTuple):
    """What all runs of a call have in common."""

    recipe: str
    name: str
    overrides: Mapping[str, object]
    plain: Settings
    rows: Mapping[str, Row]
    #: Rows with the settings of the full model.
    same: Sequence[str]
    out: Path
    #: Of velora-train.
    words: Sequence[str]


def _names(only: str | None) -> list[str]:
    """Read the rows of ``--only``; none where it is not given."""
    if only is None:
        return []
    names = [name for word in only.split(",") if (name := word.strip())]
    if not names:
        msg = (
            f"--only: expected names of rows with commas between, got {only!r}; leave it out for "
            "all rows"
        )
        raise SettingsError(msg)
    return names


def _list(rows: Mapping[str, Row], settings: Settings) -> None:
    for name, row in rows.items():
        changes = " ".join(_words(row.changes(settings))) or "the recipe as it is"
        click.echo(f"{name:<20} {row.title:<32} {changes}")


def _bins(shards: str) -> int | None:
    """Return how many frames the shards have; None if velora-train will say what is wrong."""
    from eventkit.shards import ShardSet
    from velora.data import describe

    try:
        return describe(ShardSet.open(shards), splits=()).bins
    except EventKitError:
        return None


def _tell(names: Sequence[str], what: str) -> None:
    if names:
        click.echo(f"{', '.join(names)}: {what}", err=True)


def _train_rows(
    call: _Call, rows: Mapping[str, Row], seeds: Sequence[int]
) -> list[tuple[str, str]]:
    """Train rows of all seeds, and write the table after each; returns what failed, and why."""
    import msgspec

    from velora.ablation.earlier import Expected, Key, earlier_results, key_of, run_name
    from velora.ablation.grid import REFERENCE

    expected: Expected | None = None
    results: dict[Key, Result] = {}
    failed = []
    for seed in seeds:
        for row, given in rows.items():
            result = _result(call, row, given, seed)
            if row == REFERENCE and result.problem:
                msg = f"the full model could not be trained: {result.problem}"
                raise SettingsError(msg)
            if expected is None:
                expected = Expected.of(
                    recipe=call.recipe,
                    overrides=call.overrides,
                    rows=call.rows,
                    reference=call.out / run_name(call.name, row, seed),
                )
                results, strange = earlier_results(call.out, expected)
                for sentence in strange:
                    click.echo(sentence, err=True)
            if result.problem:
                result = msgspec.structs.replace(
                    result, settings_sha256=expected.row_sha256(row, seed)
                )
                failed.append((row, result.problem))
            results[key_of(call.rows, row, seed)] = result
            _write(call, [results[key] for key in sorted(results)])
    return failed


def _result(call: _Call, row: str, given: Row, seed: int) -> Result:
    """Train a row, unless it is finished, and read its numbers."""
    from velora.ablation.earlier import run_name
    from velora.ablation.grid import REFERENCE
    from velora.ablation.table import Result, read_result

    click.echo(f"== {given.title} (seed {seed})", err=True)
    changes = [word for a in _words(given.changes(call.plain)) for word in ("--set", a)]
    run = run_name(call.name, row, seed)
    problem = _train([*call.words, *changes, "--seed", str(seed), "--name", run])
    if problem is None:
        full = call.out / run_name(call.name, REFERENCE, seed)
        reference = full if (full / "result.json").is_file() else None
        try:
            return read_result(
                call.out / run, name=row, title=given.title, seed=seed, full=reference
            )
        except EventKitError as error:
            problem = str(error)
    click.echo(problem, err=True)
    return Result(name=row, title=given.title, seed=seed, problem=problem)


def _train(command: list[str]) -> str | None:
    """Run velora-train; returns the last line of what it said, if it failed."""
    program = f"from velora.orphan import die_with; die_with({os.getpid()})"
    program += "; from velora.cli import train; train()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
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
    """Write overrides as KEY=VALUE, the value as TOML."""
    return [f"{key}={_toml(value)}" for key, value in changes.items()]


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # JSON's strings, booleans and other numbers are TOML's, DEL excepted. No setting is a date.
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def _write(call: _Call, results: Sequence[Result]) -> None:
    from eventkit.atomic import write_atomic
    from velora.ablation.table import TABLE, as_csv, as_markdown

    same = [call.rows[name].title for name in call.same]
    text = as_markdown(results, heading=f"Ablations of {call.name}", same=same)
    call.out.mkdir(parents=True, exist_ok=True)
    write_atomic(call.out / f"{TABLE}.md", text.encode())
    write_atomic(call.out / f"{TABLE}.csv", as_csv(results).encode())
