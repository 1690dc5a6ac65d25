"""Clocks that wrap: one rule for every format.

A format whose times have k bits starts again at zero every 2^k us. Told apart by the size of a
step between one raw time and the next:

- a step back of more than half of the range is a **wrap**: 2^k is added from there on;
- a step forward of more than half of the range, to within 1/16 of the range of where the last wrap
  was left, undoes that wrap: a word that came late or was damaged, not 2^(k-1) us of silence;
- a step back of more than half of the range, to within 1/16 of the range of where the last such
  step forward began, and by more than that short of a wrap, takes that step back: it was damaged;
- anything else is taken as it is. A smaller step back is left to `eventkit.readers.policy`, which
  calls it jitter or backwards and never adds anything to what follows.

So a swapped pair cannot move the rest of a file by 71.6 minutes, and neither can one damaged time.
A silence of more than half of the range in which the camera wrote nothing at all cannot be told
from a step back by anybody; cameras write times in silence too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eventkit.kernels.clock import NO_WRAP, unwrap


class Clock:
    """Whole times from raw ones, chunk by chunk.

    Parameters
    ----------
    bits : int
        Width of the raw times.
    state : (4,) int64, optional
        Where an earlier clock stood, to go on from there.

    Examples
    --------
    >>> clock = Clock(8)
    >>> clock.unwrap(np.array([250, 5, 254, 7, 3])).tolist()
    [250, 261, 254, 263, 259]
    """

    def __init__(self, bits: int, *, state: NDArray[np.int64] | None = None) -> None:
        self._bits = bits
        start = [NO_WRAP, 0, NO_WRAP, NO_WRAP]
        self._state = np.array(start, np.int64) if state is None else state.copy()

    def unwrap(self, t: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add the wraps to raw times; changes ``t`` and returns it."""
        unwrap(t, self._state, self._bits)
        return t

    @property
    def state(self) -> NDArray[np.int64]:
        """A copy of where the clock stands."""
        return self._state.copy()
