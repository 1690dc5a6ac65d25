"""What a command costs before it works: `--help` and the first kernel, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import common


def main(report: common.Report, *, rounds: int = 15) -> None:
    python = sys.executable
    rows = {
        "python -c pass": [python, "-c", "pass"],
        "import click": [python, "-c", "import click"],
        "import numpy": [python, "-c", "import numpy"],
        "import numba": [python, "-c", "import numba"],
        "import eventkit": [python, "-c", "import eventkit"],
        "eventkit --help": [str(Path(python).with_name("eventkit")), "--help"],
        "first kernel, cached": [
            python,
            "-c",
            "import eventkit; e = eventkit.Events(x=[0], y=[0], t=[0], p=[0]); "
            "eventkit.count_frames(e, sensor_size=(2, 2), bins=1)",
        ],
    }
    calls = {
        name: lambda command=command: subprocess.run(command, capture_output=True, check=True)
        for name, command in rows.items()
        if Path(command[0]).is_file()
    }
    ratios = common.compare("start-up", calls, against="python -c pass", rounds=rounds)
    first = ratios["first kernel, cached"] / ratios["import numba"]
    report.add_limit("first call, warm cache", "import numba", "", first, 3.0)
    if "eventkit --help" in ratios:
        report.add_limit("eventkit --help", "python -c pass", "", ratios["eventkit --help"], 7.0)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
