"""Every table that the docs quote, in one run; ``--rounds 3`` for a quick look."""

from __future__ import annotations

import argparse
import platform

import aedat4
import common
import counts
import decoders
import differences
import executors
import filters
import folders
import growth
import large
import memory
import others
import reader
import road
import scale
import startup
import surfaces
import tar
import task_memory
import text
import threads
import voxels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    report = common.Report()
    frames = (counts, voxels, surfaces, differences, others, filters, threads)
    for subject in (*frames, decoders, aedat4, text, folders, tar, reader, executors, road):
        subject.main(report, rounds=rounds)
    startup.main(report)
    growth.main()
    large.main()
    memory.main()
    task_memory.main(report)
    scale.main(report)
    report.print()


if __name__ == "__main__":
    main()
