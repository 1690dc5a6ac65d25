"""VELoRA: RGB-Event recognition with low-rank adaptation of one frozen ViT.

The method of arXiv 2412.20064 (Event-AHU/VELoRA), written anew. Not the reinforcement-learning
package ``velora`` of PyPI: this one is distributed as ``velora-eventkit``.

>>> import velora
>>> model = velora.load("runs/default-0123456789")    # doctest: +SKIP
>>> predictions = list(model.predict_recording("walk.aedat4"))    # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from velora.inference.predictor import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # torch and timm take seconds to import; the commands say --help without them.
    if name != "load":
        msg = f"module 'velora' has no attribute {name!r}"
        raise AttributeError(msg)
    from velora.inference.predictor import load

    return load
