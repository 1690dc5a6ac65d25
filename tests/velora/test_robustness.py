"""Spoilt senses: each disturbance beside its definition, and the table of a model of one sense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import scipy.ndimage
import torch
from test_scores import guesses
from torch import nn
from velora_helpers import make_sample, write_shards

from eventkit.errors import SettingsError
from eventkit.shards import ShardSet
from velora.data import Clip, ClipDataset, ClipLoader, describe
from velora.frames.frames import Frames
from velora.inputs import Content, content_of
from velora.model.classifier import Classifier, Output
from velora.report.text import robustness_lines
from velora.scoring.mcnemar import McNemar
from velora.scoring.robustness import (
    DISTURBANCES,
    Robustness,
    RobustnessRow,
    disturbed,
    robustness,
)
from velora.scoring.scores import Score, score

COUNTS = content_of("counts:eventkit,dtype=u1")
BY_NAME = {one.name: one for one in DISTURBANCES}
CPU = torch.device("cpu")


def clip(rng: np.random.Generator, *, channels: int = 2, side: int = 60) -> Clip:
    return Clip(
        key="a_000000",
        label=0,
        rgb=rng.integers(0, 256, (2, side, side + 7, 3), dtype=np.uint8),
        rgb_index=np.array([0, 0, 1]),
        events=rng.integers(0, 30, (3, channels, side, side), dtype=np.uint8),
    )


def spoil(name: str, made: Clip, content: Content = COUNTS, seed: int = 0) -> Clip:
    before = made.rgb.copy(), made.events.copy()
    found = BY_NAME[name].spoil(made, np.random.default_rng(seed), content)
    # The given arrays are those of the cache.
    assert np.array_equal(made.rgb, before[0])
    assert np.array_equal(made.events, before[1])
    assert found.rgb.dtype == np.uint8
    assert found.events.dtype == made.events.dtype
    return found


@pytest.fixture
def made() -> Clip:
    return clip(np.random.default_rng(1))


def test_dark_blurred_and_noisy_rgb_are_what_they_say(made: Clip) -> None:
    dark, blurred, noisy = (spoil(f"RGB {how}", made) for how in ("dark", "blurred", "noisy"))

    assert np.abs(dark.rgb - 0.1 * made.rgb).max() <= 0.5 + 1e-9
    sigma = 0.06 * 67
    reach = np.ceil(3 * sigma) / sigma
    for image, found in zip(made.rgb, blurred.rgb, strict=True):
        for c in range(3):
            twin = scipy.ndimage.gaussian_filter(
                image[..., c].astype(float), sigma, mode="nearest", truncate=reach
            )
            assert np.abs(found[..., c] - twin).max() <= 0.51
    gray = replace(made, rgb=np.full((1, 200, 200, 1), 128, np.uint8))
    noise = (spoil("RGB noisy", gray).rgb.astype(float) - 128) / 255
    assert abs(noise.mean()) < 0.01
    # What is beyond black and white is cut off.
    assert 0.25 < noise.std() < 0.3
    assert noisy.events is made.events


def test_events_are_thinned_one_by_one(made: Clip) -> None:
    found = spoil("events sparse", made).events

    assert (found <= made.events).all()
    assert found.sum() / made.events.sum() == pytest.approx(0.1, abs=0.01)
    # Each by itself: pixels that had many keep some, not all or none.
    many = found[made.events > 20]
    assert ((many > 0) & (many < 10)).mean() > 0.8


def test_noise_adds_one_event_to_one_pixel_in_twenty(made: Clip) -> None:
    full = replace(made, events=np.full_like(made.events, 255))

    added = spoil("events noisy", made).events.astype(int) - made.events

    assert set(np.unique(added)) == {0, 1}
    assert added.sum(axis=1).max() == 1
    assert added.sum(axis=1).mean() == pytest.approx(0.05, abs=0.01)
    assert added[:, 0].mean() == pytest.approx(added[:, 1].mean(), abs=0.01)
    assert (spoil("events noisy", full).events == 255).all()


def test_signed_frames_and_surfaces_lose_and_gain_whole_pixels(made: Clip) -> None:
    voxels = replace(made, events=made.events[:, :1].astype(np.float32) - 15.5)
    signed = content_of("voxel:zhu,bins=1")
    ages = replace(made, events=np.full((3, 2, 60, 60), 0.25, np.float32))
    surface = content_of("surface:sae")

    sparse, noisy = (spoil(f"events {how}", voxels, signed).events for how in ("sparse", "noisy"))
    thin, more = (spoil(f"events {how}", ages, surface).events for how in ("sparse", "noisy"))

    kept = sparse != 0
    assert (sparse[kept] == voxels.events[kept]).all()
    assert kept.mean() == pytest.approx(0.1, abs=0.015)
    assert set(np.unique(noisy - voxels.events)) == {-1.0, 0.0, 1.0}
    assert set(np.unique(thin)) == {surface.none, 0.25}
    assert set(np.unique(more)) == {0.25, surface.most}
    assert (more != 0.25).sum(axis=1).mean() == pytest.approx(0.05, abs=0.01)


def test_pictures_of_events_can_be_thinned_where_their_ground_is_known(made: Clip) -> None:
    painted = content_of("image:event-ahu")
    red = np.broadcast_to(np.array([220, 30, 30], np.uint8)[:, None, None], (3, 3, 60, 60))

    found = spoil("events sparse", replace(made, events=red), painted).events

    white = (found == 255).all(axis=1)
    assert white.mean() == pytest.approx(0.9, abs=0.02)
    assert (found.transpose(0, 2, 3, 1)[~white] == [220, 30, 30]).all()
    assert BY_NAME["events sparse"].fits(painted)
    assert not BY_NAME["events noisy"].fits(painted)
    assert not BY_NAME["events sparse"].fits(content_of("surface:hats"))


class Bars(Classifier):
    """Tells lying, standing and other bars of RGB by the brightest row and column."""

    streams = senses = moving = ("rgb", "event")
    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.2))

    @property
    def image_size_hw(self) -> tuple[int, int]:
        return 28, 28

    def parts(self, name: str, count: int) -> list[tuple[str, int]]:
        return [("head", count)]

    def compile_blocks(self) -> None:
        pass

    def forward(self, frames: dict[str, Frames]) -> Output:
        rgb = frames["rgb"]
        if not len(rgb.images):
            return Output(torch.eye(3)[torch.full((len(rgb.index),), 2)])
        gray = rgb.images.mean(dim=1)
        rows, columns = gray.mean(dim=2).amax(dim=1), gray.mean(dim=1).amax(dim=1)
        bias = self.bias.expand_as(rows)
        logits = torch.stack([rows - columns, columns - rows, bias], dim=1)
        return Output(logits[rgb.index].mean(dim=1))


@pytest.fixture
def loader(shards: Path) -> Iterator[ClipLoader]:
    opened = ShardSet.open(shards)
    dataset = ClipDataset(opened, "test", spec=describe(opened))
    yield ClipLoader(dataset, batch_size=4, num_threads=1)
    opened.close()


def test_what_is_drawn_depends_on_the_key_alone(loader: ClipLoader) -> None:
    again = ClipLoader(loader.dataset, batch_size=3, num_threads=2, shuffle_seed=5)

    for name in ("RGB noisy", "events sparse", "events noisy"):
        one, other = (
            {c.key: c for batch in disturbed(twin, BY_NAME[name]).epoch(senses=("rgb",))
             for c in batch.clips}
            for twin in (loader, again)
        )  # fmt: skip
        assert one.keys() == other.keys()
        assert len(one) == 9
        for key, found in one.items():
            assert np.array_equal(found.rgb, other[key].rgb)
            assert np.array_equal(found.events, other[key].events)
        clean = {c.key: c for batch in loader.epoch(senses=("rgb",)) for c in batch.clips}
        sense = "rgb" if name.startswith("RGB") else "events"
        changes = [getattr(one[k], sense).astype(int) - getattr(clean[k], sense) for k in one]
        assert all(change.any() for change in changes)
        assert not np.array_equal(changes[0], changes[1])


def test_a_model_that_looks_at_rgb_suffers_with_it_alone(loader: ClipLoader) -> None:
    told: list[tuple[str, int]] = []

    found = robustness(
        Bars(), loader, device=CPU, plan_id="p", epoch=4, progress=lambda *t: told.append(t)
    )

    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["clean", *BY_NAME]
    assert rows["clean"].score.top1 == 1.0
    for name in ("RGB dark", "RGB missing"):
        test = rows[name].against_clean
        assert rows[name].score.top1 == pytest.approx(1 / 3)
        assert test is not None
        assert (test.only_first, test.only_second) == (6, 0)
        assert test.p_value == pytest.approx(2 / 2**6)
    for name in ("events sparse", "events noisy", "events missing"):
        test = rows[name].against_clean
        assert test is not None
        assert (rows[name].score.top1, test.p_value) == (1.0, 1.0)
    assert ("RGB dark", 9) in told
    assert found.left_out == []
    assert msgspec.json.decode(msgspec.json.encode(found), type=Robustness) == found


def test_clips_that_lose_their_only_sense_are_left_out_and_compared_with_nothing(
    make_shards: object,
) -> None:
    folder = make_shards(train=1, val=0, test=6, senses=("rgb",))  # type: ignore[operator]
    opened = ShardSet.open(folder)
    loader = ClipLoader(ClipDataset(opened, "test", spec=describe(opened)), batch_size=4)

    found = robustness(Bars(), loader, device=CPU, plan_id="p", epoch=1)

    rows = {row.name: row for row in found.rows}
    assert (rows["RGB missing"].score.samples, rows["RGB missing"].score.left_out) == (0, 6)
    assert rows["RGB missing"].against_clean.samples == 0
    assert found.left_out == [name for name, one in BY_NAME.items() if one.sense == "event"]
    assert not set(found.left_out) & set(rows)


def test_each_line_says_of_how_many_clips_it_is_and_how_these_do_clean(tmp_path: Path) -> None:
    # Lying bars (0) have both senses, standing ones (1) RGB alone, blocks (2) both.
    rng = np.random.default_rng(0)
    samples = [
        make_sample(
            f"k{i}_000000", label=i % 3, rng=rng, senses=("rgb", "event")[: 1 + (i % 3 != 1)]
        )
        for i in range(9)
    ]
    path = write_shards(tmp_path / "s", {"test": samples}, classes={0: "a", 1: "b", 2: "c"})
    opened = ShardSet.open(path)
    loader = ClipLoader(ClipDataset(opened, "test", spec=describe(opened)), batch_size=4)

    found = robustness(Bars(), loader, device=CPU, plan_id="p", epoch=1)

    rows = {row.name: row for row in found.rows}
    lines = {
        row.name: line for row, line in zip(found.rows, robustness_lines(found)[1:], strict=True)
    }
    assert rows["RGB dark"].clean_top1 == rows["clean"].clean_top1 == 1.0
    assert lines["clean"].endswith("9 clips")
    assert ", 9 clips, p " in lines["RGB dark"]
    # Without RGB the three standing bars have nothing left: the others are all that is compared.
    missing = rows["RGB missing"]
    assert (missing.score.samples, missing.score.left_out, missing.clean_top1) == (6, 3, 1.0)
    assert ", 6 clips (3 left out; clean on these 1.000), p " in lines["RGB missing"]


def test_the_clean_accuracy_is_that_of_the_clips_of_the_line() -> None:
    # Ten clips, of which clean gets a, b, c, d right; four are left, of which it gets three.
    test = McNemar(samples=4, only_first=2, only_second=1, p_value=1.0)
    row = RobustnessRow(
        name="", how="", score=score_of(right=2, of=4, total=10), against_clean=test
    )
    empty = RobustnessRow(
        name="",
        how="",
        score=score_of(right=0, of=0, total=10),
        against_clean=McNemar(samples=0, only_first=0, only_second=0, p_value=1.0),
    )

    assert row.clean_top1 == 0.75
    assert empty.clean_top1 is None


def score_of(*, right: int, of: int, total: int) -> Score:
    made = guesses([0] * of, [[0]] * right + [[1]] * (of - right), num_classes=2)
    return score(made, view="fusion", how="", total=total)


def test_a_model_of_one_sense_and_stored_differences_are_refused(
    loader: ClipLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = Bars()
    single.senses = ("rgb",)
    with pytest.raises(SettingsError, match="train with --streams fusion"):
        robustness(single, loader, device=CPU, plan_id="p", epoch=1)
    first = loader.dataset[0]
    loader.dataset._cache[0] = replace(first, diff_events=np.zeros((2, 2, 34, 34), np.uint8))
    with pytest.raises(SettingsError, match="stored ones"):
        robustness(Bars(), loader, device=CPU, plan_id="p", epoch=1)
