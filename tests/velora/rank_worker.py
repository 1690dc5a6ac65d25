"""What each of several real processes does in `test_lanes_ranks`: train and evaluate with gloo."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # DistributedDataParallel needs it, which takes a second: once, before forks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from velora.data import LaneSampler, ShardDataset, ShardLoader

GLOBAL_BATCH = 4
STEPS = {4: 2, 2: 2}
"""World size -> steps it trains before the next one takes over; the last one ends the epoch."""


def main(rank: int, shards: str, out: str) -> None:
    """Train on 4 ranks, then on 2, then on 1, each from the state of the one before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    state: dict[str, Any] | None = None
    log: dict[str, Any] = {}
    for world_size in (4, 2, 1):
        if rank >= world_size:
            break
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{out}/store-{world_size}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=60),
        )
        steps, state = train(model, shards, state, STEPS.get(world_size))
        weight = next(model.parameters()).detach().clone()
        log[str(world_size)] = {
            "steps": steps,
            "evaluation": evaluate(model, shards),
            "weight": weight.ravel().tolist(),
            "state": state,
        }
        torch.distributed.destroy_process_group()
    (Path(out) / f"rank{rank}.json").write_text(json.dumps(log))


def train(
    model: nn.Linear, shards: str, state: dict[str, Any] | None, most: int | None
) -> tuple[list[list[int]], dict[str, Any]]:
    """Take up to ``most`` steps, or those to the end of the epoch; return who was in each."""
    dataset = ShardDataset(shards, "train")
    sampler = LaneSampler(dataset, global_batch_size=GLOBAL_BATCH, seed=11)
    if state is not None:
        sampler.load_state_dict(state)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    for batch in ShardLoader(dataset, sampler, num_threads=1):
        loss = nn.functional.cross_entropy(parallel(features(batch)), batch["label"] % 3)
        optimizer.zero_grad()
        loss.backward()  # hangs here where one rank has a step more than another
        optimizer.step()
        seen.append(batch["index"].tolist())
        if len(seen) == most:
            break
    return seen, sampler.state_dict()


@torch.no_grad()
def evaluate(model: nn.Linear, shards: str) -> dict[str, Any]:
    """Count over all ranks; every step has a collective, as metrics that synchronise have."""
    dataset = ShardDataset(shards, "test")
    sampler = LaneSampler(dataset, global_batch_size=GLOBAL_BATCH, seed=None)
    total = torch.zeros(3, dtype=torch.float64)
    for batch in ShardLoader(dataset, sampler, num_threads=1):
        valid = batch["valid"]
        right = model(features(batch)).argmax(dim=1) == batch["label"] % 3
        counts = torch.stack([valid.sum(), (right & valid).sum(), batch["label"][valid].sum()])
        torch.distributed.all_reduce(counts)
        total += counts
    samples, _, labels = total.tolist()
    return {"steps": len(sampler), "samples": samples, "labels": labels}


def features(batch: dict[str, Any]) -> torch.Tensor:
    """Return (B, 8) numbers of the event frames."""
    flat: torch.Tensor = batch["events"].float().flatten(1)[:, :8]
    return flat
