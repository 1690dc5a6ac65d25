"""Which patches of a clip are kept: those with most events and change, else with most texture."""

from __future__ import annotations

import pytest
import torch
from model_helpers import frames_of
from pruning_helpers import drawn, kept_of
from test_inputs import PAINTED, events, stored

from eventkit import Events
from velora.frames.frames import Frames
from velora.inputs import resolve
from velora.model.pruning import prune


def test_patches_with_most_ink_are_kept_and_of_equal_ones_the_first() -> None:
    signed = drawn({11: 0.3, 2: -0.3, 7: -0.1, 14: 0.2, 1: 0.05}, ground=0.5)
    blank = drawn({}, ground=1.0)
    equal = drawn(dict.fromkeys((15, 3, 9, 12, 4, 8), -0.4), ground=1.0)

    kept = kept_of(event=frames_of([signed, blank, equal], 1))

    assert kept == [[2, 7, 11, 14], [0, 1, 2, 3], [3, 4, 8, 9]]


def test_events_and_changes_count_together() -> None:
    event = torch.cat([drawn({3: -0.6}, ground=1.0), drawn({8: -0.2}, ground=1.0)])
    change = drawn({5: 0.7, 8: 0.3}, ground=0.0)

    kept = kept_of(0.2, event=frames_of([event], 2), diff=frames_of([change], 1))

    assert kept == [[0, 3, 5, 8]]
    assert kept_of(0.125, event=frames_of([event], 2), diff=frames_of([change], 1)) == [[3, 5]]


def test_a_clip_without_events_goes_by_its_changes_and_a_still_one_by_its_texture() -> None:
    rgb = drawn({6: 0.5, 13: 0.2}, ground=0.2)
    still, change = drawn({}, ground=0.0), drawn({9: 0.1, 10: 0.4}, ground=0.0)
    streams = {
        "rgb": frames_of([rgb, rgb], 1),
        "event": frames_of([None, None], 1),
        "diff": frames_of([change, still], 1),
    }

    assert kept_of(0.125, **streams) == [[9, 10], [6, 13]]
    assert kept_of(0.125, rgb=streams["rgb"]) == [[6, 13], [6, 13]]


@pytest.mark.parametrize("spec", PAINTED)
def test_blank_is_the_ground_of_every_input(spec: str) -> None:
    full, frames = stored(spec, events(60))
    chosen = resolve("auto", full)
    pictures = chosen.paint(torch.from_numpy(frames))
    _, nothing = stored(spec, Events.empty())
    blank = chosen.paint(torch.from_numpy(nothing))

    own, empty = (Frames(p, torch.arange(len(p))[None]) for p in (pictures, blank))

    ink = (pictures - chosen.ground).abs().mean(dim=1).sum(dim=0).flatten()
    seen = prune({"event": own}, share=0.3, grid_hw=pictures.shape[-2:]).clips[0]
    order = sorted(range(len(ink)), key=lambda i: (-round(float(ink[i]), 5), i))
    assert seen.tolist() == sorted(order[: len(seen)])
    seen = prune({"event": empty}, share=0.3, grid_hw=pictures.shape[-2:]).clips[0]
    assert seen.tolist() == list(range(len(seen)))
