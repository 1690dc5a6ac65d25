"""The data card: what the set is, and how to read it with five libraries.

Its first lines are the configuration of Hugging Face ``datasets``. They name the tars; without
them ``load_dataset`` takes whatever else lies in the folder for data, or dies of the indexes.
"""

from __future__ import annotations

from typing import Any

_SPLIT_NAMES = {"val": "validation"}


def data_card(manifest: dict[str, Any]) -> str:
    """Return the text of ``README.md``."""
    files = "\n".join(
        f"      - split: {_SPLIT_NAMES.get(split, split)}\n        path: {split}/*.tar"
        for split in manifest["splits"]
    )
    table = "\n".join(
        f"| {split} | {facts['samples']} | {facts['shards']} | {facts['bytes']} |"
        for split, facts in manifest["splits"].items()
    )
    settings = "\n".join(f"- {key}: {value}" for key, value in sorted(manifest["settings"].items()))
    return f"""---
license: unknown
tags:
  - webdataset
  - event-camera
configs:
  - config_name: default
    data_files:
{files}
---
# RGB-Event clips

WebDataset tars made by velora-eventkit {manifest["code"]["eventkit"]}, plan
{manifest["plan_id"][:12]}. The licence is that of the recordings they were made from.

| split | samples | shards | bytes |
|---|---|---|---|
{table}

Members of a sample: {", ".join(manifest["members"])}. `events` is (T, C, H, W), the
representation below (of counts channel 0 is OFF, 1 is ON); `rgbNN` is the picture of window NN;
`cls` the class id (-1: none); `json` the times and the mass balance `decoded = binned + dropped`.

## Reading it
{_reading(manifest)}
Readers that deal out whole shards (webdataset, Hugging Face streaming) want at least as many
shards as there are processes that read. `eventkit verify` checks every byte against manifest.json.

## Settings
{settings}
"""


def _reading(manifest: dict[str, Any]) -> str:
    """Return an example a library; run in the folder of the card."""
    split = "train" if "train" in manifest["splits"] else next(iter(manifest["splits"]))
    name = _SPLIT_NAMES.get(split, split)
    last = manifest["splits"][split]["shards"] - 1
    tars = f"{split}/{split}-{{000000..{last:06d}}}.tar"
    return f"""
    import webdataset
    tars = "{tars}"
    for sample in webdataset.WebDataset(tars, shardshuffle=False).decode():
        print(sample["__key__"], sample["cls"])

    import wids
    clips = wids.ShardListDataset("wids-{split}.json")
    for i in range(len(clips)):
        print(clips[i]["__key__"], clips[i][".cls"])

    import datasets, os  # it takes no "."
    for sample in datasets.load_dataset(os.getcwd(), split="{name}", streaming=True):
        print(sample["__key__"], sample["cls"])

    from megatron import energon
    class Whole(energon.DefaultTaskEncoder):
        cookers = [energon.Cooker(energon.stateless(lambda sample: sample))]
    clips = energon.get_train_dataset(
        ".", split_part="{split}", task_encoder=Whole(), batch_size=None, repeat=False,
        shuffle_buffer_size=None, max_samples_per_sequence=None,
        worker_config=energon.WorkerConfig.default_worker_config(num_workers=0),
    )
    for sample in energon.get_loader(clips):
        print(sample["__key__"], sample["cls"])

    from nvidia.dali import fn  # in a pipeline_def
    label = fn.readers.webdataset(
        paths=["{split}/{split}-000000.tar"],
        index_paths=["index/dali/{split}-000000.idx"], ext=["cls"],
    )
"""
