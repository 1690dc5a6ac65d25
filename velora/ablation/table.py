"""The table of an ablation: what each row cost, how well it did, and whether that is chance."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from eventkit.errors import DamageError
from velora.ablation.grid import REFERENCE
from velora.scoring.mcnemar import compared
from velora.scoring.scores import Report

#: Name of the table's files, which end in .md and .csv.
TABLE = "ablations"
_COLUMNS = (
    "ablation",
    "seed",
    "trains",
    "of all",
    "s/epoch",
    "clips/s",
    "peak MB",
    "clips",
    "top-1",
    "95 %",
    "only full / only this",
    "p",
)


class Result(Struct, frozen=True, kw_only=True):
    """A row of the table. ``problem`` says why there are no numbers."""

    name: str
    title: str
    seed: int
    problem: str = ""
    trainable: int = 0
    total: int = 0
    seconds_per_epoch: float = 0.0
    clips_per_s: float = 0.0
    memory_mb: float = 0.0
    clips: int = 0
    top1: float = 0.0
    top1_error: float = 0.0
    low: float = 0.0
    high: float = 0.0
    #: Clips that only the full model, or only this row, gets right; None without the full model.
    only_full: int | None = None
    only_this: int | None = None
    p_value: float | None = None
    #: Hash of settings, shards and weights, as `velora.config.settings_hash` makes it.
    settings_sha256: str = ""


def read_result(run: Path, *, name: str, title: str, seed: int, full: Path | None) -> Result:
    """Read the numbers of a finished run, compared with the run of the full model.

    Raises
    ------
    DamageError
        If a file of the run is not what was written.
    """
    try:
        report = msgspec.json.decode((run / "result.json").read_bytes(), type=Report)
        parts = json.loads((run / "parameters.json").read_bytes())
        facts = json.loads((run / "run.json").read_bytes())
        epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        test = compared(verdicts(full), verdicts(run)) if full else None
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
        msg = f"{run} is no finished run ({error}); remove it and run the same command again"
        raise DamageError(msg) from error
    first = report.scores[0]
    return Result(
        name=name,
        title=title,
        seed=seed,
        trainable=parts[-1]["trainable"],
        total=parts[-1]["total"],
        seconds_per_epoch=round(sum(e["seconds"] for e in epochs) / len(epochs), 2),
        clips_per_s=round(sum(e["clips_per_s"] for e in epochs) / len(epochs), 2),
        memory_mb=round(max(e["memory_bytes"] for e in epochs) / 1e6, 1),
        clips=first.samples,
        top1=first.top1,
        top1_error=first.top1_error,
        low=first.top1_interval[0],
        high=first.top1_interval[1],
        only_full=test.only_first if test else None,
        only_this=test.only_second if test else None,
        p_value=test.p_value if test else None,
        settings_sha256=facts["settings_sha256"],
    )


def verdicts(run: Path) -> dict[str, bool]:
    """Return which clips of the test split a run gets right, by key."""
    with (run / "predictions.csv").open(newline="") as file:
        return {row["key"]: row["correct"] == "1" for row in csv.DictReader(file)}


def as_markdown(results: Sequence[Result], *, heading: str, same: Sequence[str] = ()) -> str:
    """Write the table for reading; ``same`` are titles of rows that are the full model."""
    lines = [
        f"# {heading}",
        "",
        "Top-1 on the test split with its binomial standard error and 95 % interval (Wilson). The "
        "last columns compare with the full model of the same seed on the same clips: how many "
        "only one of the two gets right, and McNemar's exact p value. Time and memory are those of "
        "the machine that ran it.",
        "",
        *([f"The full model's settings are also those of: {', '.join(same)}.", ""] if same else []),
        f"| {' | '.join(_COLUMNS)} |",
        "|" + "---|" * len(_COLUMNS),
    ]
    return "\n".join([*lines, *map(_line, results), ""])


def _line(r: Result) -> str:
    if r.problem:
        return f"| {_cell(r.title)} | {r.seed} | {_cell(r.problem)} |" + " |" * (len(_COLUMNS) - 3)
    versus, p = "", ""
    if r.name != REFERENCE and r.p_value is not None:
        versus, p = f"{r.only_full} / {r.only_this}", f"{r.p_value:.3g}"
    cells = [
        _cell(r.title),
        str(r.seed),
        f"{r.trainable:,}",
        f"{r.trainable / r.total:.2%}",
        f"{r.seconds_per_epoch:.1f}",
        f"{r.clips_per_s:.1f}",
        f"{r.memory_mb:.0f}",
        str(r.clips),
        f"{r.top1:.4f} +- {r.top1_error:.4f}",
        f"{r.low:.3f} .. {r.high:.3f}",
        versus,
        p,
    ]
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", "\\|")


def as_csv(results: Sequence[Result]) -> str:
    """Write the table for programs, every number in full; a row with a problem has none."""
    told = ("name", "title", "seed", "problem", "settings_sha256")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, Result.__struct_fields__, lineterminator="\n")
    writer.writeheader()
    for r in results:
        cells = msgspec.to_builtins(r)
        writer.writerow({k: cells[k] for k in told} if r.problem else cells)
    return buffer.getvalue()


def read_csv(path: Path) -> list[Result]:
    """Read what `as_csv` wrote; nothing where there is no table yet.

    Raises
    ------
    DamageError
        If the file is no such table.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
        return [msgspec.convert(row, Result, strict=False) for row in rows]
    except (ValueError, csv.Error) as error:
        msg = f"{path} is no table of velora-ablate ({error}); remove it"
        raise DamageError(msg) from error
