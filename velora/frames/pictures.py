"""RGB pictures on the device, and the size of all pictures.

All pictures are float in [0, 1] and are brought to the trunk's size *before* any difference is
taken, so that two senses of different size can meet. `velora.inputs` paints those of events.

U pictures, C channels, H, W
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def rgb_pictures(images: Tensor) -> Tensor:
    """Bring (U, H, W, C) uint8 images to (U, 3, H, W) float32 in [0, 1]; gray is repeated."""
    pictures = images.permute(0, 3, 1, 2).float() / 255
    return pictures.expand(-1, 3, -1, -1)


def resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (U, 3, H, W) pictures to ``size`` = (H, W), bilinear with antialiasing."""
    if pictures.shape[-2:] == size:
        return pictures
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True)
