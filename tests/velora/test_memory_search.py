"""Where memory runs out: the largest batch that fits, and what is said of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from eventkit.shards import ShardSet
from velora.build import build_model
from velora.config import load_settings
from velora.data import ClipDataset, ClipLoader, describe
from velora.data.clip_frames import clip_frames
from velora.frames.frames import Frames
from velora.model.classifier import Output
from velora.out_of_memory import OutOfMemoryError, largest_that_fits
from velora.parallel import ALONE
from velora.scoring.predictions import predict
from velora.training.ema import MovingAverage
from velora.training.optim import make_optimizer
from velora.training.update import Updater

CPU = torch.device("cpu")


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize("size", [2, 3, 16, 24, 31])
def test_the_size_that_is_found_fits_and_the_next_one_does_not(size: int) -> None:
    for fits in range(size):
        tried: list[int] = []

        def attempt(trial: int, tried: list[int] = tried, fits: int = fits) -> None:
            tried.append(trial)
            if trial > fits:
                raise out_of_memory()

        assert largest_that_fits(attempt, size) == fits
        assert len(tried) <= size.bit_length()
        assert len(set(tried)) == len(tried)


def test_another_error_than_memory_is_not_searched_on() -> None:
    def broken(size: int) -> None:
        msg = "shapes do not fit"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="shapes"):
        largest_that_fits(broken, 4)


class Small(nn.Module):
    """A model in a memory for so many clips, which notes what lies in it beside them."""

    def __init__(self, model: nn.Module, *, room: int) -> None:
        super().__init__()
        self.model = model
        self.room = room
        self.seen: list[tuple[int, int]] = []

    def forward(self, frames: dict[str, Frames]) -> Output:
        """Raise for too many clips."""
        clips = len(frames["rgb"].index)
        self.seen.append((clips, sum(p.grad is not None for p in self.parameters())))
        if clips > self.room:
            raise out_of_memory()
        output: Output = self.model(frames)
        return output


def updater_of(recipe: Path, dataset: ClipDataset, *, room: int, **changes: object) -> Updater:
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    settings = load_settings(str(recipe), overrides)[1]
    model, _ = build_model(settings, num_classes=3, device=CPU)
    optimizer = make_optimizer(model, settings.train)
    return Updater(
        Small(model.train(), room=room),  # type: ignore[arg-type]
        optimizer=optimizer,
        average=MovingAverage([], decay=0.0),
        settings=settings.train,
        rec_weight=settings.model.rec_weight,
        class_weights=torch.ones(3),
        frames_of=partial(
            clip_frames, events=dataset.event_input, size_hw=model.image_size_hw, device=CPU
        ),
        device=CPU,
        ranks=ALONE,
    )


@pytest.fixture(scope="module")
def dataset(shards: Path) -> ClipDataset:
    opened = ShardSet.open(shards)
    return ClipDataset(opened, "train", spec=describe(opened))


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_what_is_said_holds_what_is_promised(
    dataset: ClipDataset, tiny_recipe: Path, mixup: float
) -> None:
    updater = updater_of(tiny_recipe, dataset, room=7, train__batch_size=24)
    loader = ClipLoader(dataset, batch_size=24, num_threads=0, shuffle_seed=0, mixup=mixup)
    (step,) = loader.steps(senses=("rgb", "event"))

    with pytest.raises(OutOfMemoryError) as caught:
        updater(step, step=1)

    text = str(caught.value)
    assert "out of memory with 24 clips at once; the largest batch that fits is 7:" in text
    assert "set train.accumulate=4" in text  # parts of 6
    assert "gradient" not in text  # dropout differs by part, and attention across clips does
    assert "another --name" in text
    assert "or none" in text
    # As in a later part: gradients are there before the forward pass.
    tried = updater.model.seen[1:]
    assert [clips for clips, _ in tried] == [12, 6, 9, 7, 8]
    assert {grads for _, grads in tried} == {len(updater.parameters)}
    assert all(p.grad is None for p in updater.parameters)
    assert not updater.optimizer.state


@pytest.mark.parametrize(
    ("room", "said"), [(5, "the largest batch that fits is 5: velora-eval"), (0, "and with one")]
)
def test_an_evaluation_names_the_largest_batch_that_fits(
    dataset: ClipDataset, tiny_recipe: Path, room: int, said: str
) -> None:
    model, _ = build_model(load_settings(str(tiny_recipe), {})[1], num_classes=3, device=CPU)
    small = _Evaluated(model, room=room)
    loader = ClipLoader(dataset, batch_size=24, num_threads=0)

    with pytest.raises(OutOfMemoryError, match="out of memory with 24 clips at once") as caught:
        predict(small, loader, device=CPU)  # type: ignore[arg-type]

    assert said in str(caught.value)


class _Evaluated(Small):
    """The attributes of a classifier too."""

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.model, name)
