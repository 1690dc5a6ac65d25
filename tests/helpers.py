"""Run the console scripts as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRY = {
    "eventkit": "from eventkit.cli import main; main()",
    "velora-train": "from velora.cli import train; train()",
    "velora-eval": "from velora.cli import evaluate; evaluate()",
    "velora-ablate": "from velora.tools.ablate import main; main()",
    "velora-export": "from velora.tools.export import main; main()",
    "velora-predict": "from velora.tools.predict import main; main()",
    "velora-weights": "from velora.tools.weights import main; main()",
}


def run_tool(
    *arguments: str | Path, cwd: Path, program: str = "eventkit", timeout: float = 280
) -> subprocess.CompletedProcess[str]:
    """Run a console script as a user does: a subprocess, no terminal, another folder."""
    script = Path(sys.executable).with_name(program)
    command = [str(script)] if script.is_file() else [sys.executable, "-c", ENTRY[program]]
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


def start_tool(
    *arguments: str | Path, cwd: Path, program: str = "eventkit"
) -> subprocess.Popen[str]:
    """Start a command that the test will send a signal to."""
    return subprocess.Popen(
        [sys.executable, "-c", ENTRY[program], *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that runs in the background inherits an ignored SIGINT and would pass it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
