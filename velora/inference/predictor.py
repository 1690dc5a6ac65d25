"""A trained run as something that predicts: recordings or arrays in, classes out.

Clips are made as `eventkit convert` made those of training, and painted as in training, so that a
clip gets the logits that ``velora-eval`` computes for it from shards.

    T frames, U distinct images, C classes or channels, H, W
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import eventkit
from eventkit.clip_settings import ClipSettings
from eventkit.clips import clip_recording
from eventkit.errors import SettingsError
from eventkit.preprocess import Preprocessing, preprocess
from eventkit.recording import Recording
from eventkit.survey import Survey, lay_out, survey
from velora.build import choose_device
from velora.data import Clip, DataSpec, make_batch
from velora.data.clip_frames import clip_frames
from velora.frames.augment import Change
from velora.inference.model_clips import ClipMaker, clip_settings
from velora.model.classifier import Classifier
from velora.opening import open_run
from velora.scoring.prediction import Prediction
from velora.settings import Settings
from velora.training.precision import autocast, prepare_, uses_bf16

BATCH_CLIPS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictor:
    """A trained model with all that turns recordings into its input; made by `load`.

    Parameters
    ----------
    model : Classifier
        In evaluation mode, on ``device``.
    settings : Settings
        Of the run.
    spec : DataSpec
        What the run was trained on.
    clips : ClipSettings
        How the clips of training were made.
    usual_us : int, microseconds
        Length of a usual clip of training; 0 where it is not known.
    reading : mapping
        What the readers were told for the clips of training.
    device : torch.device
    random_trunk : bool
        Nothing was pretrained.
    """

    model: Classifier
    settings: Settings
    spec: DataSpec
    clips: ClipSettings
    usual_us: int
    reading: Mapping[str, Any]
    device: torch.device
    random_trunk: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return tuple(self.spec.classes[i] for i in self.spec.class_ids)

    @property
    def knows_clips(self) -> bool:
        """Whether the run says how the clips of training were cut."""
        return "windows" in self.reading

    def predict(
        self, *, rgb: NDArray[np.uint8] | None = None, events: NDArray[Any] | None = None
    ) -> Prediction:
        """Classify one clip that is given as arrays.

        Parameters
        ----------
        rgb : (T, H, W, C) uint8, optional
            C is 1 or 3. One picture, T = 1, is shown in every frame.
        events : (T, C, H, W), optional
            Frames of the representation of the run, as counts (T, 2, H, W), 0 = OFF, 1 = ON.

        Raises
        ------
        SettingsError
            If shape or type are others, values are not finite, or the model looks at none of what
            is given.

        Examples
        --------
        >>> model.predict(events=counts).top(1)    # doctest: +SKIP
        [('walk', 0.93)]
        """
        clip = self._maker.from_arrays(rgb, events)
        if not self._senses(clip):
            raise self._nothing_to_see(where="the clip")
        (prediction,) = self._predict([(clip, (0, 0))])
        return prediction

    def predict_recording(
        self,
        recording: str | Path | Recording,
        *,
        window_us: int | None = None,
        whole: bool = False,
        **reading: Any,
    ) -> Iterator[Prediction]:
        """Classify a recording, window after window, holding a few windows at a time.

        Parameters
        ----------
        recording : str, Path or Recording
            Whatever `eventkit.open` opens.
        window_us : int, microseconds, optional
            Length of a window. By default clips are cut as for training; a recording of more than
            twice the usual clip is cut into windows of that length where clips were whole files.
        whole : bool
            Take the recording as one clip.
        **reading
            Passed on to `eventkit.open`.

        Raises
        ------
        SettingsError
            If the recording has none of the senses that the model looks at.

        Examples
        --------
        >>> for p in model.predict_recording("walk.aedat4"):    # doctest: +SKIP
        ...     print(p.start_us, p.top(1))
        """
        opened = self.open(recording, **reading)
        found, settings = self.lay_out(opened, window_us=window_us, whole=whole)
        return self.predict_laid_out(opened, found, settings)

    def predict_laid_out(
        self, recording: Recording, found: Survey, settings: ClipSettings
    ) -> Iterator[Prediction]:
        """Classify the windows that `lay_out` decided on; see `predict_recording`."""
        if not set(self.model.senses) & set(senses_of(found)):
            raise self._nothing_to_see(where=str(recording.path))
        clips = clip_recording(recording, settings, surveyed=found)
        made = zip(map(self._maker.from_recording, clips), found.spans, strict=True)
        while some := list(islice(made, BATCH_CLIPS)):
            yield from self._predict(some)

    def open(self, recording: str | Path | Recording, **reading: Any) -> Recording:
        """Open a recording as those of training were opened."""
        if not isinstance(recording, Recording):
            recording = eventkit.open(recording, **reading)
            size = self.reading.get("sensor_size")
            if recording.sensor_size is None and recording.has_events and size is not None:
                recording = replace(recording, sensor_size=tuple(size))
        if self.reading.get("flip_y"):
            recording = preprocess(recording, Preprocessing(filters=("flip:axis=y",)))
        return recording

    def lay_out(
        self, recording: Recording, *, window_us: int | None = None, whole: bool = False
    ) -> tuple[Survey, ClipSettings]:
        """Decide the windows of a recording; reads its events once, in pieces."""
        settings = self.clips
        if window_us is not None or whole:
            settings = replace(settings, clip_us=None if whole else window_us)
        found = survey(recording, settings)
        if settings.clip_us is not None or whole or not self.usual_us:
            return found, settings
        start, stop = found.spans[0]
        if stop - start <= 2 * self.usual_us:
            return found, settings
        settings = replace(settings, clip_us=self.usual_us)
        cut = lay_out(recording, settings, event_range=found.event_range, ledger=found.ledger)
        return cut, settings

    @property
    def _maker(self) -> ClipMaker:
        return ClipMaker(self.spec, self.settings.data)

    def _senses(self, clip: Clip) -> tuple[str, ...]:
        return tuple(sense for sense in self.model.senses if clip.has(sense))

    @torch.inference_mode()
    def _predict(self, clips: list[tuple[Clip, tuple[int, int]]]) -> list[Prediction]:
        seen = [clip for clip, _ in clips if self._senses(clip)]
        logits: Iterator[NDArray[np.float32]] = iter(self._logits(seen) if seen else ())
        nothing = np.full(self.model.num_classes, math.nan, np.float32)
        return [
            Prediction(
                classes=self.classes,
                logits=next(logits) if self._senses(clip) else nothing,
                senses=self._senses(clip),
                start_us=start,
                stop_us=stop,
            )
            for clip, (start, stop) in clips
        ]

    def _logits(self, clips: list[Clip]) -> NDArray[np.float32]:
        batch = make_batch(clips, positions=range(len(clips)), changes=[Change() for _ in clips])
        frames = clip_frames(
            batch,
            events=self._maker.event_input,
            size_hw=self.model.image_size_hw,
            device=self.device,
            senses=self.model.senses,
            moving=self.model.moving,
        )
        with autocast(self.device, bf16=uses_bf16(self.device, self.settings.train)):
            logits: NDArray[np.float32] = self.model(frames).logits.float().cpu().numpy()
        return logits

    def _nothing_to_see(self, *, where: str) -> SettingsError:
        wanted = " or ".join("RGB" if s == "rgb" else "events" for s in self.model.senses)
        return SettingsError(f"{where} has no {wanted}, which is all that this model looks at")


def senses_of(found: Survey) -> tuple[str, ...]:
    """The senses that a recording has, as far as it was looked at."""
    has = {"rgb": found.frames is not None and len(found.frames) > 0, "event": found.has_events}
    return tuple(sense for sense, there in has.items() if there)


def load(run: str | Path, *, weights: str | Path | None = None, device: str = "auto") -> Predictor:
    """Load the best epoch of a run for inference.

    Parameters
    ----------
    run : str or Path
        The folder that ``velora-train`` wrote; it is only read.
    weights : str or Path, optional
        Where the file with the trunk's weights lies now.
    device : {"auto", "cpu", "cuda", "cuda:N"}

    Raises
    ------
    EventKitError
        If there is no such device, it is no run, it has no weights yet, or the trunk is not the one
        it was trained on.

    Examples
    --------
    >>> import velora
    >>> model = velora.load("runs/default-0123456789")    # doctest: +SKIP
    >>> for p in model.predict_recording("walk.aedat4"):    # doctest: +SKIP
    ...     print(p.start_us, p.top(1))
    """
    chosen = choose_device(device)
    opened = open_run(Path(run), weights=weights, device=chosen)
    settings, facts, model = opened.settings, opened.facts, opened.model
    prepare_(model, chosen, bf16=uses_bf16(chosen, settings.train))
    made = facts.data.clip_settings
    return Predictor(
        model=model,
        settings=settings,
        spec=facts.data,
        clips=clip_settings(made, facts.data, stored_differences=settings.data.diff == "stored"),
        usual_us=facts.data.clip_us,
        reading=made,
        device=chosen,
        random_trunk=facts.trunk.kind == "random",
    )
