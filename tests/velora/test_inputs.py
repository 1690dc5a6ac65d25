"""Event inputs: which representation goes with which, and what each paints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eventkit import Events
from eventkit.clip_settings import ClipSettings
from eventkit.clips import event_difference
from eventkit.errors import DamageError, SettingsError
from eventkit.representations import names as representations
from eventkit.representations.clip import clip_windows
from velora.inputs import Content, content_of, names, resolve
from velora.inputs.painters import OFF_RGB, ON_RGB, Surface

ROOT = Path(__file__).resolve().parents[2]
SIZE = (9, 7)
# What `eventkit convert --repr` can write, each name and each setting that changes the meaning.
PAINTED = (
    *(name for name in representations() if name != "surface:hats"),
    "voxel:cube,polarity=split",
    "surface:speed-invariant,polarity=merged",
    "surface:tore,convention=evutils",
    "surface:sae,decay=linear",
    "voxel:zhu,normalize=nonzero",
)
AUTO = {
    "counts": "redblue",
    "stack:rvt": "redblue",
    "stack:mdes": "voxel",
    "binary:sstformer": "counts",
    "binary:binarep": "surface",
    "voxel": "voxel",
    "surface": "surface",
    "image": "picture",
    "voxel:cube,polarity=split": "redblue",
}


def events(count: int = 400) -> Events:
    rng = np.random.default_rng(0)
    return Events(
        x=rng.integers(0, SIZE[0], count),
        y=rng.integers(0, SIZE[1] - 1, count),  # the last row stays empty
        t=np.sort(rng.integers(0, 40_000, count)),
        p=rng.integers(0, 2, count),
    )


def stored(spec: str, stream: Events, *, bins: int = 4) -> tuple[str, np.ndarray]:
    """Frames as `convert` stores them, and the spec that the manifest carries."""
    settings = ClipSettings(representation=spec, bins=bins)
    made = settings.make_representation()
    windows = clip_windows(made, start=0, stop=40_000, bins=bins)
    filling = made.accumulator(windows, sensor_size=SIZE)
    filling.update(stream)
    return settings.representation, np.ascontiguousarray(made.as_stored(filling.finish()))


def test_small_surfaces_side_by_side_are_refused_in_words() -> None:
    full, _ = stored("surface:hats", events())

    with pytest.raises(SettingsError, match=r"no event input paints surface:hats.*--repr"):
        resolve("auto", full)


@pytest.mark.parametrize("spec", PAINTED)
def test_what_convert_writes_becomes_pictures(spec: str) -> None:
    full, frames = stored(spec, events())

    chosen = resolve("auto", full)
    pictures = chosen.paint(torch.from_numpy(frames))

    name = full.split(",")[0]
    expected = AUTO.get(spec) or AUTO.get(name) or AUTO[name.split(":")[0]]
    assert chosen.name == expected
    assert pictures.shape == (4, 3, SIZE[1], SIZE[0])
    assert pictures.dtype == torch.float32
    assert 0 <= float(pictures.min()) < float(pictures.max()) <= 1
    # The row without events looks like the ground, and others do not.
    assert chosen.ground is not None
    torch.testing.assert_close(
        pictures[:, :, -1], torch.full_like(pictures[:, :, -1], chosen.ground)
    )
    assert (pictures[:, :, :-1] - chosen.ground).abs().amax() > 0.2


@pytest.mark.parametrize("spec", PAINTED)
def test_a_stream_without_events_is_all_ground(spec: str) -> None:
    full, frames = stored(spec, Events.empty())

    chosen = resolve("auto", full)
    pictures = chosen.paint(torch.from_numpy(frames))

    torch.testing.assert_close(pictures, torch.full_like(pictures, chosen.ground))


@pytest.mark.parametrize("spec", PAINTED)
def test_linear_inputs_turn_stored_differences_into_those_of_the_pictures(spec: str) -> None:
    # So few events that no cell passes a cap.
    full, frames = stored(spec, events(60))
    accepting = [name for name in names() if _paints(name, full)]
    for name in accepting:
        cap = ",cap=100" if name in ("counts", "voxel") else ""
        chosen = resolve(name + cap, full)
        if not chosen.linear:
            continue
        pictures = chosen.paint(torch.from_numpy(frames))
        found = chosen.paint_differences(torch.from_numpy(event_difference(frames)))

        torch.testing.assert_close(found, pictures.diff(dim=0).abs(), rtol=0, atol=1e-6)


def _paints(name: str, representation: str) -> bool:
    try:
        resolve(name, representation)
    except SettingsError:
        return False
    return True


def test_linear_is_said_of_what_is_linear() -> None:
    linear = {
        ("redblue", "counts:eventkit"): False,
        ("redblue", "voxel:zhu"): False,
        ("counts", "counts:eventkit"): True,
        ("voxel", "voxel:zhu"): True,
        ("surface", "surface:sae"): True,
        ("surface", "surface:tore"): False,
        ("picture", "image:tencode"): True,
    }

    assert {pair: resolve(*pair).linear for pair in linear} == linear


def test_counts_are_painted_red_and_blue_on_white_with_off_on_top() -> None:
    counts = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    counts[0, 1, 0, 0] = 3  # ON
    counts[0, 0, 0, 1] = 1  # OFF
    counts[0, :, 1, 0] = 255  # both

    picture = resolve("auto", "counts:eventkit").paint(counts)[0].permute(1, 2, 0)

    torch.testing.assert_close(picture[0, 0], torch.tensor(ON_RGB))
    torch.testing.assert_close(picture[0, 1], torch.tensor(OFF_RGB))
    torch.testing.assert_close(picture[1, 0], torch.tensor(OFF_RGB))
    torch.testing.assert_close(picture[1, 1], torch.ones(3))


counts_frames = hnp.arrays(np.uint8, (2, 2, 3, 4), elements=st.integers(0, 255))


@given(counts_frames, st.floats(0.5, 255))
def test_counts_equal_their_numpy_twin(frames: np.ndarray, cap: float) -> None:
    share = np.minimum(frames / cap, 1)
    expected = 1 - np.stack([share[:, 0], share[:, 1], share[:, 1]], axis=1)

    found = resolve(f"counts,cap={cap}", "counts:eventkit").paint(torch.from_numpy(frames))

    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@given(counts_frames)
def test_redblue_equals_its_numpy_twin(frames: np.ndarray) -> None:
    expected = np.ones((2, 3, 4, 3))
    expected[frames[:, 1] > 0] = ON_RGB
    expected[frames[:, 0] > 0] = OFF_RGB

    found = resolve("redblue", "counts:eventkit").paint(torch.from_numpy(frames))

    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)


@given(hnp.arrays(np.float32, (2, 1, 3, 4), elements=st.floats(-9, 9, width=32)))
def test_voxels_equal_their_numpy_twins(frames: np.ndarray) -> None:
    gray = resolve("voxel,cap=3", "voxel:zhu").paint(torch.from_numpy(frames))
    painted = resolve("redblue", "voxel:zhu").paint(torch.from_numpy(frames))

    expected = np.repeat(np.clip(0.5 + frames / 6, 0, 1), 3, axis=1)
    np.testing.assert_allclose(gray.numpy(), expected, atol=1e-6)
    strength = np.clip(np.abs(frames), 0, 1)
    colour = np.where(frames > 0, *(np.reshape(c, (1, 3, 1, 1)) for c in (ON_RGB, OFF_RGB)))
    np.testing.assert_allclose(painted.numpy(), 1 + (colour - 1) * strength, atol=1e-6)


def test_surfaces_equal_their_numpy_twin() -> None:
    full, frames = stored("surface:tore,k=3", events())
    oldest = np.log1p(5e6) - np.log1p(150.0)
    fresh = (1 - frames / oldest).reshape(4, 2, 3, SIZE[1], SIZE[0]).mean(axis=2)
    expected = 1 - fresh[:, [0, 1, 1]]

    found = resolve("surface", full).paint(torch.from_numpy(frames))

    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "representation", "words"),
    [
        ("surface", "counts:eventkit", ["redblue or counts or auto", "--repr surface:sae"]),
        ("redblue", "surface:sae", ["surface or auto", "--repr counts:eventkit"]),
        ("redblue", "binary:sstformer", ["counts or auto", "--repr counts:eventkit"]),
        ("voxel", "image:tencode", ["picture or auto", "--repr voxel:zhu"]),
        ("auto", "surface:speed-invariant,radius=8", ["no event input paints", "--repr"]),
        ("counts", "surface:hats", ["no event input paints", "--repr counts:eventkit"]),
        ("colours", "counts:eventkit", ["auto, redblue, counts, voxel, surface, picture"]),
        ("counts,cup=3", "counts:eventkit", ["setting of counts (cap)", "'cup=3'"]),
        ("counts,cap=many", "counts:eventkit", ["cap of counts as float", "'many'"]),
        ("counts,cap=0", "counts:eventkit", ["cap as a number of events above 0"]),
        ("counts,cap=256", "counts:eventkit", ["at most 255, got 256"]),
        ("voxel,cap=nan", "voxel:zhu", ["cap as a number of events above 0"]),
        ("auto", "counts:mine", ["counts:mine", "counts:eventkit"]),
    ],
)
def test_wrong_choices_are_refused_in_one_sentence_with_the_way_out(
    spec: str, representation: str, words: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        resolve(spec, representation)

    for word in words:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_frames_of_another_form_than_the_manifest_says_are_damage() -> None:
    chosen = resolve("auto", "counts:eventkit")

    for paint in (chosen.paint, resolve("counts", "counts:eventkit").paint_differences):
        with pytest.raises(DamageError, match=r"\(U, 2, H, W\).*got \(1, 3, 2, 2\)"):
            paint(torch.zeros(1, 3, 2, 2))


def test_a_surface_whose_largest_value_is_not_known_reaches_from_zero_to_one() -> None:
    unknown = Content(representation="surface:mine", kind="recency", channels=2)

    pictures = Surface(content=unknown).paint(torch.tensor([0.0, 2.0]).view(1, 2, 1, 1))

    assert pictures.flatten().tolist() == [1.0, 0.0, 0.0]


PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar

from velora.inputs import EventInput


@dataclass(frozen=True, kw_only=True)
class Ink(EventInput):
    name: ClassVar[str] = "ink"
    kinds: ClassVar = ("counts", "other")
    depth: int = 2
    ground = 1.0

    def _paint(self, frames):
        drawn = frames.float().sum(1, keepdim=True).clamp(max=self.depth) / self.depth
        return (1 - drawn).expand(-1, 3, -1, -1)
"""
ASK = """
import torch
from velora.inputs import names, resolve
ink = resolve("ink,depth=4", "counts:eventkit")
print(names()[-1], ink.paint(torch.ones(1, 2, 1, 1)).flatten().tolist(), ink.linear)
print(resolve("ink", "surface:hats").name)
try:
    resolve("voxel", "counts:eventkit")
except ValueError as error:
    print(error)
"""


def test_another_package_adds_an_input_by_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "my_inputs.py").write_text(PLUGIN)
    info = tmp_path / "my_inputs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-inputs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[velora.inputs]\nink = my_inputs:Ink\n")

    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == "ink [0.5, 0.5, 0.5] False"
    assert second == "ink"
    assert "choose redblue or counts or ink or auto" in third


def test_the_content_of_every_representation_is_known() -> None:
    kinds = {name: content_of(name).kind for name in representations()}

    assert [name for name, kind in kinds.items() if kind == "other"] == ["surface:hats"]
