"""The activation of CLIP: timm's numbers, half of what timm keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from velora.model.backbone import build_trunk, timm
from velora.model.quick_gelu import QuickGELU

CLIP = "vit_base_patch16_clip_quickgelu_224"
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_are_those_of_timm_to_the_bit_and_gradients_to_rounding(dtype: torch.dtype) -> None:
    x = torch.linspace(-12, 12, 1001).to(dtype)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))

    a, b = QuickGELU()(ours), timm.layers.QuickGELU()(theirs)
    a.sum().backward()
    b.sum().backward()

    assert torch.equal(a, b)
    assert torch.equal(QuickGELU()(x), b)
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(
        ours.grad, theirs.grad, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps
    )


def test_first_and_second_derivatives() -> None:
    x = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(QuickGELU(), (x,))
    assert torch.autograd.gradgradcheck(QuickGELU(), (x,))


def test_the_input_alone_is_kept() -> None:
    kept: list[Tensor] = []
    x = torch.randn(5, requires_grad=True)

    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        QuickGELU()(x)

    assert [t.data_ptr() for t in kept] == [x.data_ptr()]


def test_a_trunk_of_clip_has_it_and_computes_what_timm_does() -> None:
    trunk, _ = build_trunk(CLIP, num_high=1, random_seed=0, img_size=32, backbone_kwargs=SMALL)
    plain = timm.create_model(CLIP, num_classes=0, img_size=32, **SMALL).eval()
    plain.load_state_dict(trunk.vit.state_dict())
    pictures = torch.rand(2, 3, 32, 32)

    assert {type(block.mlp.act) for block in trunk.vit.blocks} == {QuickGELU}
    assert torch.equal(trunk.vit.forward_features(pictures), plain.forward_features(pictures))
