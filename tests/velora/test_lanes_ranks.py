"""Real processes train on uneven shards: equal steps, no hang, the same batches on 4, 2 and 1."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rank_worker
from velora_helpers import make_sample, write_shards

from velora.data import LaneSampler, ShardDataset

HERE = Path(__file__).resolve().parent
NUM_TRAIN, NUM_TEST = 27, 5


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What four processes have seen; later phases have two and one."""
    folder = tmp_path_factory.mktemp("ranks")
    sizes = {"train": NUM_TRAIN, "test": NUM_TEST}  # neither is a multiple of 4
    splits = {
        split: [
            make_sample(f"{split}{i:03d}_000000", label=i % 3, rng=np.random.default_rng(i))
            for i in range(size)
        ]
        for split, size in sizes.items()
    }
    shards = write_shards(folder / "shards", splits, classes={0: "a", 1: "b", 2: "c"})
    context = multiprocessing.get_context("forkserver")
    # torch is imported once for the four; the server knows no path but the environment's.
    context.set_forkserver_preload(["rank_worker"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (HERE, HERE.parents[1]))))
        processes = [
            context.Process(target=rank_worker.main, args=(rank, str(shards), str(folder)))
            for rank in range(4)
        ]
        for process in processes:
            process.start()
    for process in processes:
        process.join(timeout=150)
    hung = [process for process in processes if process.exitcode is None]
    for process in hung:
        process.kill()
    assert not hung
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(4)]


def ranks_of(logs: list[dict[str, Any]], world_size: int) -> list[dict[str, Any]]:
    return [log[str(world_size)] for log in logs[:world_size]]


def test_every_rank_takes_as_many_steps(logs: list[dict[str, Any]]) -> None:
    steps = {r: {len(log["steps"]) for log in ranks_of(logs, r)} for r in (4, 2, 1)}

    # One shard for four ranks; 27 samples in batches of 4 are 6 steps: 2 + 2 + 2.
    assert steps == {4: {2}, 2: {2}, 1: {2}}


def test_global_batches_are_those_of_one_process_though_the_ranks_change(
    logs: list[dict[str, Any]], tmp_path: Path
) -> None:
    found = []
    for world_size in (4, 2, 1):
        parts = np.array([log["steps"] for log in ranks_of(logs, world_size)])
        found += parts.transpose(1, 2, 0).reshape(-1, rank_worker.GLOBAL_BATCH).tolist()

    splits = {
        "train": [
            make_sample(f"train{i:03d}_000000", label=i % 3, rng=np.random.default_rng(i))
            for i in range(NUM_TRAIN)
        ]
    }
    again = write_shards(tmp_path / "s", splits, classes={0: "a", 1: "b", 2: "c"})
    expected = LaneSampler(
        ShardDataset(again), global_batch_size=rank_worker.GLOBAL_BATCH, seed=11, world_size=1
    )
    assert found == list(expected)


def test_all_ranks_hold_the_same_weights_and_the_same_state(logs: list[dict[str, Any]]) -> None:
    for world_size in (4, 2):
        first, *others = ranks_of(logs, world_size)
        for other in others:
            assert other["weight"] == first["weight"]
            assert other["state"] == first["state"]
    assert [logs[0][str(r)]["state"]["samples_consumed"] for r in (4, 2)] == [8, 16]
    assert logs[0]["1"]["state"]["epoch"] == 1


@pytest.mark.parametrize("world_size", [4, 2, 1])
def test_evaluation_counts_every_sample_once_on_any_number_of_ranks(
    logs: list[dict[str, Any]], world_size: int
) -> None:
    labels = sum(i % 3 for i in range(NUM_TEST))

    for log in ranks_of(logs, world_size):
        assert log["evaluation"] == {"steps": 2, "samples": NUM_TEST, "labels": labels}
