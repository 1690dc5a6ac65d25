"""The sections of a run's page, from the result to what explains it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from eventkit.html import Markup, element, page, table
from velora.data import ClipDataset
from velora.model.classifier import Classifier
from velora.report import charts, clips, confusion, setup
from velora.report.charts import Line, curves, reliability_chart, share_bar
from velora.report.classes import by_class, view_title
from velora.report.words import interval, number, of, p_value, percent, with_error
from velora.scoring.accuracy import accuracy
from velora.scoring.robustness import Robustness
from velora.scoring.scores import Evaluation, Score, reliability
from velora.settings import Settings
from velora.training.checkpoint import RunFacts
from velora.training.progress import ParameterRow

_STYLE = f"""{charts.STYLE}{clips.STYLE}{confusion.STYLE}
.totals {{ display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.25rem 0 0; padding: 0; }}
.totals div {{ display: flex; flex-direction: column-reverse; }}
.totals dt {{ color: var(--faint); font-size: .875rem; }}
.totals dd {{ margin: 0; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }}
.two {{ display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }}
.two > div {{ min-width: 0; }}
.curves {{ display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }}
.stack td:last-child {{ min-width: 0; }}
details {{ margin: .75rem 0; }} summary {{ cursor: pointer; }}
@media print {{ .curves > div, .chart {{ break-inside: avoid; }} }}
"""
_DIGITS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a page is about.

    Parameters
    ----------
    name : str
    settings : Settings
    facts : RunFacts
    metrics : list of dict
        One an epoch.
    evaluation : Evaluation
    dataset : ClipDataset
        The split that was evaluated.
    model : Classifier
        With the weights that were evaluated.
    device : torch.device
    parameters : sequence of ParameterRow
    robustness : Robustness, optional
    """

    name: str
    settings: Settings
    facts: RunFacts
    metrics: list[dict[str, Any]]
    evaluation: Evaluation
    dataset: ClipDataset
    model: Classifier
    device: torch.device
    parameters: Sequence[ParameterRow]
    robustness: Robustness | None = None


def run_page(run: Run) -> str:
    """Return the whole page; equal runs give equal text."""
    title = f"VELoRA run {run.name}"
    return page(title, element("h1", title), *_sections(run), style=_STYLE)


def _sections(run: Run) -> Iterator[Markup]:
    report = run.evaluation.report
    found = clips.verdicts(run.evaluation.predictions)
    yield from _summary(run)
    yield from _section("Accuracy", _scores(run))
    yield from _section("Training", _curves(run))
    yield from _section("Accuracy by class", by_class(report, _train_clips(run)))
    yield from _section("Confusion", confusion.confusion(report))
    if found:
        cards = clips.hardest_cards(run.evaluation, found, run.dataset, model=run.model)
        how = (
            "The clips of the highest loss, as the model sees them: the frame with the most in it."
        )
        yield from _section("Hardest clips", _cards(how, cards))
        cards = clips.overlay_cards(
            run.evaluation, clips.telling(found), run.dataset, model=run.model, device=run.device
        )
        yield from _section("Where the model looks", _cards(_OVERLAY, cards))
    if run.robustness is not None:
        yield from _section("When a sense fails", _robustness(run.robustness))
    yield from _section("Calibration", _calibration(run.evaluation))
    yield from _section("Data", setup.data_facts(run.dataset.shards, run.facts.data))
    yield from _section("Parameters", setup.parameters(run.parameters))
    yield from _section("To make it again", setup.commands())
    yield from _section("Settings", setup.settings_tables(run.settings))
    yield from _section("Made with", setup.origins(run.facts))


_OVERLAY = (
    "Lit is what moves the logit of the predicted class: the gradient times how far a pixel stands "
    "out from its picture, averaged over cells. Both senses of a clip are on one scale, and the "
    "shares say how much of it each has, over all frames."
)


def _section(title: str, parts: Iterable[Markup]) -> Iterator[Markup]:
    yield element("h2", title)
    yield from parts


def _cards(how: str, cards: Iterable[Markup]) -> Iterator[Markup]:
    yield element("p", how, class_="faint")
    yield element("div", *cards, class_="cards")


def _summary(run: Run) -> Iterator[Markup]:
    report = run.evaluation.report
    first = report.scores[0]
    yield element(
        "p",
        f"{_senses(run)}, {run.facts.trunk.backbone}; {report.split} split, weights of epoch "
        f"{report.epoch} of {run.settings.train.epochs}",
        class_="faint",
    )
    if run.facts.trunk.kind == "random":
        text = "The trunk is random: the accuracies say that the road works, not how good it is."
        yield element("p", text, class_="warn")
    if report.other_settings:
        text = f"Made with other settings than the run: {'; '.join(report.other_settings)}."
        yield element("p", text, class_="warn")
    if run.metrics and all(m.get("val_top1") is None for m in run.metrics):
        text = "No clip of a val split was measured: the last epoch was kept, not the best one."
        yield element("p", text, class_="warn")
    told = {
        "top-1": with_error(first.top1, first.top1_error),
        "mean of the classes": percent(first.mean_class),
    }
    if first.recordings is not None and first.recordings.samples != first.samples:
        told["by recording"] = percent(first.recordings.share)
    told |= {
        "always the largest class": percent(report.largest_class),
        "chance": percent(report.chance),
        f"{report.split} clips": number(first.samples),
    }
    entries = (element("div", element("dt", k), element("dd", v)) for k, v in told.items())
    yield element("dl", *entries, class_="totals")


def _senses(run: Run) -> str:
    names = {"fusion": "RGB and events", "rgb": "RGB", "event": "Events"}
    return names[run.evaluation.report.streams]


def _scores(run: Run) -> Iterator[Markup]:
    scores = run.evaluation.report.scores
    top5 = any(s.top5 is not None for s in scores)
    head = ["what it sees", "top-1", "95 % interval", *(["top-5"] if top5 else [])]
    head += ["mean of the classes", "by recording", "clips"]
    rows = [_score_row(one, colour=i, top5=top5) for i, one in enumerate(scores)]
    yield table(head, rows, numbers=range(2, len(head)), class_="stack")
    text = "\N{PLUS-MINUS SIGN} is one standard error, the interval is Wilson's."
    if len(scores) > 1:
        text += (
            " A masked sense is hidden from the model that learned from both: what it draws from "
            "each, not what a model of one sense can do."
        )
    first = scores[0]
    if first.recordings is not None and first.recordings.samples == first.samples:
        text += " Every clip is a recording of its own."
    elif first.recordings is not None:
        text += " By recording: the logits of the clips of a recording are averaged."
    yield element("p", text, class_="faint")


def _score_row(one: Score, *, colour: int, top5: bool) -> list[str]:
    bar = share_bar(accuracy(round(one.top1 * one.samples), one.samples), colour=colour)
    measured = one.samples > 0
    row: list[str] = [view_title(one.view, one.how), bar]
    row.append(interval(*one.top1_interval) if measured else "")
    if top5:
        told = measured and one.top5 is not None
        row.append(with_error(one.top5 or 0.0, one.top5_error or 0.0) if told else "")
    mean_class = with_error(one.mean_class, one.mean_class_error) if measured else ""
    recordings = "" if one.recordings is None else of(one.recordings)
    clips_told = number(one.samples)
    if one.left_out:
        clips_told += f", {number(one.left_out)} without it"
    return [*row, mean_class, recordings, clips_told]


def _curves(run: Run) -> Iterator[Markup]:
    metrics = run.metrics
    if not metrics:
        yield element("p", "No epoch was recorded.", class_="faint")
        return
    epochs = [int(m["epoch"]) for m in metrics]
    best = run.evaluation.report.epoch if run.evaluation.report.epoch in epochs else None

    def line(name: str, key: str, colour: int) -> Line:
        return Line(name=name, values=[m.get(key) for m in metrics], colour=colour)

    loss = [line("train", "loss", 0), line("val", "val_loss", 1)]
    top1 = [line("train", "train_top1", 0), line("val", "val_top1", 1)]
    if any(m.get("rec_loss") for m in metrics):
        loss.append(line("reconstruction part of train, not yet weighted", "rec_loss", 2))
    yield element(
        "div",
        curves("Loss", epochs, loss, say=lambda v: f"{v:.4g}", best=best),
        curves("Top-1", epochs, top1, say=lambda v: f"{100 * v:.4g} %", best=best),
        curves("Learning rate", epochs, [line("lr", "lr", 0)], say=lambda v: f"{v:.3g}", best=best),
        curves(
            "Speed",
            epochs,
            [line("clips/s", "clips_per_s", 0)],
            say=lambda v: f"{v:.4g}",
            best=best,
        ),
        class_="curves",
    )
    if best is not None:
        yield element("p", f"The dashed line is epoch {best}, which was kept.", class_="faint")
    keys = [k for k in metrics[0] if k != "epoch" and _is_told(k, metrics)]
    rows = [[str(m["epoch"]), *(_cell(m.get(k)) for k in keys)] for m in metrics]
    whole = table(["epoch", *keys], rows, numbers=range(len(keys) + 1))
    yield element("details", element("summary", "All epochs as numbers"), whole)


def _is_told(key: str, metrics: list[dict[str, Any]]) -> bool:
    return any(isinstance(m.get(key), (int, float)) for m in metrics)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    return "" if value is None else str(value)


def _train_clips(run: Run) -> list[int] | None:
    return setup.clips_by_class(run.dataset.shards, "train", run.facts.data)


def _robustness(found: Robustness) -> Iterator[Markup]:
    rows = []
    for row in found.rows:
        one, test = row.score, row.against_clean
        bar = share_bar(accuracy(round(one.top1 * one.samples), one.samples), colour=0)
        clips_told = number(one.samples)
        if one.left_out:
            clips_told += f", {number(one.left_out)} left out"
            if test is not None and row.clean_top1 is not None:
                clips_told += f"; clean on these {percent(row.clean_top1)}"
        told = ("", "", "")
        if test is not None and test.samples:
            change = (test.only_second - test.only_first) / test.samples
            told = (
                f"{100 * change:+.1f} points",
                f"{number(test.only_first)} / {number(test.only_second)}",
                p_value(test.p_value),
            )
        mean_class = percent(one.mean_class) if one.samples else ""
        rows.append([row.name, row.how, bar, mean_class, clips_told, *told])
    head = ["at test time", "how", "top-1", "mean of the classes", "clips"]
    head += ["change", "lost / won", "p"]
    yield table(head, rows, numbers=range(3, len(head)), class_="stack")
    text = (
        "Clips are spoilt before the model sees them, by the sample's key alone; one that loses "
        "its only sense is left out. The change is that of the same clips, clean and spoilt. Lost "
        "and won: clips that are right only clean, or only spoilt; p is McNemar's exact test of "
        "them."
    )
    if found.left_out:
        text += f" Not to be had of these clips: {', '.join(found.left_out)}."
    yield element("p", text, class_="faint")


def _calibration(evaluation: Evaluation) -> Iterator[Markup]:
    bins = reliability(evaluation.predictions)
    error = evaluation.report.scores[0].ece
    yield element("p", f"Expected calibration error {percent(error)}.")
    yield reliability_chart(bins)
    text = (
        "How often the predicted class is right (column) where its probability is so high (line), "
        f"in {len(bins)} bins: a column above its line is too modest, one below it too sure."
    )
    yield element("p", text, class_="faint")
