"""Absolute differences of frames: OpenCV, and NumPy through wider integers; one thread."""

from __future__ import annotations

import common
import numpy as np

import eventkit

SHAPES = {"346x260": (64, 260, 346), "1280x720": (16, 720, 1280)}


def main(report: common.Report, *, rounds: int = 9) -> None:
    rng = np.random.default_rng(5)
    cv2 = common.peer("cv2")
    for kind, wide, target in ((np.uint8, np.int16, 0.9), (np.uint16, np.int32, 0.8)):
        for label, shape in SHAPES.items():
            frames = rng.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
            rows: common.Rows = {
                "eventkit": lambda f=frames: eventkit.frame_difference(f),
                "numpy, wider": lambda f=frames, w=wide: np.abs(
                    np.diff(f.astype(w), axis=0)
                ).astype(f.dtype),
            }
            if cv2 is not None:
                cv2.setNumThreads(1)
                rows["cv2.absdiff"] = lambda f=frames: cv2.absdiff(f[1:], f[:-1])
            name = np.dtype(kind).name
            ratios = common.compare(
                f"differences {name}, {label}", rows, against="eventkit", rounds=rounds
            )
            report.add(
                f"difference {name}", "cv2.absdiff", label, ratios.get("cv2.absdiff"), target
            )
            report.add(f"difference {name}", "numpy, wider", label, ratios["numpy, wider"], 6)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
