"""Which numbers a run computes with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from velora.settings import TrainSettings


def uses_bf16(device: torch.device, settings: TrainSettings) -> bool:
    """Whether a run computes in bf16: where it was asked for, by itself on CUDA."""
    return settings.precision == "bf16" or (settings.precision == "auto" and device.type == "cuda")


def autocast(device: torch.device, *, bf16: bool) -> torch.autocast:
    """The context of one forward pass.

    Not of more than one update: it keeps bf16 copies of what trains until it is left.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def lower_frozen_weights(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> int:
    """Keep the frozen matrices of a model in ``dtype``; returns the bytes saved.

    Autocast would round them to it in every pass, so results keep every bit. What it leaves in
    float32 - norms, biases, embeddings - stays.
    """
    saved = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear | nn.Conv2d) or not isinstance(weight, nn.Parameter):
            continue
        if not weight.requires_grad and weight.dtype == torch.float32:
            weight.data = weight.data.to(dtype)
            saved += weight.numel() * 2
    return saved


def multiplies_bf16() -> bool:
    """Whether this processor has instructions for matrices in bf16 (AVX-512 BF16 or AMX)."""
    # Not every torch can be asked.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def plain_attention_(model: nn.Module) -> None:
    """Let timm's attention multiply by itself where PyTorch's fused kernel is the slow way.

    On a CPU in bf16 the backward pass of the fused kernel takes 2.5 to 4 times as long: 41 ms
    where plain products take 16 (112 x 6 heads, 26 tokens; AMD EPYC, AVX-512 BF16).
    """
    for module in model.modules():
        if isinstance(getattr(module, "fused_attn", None), bool):
            module.fused_attn = False


def prepare_(model: nn.Module, device: torch.device, *, bf16: bool) -> None:
    """Make a model ready for `autocast`, alike wherever it computes: numbers repeat to the bit."""
    if not bf16:
        return
    lower_frozen_weights(model)
    if device.type == "cpu":
        plain_attention_(model)


@contextmanager
def deterministic(*, wanted: bool) -> Iterator[None]:
    """Let torch use only algorithms that give the same bits every time; an error where it has none.

    On a CPU they do so anyway, for a given number of threads.
    """
    if not wanted:
        yield
        return
    # cuBLAS looks at this when it starts; see the notes of torch.use_deterministic_algorithms.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0])
        torch.backends.cudnn.benchmark = before[1]
