"""What is learnt from real recordings with real weights, on the held-out clips."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

FULL = os.environ.get("EVENTKIT_LONG", "full") == "full"
WEIGHTS = "vit_small_patch14_dinov2_imgfocus_fp16.safetensors"


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_fusion_learns_the_digits_of_nmnist_pairs(
    nmnist_pairs: Path, shared: Path, tool, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    weights = shared.parent / "weights" / WEIGHTS
    if not weights.is_file():
        pytest.skip(f"the weights are not here: {weights}")
    assert tool("convert", nmnist_pairs, "--bins", "3", "--no-diffs").returncode == 0
    assert tool("shard").returncode == 0
    epochs = "3" if FULL else "1"

    trained = tool(
        *("--shards", "shards", "--recipe", "nmnist", "--weights", weights, "--epochs", epochs),
        program="velora-train",
        timeout=1400,
    )

    assert trained.returncode == 0, trained.stderr
    (run,) = (tmp_path / "runs").iterdir()
    scores = {s["view"]: s for s in json.loads((run / "result.json").read_text())["scores"]}
    # Measured: 0.96 with 3 epochs, 0.90 with 1, one standard error 0.02 to 0.03; chance is 0.10.
    assert scores["fusion"]["top1"] > (0.88 if FULL else 0.75)
