"""The shard index of wids, random access to webdataset tars.

Source: https://github.com/webdataset/webdataset, ``wids/wids_index.py``
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eventkit.samples import encode_json


def wids_path(split: str) -> str:
    """Return where the index of a split lies, relative to the set."""
    return f"wids-{split}.json"


def wids_index(split: str, shards: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the index of a split from the manifest's entries of its shards.

    Addresses are relative to the index. A set that was made without md5 has none here either; wids
    does not ask for it.
    """
    listed = []
    for shard in shards:
        entry = {
            "url": shard["name"],
            "nsamples": shard["samples"],
            "filesize": shard["bytes"],
        }
        if "md5" in shard:
            entry["md5sum"] = shard["md5"]
        listed.append(entry)
    content = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": split,
        "shardlist": listed,
    }
    return encode_json(content) + b"\n"
