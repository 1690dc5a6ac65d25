"""Foreign readers over our shards, in an environment without eventkit: `make readers`.

Each reads every sample; keys, labels and sums of the arrays are those of the standard library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from truth import Truth, unpack


def test_eventkit_is_not_here() -> None:
    assert importlib.util.find_spec("eventkit") is None


def test_the_sets_are_what_the_matrix_needs(truth: Truth) -> None:
    rows = {split: truth.rows(split) for split in ("train", "val", "test")}

    assert all(rows.values())
    assert {row.label for row in rows["train"].values()} == {0, 1, 2}
    assert len({tuple(row.members) for part in rows.values() for row in part.values()}) == 1
    longest = max(len(f"{key}.{m}") for key, row in rows["train"].items() for m in row.members)
    assert 96 <= longest <= 100 or truth.name != "gz"  # the longest member is a difference


def test_plain_webdataset(truth: Truth, split: str) -> None:
    import webdataset

    rows = truth.rows(split)
    last = len(truth.tars(split)) - 1
    url = f"{truth.path}/{split}/{split}-{{000000..{last:06d}}}.tar"

    found = list(webdataset.WebDataset(url, shardshuffle=False).decode("rgb8"))

    assert [sample["__key__"] for sample in found] == list(rows)
    for sample in found:
        row = rows[sample["__key__"]]
        events = sample[truth.field]
        if truth.name == "zst":  # no reader decodes it unasked
            events = unpack(events, truth.field)
        assert sample["cls"] == row.label
        assert (int(events.sum()), events.shape) == (row.sum, row.shape)
        assert sample["json"]["key"] == sample["__key__"]
        assert sample[truth.picture].shape == (28, 28, 3)


def test_wids_by_its_index(truth: Truth, split: str, tmp_path: Path) -> None:
    import wids

    rows = truth.rows(split)

    found = wids.ShardListDataset(str(truth.path / f"wids-{split}.json"), cache_dir=str(tmp_path))
    samples = [found[i] for i in range(len(found))]

    assert [sample["__key__"] for sample in samples] == list(rows)
    for sample in samples:
        row = rows[sample["__key__"]]
        assert set(sample) >= {f".{suffix}" for suffix in row.members}
        events = sample[f".{truth.field}"]
        if not isinstance(events, np.ndarray):
            events = unpack(events.read(), truth.field)
        assert sample[".cls"] == row.label
        assert (int(events.sum()), events.shape) == (row.sum, row.shape)


def test_what_the_index_of_wids_says_of_the_tars(truth: Truth, split: str) -> None:
    index = json.loads((truth.path / f"wids-{split}.json").read_text())

    assert index["__kind__"] == "wids-shard-index-v1"
    assert [truth.path / shard["url"] for shard in index["shardlist"]] == truth.tars(split)
    for shard in index["shardlist"]:
        data = (truth.path / shard["url"]).read_bytes()
        assert shard["filesize"] == len(data)
        assert shard["md5sum"] == hashlib.md5(data).hexdigest()
    assert sum(shard["nsamples"] for shard in index["shardlist"]) == len(truth.rows(split))


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "table"])
def test_hugging_face_by_the_card(
    truth: Truth, split: str, tmp_path: Path, streaming: bool
) -> None:
    import datasets

    rows = truth.rows(split)
    name = {"val": "validation"}.get(split, split)
    assert list((truth.path / split).glob("*.tar.idx"))  # visible beside the tars

    found = datasets.load_dataset(
        str(truth.path), split=name, streaming=streaming, cache_dir=str(tmp_path)
    )

    keys = []
    for sample in found:
        row = rows[sample["__key__"]]
        keys.append(sample["__key__"])
        events = np.array(sample[truth.field])
        assert sample["cls"] == row.label
        assert (int(events.sum()), events.shape) == (row.sum, row.shape)
        assert sample["json"]["recording"] == json.loads(row.members["json"])["recording"]
        assert sample[truth.picture].size == (28, 28)
    assert keys == list(rows)


def test_hugging_face_names_all_splits_and_takes_nothing_else(truth: Truth, tmp_path: Path) -> None:
    import datasets

    found = datasets.load_dataset(str(truth.path), cache_dir=str(tmp_path))

    assert {name: part.num_rows for name, part in found.items()} == {
        "train": len(truth.rows("train")),
        "validation": len(truth.rows("val")),
        "test": len(truth.rows("test")),
    }


ENERGON = """
import json, sys
from megatron import energon

class Whole(energon.DefaultTaskEncoder):
    cookers = [energon.Cooker(energon.stateless(lambda sample: sample))]

folder, field, ranks = sys.argv[1:4]
for split in sys.argv[4:]:
    for rank in range(int(ranks)):
        config = energon.WorkerConfig(rank=rank, world_size=int(ranks), num_workers=0)
        dataset = energon.get_val_dataset(
            folder, split_part=split, worker_config=config, batch_size=None, task_encoder=Whole()
        )
        for sample in energon.get_loader(dataset):
            events = sample[field]
            raw = isinstance(events, bytes)
            content = events.hex() if raw else [int(events.sum()), *events.shape]
            print(json.dumps([split, sample["__key__"], sample["cls"], content]), flush=True)
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_energon_by_the_metadata_that_came_with_the_tars(
    truth: Truth, ranks: int, tmp_path: Path
) -> None:
    splits = ("train", "val", "test")
    rows = {split: truth.rows(split) for split in splits}
    script = tmp_path / "read.py"
    script.write_text(ENERGON)

    done = subprocess.run(
        [sys.executable, script, truth.path, truth.field, str(ranks), *splits],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    keys = sorted((split, key) for split, key, _, _ in found)
    assert keys == sorted((split, key) for split in splits for key in rows[split])
    for split, key, label, content in found:
        row = rows[split][key]
        if isinstance(content, str):  # zstd, which it does not decode
            events = unpack(bytes.fromhex(content), truth.field)
            content = [int(events.sum()), *events.shape]
        assert label == row.label
        assert content == [row.sum, *row.shape]


def test_the_examples_of_the_card_run_as_they_stand(truth: Truth, tmp_path: Path) -> None:
    text = (truth.path / "README.md").read_text().partition("## Reading it\n")[2]
    examples = [textwrap.dedent(block) for block in text.split("\n\n") if "import" in block]
    rows = truth.rows("train")

    assert len(examples) == 5
    for example in examples[:4]:  # DALI needs a CUDA device; its index has a test of its own
        done = subprocess.run(
            [sys.executable, "-c", example],
            capture_output=True,
            text=True,
            check=False,
            cwd=truth.path,
            env={**os.environ, "WIDS_CACHE": str(tmp_path)},
        )
        assert done.returncode == 0, example + done.stderr[-3000:]
        printed = [line.split() for line in done.stdout.splitlines() if line.split()[0] in rows]
        assert {key: int(label) for key, label in printed} == {
            key: row.label for key, row in rows.items()
        }


def test_the_indexes_of_energon_are_those_that_it_makes_by_reading(
    truth: Truth, tmp_path: Path
) -> None:
    from megatron.energon.flavors.webdataset.prepare import WebdatasetPreparator

    copy = tmp_path / "copy"
    names = [
        str(p.relative_to(truth.path)) for s in ("train", "val", "test") for p in truth.tars(s)
    ]
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(truth.path / name, copy / name)

    WebdatasetPreparator.prepare_dataset(
        copy,
        names,
        split_parts_patterns=[(s, f"{s}/.*") for s in ("train", "val", "test")],
        split_parts_ratio=None,
        workers=1,
    )

    for name in names:
        ours = (truth.path / f"{name}.idx").read_bytes()
        assert ours == (copy / f"{name}.idx").read_bytes()
        assert len(ours) == 8 * (1 + len(struct.unpack(f"<{len(ours) // 8 - 1}Q", ours[8:])))
    counts = [
        json.loads((folder / ".nv-meta" / ".info.json").read_text())["shard_counts"]
        for folder in (truth.path, copy)
    ]
    assert counts[0] == counts[1]


def test_the_index_of_dali_is_what_gnu_tar_says(truth: Truth, split: str) -> None:
    """`wds2idx` asks GNU tar for the blocks; so do we here."""
    for path in truth.tars(split):
        blocks = subprocess.run(
            ["tar", "--list", "--block-number", "--verbose", "--file", path],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout.splitlines()
        samples: dict[str, list[str]] = {}
        for line in blocks:
            if "**" in line:  # the blocks of the end
                continue
            block, _, rest = line.removeprefix("block ").partition(": ")
            size, name = int(rest.split()[2]), rest.split()[-1]
            key, _, suffix = name.partition(".")
            offset = 512 * (int(block) + 1)
            samples.setdefault(key, []).append(f"{suffix} {offset} {size} {name}")
        expected = [f"v1.2 {len(samples)}"] + [" ".join(parts) for parts in samples.values()]

        found = (truth.path / "index" / "dali" / f"{path.stem}.idx").read_text()

        assert found == "\n".join(expected) + "\n"
        with path.open("rb") as file:  # a reader that trusts it gets the bytes of the member
            for line in found.splitlines()[1:]:
                words = line.split(" ")
                key = words[3].partition(".")[0]
                for suffix, at, size, _ in zip(*(iter(words),) * 4, strict=True):
                    file.seek(int(at))
                    assert file.read(int(size)) == truth.rows(split)[key].members[suffix]


def test_pictures_are_the_files_that_were_recorded(truth: Truth, split: str) -> None:
    originals = truth.path.parent / f"{truth.name}-recordings"
    for row in truth.rows(split).values():
        recording = json.loads(row.members["json"])["recording"]
        source = originals / f"{recording}.{truth.picture.rsplit('.', 1)[1]}"
        assert row.members[truth.picture] == source.read_bytes()
        with Image.open(io.BytesIO(row.members[truth.picture])) as image:
            assert image.size == (28, 28)
