"""Let timm import where the only torchvision is one built for another torch.

Problem: PyPI has no CPU torchvision. Next to a CPU torch the CUDA wheel's extension does not load,
and ``import torchvision`` stops with ``RuntimeError: operator torchvision::nms does not exist``
because it registers fake kernels for operators that nobody has declared (pytorch issue 122494).
timm imports torchvision, so timm fails too.
Choice: on exactly that error, forget the half-imported modules, declare the two missing schemas
and import again. Nothing is overridden where the extension loads. Cost: one failed import.
Rejected: pinning a CPU index (users choose their own torch), a stub ``torchvision`` module.

Call :func:`ensure_torchvision` before importing timm.
"""

from __future__ import annotations

import importlib
import sys

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def ensure_torchvision() -> None:
    """Import torchvision, declaring its two schemas first if its extension does not load.

    Does nothing where torchvision is absent: timm then says so itself.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        importlib.import_module("torchvision")
        # A Library takes its declarations back when it is collected, so it must live as long
        # as the module that needs it.
        sys.modules["torchvision"].__dict__["_velora_schemas"] = library
