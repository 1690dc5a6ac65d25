"""Seeded damage to real files: a right prefix or one of our errors, and the process lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = os.environ.get("EVENTKIT_LONG", "full") == "full"
SEED = int(os.environ.get("EVENTKIT_SEED", "0"))
BATCH = 50

# Runs in a process of its own: what must not happen is that the process dies.
CODE = """
import random, sys
from pathlib import Path
import numpy as np
import eventkit
from eventkit.errors import EventKitError

source, target, seed, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
data = source.read_bytes()
truth = eventkit.open(source).ledger.words
outcomes = {"refused": 0, "read": 0}
for turn in range(count):
    rng = random.Random(f"{seed}-{turn}")
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 64))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.3:
        del damaged[rng.randrange(len(damaged)):]
    target.write_bytes(damaged)
    policy = rng.choice(("raise", "skip", "repair"))
    try:
        recording = eventkit.open(target, on_error=policy)
        events, ledger = recording.events, recording.ledger
    except EventKitError:
        outcomes["refused"] += 1
        continue
    outcomes["read"] += 1
    assert ledger.words <= truth, (turn, ledger.words, truth)
    assert ledger.kept == len(events) == ledger.decoded - sum(ledger.dropped.values()), turn
    assert not len(events) or (np.diff(events.t) >= 0).all(), turn
print(outcomes)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["es_bin/nmnist_sample.bin", "aedat4/davis346_first_170ms.aedat4", "sample.npz"]
)
@pytest.mark.parametrize("batch", range(40 if FULL else 4))
def test_damaged_files_are_refused_or_read_in_part(
    shared: Path, tmp_path: Path, name: str, batch: int
) -> None:
    source = shared / name
    if name == "sample.npz":
        import numpy as np

        import eventkit

        ev = eventkit.open(shared / "es_bin/nmnist_sample.bin").events
        source = tmp_path / "sample.npz"
        np.savez(source, x=ev.x, y=ev.y, t=ev.t, p=ev.p, sensor_size=np.array([34, 34]))
    target = tmp_path / f"damaged{source.suffix}"

    done = subprocess.run(
        [sys.executable, "-c", CODE, source, target, f"{SEED}-{name}-{batch}", str(BATCH)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert "refused" in done.stdout
