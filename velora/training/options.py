"""How a run is executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SAVE_EVERY_S = 120.0
"""Seconds between states within an epoch. When a state is saved is no matter of the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """How a run is executed; none of it changes the result by more than rounding.

    Parameters
    ----------
    shards : Path or str
        Folder or URL.
    out : Path
        Folder of runs.
    name : str, optional
        Of the run's folder.
    device : {"auto", "cpu", "cuda"}
    num_workers : int
        Decoding threads.
    tensorboard : bool
    deterministic : bool
        Only algorithms that give the same bits every time; on a CPU they do anyway.
    compile : bool
        Let ``torch.compile`` make the blocks of the trunk faster.
    checkpointing : bool
        Keep less of the forward pass and compute it again: less memory, more time.
    save_every_s : float
        Seconds between states within an epoch: what a kill can cost.
    """

    shards: Path | str
    out: Path = Path("runs")
    name: str | None = None
    device: str = "auto"
    num_workers: int = 2
    tensorboard: bool = False
    deterministic: bool = False
    compile: bool = False
    checkpointing: bool = False
    save_every_s: float = SAVE_EVERY_S
