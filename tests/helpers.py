"""Run the console scripts as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_tool(
    *arguments: str | Path, cwd: Path, program: str = "eventkit", timeout: float = 280
) -> subprocess.CompletedProcess[str]:
    """Run a console script as a user does: a subprocess, no terminal, another folder."""
    entry = {
        "eventkit": "from eventkit.cli import main; main()",
        "velora-train": "from velora.cli import train; train()",
        "velora-eval": "from velora.cli import evaluate; evaluate()",
    }[program]
    script = Path(sys.executable).with_name(program)
    command = [str(script)] if script.is_file() else [sys.executable, "-c", entry]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if not script.is_file():
        environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
