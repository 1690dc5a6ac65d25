"""The overlay lights what a model looks at, in every mode, and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
from model_helpers import frames_of, make_model, random_clips, wake
from torch import Tensor, nn

from velora.frames.frames import Frames
from velora.model.classifier import Classifier, Output
from velora.scoring.overlay import CELLS, saliency

SIDE = 56


class Corner(Classifier):
    """Sees the mean of one corner of RGB in class 0, and of the other one of events in class 1."""

    streams = senses = moving = ("rgb", "event")
    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    @property
    def image_size_hw(self) -> tuple[int, int]:
        return SIDE, SIDE

    def parts(self, name: str, count: int) -> list[tuple[str, int]]:
        return [("head", count)]

    def compile_blocks(self) -> None:
        pass

    def forward(self, frames: dict[str, Frames]) -> Output:
        first = self._mean(frames["rgb"], slice(0, SIDE // 4))
        second = self._mean(frames["event"], slice(-SIDE // 4, None))
        return Output(logits=torch.stack([first, second], dim=1) * self.weight)

    def _mean(self, frames: Frames, part: slice) -> Tensor:
        if not len(frames.images):
            return torch.zeros(len(frames.index))
        seen = frames.images[:, :, part, part].mean(dim=(1, 2, 3))
        return seen[frames.index].mean(dim=1)


class Blind(Corner):
    def forward(self, frames: dict[str, Frames]) -> Output:
        with torch.no_grad():
            return super().forward(frames)


def noise(clips: int = 2, frames: int = 3) -> dict[str, Frames]:
    rng = torch.Generator().manual_seed(0)
    index = torch.arange(clips * frames).view(clips, frames)
    return {
        name: Frames(torch.rand(clips * frames, 3, SIDE, SIDE, generator=rng), index)
        for name in ("rgb", "event")
    }


def test_a_model_that_looks_at_one_corner_lights_that_corner() -> None:
    model = Corner()

    found = saliency(model, noise(), classes=torch.tensor([0, 1]))

    assert found["rgb"].shape == found["event"].shape == (6, SIDE, SIDE)
    quarter, blur = SIDE // 4, SIDE // CELLS
    for sense, rows, dark_rows in (
        ("rgb", range(3), range(3, 6)),
        ("event", range(3, 6), range(3)),
    ):
        heat = found[sense] if sense == "rgb" else found[sense].flip(1, 2)
        for row in rows:
            lit = heat[row, :quarter, :quarter]
            assert lit.min() > 0
            assert heat[row, quarter + blur :].max() == heat[row, :, quarter + blur :].max() == 0
            assert lit.sum() > 0.8 * heat[row].sum()
        assert heat[list(dark_rows)].max() == 0


def test_the_model_keeps_its_mode_and_gets_no_gradients() -> None:
    for training in (True, False):
        model = Corner().train(training)

        with torch.no_grad():
            saliency(model, noise(), classes=torch.tensor([0, 0]))

        assert model.training is training
        assert model.weight.grad is None


def test_where_no_gradient_arrives_nothing_is_lit() -> None:
    found = saliency(Blind(), noise(), classes=torch.tensor([0, 1]))

    assert {name: float(heat.abs().sum()) for name, heat in found.items()} == {
        "rgb": 0.0,
        "event": 0.0,
    }


def test_a_sense_that_is_not_there_is_not_in_it() -> None:
    frames = noise()
    frames["rgb"] = frames["rgb"].without()

    found = saliency(Corner(), frames, classes=torch.tensor([0, 1]))

    assert list(found) == ["event"]
    assert found["event"].sum() > 0


@pytest.mark.parametrize(("height", "width"), [(32, 50), (14, 9), (3, 70)])
def test_any_size_of_picture_is_covered(height: int, width: int) -> None:
    index = torch.zeros(1, 1, dtype=torch.int64)
    frames = {name: Frames(torch.rand(1, 3, height, width), index) for name in ("rgb", "event")}

    found = saliency(Corner(), frames, classes=torch.tensor([0]))

    assert found["rgb"].shape == (1, height, width)
    assert torch.isfinite(found["rgb"]).all()


@pytest.mark.parametrize("fusion", ["joint", "figure"])
def test_the_gradient_of_the_papers_model_reaches_the_pictures_of_both_senses(fusion: str) -> None:
    model = wake(make_model(fusion=fusion))
    frames = {
        name: frames_of(random_clips(2, 3, seed=seed), 3)
        for seed, name in enumerate(("rgb", "event"))
    }

    lit = saliency(model, frames, classes=torch.tensor([1, 2]))

    assert all(bool(values.any()) for values in lit.values())
    assert set(lit) == {"rgb", "event"}
    assert all(p.grad is None for p in model.parameters())
