"""Two threads beside one, each counting clips in a row: what letting go of the lock is worth.

Eight clips in a row, as a worker of a pipeline has them: handing a clip of one millisecond to
another thread costs as much as counting it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import common
import numpy as np
from streams import DAVIS, HD, clustered

import eventkit

CLIPS = 8


def in_a_row(job: partial) -> None:
    """Do one job as often as a thread has clips."""
    for _ in range(CLIPS):
        job()


def main(report: common.Report, *, rounds: int = 9) -> None:
    for size, target in ((DAVIS, 1.5), (HD, 1.3)):
        # Kept buffers, as in a pipeline: first touches of two threads wait for one another.
        jobs = [
            partial(
                eventkit.count_frames,
                clustered(10**6, size, seed=seed),
                sensor_size=size,
                bins=8,
                out=np.zeros((8, 2, size[1], size[0]), np.uint16),
            )
            for seed in range(2)
        ]
        with ThreadPoolExecutor(2) as pool:
            rows: common.Rows = {
                "one thread": lambda jobs=jobs: [in_a_row(job) for job in jobs],
                "two threads": lambda jobs=jobs, pool=pool: list(pool.map(in_a_row, jobs)),
            }
            label = f"{size[0]}x{size[1]}"
            ratios = common.compare(
                f"two times {CLIPS} clips, {label}", rows, against="two threads", rounds=rounds
            )
        report.add("two threads", "one thread", label, ratios["one thread"], target)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
