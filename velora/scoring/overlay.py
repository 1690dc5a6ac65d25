"""Where a model looks: the gradient of a class by the pixels, drawn over the pictures.

The gradient is multiplied by how far a pixel stands out from its picture and averaged over cells of
about a patch. This asks nothing of the trunk but that it can be differentiated, so it holds
for every mode and every backbone; it shows what would change the logit, not why.

    B clips, T frames, U distinct images, H, W
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from velora.frames.frames import Frames
from velora.model.classifier import Classifier

#: Cells along the longer side of a picture.
CELLS = 14


def saliency(
    model: Classifier, frames: Mapping[str, Frames], *, classes: Tensor
) -> dict[str, Tensor]:
    """Return how much each place of each picture moves the logit of a class.

    In the precision of the caller's autocast.

    Parameters
    ----------
    model : Classifier
        Put into evaluation for the time being; its parameters get no gradients.
    frames : mapping sense -> Frames
        Of B clips.
    classes : (B,) int64
        Positions in the logits.

    Returns
    -------
    dict
        Sense -> (U, H, W) float32 on the CPU, not negative, zero where no gradient arrives. Senses
        without pictures are not in it. Only values of one clip can be compared.
    """
    leaves = {
        name: Frames(f.images.detach().clone().requires_grad_(), f.index)
        for name, f in frames.items()
        if name in model.senses
    }
    seen = {name: f.images for name, f in leaves.items() if len(f.images)}
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            logits = model({**frames, **leaves}).logits
            chosen = logits.float().gather(1, classes.to(logits.device)[:, None]).sum()
        if not seen or not chosen.requires_grad:
            return {name: torch.zeros_like(images[:, 0]).cpu() for name, images in seen.items()}
        # Not backward(): that would leave gradients in the parameters.
        gradients = torch.autograd.grad(chosen, list(seen.values()), allow_unused=True)
    finally:
        model.train(was_training)
    return {
        name: _in_cells(_moved(images, gradient))
        for (name, images), gradient in zip(seen.items(), gradients, strict=True)
    }


def _moved(images: Tensor, gradient: Tensor | None) -> Tensor:
    """(U, H, W): |gradient x what stands out|; black pixels of a bright picture count too."""
    if gradient is None:
        return torch.zeros_like(images[:, 0])
    ground = images.mean(dim=(2, 3), keepdim=True)
    return ((images - ground) * gradient).sum(dim=1).abs().detach()


def _in_cells(values: Tensor) -> Tensor:
    """Average (U, H, W) over square cells and bring the cells back to (H, W)."""
    height, width = values.shape[-2:]
    cell = max(1, round(max(height, width) / CELLS))
    # The last cells may be cut off by the border; they average over what there is of them.
    cells = F.avg_pool2d(values[:, None].float(), cell, ceil_mode=True, count_include_pad=False)
    spread = F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=False)
    return spread[:, 0].cpu()
