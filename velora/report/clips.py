"""The hardest clips as pictures, and where the model looks in three: as the model sees them.

T frames, H, W
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eventkit.html import Markup, element, picture
from velora.data import ClipDataset, make_batch
from velora.data.clip_frames import clip_frames
from velora.frames.augment import UNCHANGED
from velora.frames.frames import Frames
from velora.model.classifier import Classifier
from velora.report.words import cut, percent
from velora.scoring.overlay import saliency
from velora.scoring.predictions import Predictions
from velora.scoring.scores import Evaluation

STYLE = """
.cards { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; }
figcaption { display: flex; flex-direction: column; margin-top: .5rem; line-height: 1.35;
  overflow-wrap: anywhere; }
.senses { display: grid; grid-template-columns: repeat(2, 1fr); gap: .5rem; align-items: start; }
.senses img { display: block; width: 100%; border-radius: .2rem; margin-bottom: .4rem; }
.small { image-rendering: pixelated; }
@media print { .cards { grid-template-columns: repeat(3, 1fr); } }
"""
HARDEST = 12
LOOKED_INTO = 3
_SIDE = 160
"""Pixels of the longer side."""
_SMALL = 96
_SAYS = {"rgb": "RGB", "event": "events"}
# Over gray, told from the red and blue of events.
_HEAT = np.array([255.0, 150.0, 0.0], np.float32)
_MOST_HEAT = 0.85


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a model says of one clip.

    Parameters
    ----------
    row : int
        In the predictions.
    true, predicted : int
        Positions in the logits.
    p_true, p_predicted, loss : float
    """

    row: int
    key: str
    true: int
    predicted: int
    p_true: float
    p_predicted: float
    loss: float

    @property
    def right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


def verdicts(predictions: Predictions) -> list[Verdict]:
    """Return a verdict a clip, the highest loss first, equal ones by key."""
    log_p = predictions.logits.double().log_softmax(dim=1)
    rows = zip(
        range(len(predictions.keys)),
        predictions.keys,
        predictions.labels.tolist(),
        predictions.logits.argmax(dim=1).tolist(),
        log_p.gather(1, predictions.labels[:, None])[:, 0].tolist(),
        log_p.amax(dim=1).exp().tolist(),
        strict=True,
    )
    found = [
        Verdict(
            row=row,
            key=key,
            true=true,
            predicted=predicted,
            p_true=float(np.exp(log_p_true)),
            p_predicted=p,
            loss=-log_p_true,
        )
        for row, key, true, predicted, log_p_true, p in rows
    ]
    return sorted(found, key=lambda v: (-v.loss, v.key))


def telling(found: Sequence[Verdict]) -> list[tuple[str, Verdict]]:
    """Choose three clips to look into: surely right, barely right, surely wrong, and the next."""
    right = sorted((v for v in found if v.right), key=lambda v: (-v.p_true, v.key))
    wrong = sorted((v for v in found if not v.right), key=lambda v: (-v.p_predicted, v.key))
    wanted = [
        *(("surest right", v) for v in right[:1]),
        *(("least sure right", v) for v in right[1:][-1:]),
        *(("surest wrong", v) for v in wrong[:1]),
        *(("next surest right", v) for v in right[1:-1][:1]),
        *(("next surest wrong", v) for v in wrong[1:3]),
    ]
    return wanted[:LOOKED_INTO]


def hardest_cards(
    evaluation: Evaluation, found: Sequence[Verdict], dataset: ClipDataset, *, model: Classifier
) -> Iterator[Markup]:
    """Yield a figure for each clip of the highest loss: both senses of one frame side by side."""
    shown = found[:HARDEST]
    seen = _Seen.of(dataset, [v.key for v in shown], model=model, device=torch.device("cpu"))
    for i, verdict in enumerate(shown):
        t = seen.busiest(i)
        name = evaluation.report.classes[verdict.true]
        images = {
            sense: (seen.picture(sense, i, t), f"{_SAYS[sense]} of a clip of {cut(name)}")
            for sense in model.senses
        }
        yield _figure(images, evaluation, verdict, f"loss {verdict.loss:.2f}, {seen.place(t)}")


def overlay_cards(
    evaluation: Evaluation,
    chosen: Sequence[tuple[str, Verdict]],
    dataset: ClipDataset,
    *,
    model: Classifier,
    device: torch.device,
) -> Iterator[Markup]:
    """Yield a figure a clip: what moves the logit of the predicted class, over the pictures."""
    for why, verdict in chosen:
        # One clip at a time, for the gradients of a large model.
        seen = _Seen.of(dataset, [verdict.key], model=model, device=device)
        heat = saliency(model, seen.frames, classes=torch.tensor([verdict.predicted]))
        t = seen.hottest(heat)
        most = max((float(h.max()) for h in heat.values()), default=0.0)
        name = evaluation.report.classes[verdict.predicted]
        images = {}
        for sense in heat:
            pixels = seen.picture(sense, 0, t)
            if pixels is not None:
                row = int(seen.frames[sense].index[0, t])
                pixels = heated(pixels, heat[sense][row], most=most)
            alt = f"{_SAYS[sense]} with the places that move the logit of {cut(name)} lit"
            images[sense] = (pixels, alt)
        sums = {sense: float(h.double().sum()) for sense, h in heat.items()}
        whole = sum(sums.values())
        told = [f"{_SAYS[s]} {percent(v / whole)}" for s, v in sums.items()] if whole else []
        note = f"{seen.place(t)}; {', '.join(told) or 'no gradient reaches the pictures'}"
        yield _figure(images, evaluation, verdict, f"{why}, {note}")


def heated(pixels: NDArray[np.uint8], heat: Tensor, *, most: float) -> NDArray[np.uint8]:
    """Light up the places of (H, W, 3) where (H, W) heat is high, over the picture in gray.

    ``most`` is the heat that counts as full, so that the pictures of a clip can be compared.
    """
    gray = pixels.mean(axis=2, keepdims=True) * 0.6 + 80
    strength = heat.numpy()[..., None] / most if most else np.zeros_like(gray)
    strength = _MOST_HEAT * np.sqrt(np.clip(strength, 0, 1))
    mixed: NDArray[np.float32] = gray * (1 - strength) + _HEAT * strength
    return np.rint(mixed).astype(np.uint8)


class _Seen:
    """Clips as pictures at the model's size."""

    def __init__(self, frames: dict[str, Frames]) -> None:
        self.frames = frames

    @classmethod
    def of(
        cls, dataset: ClipDataset, keys: Sequence[str], *, model: Classifier, device: torch.device
    ) -> _Seen:
        positions = {key: i for i, key in enumerate(np.asarray(dataset.keys).tolist())}
        places = [positions[key] for key in keys]
        batch = make_batch(
            [dataset[i] for i in places], positions=places, changes=[UNCHANGED] * len(places)
        )
        return cls(
            clip_frames(
                batch,
                events=dataset.event_input,
                size_hw=model.image_size_hw,
                device=device,
                senses=model.senses,
                moving=model.moving,
            )
        )

    def picture(self, sense: str, clip: int, t: int) -> NDArray[np.uint8] | None:
        """Return frame ``t`` as (H, W, 3), None where the clip lacks this sense."""
        row = int(self.frames[sense].index[clip, t])
        if row < 0:
            return None
        image = self.frames[sense].images[row].detach().cpu().permute(1, 2, 0)
        pixels: NDArray[np.uint8] = (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return pixels

    def place(self, t: int) -> str:
        """Say which frame this is."""
        return f"frame {t + 1} of {self.frames['rgb'].index.shape[1]}"

    def busiest(self, clip: int) -> int:
        """Return the frame with the most to see in it; of the events where there are any."""
        rows = self.frames["event"].index[clip]
        if int(rows[0]) < 0:
            return len(rows) // 2
        return int(self.frames["event"].images[rows].flatten(1).std(dim=1).argmax())

    def hottest(self, heat: Mapping[str, Tensor]) -> int:
        """Return the frame of the first clip with the most heat over all senses."""
        sums = torch.zeros(self.frames["rgb"].index.shape[1], dtype=torch.float64)
        for sense, maps in heat.items():
            rows = self.frames[sense].index[0]
            if int(rows[0]) >= 0:
                sums += maps[rows].double().sum(dim=(1, 2))
        return int(sums.argmax())


def _figure(
    images: Mapping[str, tuple[NDArray[np.uint8] | None, str]],
    evaluation: Evaluation,
    verdict: Verdict,
    note: str,
) -> Markup:
    names = evaluation.report.classes
    parts = [
        element(
            "div",
            element("span", _SAYS[sense], class_="faint"),
            element("p", "none", class_="faint") if pixels is None else _picture(pixels, alt),
        )
        for sense, (pixels, alt) in images.items()
    ]
    if verdict.right:
        title = f"{cut(names[verdict.true])}, right: {percent(verdict.p_true)}"
    else:
        title = (
            f"{cut(names[verdict.true])} ({percent(verdict.p_true)}), taken for "
            f"{cut(names[verdict.predicted])} ({percent(verdict.p_predicted)})"
        )
    recording = evaluation.recordings[verdict.key]
    whose = verdict.key if recording == verdict.key else f"{verdict.key}, of {recording}"
    return element(
        "figure",
        element("div", *parts, class_="senses"),
        element(
            "figcaption",
            element("strong", title),
            element("span", note, class_="faint"),
            element("span", cut(whose, 160), class_="faint"),
        ),
    )


def _picture(pixels: NDArray[np.uint8], alt: str) -> Markup:
    height, width = pixels.shape[:2]
    longer = max(height, width)
    image = Image.fromarray(pixels)
    if longer > _SIDE:
        size = max(1, width * _SIDE // longer), max(1, height * _SIDE // longer)
        image = image.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    small = longer <= _SMALL
    if small:
        image.save(buffer, format="PNG", optimize=True)
    else:
        image.save(buffer, format="JPEG", quality=88)
    kind = "png" if small else "jpeg"
    return picture(buffer.getvalue(), kind=kind, alt=alt, class_="small" if small else None)
