"""Grouped LoRA is independent plain LoRAs in one pass, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from eventkit.errors import SettingsError
from velora.model.lora import Adapter, GroupedLoRA, RowGroups, add_lora


class PlainLoRA(nn.Module):
    """The textbook layer, written without a look at the grouped one."""

    def __init__(self, base: nn.Linear, a: torch.Tensor, b: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = base.weight.detach(), base.bias.detach(), scale
        self.a, self.b = nn.Parameter(a.clone()), nn.Parameter(b.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T + self.bias + self.scale * (x @ self.a.T) @ self.b.T


def feed_forward() -> nn.Module:
    block = nn.Module()
    block.mlp = nn.Module()
    block.mlp.fc1, block.mlp.fc2 = nn.Linear(6, 10), nn.Linear(10, 6)
    return block.double()


def run(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(x)))


@pytest.mark.parametrize("sizes", [(4, 3, 2), (0, 5, 1), (3, 0, 0)])
def test_values_and_gradients_equal_those_of_independent_plain_copies(
    sizes: tuple[int, int, int],
) -> None:
    torch.manual_seed(0)
    block, groups = feed_forward(), RowGroups()
    plain = [copy.deepcopy(block) for _ in sizes]
    layers = add_lora(
        [block], targets=("fc1", "fc2"), num_groups=3, adapter=Adapter(2, 5.0), groups=groups
    )
    for layer in layers:
        nn.init.normal_(layer.lora_b)
    for group, one in enumerate(plain):
        for name, layer in zip(("fc1", "fc2"), layers, strict=True):
            own = PlainLoRA(layer.base, layer.lora_a[group], layer.lora_b[group], 2.5)
            setattr(one.mlp, name, own)
    x = torch.randn(sum(sizes), 7, 6, dtype=torch.float64, requires_grad=True)
    x_plain = x.detach().clone().requires_grad_()

    with groups(sizes, like=x):
        y = run(block, x)
    parts = zip(plain, x_plain.split(sizes), strict=True)
    expected = torch.cat([run(one, part) for one, part in parts])
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()

    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(x.grad, x_plain.grad, rtol=0, atol=1e-10)
    for name, layer in zip(("fc1", "fc2"), layers, strict=True):
        for group, one in enumerate(plain):
            for mine, its in ((layer.lora_a, "a"), (layer.lora_b, "b")):
                grad = getattr(getattr(one.mlp, name), its).grad
                grad = torch.zeros_like(mine[group]) if grad is None else grad
                torch.testing.assert_close(mine.grad[group], grad, rtol=0, atol=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    groups = RowGroups()
    layer = GroupedLoRA(
        nn.Linear(3, 4).double(), num_groups=2, adapter=Adapter(2, 2.0), groups=groups
    )
    a, b = torch.randn(2, 2, 3).double(), torch.randn(2, 4, 2).double()
    x = torch.randn(3, 2, 3).double()

    def forward(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        with groups((1, 2), like=x):
            return torch.func.functional_call(layer, {"lora_a": a, "lora_b": b}, (x,))

    assert torch.autograd.gradcheck(forward, [t.requires_grad_() for t in (x, a, b)])


def test_a_new_layer_computes_exactly_what_its_base_computes() -> None:
    base, groups = nn.Linear(5, 4), RowGroups()
    layer = GroupedLoRA(base, num_groups=3, adapter=Adapter(2, 4.0), groups=groups)
    x = torch.randn(6, 5)

    with groups((2, 2, 2), like=x):
        y = layer(x)

    assert torch.equal(y, base(x))
    assert bool((layer.lora_a != 0).all())
    assert not base.weight.requires_grad


def test_dropout_acts_in_training_only() -> None:
    layer = GroupedLoRA(nn.Linear(50, 4), num_groups=1, adapter=Adapter(2, 4.0, 0.5))
    nn.init.normal_(layer.lora_b)
    x = torch.randn(6, 50)

    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_a_target_that_no_block_has_is_an_error_that_lists_the_layers() -> None:
    with pytest.raises(SettingsError, match=r"'fc3' names no linear layer.*fc1, fc2"):
        add_lora([feed_forward()], targets=("fc1", "fc3"), num_groups=1, adapter=Adapter(2, 4.0))


def test_rows_that_do_not_fit_the_groups_are_an_error() -> None:
    groups = RowGroups()
    layer = GroupedLoRA(nn.Linear(5, 4), num_groups=2, adapter=Adapter(2, 4.0), groups=groups)
    x = torch.randn(3, 5)

    with pytest.raises(RuntimeError, match="do not fit 3 rows"):
        layer(x)
    with groups((1, 1), like=x), pytest.raises(RuntimeError, match="do not fit 3 rows"):
        layer(x)
