"""The command ``velora-predict``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventkit.cli.options import read_options
from eventkit.cli.text import echo
from eventkit.errors import SettingsError
from velora.tools.common import CONTEXT, FILE, WEIGHTS, running

if TYPE_CHECKING:
    from velora.inference.predictor import Predictor
    from velora.scoring.prediction import Prediction

_SPOKEN = {"rgb": "RGB", "event": "events"}


@click.command(context_settings=CONTEXT)
@click.argument("run", type=FILE)
@click.argument("recording")
@click.option(
    "--window-ms", type=click.FloatRange(min=0, min_open=True), help="Length of a window."
)
@click.option("--whole", is_flag=True, help="Take the recording as one clip.")
@click.option("--top", type=click.IntRange(1), default=5, help="Classes to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a window.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table.")
@click.option("--rgb", metavar="PATH", help="RGB side in a file or folder of its own.")
@WEIGHTS
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@read_options
def main(
    *,
    run: Path,
    recording: str,
    window_ms: float | None,
    whole: bool,
    top: int,
    as_json: bool,
    as_csv: bool,
    weights: Path | None,
    device: str,
    **reading: Any,
) -> None:
    """Print what the model of RUN sees in RECORDING over time.

    Windows are cut as the clips of training were; a recording much longer than these is cut into
    windows of their usual length. A sense that the recording lacks is masked. Nothing is written.
    """
    if whole and window_ms is not None:
        msg = "--whole and --window-ms exclude each other"
        raise click.UsageError(msg)
    if as_json and as_csv:
        msg = "--json and --csv exclude each other"
        raise click.UsageError(msg)
    with running("velora-predict"):
        from velora.inference.predictor import load, senses_of

        model = load(run, weights=weights, device=device)
        window_us = None if window_ms is None else round(window_ms * 1000)
        if window_us is not None and window_us < model.spec.bins:
            msg = f"--window-ms {window_ms:g} is less than a microsecond for each of the bins"
            raise SettingsError(msg)
        opened = model.open(recording, **reading)
        found, settings = model.lay_out(opened, window_us=window_us, whole=whole)
        table = as_json or as_csv
        _check_senses(model, recording, senses_of(found))
        for note in _notes(model, recording, senses_of(found)):
            echo(note, err=table)
        write = _json_lines if as_json else _csv_lines if as_csv else _lines
        predictions = model.predict_laid_out(opened, found, settings)
        for line in write(predictions, top, found.spans[0][0]):
            click.echo(line) if table else echo(line)


def _check_senses(model: Predictor, recording: str, senses: tuple[str, ...]) -> None:
    absent = _absent(model, senses)
    if absent and model.model.needs_all_senses:
        named = " and no ".join(_SPOKEN[sense] for sense in absent)
        msg = (
            f"{recording} has no {named}, and this model cannot do without a sense "
            f"(mode = 'compat'){_elsewhere(absent)}"
        )
        raise SettingsError(msg)


def _absent(model: Predictor, senses: tuple[str, ...]) -> list[str]:
    return [sense for sense in model.model.senses if sense not in senses]


def _elsewhere(absent: list[str]) -> str:
    # Pictures beside a file were found by `eventkit convert`; here they are to be named.
    return "; --rgb PATH gives pictures that lie elsewhere" if "rgb" in absent else ""


def _notes(model: Predictor, recording: str, senses: tuple[str, ...]) -> list[str]:
    notes = []
    if model.random_trunk:
        notes.append("note: the trunk of this run is random, nothing was pretrained")
    absent = _absent(model, senses)
    # A model of one sense refuses a recording without it, and nothing is masked.
    if absent and len(model.model.senses) > 1:
        notes.append(
            f"note: {recording} has no {_SPOKEN[absent[0]]}: that sense is masked, in a model of "
            f"both{_elsewhere(absent)}"
        )
    if not model.knows_clips:
        notes.append(
            "note: the run does not say how its clips were cut: one clip, windows of equal time"
        )
    return notes


def _lines(predictions: Iterator[Prediction], top: int, origin_us: int) -> Iterator[str]:
    for p in predictions:
        start, stop = ((t - origin_us) / 1e6 for t in (p.start_us, p.stop_us))
        senses = " + ".join(_SPOKEN[s] for s in p.senses)
        best = "  ".join(f"{name} {share:.3f}" for name, share in p.top(top))
        yield f"{start:9.3f} .. {stop:9.3f} s  {senses or 'nothing to see':12}  {best}".rstrip()


def _json_lines(predictions: Iterator[Prediction], top: int, origin_us: int) -> Iterator[str]:
    for p in predictions:
        yield json.dumps(
            {
                "start_us": p.start_us - origin_us,
                "stop_us": p.stop_us - origin_us,
                "senses": list(p.senses),
                "top": [{"class": name, "probability": share} for name, share in p.top(top)],
            }
        )


def _csv_lines(predictions: Iterator[Prediction], top: int, origin_us: int) -> Iterator[str]:
    def row(*cells: object) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(cells)
        return text.getvalue()

    yield row("start_us", "stop_us", "senses", "rank", "class", "probability")
    for p in predictions:
        times = (p.start_us - origin_us, p.stop_us - origin_us, "+".join(p.senses))
        for rank, (name, share) in enumerate(p.top(top), start=1):
            yield row(*times, rank, name, f"{share:.6f}")
