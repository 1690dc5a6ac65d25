"""A batch: decoded clips, what is done to each, and their pixels packed for one transfer.

B clips trained on, C clips decoded (B and partners from elsewhere), U distinct images
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from velora.data.clips import Clip, Sense
from velora.data.rows import Places
from velora.frames.augment import Change

#: The arrays of a clip that go to the device.
PACKED = ("rgb", "events", "diff_events", "diff_rgb")

_NO_PLACES = Places()


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Clips that go through the model together.

    Parameters
    ----------
    clips : list of C Clip
        Those trained on, then partners that are in no place of this batch.
    positions : list of B int
        Numbers of the samples in their split.
    changes : list of C Change
    partner : (B,) int64
        Which of ``clips`` each clip is mixed with.
    share : (B,) float64
        Of the clip itself in the mixture; 1 mixes nothing.
    packs : mapping name -> list of Tensor
        The pixels of the clips, one after the other; those of one shape and type together.
    """

    clips: list[Clip]
    positions: list[int]
    changes: list[Change]
    partner: NDArray[np.int64]
    share: NDArray[np.float64]
    packs: dict[str, list[Tensor]]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def keys(self) -> list[str]:
        """The samples' keys."""
        return [clip.key for clip in self.clips[: len(self)]]

    @property
    def labels(self) -> Tensor:
        """(B,) int64 positions in the logits."""
        return torch.tensor([clip.label for clip in self.clips[: len(self)]], dtype=torch.int64)

    @property
    def partner_labels(self) -> Tensor:
        """(B,) int64 labels of what is mixed in."""
        return torch.tensor([self.clips[i].label for i in self.partner], dtype=torch.int64)

    @property
    def clips_of_both_senses(self) -> int:
        """How many of the B clips show RGB and events."""
        pairs = zip(self.clips[: len(self)], self.changes, strict=False)
        return sum(clip.has_both and change.hidden is None for clip, change in pairs)

    def hides(self, sense: Sense) -> Tensor:
        """(B,) bool: which of the B clips have both senses and are shown without this one."""
        pairs = zip(self.clips[: len(self)], self.changes, strict=False)
        return torch.tensor([clip.has_both and change.hidden == sense for clip, change in pairs])

    def rows(self, start: int, stop: int) -> Batch:
        """Return some of the B clips alone, unmixed."""
        row = slice(start, stop)
        return make_batch(self.clips[row], positions=self.positions[row], changes=self.changes[row])


def make_batch(
    clips: list[Clip],
    *,
    positions: Sequence[int],
    changes: list[Change],
    partner: NDArray[np.int64] | None = None,
    share: NDArray[np.float64] | None = None,
    pin: bool = False,
    places: Places = _NO_PLACES,
) -> Batch:
    """Pack clips; see `Batch`. ``pin`` puts the pixels where a CUDA device fetches them itself.

    Clips that lie in ``places`` one after the other are packed already: pixels are shared.
    """
    size = len(positions)
    arrays = {name: _filled([getattr(clip, name) for clip in clips]) for name in PACKED}
    return Batch(
        clips=clips,
        positions=list(positions),
        changes=changes,
        partner=np.arange(size) if partner is None else partner,
        share=np.ones(size) if share is None else share,
        packs={
            name: _packed(of, placed=places.joined(name, of), pin=pin)
            for name, of in arrays.items()
        },
    )


def _filled(arrays: list[NDArray[Any] | None]) -> list[NDArray[Any]]:
    return [array for array in arrays if array is not None and len(array)]


def _packed(arrays: list[NDArray[Any]], *, placed: Tensor | None, pin: bool) -> list[Tensor]:
    """Join arrays along the first axis, those of one shape and type that follow each other."""
    if placed is not None:
        return [placed]
    return [
        _joined(list(run), pin=pin)
        for _, run in groupby(arrays, key=lambda array: (array.shape[1:], array.dtype))
    ]


def _joined(arrays: list[NDArray[Any]], *, pin: bool) -> Tensor:
    if not pin:
        return torch.from_numpy(np.concatenate(arrays))
    parts = [torch.from_numpy(array) for array in arrays]
    # Torch keeps pinned memory and gives it out again once the device has fetched what was in it,
    # so pages are touched once a run and no transfer sees a batch change.
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    return torch.cat(parts, out=torch.empty(shape, dtype=parts[0].dtype, pin_memory=True))
