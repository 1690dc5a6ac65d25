"""Remake ``spikingjelly.npz``; needs ``spikingjelly`` and its ``torch``.

SpikingJelly fails with an IndexError where a frame gets no event, with one event and with equal
times; the input has events in every frame.
"""

from __future__ import annotations

from golden import save, stream
from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number

SIZE = (11, 7)


def main() -> None:
    ev = stream(SIZE, 307, seed=2, span_us=99_991)
    results = {
        f"frames_{split}_{frames}": integrate_events_by_fixed_frames_number(
            {name: ev[name] for name in "txyp"}, split, frames, SIZE[1], SIZE[0]
        ).astype("float32")
        for split in ("time", "number")
        for frames in (1, 4, 7)
    }
    save("spikingjelly", __file__, ev, results, kind="peer", packages=["spikingjelly"])


if __name__ == "__main__":
    main()
