"""How a trained model fares when a sense fails at test time: dark, blurred, thinned, noisy, gone.

The clips are spoilt before anything is drawn of them - events as counts, RGB as the camera gave
it - so pictures and differences follow from what was spoilt. What is drawn at random depends on the
sample's key alone: another batch size, order or process spoils the same pixels.

    T frames, U distinct RGB images, C channels, H, W
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from msgspec import Struct

from eventkit.errors import SettingsError
from velora.data import Clip, ClipDataset, ClipLoader, Sense
from velora.data.seen import any_seen
from velora.inputs import Content
from velora.model.classifier import Classifier
from velora.scoring.mcnemar import McNemar, mcnemar
from velora.scoring.predictions import Predictions, predict
from velora.scoring.scores import Score, restricted, score

_DARK = 0.1
_BLUR = 0.06
_RGB_NOISE = 0.3
_KEPT = 0.1
_EVENT_NOISE = 0.05

Spoil = Callable[[Clip, np.random.Generator, Content], Clip]


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """One way in which a sense fails.

    Parameters
    ----------
    name, how : str
        For people.
    sense : "rgb" or "event"
    spoil : callable
        (clip, rng, content of the event frames) -> clip; the arrays of the given one are shared and
        must stay as they are.
    fits : callable
        Whether it can be done to frames of this content.
    """

    name: str
    how: str
    sense: Sense
    spoil: Spoil
    fits: Callable[[Content], bool] = lambda _: True


class RobustnessRow(Struct, frozen=True, kw_only=True):
    """Scores under one disturbance, beside the same clips undisturbed."""

    name: str
    how: str
    score: Score
    #: Clean first; None for the clean row.
    against_clean: McNemar | None

    @property
    def clean_top1(self) -> float | None:
        """Top-1 of the same clips undisturbed; None without clips.

        A clip that loses its only sense is in no row that takes it away, so that the clean row is
        of other clips.
        """
        if not self.score.samples:
            return None
        test = self.against_clean
        if test is None:
            return self.score.top1
        return self.score.top1 + (test.only_first - test.only_second) / test.samples


class Robustness(Struct, frozen=True, kw_only=True):
    """The robustness table of a model on a split; its first row is clean."""

    split: str
    plan_id: str
    epoch: int
    rows: list[RobustnessRow]
    #: Disturbances of a sense that no clip has, or that these event frames cannot take.
    left_out: list[str]


def robustness(
    model: Classifier,
    loader: ClipLoader,
    *,
    device: torch.device,
    plan_id: str,
    epoch: int,
    clean: Predictions | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Robustness:
    """Evaluate a fusion model under every disturbance of `DISTURBANCES`.

    Parameters
    ----------
    clean : Predictions, optional
        Of the undisturbed split, if they are at hand.

    Raises
    ------
    SettingsError
        For a model of one sense, which nothing can stand in for, or for stored differences.
    """
    content = loader.dataset.event_input.content
    if len(model.senses) < 2:
        msg = (
            f"expected a model of both senses, got one of {model.senses[0]}; robustness asks what "
            "the other sense carries: train with --streams fusion"
        )
        raise SettingsError(msg)
    if model.needs_all_senses:
        msg = "this model cannot do without a sense (mode = 'compat'): nothing can be hidden"
        raise SettingsError(msg)

    if loader.dataset[0].diff_events is not None:
        msg = (
            "expected differences that are made of the pictures, got stored ones, which stay whole "
            'where a picture is spoilt; evaluate a run of data.diff = "device"'
        )
        raise SettingsError(msg)

    def predictions(spoilt: ClipLoader, name: str) -> Predictions:
        step = None if progress is None else (lambda done: progress(name, done))
        return predict(model, spoilt, device=device, progress=step)

    total = len(loader.dataset)
    if clean is None:
        clean = predictions(loader, "clean")
    first = score(clean, view="fusion", how="clean", total=total)
    rows = [RobustnessRow(name="clean", how="as recorded", score=first, against_clean=None)]
    left_out = []
    split = loader.dataset.split
    there = [s for s in model.senses if any_seen(loader.dataset.shards, split, [s])]
    for one in DISTURBANCES:
        # To spoil what no clip has would read as a model that nothing harms.
        if one.sense not in there or not one.fits(content):
            left_out.append(one.name)
            continue
        found = predictions(disturbed(loader, one), one.name)
        test = mcnemar(restricted(clean, set(found.keys)), found)
        result = score(found, view="fusion", how=one.name, total=total)
        rows.append(RobustnessRow(name=one.name, how=one.how, score=result, against_clean=test))
    return Robustness(split=split, plan_id=plan_id, epoch=epoch, rows=rows, left_out=left_out)


def disturbed(loader: ClipLoader, disturbance: Disturbance) -> ClipLoader:
    """Return a loader of the same clips, spoilt as they are decoded."""
    twin = copy.copy(loader)
    twin.dataset = _Spoilt(loader.dataset, disturbance)
    return twin


class _Spoilt(ClipDataset):
    """The clips of another dataset, whose cache it shares, with one sense spoilt."""

    def __init__(self, clean: ClipDataset, disturbance: Disturbance) -> None:
        self.__dict__.update(clean.__dict__)
        self._clean = clean
        self._disturbance = disturbance

    def __getitem__(self, i: int) -> Clip:
        clip = self._clean[i]
        if not clip.has(self._disturbance.sense):
            return clip
        seed = hashlib.sha256(f"{self._disturbance.name}\0{clip.key}".encode()).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(seed[:16], "little")))
        return self._disturbance.spoil(clip, rng, self.event_input.content)


def darken(clip: Clip, _: np.random.Generator, __: Content) -> Clip:
    """Leave a tenth of the light."""
    return replace(clip, rgb=np.rint(clip.rgb * _DARK).astype(np.uint8))


def blur(clip: Clip, _: np.random.Generator, __: Content) -> Clip:
    """Blur RGB by a Gaussian whose sigma is a share of the longer side; edges are repeated."""
    pixels = clip.rgb.astype(np.float32)
    sigma = _BLUR * max(pixels.shape[1:3])
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (reach, reach)
        size = pixels.shape[axis]
        padded = np.pad(pixels, pad, mode="edge")
        pixels = np.zeros_like(pixels)
        for shift, weight in enumerate(kernel):
            pixels += weight * padded.take(range(shift, shift + size), axis=axis)
    return replace(clip, rgb=np.rint(pixels).clip(0, 255).astype(np.uint8))


def add_rgb_noise(clip: Clip, rng: np.random.Generator, _: Content) -> Clip:
    """Add Gaussian noise to RGB; repeats of one image stay repeats."""
    noise = rng.normal(0.0, 255 * _RGB_NOISE, clip.rgb.shape)
    return replace(clip, rgb=np.rint(clip.rgb + noise).clip(0, 255).astype(np.uint8))


def take_rgb(clip: Clip, _: np.random.Generator, __: Content) -> Clip:
    """Take RGB away, as in a clip that never had any."""
    return replace(clip, rgb=clip.rgb[:0], rgb_index=np.full_like(clip.rgb_index, -1))


def thin_events(clip: Clip, rng: np.random.Generator, content: Content) -> Clip:
    """Keep each event with probability 0.1; where frames do not count them, each pixel."""
    frames, _, height, width = clip.events.shape
    if content.kind == "counts" and clip.events.dtype.kind == "u":
        return replace(clip, events=rng.binomial(clip.events, _KEPT).astype(clip.events.dtype))
    kept = rng.random((frames, 1, height, width)) < _KEPT
    empty = clip.events.dtype.type(_empty(content))
    return replace(clip, events=np.where(kept, clip.events, empty))


def add_event_noise(clip: Clip, rng: np.random.Generator, content: Content) -> Clip:
    """Add an event, in a channel drawn for each, to 5 % of the pixels of every frame."""
    frames, channels, height, width = clip.events.shape
    hit = rng.random((frames, 1, height, width)) < _EVENT_NOISE
    hit = hit & (np.arange(channels)[:, None, None] == rng.integers(channels, size=hit.shape))
    if content.kind == "recency":
        noisy = np.where(hit, clip.events.dtype.type(content.most), clip.events)
        return replace(clip, events=noisy)
    sign = rng.choice([-1.0, 1.0], hit.shape) if content.kind == "signed" else 1.0
    noisy = clip.events + hit * sign
    if clip.events.dtype.kind == "u":
        noisy = np.minimum(noisy, content.most or np.iinfo(clip.events.dtype).max)
    return replace(clip, events=noisy.astype(clip.events.dtype))


def _empty(content: Content) -> float | None:
    """Return the value of a pixel without events as it stands in frames, None if not known."""
    if content.kind == "picture":
        return None if content.ground is None else round(content.ground * 255)
    return None if content.kind == "other" else content.none


def _can_thin(content: Content) -> bool:
    return _empty(content) is not None


def _can_add(content: Content) -> bool:
    return content.kind in ("counts", "signed") or (
        content.kind == "recency" and content.most is not None
    )


def take_events(clip: Clip, _: np.random.Generator, __: Content) -> Clip:
    """Take the events away, as in a clip that never had any."""
    return replace(clip, events=clip.events[:0])


DISTURBANCES = (
    Disturbance(name="RGB dark", how="a tenth of the light", sense="rgb", spoil=darken),
    Disturbance(name="RGB blurred", how="Gaussian, 6 % of the side", sense="rgb", spoil=blur),
    Disturbance(name="RGB noisy", how="Gaussian, sigma 0.3", sense="rgb", spoil=add_rgb_noise),
    Disturbance(name="RGB missing", how="masked", sense="rgb", spoil=take_rgb),
    Disturbance(
        name="events sparse",
        how="one in ten kept",
        sense="event",
        spoil=thin_events,
        fits=_can_thin,
    ),
    Disturbance(
        name="events noisy",
        how="one more in 5 % of the pixels",
        sense="event",
        spoil=add_event_noise,
        fits=_can_add,
    ),
    Disturbance(name="events missing", how="masked", sense="event", spoil=take_events),
)
