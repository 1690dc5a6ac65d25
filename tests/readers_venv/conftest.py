"""The sets that `make_sets.py` wrote, one after the other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from truth import SUFFIX, Truth


@pytest.fixture(params=sorted(SUFFIX))
def truth(request: pytest.FixtureRequest) -> Truth:
    folder = Path(os.environ["EVENTKIT_SETS"]) / request.param
    return Truth(request.param, folder, json.loads((folder / "manifest.json").read_text()))


@pytest.fixture(params=["train", "val", "test"])
def split(request: pytest.FixtureRequest) -> str:
    return request.param
