"""Two clips on two threads beside one after the other: what letting go of the lock is worth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import common
from streams import DAVIS, HD, clustered

import eventkit


def main(report: common.Report, *, rounds: int = 9) -> None:
    for size, target in ((DAVIS, 1.5), (HD, 1.3)):
        clips = [clustered(10**6, size, seed=seed) for seed in (1, 2)]

        def count(events: eventkit.Events, size: tuple[int, int] = size) -> None:
            eventkit.count_frames(events, sensor_size=size, bins=8)

        with ThreadPoolExecutor(2) as pool:
            rows: common.Rows = {
                "one thread": lambda clips=clips, count=count: [count(clip) for clip in clips * 2],
                "two threads": lambda clips=clips, count=count, pool=pool: list(
                    pool.map(count, clips * 2)
                ),
            }
            label = f"{size[0]}x{size[1]}"
            ratios = common.compare(
                f"four clips, {label}", rows, against="two threads", rounds=rounds
            )
        report.add("two threads", "one thread", label, ratios["one thread"], target)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
