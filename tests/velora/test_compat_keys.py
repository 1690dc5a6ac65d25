"""The names of the release: as PEFT writes them, complete, and strict.

The authors' own file cannot be had. The checkpoints here are made under its names: those of the
towers by PEFT itself on modules named as CLIP names them, those of the head from its source.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from compat_names import DEPTH, HEAD_SHAPES, SPACE, WIDTH, Clip
from compat_twin import HEAD, Twin
from test_compat_model import ALPHA, CLASSES, RANK, as_frames, pictures, tiny_settings
from torch import Tensor

from eventkit.errors import EventKitError, FormatError, MissingDataError
from velora.compat import CompatVELoRA, build_compat, load_release, read_release, release_state
from velora.compat.keys import TOWERS, head_places, text_shapes, tower_places

TEXT_LORA = "base_model.model.transformer.resblocks.0.mlp.c_fc.lora_A.default.weight"
VISUAL_LORA = "base_model.model.visual.transformer.resblocks.0.mlp.c_fc.lora_A.default.weight"
CONV = "base_model.model.visual.conv1.weight"


@pytest.fixture(scope="module")
def tower_shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of an adapted CLIP, as PEFT gives them."""
    from peft import LoraConfig, get_peft_model  # after velora, which mends torchvision

    config = LoraConfig(
        r=RANK,
        lora_alpha=int(ALPHA),
        target_modules=["c_fc", "c_proj"],
        lora_dropout=0.01,
        task_type="TOKEN_CLS",
        bias="none",
    )
    with torch.device("meta"):
        adapted = get_peft_model(Clip(), config)
    return {name: tuple(t.shape) for name, t in adapted.state_dict().items()}


def make_model(**compat: object) -> CompatVELoRA:
    settings = tiny_settings(**({"text_towers": True} | compat))
    return build_compat(settings, num_classes=CLASSES)[0].eval()


def make_checkpoint(tower_shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """A checkpoint as the release saves one: towers with equal frozen tensors, their own LoRA."""
    generator = torch.Generator().manual_seed(5)

    def draw(shape: tuple[int, ...]) -> Tensor:
        if math.prod(shape) > 250_000:  # of a text tower: one number for all
            return torch.zeros(()).expand(shape)
        return torch.randn(shape, generator=generator) * 0.1

    frozen = {name: draw(s) for name, s in tower_shapes.items() if ".lora_" not in name}
    towers = {
        part: {n: draw(s) if ".lora_" in n else frozen[n] for n, s in tower_shapes.items()}
        for part in TOWERS
    }
    return {
        HEAD: {f"module.{name}": draw(shape) for name, shape in HEAD_SHAPES.items()},
        **towers,
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "epoch": 22,
    }


@pytest.fixture
def checkpoint(tower_shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return make_checkpoint(tower_shapes)


def test_the_names_and_shapes_of_a_tower_are_those_that_peft_gives(tower_shapes) -> None:
    model = make_model()
    state = model.state_dict()

    for group in range(3):
        places = tower_places(model, group)
        own = {name: tuple(place.of(state).shape) for name, place in places.items()}
        assert own | text_shapes(space=SPACE) == tower_shapes
        assert own.keys().isdisjoint(text_shapes(space=SPACE))


def test_the_names_and_shapes_of_the_head_are_those_of_the_release() -> None:
    model = make_model()
    state = model.state_dict()

    own = {name: tuple(place.of(state).shape) for name, place in head_places(model).items()}

    assert own == HEAD_SHAPES


def test_every_tensor_of_the_model_has_its_place() -> None:
    model = make_model()
    tables = [head_places(model), *(tower_places(model, group) for group in range(3))]

    named = {place.name for table in tables for place in table.values()}
    numbers = sum(p.of(model.state_dict()).numel() for t in tables for p in t.values())
    shared = sum(t.numel() for n, t in model.towers.state_dict().items() if ".lora_" not in n)

    assert named == set(model.state_dict())
    assert numbers == sum(t.numel() for t in model.state_dict().values()) + 2 * shared


def test_a_checkpoint_file_loads_and_computes_what_its_tensors_say(
    checkpoint: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "best_checkpoint.pth"
    torch.save(checkpoint, path)
    model = make_model()
    rgb, event = pictures()

    left_out = load_release(model, read_release(path), where=str(path))
    logits = model.double()(as_frames(rgb, event)).logits

    text = [f"{part}: {name}" for part in TOWERS for name in text_shapes(space=SPACE)]
    assert sorted(left_out) == sorted([*text, "optimizer_state_dict", "epoch"])
    plain = {
        part: {n: t.double() for n, t in checkpoint[part].items() if ".visual." in n}
        for part in TOWERS
    }
    plain[HEAD] = {n.removeprefix("module."): t.double() for n, t in checkpoint[HEAD].items()}
    twin = Twin(plain, 3, DEPTH, ALPHA / RANK, attention="batch", readout="last10")
    assert torch.allclose(logits, twin(rgb, event)[0], rtol=0, atol=1e-10)


def test_what_was_loaded_is_written_back_bit_by_bit(checkpoint: dict[str, Any]) -> None:
    model = make_model()
    load_release(model, checkpoint, where="here")

    written = release_state(model)

    assert list(written) == [HEAD, *TOWERS]
    text = text_shapes(space=SPACE)
    for part in TOWERS:
        assert written[part].keys() == checkpoint[part].keys() - text.keys()
        assert all(torch.equal(t, checkpoint[part][n]) for n, t in written[part].items())
    assert written[HEAD].keys() == HEAD_SHAPES.keys()
    for name, tensor in written[HEAD].items():
        assert torch.allclose(
            tensor.float(), checkpoint[HEAD][f"module.{name}"].to(tensor.dtype).float()
        )


def test_what_was_written_loads_into_another_model(checkpoint: dict[str, Any]) -> None:
    first, second = make_model(), make_model()
    load_release(first, checkpoint, where="here")

    left_out = load_release(second, release_state(first), where="there")

    assert left_out == []
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_everything_that_does_not_fit_is_named_in_one_error_and_nothing_changes(
    checkpoint: dict[str, Any],
) -> None:
    model = make_model()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    del checkpoint[HEAD]["module.fc1.bias"]
    del checkpoint[TOWERS[0]][VISUAL_LORA]
    checkpoint[TOWERS[1]]["base_model.model.visual.extra"] = torch.zeros(2)
    checkpoint[TOWERS[2]][TEXT_LORA] = torch.zeros(8, 512)
    checkpoint[HEAD]["module.rgb_embed"] = torch.zeros(1, WIDTH)
    checkpoint["scheduler"] = {}

    with pytest.raises(FormatError) as caught:
        load_release(model, checkpoint, where="release.pth")

    said = str(caught.value)
    for words in (
        "release.pth: expected a checkpoint of the release",
        f"2 missing: {HEAD}: fc1.bias, {TOWERS[0]}: {VISUAL_LORA};",
        f"2 unexpected: scheduler, {TOWERS[1]}: base_model.model.visual.extra;",
        f"2 of another shape: {HEAD}: rgb_embed (1, 24) instead of (1, 1, 24),",
        f"{TOWERS[2]}: {TEXT_LORA} (8, 512) instead of (2, 512);",
    ):
        assert words in said
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_a_frozen_text_tower_is_there_as_a_whole_or_not_at_all(checkpoint: dict[str, Any]) -> None:
    del checkpoint[TOWERS[1]]["base_model.model.token_embedding.weight"]
    checkpoint[TOWERS[2]]["base_model.model.logit_scale"] = torch.zeros(1)

    with pytest.raises(FormatError) as caught:
        load_release(make_model(), checkpoint, where="release.pth")

    assert f"1 missing: {TOWERS[1]}: base_model.model.token_embedding.weight;" in str(caught.value)
    assert "logit_scale (1,) instead of ()" in str(caught.value)


def test_towers_whose_frozen_tensors_differ_are_refused(checkpoint: dict[str, Any]) -> None:
    checkpoint[TOWERS[2]][CONV] = checkpoint[TOWERS[2]][CONV] + 1
    model = make_model()
    before = release_state(model)

    with pytest.raises(FormatError, match=f"1 not equal in the three towers .*: {CONV};"):
        load_release(model, checkpoint, where="release.pth")

    assert torch.equal(before[HEAD]["fc1.weight"], release_state(model)[HEAD]["fc1.weight"])


@pytest.mark.parametrize(
    ("compat", "said"),
    [
        ({"readout": "all"}, r"1 of another shape: .* fc1.weight \(5, 240\) instead of \(5, 48\)"),
        ({"text_towers": False}, f"144 unexpected: {TOWERS[0]}: {TEXT_LORA}"),
    ],
)
def test_a_model_with_mended_faults_says_what_does_not_fit(
    checkpoint: dict[str, Any], compat: dict[str, object], said: str
) -> None:
    with pytest.raises(FormatError, match=said):
        load_release(make_model(**compat), checkpoint, where="release.pth")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    garbage, other = tmp_path / "garbage.pth", tmp_path / "other.pth"
    garbage.write_bytes(b"no zip at all")
    torch.save(torch.zeros(3), other)

    with pytest.raises(MissingDataError, match=r"no checkpoint .*none.pth"):
        read_release(tmp_path / "none.pth")
    with pytest.raises(FormatError, match=r"garbage.pth: expected a checkpoint"):
        read_release(garbage)
    with pytest.raises(FormatError, match=r"other.pth: expected a dict of state dicts, got Tensor"):
        read_release(other)
    with pytest.raises(EventKitError, match="missing"):
        load_release(make_model(), {}, where="empty")
