"""The training of the embedded trunk: its data, its views, resuming, probing and publishing."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from eventkit.errors import FormatError, MissingDataError, SettingsError
from velora.pretrain import recipe
from velora.pretrain.images import (
    GARMENTS,
    LETTERS,
    NUM_CLASSES,
    Images,
    fashion_mnist,
    letters,
    pretraining_images,
    read_idx,
)
from velora.pretrain.probe import ridge_accuracy, table
from velora.pretrain.publish import publish, thinned
from velora.pretrain.recipe import NAME, TIMM_KWARGS, TIMM_NAME, Recipe, make_vit
from velora.pretrain.train import Training, learning_rate, read_log, train
from velora.pretrain.views import make_views

TINY = Recipe(images=32, batch_size=4, warmup=2, sizes=((32, 1.0),))


def some_images(count: int = 20) -> Images:
    rng = np.random.default_rng(0)
    return Images(
        rng.integers(0, 256, (count, 28, 28)).astype(np.uint8),
        np.arange(count, dtype=np.int64) % 10,
    )


def idx(array: np.ndarray) -> bytes:
    sizes = np.array(array.shape, ">u4").tobytes()
    return gzip.compress(b"\0\0\x08" + bytes([array.ndim]) + sizes + array.tobytes())


def write_fashion(folder: Path, images: Images) -> Path:
    folder.mkdir()
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images.pixels))
        labels = images.labels.astype(np.uint8)
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    return folder


# The data


def test_fashion_mnist_is_read_as_it_was_written(tmp_path: Path) -> None:
    images = some_images()
    folder = write_fashion(tmp_path / "fashion", images)

    for split in ("train", "test"):
        found = fashion_mnist(split, folder=folder)
        assert np.array_equal(found.pixels, images.pixels)
        assert np.array_equal(found.labels, images.labels)


def test_what_is_no_idx_file_is_refused_by_name(tmp_path: Path) -> None:
    whole = gzip.decompress(idx(np.zeros((2, 3), np.uint8)))
    path = tmp_path / "a.gz"
    for data in (whole[:-1], whole + b"0", b"\0\0\x0d\x01" + whole[4:], b"", whole[:6]):
        path.write_bytes(gzip.compress(data))
        with pytest.raises(FormatError, match="IDX"):
            read_idx(path)
    path.write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(FormatError, match="gzip"):
        read_idx(path)
    with pytest.raises(MissingDataError, match="apt-get install dataset-fashion-mnist"):
        read_idx(tmp_path / "none.gz")


def test_letters_are_drawn_inside_their_picture_and_none_is_a_digit() -> None:
    drawn = letters()

    assert len(drawn) == 9 * len(LETTERS)
    assert not set(LETTERS) & set("0123456789IOSZBGlobgqsz")
    ink = drawn.pixels > 127
    assert ((ink.mean(axis=(1, 2)) > 0.015) & (ink.mean(axis=(1, 2)) < 0.6)).all()
    edge = np.ones((28, 28), bool)
    edge[1:-1, 1:-1] = False
    # The widest stroke of the largest letter may touch an edge, others may not.
    assert (ink[:, edge].any(axis=1)).mean() < 0.05
    assert len(np.unique(drawn.pixels.reshape(len(drawn), -1), axis=0)) == len(drawn)
    assert drawn.labels.tolist() == [k for k in range(len(LETTERS)) for _ in range(9)]


def test_a_quarter_of_what_is_learnt_are_letters(tmp_path: Path) -> None:
    found = pretraining_images(folder=write_fashion(tmp_path / "fashion", some_images()))

    assert np.array_equal(np.unique(found.labels), np.arange(NUM_CLASSES))
    assert (found.labels >= GARMENTS).sum() / 60_000 == pytest.approx(1 / 3, abs=0.01)


# The views


def views(gray: torch.Tensor, *, shares: tuple, seed: int = 0, size: int = 32):
    rng = torch.Generator().manual_seed(seed)
    return make_views(gray, size=size, shares=shares, rng=rng)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([8, 32, 48]), st.integers(0, 2))
def test_views_are_pictures_in_zero_to_one_and_the_same_for_a_seed(
    seed: int, size: int, kind: int
) -> None:
    gray = torch.from_numpy(some_images(3).pixels).float() / 255
    shares = tuple(float(kind == k) for k in range(3))

    found = views(gray, shares=shares, seed=seed, size=size)

    assert found.shape == (3, 3, size, size)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert torch.equal(found, views(gray, shares=shares, seed=seed, size=size))


def test_events_stand_where_the_picture_changes_and_differences_are_dark_elsewhere() -> None:
    gray = torch.zeros(64, 28, 28)
    gray[:, 9:19, 9:19] = 1.0

    events = views(gray, shares=(0.0, 1.0, 0.0))
    differences = views(gray, shares=(0.0, 0.0, 1.0))

    ground = events.flatten(2).mode(dim=-1).values[:, :, None, None]
    marked = ((events - ground).abs().amax(1) > 0.05).flatten(1).double().mean(1)
    assert 0.02 < float(marked.median()) < 0.35
    bright = (differences.amax(1) > 0.25).flatten(1).double().mean(1)
    assert 0.005 < float(bright.median()) < 0.3


# The training


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    made = Recipe(images=64 * 100, warmup=10, cooldown=0.2)
    rates = [learning_rate(made, step) / made.lr for step in range(made.steps)]

    assert rates[0] == pytest.approx(0.1)
    assert rates[9:81] == [1.0] * 72
    assert rates[90] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.05)


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    training = Training.begin(Recipe(images=40, batch_size=5), some_images(20))
    order = []
    for step in range(8):
        training.step = step
        order += training._chosen().tolist()

    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))
    assert order[:20] != order[20:]


class StoppedError(Exception):
    pass


def stop_at(step: int):
    def tell(text: str) -> None:
        if text.startswith(f"step {step}/"):
            raise StoppedError

    return tell


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = train(TINY, some_images(), tmp_path / "whole", every=3)
    with pytest.raises(StoppedError):
        train(TINY, some_images(), tmp_path / "parts", every=3, tell=stop_at(3))
    # As if it had been killed between the line of the log and the checkpoint.
    with (tmp_path / "parts/log.jsonl").open("a") as log:
        log.write('{"step": 6, "loss": 1.0, "accuracy": 0.0, "lr": 0.0, "seconds": 1.0}\n')

    resumed = train(TINY, some_images(), tmp_path / "parts", every=3)

    assert resumed.step == whole.step == 8
    for name, value in whole.averaged.items():
        assert torch.equal(resumed.averaged[name], value), name
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "parts")]
    assert [line["step"] for line in logs[0]] == [3, 6, 8]
    for line, other in zip(*logs, strict=True):
        assert {**line, "seconds": 0} == {**other, "seconds": 0}


def test_another_recipe_or_other_images_do_not_go_on(tmp_path: Path) -> None:
    train(TINY, some_images(), tmp_path, every=3)

    faster = msgspec.structs.replace(TINY, lr=1e-2)
    longer = msgspec.structs.replace(TINY, images=64)
    with pytest.raises(SettingsError, match="another recipe or other images"):
        train(faster, some_images(), tmp_path)
    with pytest.raises(SettingsError, match="another recipe or other images"):
        train(TINY, some_images(21), tmp_path)
    with pytest.raises(SettingsError, match=r"at step 8.* up to step 6; go on with --images 32"):
        train(longer, some_images(), tmp_path)


def test_a_training_may_be_told_to_end_earlier_before_its_rate_falls(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(
            msgspec.structs.replace(TINY, images=64),
            some_images(),
            tmp_path / "long",
            every=3,
            tell=stop_at(3),
        )
    short = train(TINY, some_images(), tmp_path / "long", every=3)
    begun_so = train(TINY, some_images(), tmp_path / "short", every=3)

    for name, value in begun_so.averaged.items():
        assert torch.equal(short.averaged[name], value), name


# The probe


def test_the_ridge_is_the_plain_formula_and_its_penalty_is_chosen_without_the_test() -> None:
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 12, generator=rng).double()
    labels = torch.arange(300) % 3
    x = centres[labels] + 0.8 * torch.randn(300, 12, generator=rng).double()
    noise = torch.randn(300, 12, generator=rng).double()

    assert ridge_accuracy((x[:200], labels[:200]), (x[200:], labels[200:])) > 0.9
    assert ridge_accuracy((noise[:200], labels[:200]), (noise[200:], labels[200:])) < 0.5
    # Labels of the test pictures turn the score around and change nothing else.
    wrong = (labels[200:] + 1) % 3
    assert ridge_accuracy((x[:200], labels[:200]), (x[200:], wrong)) < 0.1


# The commands and what they leave


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "velora.pretrain", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280)


@pytest.mark.long
def test_the_commands_train_publish_and_probe(tmp_path: Path) -> None:
    data = write_fashion(tmp_path / "fashion", some_images(40))

    missing = run("train", "--data", "nowhere", cwd=tmp_path)
    trained = run("train", "--data", data, "--images", 128, "--out", "run", cwd=tmp_path)
    published = run(
        "publish", "--data", data, "--out", "run", "--to", "weights", "--side", 16, cwd=tmp_path
    )
    probed = run("probe", f"weights/{NAME}.safetensors", "--data", data, "--side", 16, cwd=tmp_path)

    assert missing.returncode == 1
    assert "dataset-fashion-mnist" in missing.stderr
    results = (trained, published, probed)
    assert [r.returncode for r in results] == [0, 0, 0], [r.stderr for r in results]
    page = json.loads((tmp_path / f"weights/{NAME}.json").read_text())
    assert page["recipe"]["images"] == 128
    assert page["log"][-1]["step"] == 2
    assert [p["data"] for p in page["probes"]] == ["Fashion-MNIST", "scikit-learn digits"]
    for found in page["probes"]:
        line = f"{found['trained']:.4f} +- {found['error']:.4f}"
        assert line in probed.stdout
        assert line in published.stdout
    weights = tmp_path / f"weights/{NAME}.safetensors"
    assert weights.stat().st_size < 6_000_000
    vit = recipe.timm.create_model(TIMM_NAME, num_classes=0, **TIMM_KWARGS)
    state = {name: value.float() for name, value in load_file(weights).items()}
    vit.load_state_dict(state)
    assert {value.dtype for value in load_file(weights).values()} == {torch.float16}


def test_an_unfinished_training_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="train first"):
        publish(tmp_path, tmp_path / "weights")
    with pytest.raises(StoppedError):
        train(TINY, some_images(), tmp_path, every=3, tell=stop_at(3))
    with pytest.raises(SettingsError, match="at step 3 of 8"):
        publish(tmp_path, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_a_log_is_thinned_from_its_end() -> None:
    log = [{"step": float(step)} for step in range(1, 251)]

    kept = thinned(log)

    assert len(kept) == 84
    assert kept[-1] == log[-1]
    assert thinned(log[:7]) == log[:7]


def test_the_shape_fits_six_megabytes_in_half_precision() -> None:
    vit = make_vit(num_outputs=0, seed=0)

    assert 2 * sum(value.numel() for value in vit.parameters()) < 6_000_000
    assert table([]).startswith("data")
