"""The released computation beside a slow twin of it, switch by switch."""

from __future__ import annotations

import itertools

import pytest
import torch
from compat_twin import HEAD, Twin
from torch import Tensor
from torch.nn import functional as F

from eventkit.errors import EventKitError
from velora.compat import CompatVELoRA, build_compat, release_state
from velora.compat.keys import TOWERS, head_places, tower_places
from velora.config import parse_settings
from velora.frames.frames import Frames
from velora.settings import Settings
from velora.training.losses import loss_terms

TINY_CLIP = {
    "mode": "compat",
    "backbone": "vit_base_patch16_clip_224.openai",
    "random_trunk": True,
    "img_size": 32,
    "backbone_kwargs": {"patch_size": 8, "depth": 3, "embed_dim": 24, "num_heads": 3},
}
CLASSES, RANK, ALPHA = 5, 2, 6.0


def tiny_settings(*, dropout: float = 0.0, model: object = None, **compat: object) -> Settings:
    tree = {
        "model": TINY_CLIP | dict(model or {}),
        "lora": {"rank": RANK, "alpha": ALPHA, "dropout": dropout},
        "compat": {"text_towers": False} | compat,
    }
    return parse_settings(tree, where="test")


def tiny_model(*, dropout: float = 0.0, **compat: object) -> CompatVELoRA:
    """A model in float64 whose every tensor is random, so that nothing hides behind a zero."""
    model, _ = build_compat(tiny_settings(dropout=dropout, **compat), num_classes=CLASSES)
    model = model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise, alpha=0.1)
    return model


def pictures(*, clips: int = 3, frames: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, clips, frames, 3, 32, 32)
    rgb, event = torch.rand(shape, generator=generator, dtype=torch.float64)
    rgb[0] = rgb[0, :1]  # a clip of one picture, which the loader sends once
    return rgb, event


def as_frames(rgb: Tensor, event: Tensor) -> dict[str, Frames]:
    clips, frames = rgb.shape[:2]
    index = torch.arange(clips * frames).view(clips, frames)
    rgb_index = index.clone()
    rgb_index[0] = 0
    return {
        "rgb": Frames(rgb.flatten(0, 1), rgb_index),
        "event": Frames(event.flatten(0, 1), index),
    }


def twin_of(model: CompatVELoRA, *, learns: bool = False) -> Twin:
    checkpoint = release_state(model)
    if learns:
        for state in checkpoint.values():
            for tensor in state.values():
                tensor.requires_grad_(tensor.is_floating_point())
    return Twin(
        checkpoint,
        num_heads=3,
        depth=3,
        scale=ALPHA / RANK,
        attention=model.compat.attention,
        readout=model.compat.readout,
    )


SWITCHES = list(itertools.product(["batch", "tokens"], ["last10", "all"]))


@pytest.mark.parametrize(("attention", "readout"), SWITCHES)
def test_logits_loss_and_gradients_are_those_of_the_slow_twin(attention: str, readout: str) -> None:
    model = tiny_model(attention=attention, readout=readout).train()
    twin = twin_of(model, learns=True)
    rgb, event = pictures()
    labels = torch.tensor([4, 0, 2])

    output = model(as_frames(rgb, event))
    loss = F.cross_entropy(output.logits, labels) + 0.7 * output.rec_loss
    loss.backward()
    log_probabilities, rec_loss = twin(rgb, event)
    expected = -log_probabilities[range(3), labels].mean() + 0.7 * rec_loss
    expected.backward()

    assert output.rec_clips == 3
    assert torch.allclose(output.logits, log_probabilities, rtol=0, atol=1e-10)
    assert abs(output.rec_loss.item() - rec_loss.item()) < 1e-10
    assert abs(loss.item() - expected.item()) < 1e-10
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    compared = 0
    for part, places in places_of(model).items():
        for name, place in places.items():
            theirs = twin.checkpoint[part][name].grad
            if place.name not in gradients:
                assert theirs is None or not own_of(model, place.name).requires_grad
                continue
            assert theirs is not None, name
            assert torch.allclose(place.of(gradients), theirs, rtol=1e-10, atol=1e-10), name
            compared += 1
    # 3 towers x 3 blocks x 2 layers x 2 matrices, and the 3 + 2 + 2 + 2 + 6 + 2 * 12 of the head
    assert compared == 36 + 39


def places_of(model: CompatVELoRA):
    return {HEAD: head_places(model)} | {p: tower_places(model, g) for g, p in enumerate(TOWERS)}


def own_of(model: CompatVELoRA, name: str) -> Tensor:
    return dict(model.named_parameters()).get(name, model.state_dict()[name])


def test_evaluation_gives_the_twins_logits_and_no_loss() -> None:
    model = tiny_model().eval()
    rgb, event = pictures()

    output = model(as_frames(rgb, event))

    assert output.rec_loss is None
    assert torch.allclose(output.logits, twin_of(model)(rgb, event)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("readout", ["last10", "all"])
def test_a_clip_depends_on_its_batch_mates_as_released_and_only_then(readout: str) -> None:
    rgb, event = pictures()
    others = pictures(seed=7)
    swapped = [
        torch.cat([own[:1], other[1:]]) for own, other in zip((rgb, event), others, strict=True)
    ]
    shift = {}
    for attention in ("batch", "tokens"):
        model = tiny_model(attention=attention, readout=readout).eval()
        before, after = (model(as_frames(*p)).logits[0] for p in ((rgb, event), swapped))
        alone = model(as_frames(rgb[:1], event[:1])).logits[0]
        shift[attention] = [(before - other).abs().max().item() for other in (after, alone)]

    assert min(shift["batch"]) > 1e-4
    assert max(shift["tokens"]) < 1e-10


def test_eight_frames_go_through_the_trunk_as_23_images_in_one_pass() -> None:
    model = tiny_model().eval()
    seen: list[int] = []
    model.towers.trunk.vit.patch_embed.register_forward_pre_hook(
        lambda _, inputs: seen.append(len(inputs[0]))
    )

    model(as_frames(*(side[1:2] for side in pictures(frames=8))))

    assert seen == [16 + 7]


def test_recomputing_activations_changes_nothing() -> None:
    rgb, event = pictures()
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(dropout=0.3).train()
        model.checkpointing = checkpointing
        torch.manual_seed(3)
        loss_terms(model(as_frames(rgb, event)), torch.tensor([1, 2, 3]), rec_weight=1).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])

    for kept, again in zip(*gradients, strict=True):
        assert torch.allclose(kept, again, rtol=0, atol=1e-12)


def test_stored_differences_count_like_those_made_here() -> None:
    model = tiny_model().eval()
    rgb, event = pictures()
    frames = as_frames(rgb, event)
    moved = (rgb[:, 1:] - rgb[:, :-1]).abs() / 2 + (event[:, 1:] - event[:, :-1]).abs() / 2
    stored = Frames(moved.flatten(0, 1), torch.arange(6).view(3, 2))

    made = model(frames).logits
    read = model(frames | {"diff": stored}).logits

    assert torch.allclose(made, read, rtol=0, atol=1e-10)


def test_dropout_acts_in_training_only_and_also_in_the_side_branch() -> None:
    model = tiny_model(dropout=0.5)
    frames = as_frames(*pictures())
    u = torch.randn(2, 3, 17, 24, dtype=torch.float64)

    trained = [model.train()(frames).logits for _ in range(2)]
    branch = [model.towers.side_branch(u) for _ in range(2)]
    still = [model.eval()(frames).logits for _ in range(2)]

    assert not torch.equal(*trained)
    assert not torch.equal(*branch)
    assert torch.equal(*still)


def test_under_autocast_probabilities_are_float32_and_near_those_of_full_precision() -> None:
    model = tiny_model().float().eval()
    frames = as_frames(*(side.float() for side in pictures()))

    exact = model(frames).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(frames).logits

    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded.exp(), exact.exp(), rtol=0, atol=0.1)


def test_without_a_weight_the_reconstruction_is_not_computed() -> None:
    model, _ = build_compat(tiny_settings(model={"rec_weight": 0.0}), num_classes=CLASSES)

    output = model.double().train()(as_frames(*pictures()))
    F.nll_loss(output.logits, torch.tensor([0, 1, 2])).backward()

    assert output.rec_loss is None
    assert model.rec.attn.qkv.weight.grad is None


def test_a_clip_without_a_sense_or_a_second_frame_is_refused() -> None:
    model = tiny_model().eval()
    frames = as_frames(*pictures())
    index = frames["event"].index.clone()
    index[1] = -1

    with pytest.raises(EventKitError, match="1 of 3 clips of this batch lack a sense"):
        model(frames | {"event": Frames(frames["event"].images, index)})
    with pytest.raises(EventKitError, match="two frames"):
        model(as_frames(*pictures(frames=1)))
