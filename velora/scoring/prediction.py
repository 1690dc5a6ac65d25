"""What a model says of one clip.

C classes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a model says of one clip.

    Parameters
    ----------
    classes : tuple of C str
    logits : (C,) float32
        NaN where the clip has nothing that the model looks at.
    senses : tuple of {"rgb", "event"}
        What was looked at; the others were masked.
    start_us, stop_us : int, microseconds
        The clip is ``[start_us, stop_us)`` on the clock of the recording; 0 for arrays.
    """

    classes: tuple[str, ...]
    logits: NDArray[np.float32]
    senses: tuple[str, ...]
    start_us: int = 0
    stop_us: int = 0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(C,) softmax of the logits."""
        powers = np.exp(self.logits.astype(np.float64) - self.logits.max())
        whole: NDArray[np.float64] = powers / powers.sum()
        return whole

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The likeliest classes with their probabilities, likeliest first; none without senses."""
        if not self.senses:
            return []
        shares = self.probabilities
        best = np.argsort(-shares, kind="stable")[:count]
        return [(self.classes[i], float(shares[i])) for i in best]
