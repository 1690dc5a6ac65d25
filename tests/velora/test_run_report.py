"""The page of a run: its numbers are those of the run's files, and it needs nothing but itself."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import msgspec
import numpy as np
import pytest
import torch
from page_helpers import Page
from run_helpers import trained

from eventkit.errors import DamageError
from eventkit.shards import ShardSet
from velora.data import ClipLoader
from velora.opening import OpenedRun, open_run
from velora.report.charts import Line, curves, round_ticks, share_bar
from velora.report.classes import MOST_SHOWN, by_class
from velora.report.clips import heated, telling, verdicts
from velora.report.confusion import MOST_NUMBERED
from velora.report.confusion import confusion as confusion_of
from velora.report.records import read_robustness, robustness_name, write_page, write_tables
from velora.report.words import p_value, percent
from velora.scoring.accuracy import accuracy
from velora.scoring.evaluate import evaluate_views
from velora.scoring.mcnemar import McNemar
from velora.scoring.predictions import Predictions
from velora.scoring.robustness import RobustnessRow, robustness
from velora.scoring.scores import Evaluation, Report, confusion_matrix, score
from velora.training.checkpoint import RunFolder
from velora.training.loaders import make_loader
from velora.training.options import TrainOptions
from velora.training.parameters import parameter_table

CPU = torch.device("cpu")
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


@dataclasses.dataclass
class Measured:
    """A copy of a trained run, opened and evaluated."""

    folder: RunFolder
    opened: OpenedRun
    loader: ClipLoader
    evaluation: Evaluation

    def page(self, evaluation: Evaluation | None = None, name: str = "page.html") -> Page:
        evaluation = evaluation or self.evaluation
        report = evaluation.report
        table = self.folder.path / robustness_name(report.split, report.plan_id)
        path = write_page(
            self.folder,
            evaluation,
            folder=self.folder.path,
            name=name,
            dataset=self.loader.dataset,
            model=self.opened.model,
            device=CPU,
            parameters=parameter_table(self.opened.model),
            robustness=read_robustness(table, evaluation),
        )
        return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    made = trained(tmp_path_factory)
    path = tmp_path_factory.mktemp("again") / made.name
    shutil.copytree(made, path)
    opened = open_run(path, device=CPU)
    spec = opened.facts.data
    shards = ShardSet.open(made.parents[1] / "shards")
    options = TrainOptions(shards=shards.path, num_workers=0)
    loader = make_loader(shards, "test", spec, opened.settings, options, device=CPU)
    evaluation = evaluate_views(
        opened.model,
        loader,
        device=CPU,
        plan_id=spec.plan_id,
        classes=[spec.classes[i] for i in spec.class_ids],
        epoch=opened.epoch,
    )
    return Measured(RunFolder(path), opened, loader, evaluation)


def test_training_leaves_the_page_that_its_files_make_again(measured: Measured) -> None:
    folder = measured.folder.path
    left = (folder / "report.html").read_bytes()

    page = measured.page()

    assert (folder / "page.html").read_bytes() == left
    assert str(folder.parent) not in left.decode()
    assert "velora-eval RUN --shards SHARDS" in page.text
    result = json.loads((folder / "result.json").read_bytes())
    first = result["scores"][0]
    shown = f"{100 * first['top1']:.1f} \N{PLUS-MINUS SIGN} {100 * first['top1_error']:.1f} %"
    assert shown in page.text
    assert percent(first["mean_class"]) in page.text
    rows = page.table("what it sees")
    assert list(rows) == ["both senses", "RGB alone, by masking", "events alone, by masking"]
    for row, one in zip(rows.values(), result["scores"], strict=True):
        assert row[0] == percent(one["top1"])
        assert row[-1] == str(one["samples"])
        assert row[-2] == f"{one['recordings']['hits']} of {one['recordings']['samples']}"


def test_it_loads_nothing_runs_nothing_and_says_in_words_what_it_shows(measured: Measured) -> None:
    page = measured.page()

    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "a"}
    for tag, attrs in page.elements:
        assert not any(name.startswith("on") for name in attrs)
        assert "http" not in "".join(v or "" for k, v in attrs.items() if k in ("src", "href"))
        if tag == "img":
            assert (attrs["src"] or "").startswith("data:image/")
            assert attrs["alt"]
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv"))
    assert (policy or "").startswith("default-src 'none'")


def test_tables_hold_the_classes_the_splits_the_parameters_and_the_settings(
    measured: Measured,
) -> None:
    page = measured.page()

    shards = measured.loader.dataset.shards
    for split in shards.splits:
        assert page.table("split")[split][0] == str(shards.num_samples(split))
    classes = page.table("class")
    report = measured.evaluation.report
    assert list(classes) == report.classes
    learnt = np.bincount(shards.labels("train"))
    for i, (name, row) in enumerate(classes.items()):
        assert row[0] == str(learnt[i])
        assert row[1] == str(report.scores[0].per_class[i].samples)
        assert row[2:] == [percent(one.per_class[i].share) for one in report.scores], name
    model = measured.opened.model
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert page.table("part")["total"] == [
        f"{sum(p.numel() for p in model.parameters()):,}",
        f"{trainable:,}",
    ]
    assert page.table("setting")["train.batch_size"] == ["8", "16"]
    assert page.table("origin")["plan of the shards"] == [report.plan_id]
    record = measured.folder.metrics()[0]
    assert float(page.table("epoch")["1"][0]) == pytest.approx(record["loss"], rel=1e-3)


def test_the_confusion_of_few_classes_is_numbers(measured: Measured) -> None:
    page = measured.page()
    report = measured.evaluation.report

    rows = next(t for t in page.tables if t[0] == ["", *report.classes])
    counts = [[int(cell or 0) for cell in row[1:]] for row in rows[1:]]
    assert [row[0] for row in rows[1:]] == report.classes
    assert counts == report.confusion


def test_the_hardest_clips_come_first_and_three_are_looked_into(measured: Measured) -> None:
    page = measured.page()

    images = page.images()
    hardest = [alt for alt, _ in images if "of a clip of" in alt]
    lit = [picture for alt, picture in images if "lit" in alt]
    assert len(hardest) == 2 * len(measured.evaluation.predictions.keys)
    assert len(lit) == 2 * 3
    assert {picture.size for _, picture in images} == {measured.opened.model.image_size_hw[::-1]}
    losses = [float(t.split()[1].rstrip(",")) for t in page.text if t.startswith("loss ")]
    assert losses == sorted(losses, reverse=True)
    with (measured.folder.path / "predictions.csv").open(newline="") as file:
        known = sorted((float(row["loss"]) for row in csv.DictReader(file)), reverse=True)
    assert losses == pytest.approx(known, abs=0.006)
    # What is lit is orange, which no gray is.
    colours = [np.asarray(picture.convert("RGB")).astype(int) for picture in lit]
    assert max((pixels[..., 0] - pixels[..., 2]).max() for pixels in colours) > 100


def test_predictions_and_confusion_are_written_as_csv(measured: Measured) -> None:
    folder = measured.folder.path

    write_tables(folder, measured.evaluation, confusion="c.csv", predictions="p.csv")

    assert (folder / "c.csv").read_bytes() == (folder / "confusion.csv").read_bytes()
    assert (folder / "p.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    with (folder / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # The clips were simulated from pictures, whose names the samples carry.
    assert {row["recording"] for row in rows} == set(measured.evaluation.recordings.values())
    assert len({row["recording"] for row in rows} & {row["key"] for row in rows}) == 0
    right = sum(int(row["correct"]) for row in rows)
    assert right / len(rows) == measured.evaluation.report.scores[0].top1


def test_the_table_of_failing_senses_is_shown_for_these_weights_alone(measured: Measured) -> None:
    report = measured.evaluation.report
    path = measured.folder.path / robustness_name("test", report.plan_id)
    assert "When a sense fails" not in measured.page().text
    found = robustness(
        measured.opened.model,
        measured.loader,
        device=CPU,
        plan_id=report.plan_id,
        epoch=report.epoch,
        clean=measured.evaluation.predictions,
    )
    measured.folder.write_json(path.name, found)

    rows = measured.page().table("at test time")

    assert list(rows) == [row.name for row in found.rows]
    for row in found.rows[1:]:
        test = row.against_clean
        assert test is not None
        change = 100 * (row.score.top1 - report.scores[0].top1)
        assert rows[row.name][1] == percent(row.score.top1)
        assert rows[row.name][3:] == [
            str(row.score.samples),
            f"{change:+.1f} points",
            f"{test.only_first} / {test.only_second}",
            p_value(test.p_value),
        ]
    fewer = [_without(row, 3) if row.name == "RGB missing" else row for row in found.rows]
    measured.folder.write_json(path.name, msgspec.structs.replace(found, rows=fewer))
    rows = measured.page().table("at test time")
    clips = report.scores[0].samples
    assert rows["RGB missing"][3] == f"{clips - 3}, 3 left out; clean on these 100.0 %"
    assert rows["RGB dark"][3] == str(clips)
    later = dataclasses.replace(measured.evaluation, report=_with(report, epoch=report.epoch + 1))
    assert read_robustness(path, later) is None
    path.write_text("{")
    with pytest.raises(DamageError, match="make it again with velora-eval --robustness"):
        measured.page()
    path.unlink()


def _without(row: RobustnessRow, left_out: int) -> RobustnessRow:
    """The row as if so many clips had nothing left, and clean got the others right."""
    samples = row.score.samples - left_out
    score = msgspec.structs.replace(row.score, samples=samples, left_out=left_out, top1=0.0)
    test = McNemar(samples=samples, only_first=samples, only_second=0, p_value=0.5)
    return msgspec.structs.replace(row, score=score, against_clean=test)


def test_names_are_text_whatever_is_in_them(measured: Measured) -> None:
    report = measured.evaluation.report
    hostile = dataclasses.replace(
        measured.evaluation,
        report=_with(report, classes=[HOSTILE, *report.classes[1:]]),
        recordings=dict.fromkeys(measured.evaluation.recordings, HOSTILE + "\u202e"),
    )

    page = measured.page(hostile)

    assert HOSTILE in page.table("class")
    assert not any(attrs.get("src") == "x" or "onerror" in attrs for _, attrs in page.elements)
    assert "\u202e" not in "".join(page.text)


def test_three_hundred_classes_are_folded_and_drawn(measured: Measured) -> None:
    rng = np.random.default_rng(0)
    labels = torch.arange(900) % 300
    logits = torch.from_numpy(rng.normal(0, 1, (900, 300)))
    logits[torch.arange(900), labels] += 3
    made = Predictions(keys=[str(i) for i in range(900)], labels=labels, logits=logits)
    names = [f"Action{i:03d}" for i in range(300)]
    report = _with(
        measured.evaluation.report,
        classes=names,
        scores=[score(made, view="fusion", how="trained so", total=900)],
        confusion=confusion_matrix(made),
    )

    page = Page("".join(confusion_of(report)))
    tables = _class_tables(report)

    assert len(names) > MOST_NUMBERED
    ((alt, picture),) = page.images()
    right = sum(one.hits for one in report.scores[0].per_class)
    assert f"{right} of 900 clips are on its diagonal" in alt
    pixels = np.asarray(picture)
    times = pixels.shape[0] // 300
    assert pixels.shape == (300 * times, 300 * times, 4)
    alpha = pixels[::times, ::times, 3]
    assert ((alpha > 0) == (np.array(report.confusion) > 0)).all()
    diagonal = np.eye(300, dtype=bool)
    colours = pixels[::times, ::times, :3]
    assert (colours[diagonal & (alpha > 0)][:, 2] > colours[diagonal & (alpha > 0)][:, 0]).all()
    assert (colours[~diagonal & (alpha > 0)][:, 0] > 150).all()
    worst = page.table("true")
    assert len(worst) <= 20
    hardest, whole = tables
    assert (len(hardest) - 1, len(whole) - 1) == (MOST_SHOWN, 300)
    shares = [float(row[-1].split()[0]) for row in hardest[1:]]
    assert shares == sorted(shares)
    assert max(shares) <= min(
        100 * one.share + 0.1
        for one, name in zip(report.scores[0].per_class, names, strict=True)
        if name not in {row[0] for row in hardest}
    )


def _class_tables(report: Report) -> list[list[list[str]]]:
    return Page("".join(by_class(report, None))).tables


def _with(report: Report, **changes: object) -> Report:
    return msgspec.structs.replace(report, **changes)


def test_the_clips_to_look_into_are_the_telling_ones() -> None:
    def of(margins: list[float]) -> list[tuple[str, str]]:
        logits = torch.tensor([[m, 0.0] for m in margins])
        keys = [str(i) for i in range(len(margins))]
        made = Predictions(keys=keys, labels=torch.zeros(len(margins)).long(), logits=logits)
        return [(why, verdict.key) for why, verdict in telling(verdicts(made))]

    assert of([5, 1, 3, -1, -4]) == [
        ("surest right", "0"),
        ("least sure right", "1"),
        ("surest wrong", "4"),
    ]
    assert of([1, 2, 3]) == [
        ("surest right", "2"),
        ("least sure right", "0"),
        ("next surest right", "1"),
    ]
    assert [key for _, key in of([-1, -3, -2, -9])] == ["3", "1", "2"]
    assert of([1]) == [("surest right", "0")]


def test_heat_leaves_gray_where_there_is_none() -> None:
    pixels = np.full((2, 2, 3), 100, np.uint8)
    heat = torch.tensor([[0.0, 0.0], [0.0, 4.0]])

    found = heated(pixels, heat, most=4.0).astype(int)

    assert (found[0, 0] == found[0, 0, 0]).all()
    assert found[1, 1, 0] - found[1, 1, 2] > 150
    assert (heated(pixels, heat * 0, most=0.0) == found[0, 0]).all()


def test_curves_stay_within_their_scale_and_say_their_course() -> None:
    losses = [2.5, float("nan"), 1.25, None]

    drawn = Page(curves("Loss", [1, 2, 3, 4], [Line(name="train", values=losses)], say=str, best=3))

    svg = next(attrs for tag, attrs in drawn.elements if tag == "svg")
    assert svg["aria-label"] == "Loss, by epoch: train from 2.5 to 1.25"
    ways = [attrs["d"] or "" for tag, attrs in drawn.elements if tag == "path"]
    (way,) = (w for w in ways if "L" in w)
    ticks = [float(t) for t in drawn.text if t.replace(".", "").isdigit()][:3]
    points = [tuple(map(float, p.split())) for p in way[1:].split("L")]
    low, high = round_ticks(1.25, 2.5)[0], round_ticks(1.25, 2.5)[-1]
    assert ticks[0] == low
    for (x, y), (epoch, value) in zip(points, [(1, 2.5), (3, 1.25)], strict=True):
        assert x == pytest.approx(1000 * (epoch - 0.5) / 4, abs=0.1)
        assert y == pytest.approx(100 * (high - value) / (high - low), abs=0.01)
    nothing = curves("Loss", [1], [Line(name="val", values=[None])], say=str, best=None)
    assert "nothing was measured" in nothing


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (0.5, 0.5), (0.31, 0.97), (1e-5, 1e-3), (-3.0, 4.0), (99.0, 1e6)]
)
def test_ticks_are_few_round_and_hold_the_values(low: float, high: float) -> None:
    ticks = round_ticks(low, high)

    assert 3 <= len(ticks) <= 6
    assert ticks[0] <= low
    assert ticks[-1] >= high
    steps = np.diff(ticks)
    assert steps == pytest.approx(steps[0])
    assert float(f"{steps[0]:.2e}".split("e")[0]) in (1, 2, 2.5, 5)
    assert len({f"{tick:.4g}" for tick in ticks}) == len(ticks)


def test_an_accuracy_without_clips_is_no_bar() -> None:
    assert "no clips" in share_bar(accuracy(0, 0), colour=0)
    assert "<rect" in share_bar(accuracy(3, 4), colour=0)
