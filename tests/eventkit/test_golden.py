"""Every convention against a small array that its source made: `tests/golden`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eventkit.events import Events
from eventkit.representations import make, parse
from eventkit.representations.voxels import SpatialAccumulator

FOLDER = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(FOLDER))
from golden import digest  # noqa: E402

DIGESTS: dict[str, Any] = json.loads((FOLDER / "digests.json").read_text())
INPUTS = {"x", "y", "t", "p", "sensor_size", "xy"}
Array = NDArray[Any]


@dataclass(frozen=True)
class Golden:
    """How a field of a golden file is made here.

    Parameters
    ----------
    spec : str
        Of the representation.
    rule : dict
        The window rule.
    bring, view : functions
        Bring the golden, and ours, to one layout.
    atol : float
        Zero for whole numbers; for floats what the two roundings may differ by, stated beside it.
    positions : bool
        Whether the events have positions ``xy`` of their own.
    """

    spec: str
    rule: dict[str, Any] = field(default_factory=dict)
    bring: Callable[[Array], Array] = np.asarray
    view: Callable[[Array], Array] = np.asarray
    atol: float = 0.0
    positions: bool = False


def on_last(image: Array) -> Array:
    """Return (2, H, W) from an RGB picture (H, W, 3) with ON in red and OFF in blue."""
    return image[..., [2, 0]].transpose(2, 0, 1)


def newest_first(volume: Array) -> Array:
    """Return (2 K, H, W) from (H, W, K, 2) with the newest last."""
    height, width, k, _ = volume.shape
    return volume[:, :, ::-1].transpose(3, 2, 0, 1).reshape(2 * k, height, width)


def as_cells(frame: Array) -> Array:
    """Return the tiles of 3x3 of `HATS` in tonic's layout, (cells, 2, 3, 3)."""
    made = make("surface:hats", cell_size=5, surface_size=3)
    cells: Array = made.as_cells(frame)  # type: ignore[attr-defined]
    return cells


def first(frames: Array) -> Array:
    """Return the frame of the one window."""
    assert len(frames) == 1
    frame: Array = frames[0]
    return frame


CUBE = {"edges_us": [0, 96_005]}
HATS = "surface:hats,cell_size=5,surface_size=3,time_window_us=30000,tau_us=20000,decay="
# Sums of a few hundred float32 shares below one, or float32 exponentials.
SUMS, EXP = 1e-4, 5e-7
GOLDENS = {
    ("tonic", "frames_time_bins_4"): Golden("counts:tonic", {"bins": 4}),
    ("tonic", "frames_event_bins_4"): Golden("counts:tonic,split_by=number", {"bins": 4}),
    ("tonic", "frames_window_9973"): Golden("counts:eventkit", {"window_us": 9973}),
    ("tonic", "frames_count_50"): Golden("counts:eventkit", {"count": 50}),
    ("tonic", "voxels_5"): Golden("voxel:tonic,bins=5", bring=lambda a: a[:, 0], atol=SUMS),
    ("tonic", "hots_10000_tau_7000"): Golden(
        "surface:hots,tau_us=7000", {"window_us": 10_000, "last": "exclude"}, atol=EXP
    ),
    ("tonic", "hats_exp"): Golden(f"{HATS}exp", view=as_cells, atol=SUMS),
    ("tonic", "hats_lin"): Golden(f"{HATS}linear", view=as_cells, atol=SUMS),
    ("tonic", "binarep_2_of_8_bits"): Golden("binary:binarep,edges=tonic", {"bins": 2}),
    ("spikingjelly", "frames_time_1"): Golden("counts:spikingjelly", {"bins": 1}),
    ("spikingjelly", "frames_time_4"): Golden("counts:spikingjelly", {"bins": 4}),
    ("spikingjelly", "frames_time_7"): Golden("counts:spikingjelly", {"bins": 7}),
    ("spikingjelly", "frames_number_1"): Golden("counts:spikingjelly,split_by=number", {"bins": 1}),
    ("spikingjelly", "frames_number_4"): Golden("counts:spikingjelly,split_by=number", {"bins": 4}),
    ("spikingjelly", "frames_number_7"): Golden("counts:spikingjelly,split_by=number", {"bins": 7}),
    ("evlib", "rvt_50000_cutoff_10"): Golden("stack:rvt", {"edges_us": [0, 50_000, 100_000]}),
    ("evlib", "rvt_50000_cutoff_255"): Golden(
        "stack:rvt,count_cutoff=255", {"edges_us": [0, 50_000, 100_000]}
    ),
    ("evutils", "histogram_u1"): Golden("counts:eventkit,dtype=u1", bring=on_last),
    ("evutils", "tore_4_tau_10000"): Golden(
        "surface:tore,k=4,convention=evutils,tau_us=10000", bring=newest_first, atol=EXP
    ),
    # One plane: the latest event of either polarity, OFF negative.
    ("evutils", "timesurface_tau_10000"): Golden(
        "surface:sae,tau_us=10000", bring=np.abs, view=lambda a: a.max(axis=0), atol=EXP
    ),
    ("dv", "speed_invariant"): Golden(
        "surface:speed-invariant,radius=4,polarity=merged,ties=keep", view=lambda a: a[0]
    ),
    ("eventcv", "counts"): Golden("counts:eventkit,dtype=u4"),
    ("eventcv", "voxels_5"): Golden("voxel:zhu,bins=5", atol=SUMS),
    ("formulas", "zhu_spatial"): Golden("voxel:zhu-spatial,bins=6", atol=SUMS, positions=True),
    ("formulas", "zhu_spatial_nonzero"): Golden(
        "voxel:zhu-spatial,bins=6,normalize=nonzero", atol=SUMS, positions=True
    ),
    ("formulas", "cube_drop"): Golden("voxel:cube,bins=6", CUBE, view=first, atol=SUMS),
    ("formulas", "cube_drop_split"): Golden(
        "voxel:cube,bins=6,polarity=split", CUBE, view=first, atol=SUMS
    ),
    ("formulas", "cube_clamp"): Golden(
        "voxel:cube,bins=6,edges=clamp", CUBE, view=first, atol=SUMS
    ),
    ("formulas", "sstformer_16_clips"): Golden(
        "binary:sstformer,edges=sstformer",
        {"edges_us": [6000 * i for i in range(17)]},
        bring=lambda a: a.transpose(0, 3, 2, 1),
    ),
    ("formulas", "mdes_10"): Golden("stack:mdes,bins=10"),
    ("formulas", "event_ahu"): Golden("image:event-ahu"),
    # The docstring of the class states 2e-6 for its logarithm.
    ("formulas", "tore_baldwin_3"): Golden("surface:tore,k=3,convention=baldwin", atol=2e-6),
    # Its float32 of the quotient may round a half down.
    ("eventcv", "tencode"): Golden("image:tencode", atol=1),
}


def loaded(name: str) -> dict[str, Array]:
    with np.load(FOLDER / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def run_here(golden: Golden, arrays: dict[str, Array]) -> Array:
    """Return our array for a golden."""
    ev = Events(**{column: arrays[column] for column in "xytp"})
    width, height = arrays["sensor_size"].tolist()
    kind = parse(golden.spec)
    if not golden.positions:
        return golden.view(kind(ev, sensor_size=(width, height), **golden.rule))
    windows = kind.windows(ev, (width, height), **golden.rule)
    voxels = kind.accumulator(windows, sensor_size=(width, height))
    assert isinstance(voxels, SpatialAccumulator)
    voxels.update(ev, xy=arrays["xy"])
    return first(voxels.finish())


def results() -> list[tuple[str, str]]:
    return [
        (name, key)
        for name, entry in DIGESTS.items()
        for key in entry["sha256"]
        if key not in INPUTS
    ]


@pytest.mark.parametrize(("name", "key"), results())
def test_each_convention_equals_its_golden(name: str, key: str) -> None:
    golden, arrays = GOLDENS[name, key], loaded(name)

    made = run_here(golden, arrays)

    expected = golden.bring(arrays[key])
    assert made.shape == expected.shape
    if golden.atol:
        np.testing.assert_allclose(
            made.astype(np.float64), expected.astype(np.float64), rtol=0, atol=golden.atol
        )
    else:
        assert np.array_equal(made, expected)
    assert np.any(expected != expected.flat[0]), "a golden that is all one value shows nothing"


@pytest.mark.parametrize("name", DIGESTS)
def test_goldens_are_what_their_digests_say(name: str) -> None:
    entry, arrays = DIGESTS[name], loaded(name)

    assert {key: digest(array) for key, array in arrays.items()} == entry["sha256"]
    assert entry["kind"] in ("peer", "formula")
    assert (FOLDER / entry["script"]).is_file()
    assert entry["versions"]


def test_there_are_no_goldens_without_digest_and_none_is_large() -> None:
    files = list(FOLDER.glob("*.npz"))

    assert {file.stem for file in files} == set(DIGESTS)
    assert max(file.stat().st_size for file in files) < 64_000
    assert set(GOLDENS) == set(results())
