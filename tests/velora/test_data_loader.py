"""Shards as a plain PyTorch dataset and loader: same batches by threads and by processes."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from velora_helpers import make_sample, write_shards

from eventkit.errors import DamageError, SettingsError
from eventkit.samples import Sample
from velora.data import LaneSampler, ShardDataset, ShardLoader
from velora.data.buffers import ArrayPool

NUM = 22
CLASSES = {0: "a", 1: "b", 2: "c"}


def samples(num: int = NUM) -> list[Sample]:
    return [
        make_sample(f"k{i:03d}_000000", label=i % 3, rng=np.random.default_rng(i))
        for i in range(num)
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("set") / "s", {"train": samples()}, classes=CLASSES)


def batches_of(
    path: Path, *, num_threads: int = 2, epoch: int = 0, members: tuple[str, ...] = ("events",)
) -> list[dict[str, Any]]:
    dataset = ShardDataset(path, members=members)
    sampler = LaneSampler(dataset, global_batch_size=4, seed=1)
    sampler.set_epoch(epoch)
    return list(ShardLoader(dataset, sampler, num_threads=num_threads))


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            if isinstance(value, torch.Tensor):
                assert a[name].dtype == value.dtype
                assert torch.equal(a[name], value), name
            else:
                assert a[name] == value


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_batches_are_the_samples_in_lane_order(path: Path, num_threads: int) -> None:
    written = samples()
    dataset = ShardDataset(path)
    order = list(LaneSampler(dataset, global_batch_size=4, seed=1))

    found = batches_of(path, num_threads=num_threads, members=("events", "rgb", "json"))

    assert [batch["index"].tolist() for batch in found] == order
    for batch in found:
        assert batch["events"].shape == (4, 3, 2, 34, 34)
        assert batch["rgb"].shape == (4, 3, 28, 28, 1)
        assert batch["valid"].all()
        for row, i in enumerate(batch["index"].tolist()):
            assert np.array_equal(batch["events"][row].numpy(), written[i].events)
            assert torch.equal(batch["rgb"][row], ShardDataset(path, members=["rgb"])[i]["rgb"])
            assert batch["key"][row] == written[i].key
            assert batch["json"][row] == written[i].meta
            assert batch["label"][row] == written[i].label


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_torchs_loader_makes_the_same_batches_in_worker_processes(path: Path, context: str) -> None:
    dataset = ShardDataset(path, members=("events", "rgb"))
    sampler = LaneSampler(dataset, global_batch_size=4, seed=1)
    _ = dataset[0]  # files that are open in the parent are of no concern to the workers

    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=1, multiprocessing_context=context
    )

    assert_same(list(loader), batches_of(path, members=("events", "rgb")))


def test_the_state_counts_what_was_handed_out_not_what_was_read_ahead(path: Path) -> None:
    expected = batches_of(path)
    dataset = ShardDataset(path)
    sampler = LaneSampler(dataset, global_batch_size=4, seed=1)
    before = []
    for batch in ShardLoader(dataset, sampler, prefetch=3):
        before.append(batch)
        if len(before) == 2:
            break
    state = json.loads(json.dumps(sampler.state_dict()))

    again = LaneSampler(dataset, global_batch_size=4, seed=1)
    again.load_state_dict(state)

    assert state["samples_consumed"] == 8
    assert_same([*before, *ShardLoader(dataset, again)], expected)
    # A loop that was left early is gone on with.
    assert_same([*before, *ShardLoader(dataset, sampler)], expected)


def test_every_epoch_has_its_own_order_without_being_told(path: Path) -> None:
    dataset = ShardDataset(path)
    sampler = LaneSampler(dataset, global_batch_size=4, seed=1)
    loader = ShardLoader(dataset, sampler)

    epochs = [[batch["index"].tolist() for batch in loader] for _ in range(3)]

    assert sampler.epoch == 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[2] == [batch["index"].tolist() for batch in batches_of(path, epoch=2)]
    sampler.set_epoch(1)
    assert [batch["index"].tolist() for batch in loader] == epochs[1]


def test_around_torchs_loader_the_loop_counts(path: Path) -> None:
    dataset = ShardDataset(path)
    sampler = LaneSampler(dataset, global_batch_size=4, seed=1)

    for step, _ in enumerate(DataLoader(dataset, batch_sampler=sampler), 1):
        sampler.advance()
        if step == 3:
            break

    assert sampler.state_dict()["samples_consumed"] == 12


def test_evaluation_fills_the_last_batch_up_and_says_with_what(path: Path) -> None:
    dataset = ShardDataset(path)
    sampler = LaneSampler(dataset, global_batch_size=5, seed=None)

    found = list(ShardLoader(dataset, sampler))
    by_torch = list(DataLoader(dataset, batch_sampler=sampler))

    assert len(found) == len(sampler) == 5
    assert_same(found, by_torch)
    seen = torch.cat([batch["index"][batch["valid"]] for batch in found])
    assert seen.tolist() == list(range(NUM))
    assert found[-1]["valid"].tolist() == [True, True, False, False, False]


def test_batches_that_are_kept_do_not_change(path: Path) -> None:
    dataset = ShardDataset(path)
    loader = ShardLoader(dataset, LaneSampler(dataset, global_batch_size=2, seed=1))
    kept, copies = [], []

    for _ in range(3):
        for batch in loader:
            # A view of the tensor is all that is held.
            kept.append(batch["events"][0, 1])
            copies.append(batch["events"][0, 1].clone())

    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_an_array_is_used_again_once_nobody_holds_it() -> None:
    pool = ArrayPool((2, 3), np.dtype("u1"), most=2)

    first = pool.take()
    address = first.ctypes.data
    view = torch.from_numpy(first)[0]
    second = pool.take()
    assert second.ctypes.data != address
    del first
    assert pool.take().ctypes.data != address  # the view holds it; the pool is full
    del view
    gc.collect()

    assert pool.take().ctypes.data == address


def damaged(tmp_path: Path) -> Path:
    """A set of which sample 7 has a damaged array."""
    path = write_shards(tmp_path / "s", {"train": samples()}, classes=CLASSES)
    dataset = ShardDataset(path)
    index = dataset.shards.index("train")
    with (path / "train" / "train-000000.tar").open("r+b") as file:
        file.seek(int(index.offset[7, index.fields.index("events.npy.gz")]) + 20)
        file.write(b"damaged")
    return path


@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_damaged_sample_is_named_with_its_shard_by_the_threads(
    tmp_path: Path, num_threads: int
) -> None:
    path = damaged(tmp_path)

    with pytest.raises(DamageError, match=r"k007_000000.*train-000000\.tar.*eventkit verify"):
        batches_of(path, num_threads=num_threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("shard-loader")]


def test_a_damaged_sample_is_named_with_its_shard_by_a_worker_process(tmp_path: Path) -> None:
    dataset = ShardDataset(damaged(tmp_path))
    sampler = LaneSampler(dataset, global_batch_size=4, seed=1)
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=1, multiprocessing_context="fork"
    )

    with pytest.raises(DamageError, match=r"k007_000000 in .*train-000000\.tar") as caught:
        list(loader)
    # Else the workers live until the garbage is collected, which then waits for them for 5 s.
    traceback.clear_frames(caught.value.__traceback__)


def test_a_loop_that_is_left_leaves_no_thread(path: Path) -> None:
    dataset = ShardDataset(path)
    loader = ShardLoader(dataset, LaneSampler(dataset, global_batch_size=2, seed=1))

    iterator = iter(loader)
    next(iterator)
    iterator.close()

    assert not [t for t in threading.enumerate() if t.name.startswith("shard-loader")]


def crop(item: dict[str, Any]) -> dict[str, Any]:
    return {"events": item["events"][..., :20, :20].float(), "label": item["label"]}


def test_clips_of_several_shapes_need_a_transform(tmp_path: Path) -> None:
    mixed = [
        make_sample(f"k{i}_000000", label=0, rng=np.random.default_rng(i), sizes=(side, side))
        for i, side in enumerate((34, 34, 40, 34))
    ]
    path = write_shards(tmp_path / "s", {"train": mixed}, classes=CLASSES)

    with pytest.raises(SettingsError, match=r"k2_000000.*\(3, 2, 40, 40\).*transform"):
        batches_of(path)
    with pytest.raises(SettingsError, match=r"k2_000000.*\(3, 40, 40, 1\).*transform"):
        batches_of(path, members=("rgb",))
    dataset = ShardDataset(path, transform=crop)
    (batch,) = ShardLoader(dataset, LaneSampler(dataset, global_batch_size=4, seed=0))
    assert batch["events"].shape == (4, 3, 2, 20, 20)


def test_a_member_that_is_not_there_is_refused_with_those_that_are(path: Path) -> None:
    with pytest.raises(SettingsError, match=r"events\.npy\.gz.*got 'diff_events'"):
        ShardDataset(path, members=("diff_events",))
    with pytest.raises(IndexError, match=f"0 to {NUM - 1}, got {NUM}"):
        ShardDataset(path)[NUM]


def test_a_world_size_that_does_not_divide_the_batch_is_refused_at_once(path: Path) -> None:
    with pytest.raises(SettingsError, match="world size that divides the global batch of 4"):
        LaneSampler(ShardDataset(path), global_batch_size=4, seed=0, rank=0, world_size=3)


def test_the_state_of_another_set_is_refused(path: Path, tmp_path: Path) -> None:
    state = LaneSampler(ShardDataset(path), global_batch_size=4, seed=0).state_dict()
    other = write_shards(tmp_path / "s", {"train": samples()}, classes=CLASSES, plan_id="f" * 16)

    with pytest.raises(SettingsError, match="manifest_sha256"):
        LaneSampler(ShardDataset(other), global_batch_size=4, seed=0).load_state_dict(state)


def test_a_pickled_dataset_is_a_path(path: Path) -> None:
    dataset = ShardDataset(path)
    _ = dataset[3], dataset.reader("events")

    data = pickle.dumps(dataset)

    assert len(data) < 1500
    assert torch.equal(pickle.loads(data)[3]["events"], dataset[3]["events"])


def test_the_data_side_loads_neither_the_model_nor_the_pipelines() -> None:
    code = "import sys, velora.data; print(*{m.split('.')[0] for m in sys.modules}, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.split())
    assert "velora.data.loader" in loaded
    assert not loaded & {
        "timm",
        "velora.model.paper",
        "velora.model.backbone",
        "pipelines",
        "webdataset",
    }
