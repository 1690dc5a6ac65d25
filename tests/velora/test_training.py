"""Training: what moves, what stays, what a run folder keeps, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from eventkit.errors import DamageError, EventKitError, LockedError
from eventkit.shards import ShardSet
from velora.build import build_model
from velora.config import load_settings
from velora.data import Batch, ClipDataset, ClipLoader, describe
from velora.evaluate_run import evaluate_run
from velora.non_finite import NonFiniteError
from velora.run import TrainOptions, train
from velora.settings import Settings
from velora.training.checkpoint import RunFolder, kept_tensors
from velora.training.progress import PlainReporter
from velora.training.states import state_paths
from velora.training.trainer import Trainer

CPU = torch.device("cpu")


class Quiet(PlainReporter):
    """Keeps what it is told; may stop the run like a person at the keyboard."""

    def __init__(self, *, stop_in_epoch: int | None = None) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.records: list[dict[str, Any]] = []
        self._stop_in_epoch = stop_in_epoch

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, step: Any) -> None:
        if step.epoch == self._stop_in_epoch and step.done > 8:
            raise KeyboardInterrupt

    def epoch(self, record: dict[str, Any], *, epochs: int) -> None:
        self.records.append(record)


def settings_of(recipe: Path, **overrides: object) -> Settings:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_settings(str(recipe), changes)[1]


def run_train(
    recipe: Path, shards: Path, out: Path, *, reporter: Quiet | None = None, **overrides: object
):
    return train(
        settings_of(recipe, **overrides),
        recipe="tiny",
        options=TrainOptions(shards=shards, out=out, device="cpu"),
        reporter=reporter or Quiet(),
    )


def test_a_run_learns_what_can_be_learnt_and_writes_its_folder(
    make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    reporter = Quiet()
    shards = make_shards(train=48, val=12, test=24)

    run, report = run_train(
        tiny_recipe, shards, tmp_path / "runs", reporter=reporter, train__epochs=8
    )

    assert report.scores[0].top1 > 0.9
    assert report.scores[0].top1 - report.chance > 3 * report.scores[0].top1_error
    assert [s.view for s in report.scores] == ["fusion", "rgb", "event"]
    assert [s.how for s in report.scores] == ["trained so", "by masking", "by masking"]
    assert sum(map(sum, report.confusion)) == report.scores[0].samples == 24
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        ".lock", "config.toml", "run.json", "metrics.jsonl", "steps.jsonl", "model.safetensors",
        "state-00000042.pt", "state-00000048.pt", "result.json", "confusion.csv",
        "predictions.csv", "report.html", "parameters.json", "adapters",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    best = max(lines, key=lambda line: (line["val_top1"], -line["val_loss"]))
    assert report.epoch == best["epoch"]
    state = torch.load(run.path / "state-00000048.pt", weights_only=True)
    assert (state["epochs_done"], state["steps_in_epoch"]) == (8, 0)
    assert run.path.name.startswith("tiny-")
    assert any("RANDOM" in note for note in reporter.notes)


def test_frozen_parameters_keep_every_bit_and_all_that_should_train_moves(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    settings = settings_of(tiny_recipe)
    opened = ShardSet.open(shards)
    spec = describe(opened)
    model, _ = build_model(settings, num_classes=3, device=CPU)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(
        model,
        settings=settings.train,
        rec_weight=0.1,
        train=ClipLoader(ClipDataset(opened, "train", spec=spec), batch_size=8),
        val=None,
        run=RunFolder(tmp_path),
        device=CPU,
        reporter=Quiet(),
    )

    best = trainer.fit()

    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) is not parameter.requires_grad, name
    in_optimizer = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert in_optimizer == {id(p) for p in model.parameters() if p.requires_grad}
    assert best == settings.train.epochs  # without a val split the last epoch counts


def test_an_interrupted_run_goes_on_to_the_numbers_of_an_uninterrupted_one(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    options = {"train__epochs": 3, "lora__dropout": 0.2}
    whole, expected = run_train(tiny_recipe, shards, tmp_path / "a", **options)
    with pytest.raises(KeyboardInterrupt):
        run_train(tiny_recipe, shards, tmp_path / "b", reporter=Quiet(stop_in_epoch=2), **options)
    # A kill between the line of an epoch and its state leaves a line too many.
    (folder,) = (tmp_path / "b").iterdir()
    extra = {"epoch": 2, "loss": 99.0}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(extra) + "\n")
    reporter = Quiet()

    resumed, report = run_train(tiny_recipe, shards, tmp_path / "b", reporter=reporter, **options)

    assert resumed.path.name == whole.path.name
    assert "going on after epoch 1" in reporter.notes
    assert report == expected
    assert (resumed.path / "model.safetensors").read_bytes() == (
        whole.path / "model.safetensors"
    ).read_bytes()
    assert [line["loss"] for line in resumed.metrics()] == [
        line["loss"] for line in whole.metrics()
    ]


def test_the_state_of_another_order_of_samples_is_refused(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, _ = run_train(tiny_recipe, shards, tmp_path, train__epochs=1)
    newest = state_paths(run.path)[0]
    state = torch.load(newest, weights_only=True)
    assert state["samples"]["manifest_sha256"] == ShardSet.open(shards).digest
    assert (state["samples"]["epoch"], state["samples"]["samples_consumed"]) == (2, 0)
    state["samples"]["order"] = "another"
    torch.save(state, newest)
    (run.path / "result.json").unlink()

    with pytest.raises(EventKitError, match=r"order \('another' there, 'lane-philox-v1' here\)"):
        run_train(tiny_recipe, shards, tmp_path, train__epochs=1)


def test_a_finished_run_is_not_trained_again(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, first = run_train(tiny_recipe, shards, tmp_path, train__epochs=1)
    stamps = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    reporter = Quiet()

    _, again = run_train(tiny_recipe, shards, tmp_path, reporter=reporter, train__epochs=1)

    assert again == first
    assert any("finished: nothing to do" in note for note in reporter.notes)
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == stamps


def test_a_folder_of_other_settings_or_data_is_refused_with_the_differing_keys(
    shards: Path, make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    def named(shards: Path, **overrides: object) -> None:
        train(
            settings_of(tiny_recipe, **overrides),
            recipe="tiny",
            options=TrainOptions(shards=shards, out=tmp_path, name="mine", device="cpu"),
            reporter=Quiet(),
        )

    named(shards, train__epochs=1)

    with pytest.raises(EventKitError, match=r"train\.lr: 0\.003 and 0\.5"):
        named(shards, train__epochs=1, train__lr=0.5)
    with pytest.raises(EventKitError, match="shards: plan 0123456789ab and ffff"):
        named(make_shards(plan_id="ffffffff"), train__epochs=1)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.tex").touch()
    with pytest.raises(EventKitError, match=r"thesis\.tex"):
        train(
            settings_of(tiny_recipe),
            recipe="tiny",
            options=TrainOptions(shards=shards, out=tmp_path, name="strange", device="cpu"),
            reporter=Quiet(),
        )


def test_a_loss_that_is_no_number_stops_before_the_update_and_names_the_samples(
    make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    settings = settings_of(tiny_recipe)
    opened = ShardSet.open(make_shards(voxels=True, representation="voxel:zhu"))
    dataset = ClipDataset(opened, "train", spec=describe(opened))
    dataset[5].events[:] = float("nan")
    model, _ = build_model(settings, num_classes=3, device=CPU)
    loader = ClipLoader(dataset, batch_size=4, shuffle_seed=0)
    good: list[dict[str, torch.Tensor]] = [kept_tensors(model)]

    class Watch(Quiet):
        def step(self, step: Any) -> None:
            good.append(kept_tensors(model))

    trainer = Trainer(
        model,
        settings=settings.train,
        rec_weight=0.1,
        train=loader,
        val=None,
        run=RunFolder(tmp_path),
        device=CPU,
        reporter=Watch(),
    )

    with pytest.raises(NonFiniteError, match=r"of them train_005_000000 by itself.*--lr") as caught:
        trainer.fit()

    # A lower rate is another setting, and the same command comes to the same loss.
    assert "another --name" in str(caught.value)
    assert "goes on" not in str(caught.value)
    now = kept_tensors(model)
    assert all(torch.equal(now[name], good[-1][name]) for name in now)


def test_where_no_clip_of_a_batch_is_finite_the_samples_are_named_once(
    make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    shards = make_shards(train=48, val=12, test=24)

    with pytest.raises(NonFiniteError, match="every one of them by itself") as caught:
        run_train(tiny_recipe, shards, tmp_path, train__lr=9e8, train__grad_clip=0.0)

    assert str(caught.value).count("train_0") <= 8


def test_a_last_update_that_diverges_is_told_by_the_clips_that_measure_it(
    make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    shards = make_shards(train=48, val=12, test=24)
    once = {"train__batch_size": 48, "train__epochs": 1}

    with pytest.raises(NonFiniteError, match=r"12 of 12 val clips of a batch are not.*lower --lr"):
        run_train(tiny_recipe, shards, tmp_path, train__lr=9e8, train__grad_clip=0.0, **once)

    assert not list(tmp_path.rglob("result.json"))


def test_training_of_a_single_sense_refuses_a_set_without_it(
    make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    shards = make_shards(senses=("event",))

    with pytest.raises(EventKitError, match=r"no train clip of .* has RGB"):
        run_train(tiny_recipe, shards, tmp_path, model__streams="rgb")


def test_sets_with_missing_senses_voxels_or_one_bin_train_too(
    make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    event_only = run_train(
        tiny_recipe, make_shards(senses=("event",)), tmp_path / "a", train__epochs=1
    )[1]
    run_train(
        tiny_recipe,
        make_shards(voxels=True, representation="voxel:zhu", bins=1, static=True),
        tmp_path / "b",
        train__epochs=1,
    )

    left_out = {s.view: s.left_out for s in event_only.scores}
    assert left_out == {"fusion": 0, "rgb": 9, "event": 0}


def test_evaluation_rebuilds_the_run_and_repeats_its_test_result(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, trained = run_train(tiny_recipe, shards, tmp_path, train__epochs=1)

    written, report, _ = evaluate_run(
        run.path, shards_path=shards, device_name="cpu", batch_size=2, reporter=Quiet()
    )

    assert written.parent == run.path
    assert json.loads(written.read_bytes())["scores"][0]["top1"] == trained.scores[0].top1
    assert report.confusion == trained.confusion
    for a, b in zip(report.scores, trained.scores, strict=True):
        same = msgspec.structs.replace(a, loss=b.loss, ece=b.ece)
        assert same == b
        assert (a.loss, a.ece) == pytest.approx((b.loss, b.ece), abs=1e-5)


def test_evaluation_refuses_another_trunk_and_shards_that_do_not_fit(
    shards: Path, make_shards, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, _ = run_train(tiny_recipe, shards, tmp_path, train__epochs=1)
    text = (run.path / "config.toml").read_text()

    with pytest.raises(EventKitError, match=r"3 bins .* 4 bins"):
        evaluate_run(run.path, shards_path=make_shards(bins=4), reporter=Quiet())
    with pytest.raises(EventKitError, match="no val samples"):
        evaluate_run(run.path, shards_path=make_shards(val=0), split="val", reporter=Quiet())
    (run.path / "config.toml").write_text(text.replace("seed = 0", "seed = 1"))
    with pytest.raises(EventKitError, match="is not the one that"):
        evaluate_run(run.path, shards_path=shards, reporter=Quiet())
    with pytest.raises(EventKitError, match="not a run folder"):
        evaluate_run(tmp_path / "none", shards_path=shards, reporter=Quiet())


def test_damaged_files_of_a_run_are_named_with_the_cure(
    shards: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    run, _ = run_train(tiny_recipe, shards, tmp_path, train__epochs=1)
    for path in (*state_paths(run.path), run.path / "model.safetensors"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    (run.path / "result.json").unlink()

    with pytest.raises(DamageError, match=r"no state .*state-00000003\.pt is damaged.*delete"):
        run_train(tiny_recipe, shards, tmp_path, train__epochs=1)
    with pytest.raises(DamageError, match=r"model\.safetensors is damaged"):
        evaluate_run(run.path, shards_path=shards, reporter=Quiet())


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)

    with first.locked(), pytest.raises(LockedError, match="another process"), second.locked():
        pass
    with second.locked():
        pass


def test_a_batch_names_its_samples(shards: Path) -> None:
    opened = ShardSet.open(shards)
    loader = ClipLoader(ClipDataset(opened, "val", spec=describe(opened)), batch_size=2)

    batch: Batch = next(loader.epoch(senses=("rgb", "event")))

    assert batch.keys == ["val_000_000000", "val_001_000000"]
    assert batch.labels.tolist() == [0, 1]
