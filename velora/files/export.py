"""A trained model as files that need nothing of this package, each checked before it is kept.

    safetensors   the merged weights, by their names in timm; see `DenseVELoRA.named_tensors`
    onnx, torch   the merged model as a graph with any number of clips: pictures to logits
    peft          the adapters as PEFT loads them, and head.safetensors with what else trains

B clips, T frames, H, W
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save as save_tensors
from safetensors.torch import save_file
from torch import Tensor

from eventkit._optional import check_installed
from eventkit.atomic import make_folder, scratch
from eventkit.errors import DamageError
from velora.files.adapters import adapter_files, other_tensors, write_files
from velora.files.kept_files import Kept, keep
from velora.files.merge import DenseVELoRA
from velora.frames.frames import Frames
from velora.model.classifier import Classifier

Format = Literal["safetensors", "onnx", "torch", "peft"]
FORMATS: tuple[str, ...] = get_args(Format)

#: Of ONNX; the first one with GELU, read by onnxruntime from 1.17 on.
OPSET = 20
#: Largest difference of logits, in parts of the largest logit. Rounding alone gives some 1e-6.
TOLERANCE = 1e-4

_HEAD_FILE = "head.safetensors"
_DESCRIPTION_FILE = "velora.json"
# One protobuf message holds less than 2 GiB; beyond that weights lie in a file beside it.
_MOST_IN_ONE_FILE = 2**31 - 2**27

Run = Callable[[tuple[Tensor, ...]], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written.

    ``difference`` is the largest between the logits of the file and those of the model with
    adapters, ``tolerance`` what was allowed; None where there are no logits to compare.
    """

    files: Kept
    inputs: tuple[str, ...] = ()
    difference: float | None = None
    tolerance: float | None = None


def export(
    model: Classifier,
    out: Path,
    *,
    to: Format,
    frames: int,
    description: dict[str, Any],
    stored_differences: bool = False,
) -> Exported:
    """Write a model; a file that is there already must be the same.

    Parameters
    ----------
    model : Classifier
        In evaluation mode, on the CPU, float32.
    out : Path
        A file, or for ``peft`` a folder.
    frames : int
        T of the clips that the graph takes.
    description : dict
        Kept with the file as JSON; ``trunk``, or else ``backbone``, is what adapters say they
        belong to.
    stored_differences : bool
        The model was trained on stored difference pictures, which become a third input.

    Raises
    ------
    SettingsError
        If the model cannot be held by the format, or ``out`` is something else already.
    DamageError
        If what was written computes something else; nothing is kept then.
    """
    make_folder(out.parent)
    with scratch(out) as folder:
        if to == "peft":
            write_files(folder / out.name, _peft_files(model, description))
            return Exported(files=keep(folder, out))
        dense = DenseVELoRA(model, frames=frames, stored_differences=stored_differences)
        facts = {**description, "inputs": list(dense.inputs), "frames": frames}
        run = _WRITERS[to](dense, folder / out.name, json.dumps(facts, sort_keys=True))
        difference, tolerance = _compare(run, dense, model, out)
        return Exported(
            files=keep(folder, out),
            inputs=dense.inputs,
            difference=difference,
            tolerance=tolerance,
        )


def _peft_files(model: Classifier, description: dict[str, Any]) -> dict[str, bytes]:
    tensors = {name: t.cpu().contiguous() for name, t in other_tensors(model).items()}
    if model.keep_tokens < 1:
        description = {**description, "keep_tokens": model.keep_tokens}
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    return {
        **adapter_files(model, backbone=description.get("trunk", description["backbone"])),
        _HEAD_FILE: save_tensors(tensors, metadata={"format": "pt"}),
        _DESCRIPTION_FILE: text.encode(),
    }


def _write_safetensors(dense: DenseVELoRA, path: Path, facts: str) -> Run:
    # What streams share is written for each: one file a stream would need the others otherwise.
    tensors = {name: t.clone() for name, t in dense.named_tensors().items()}
    save_file(tensors, path, metadata={"velora": facts})  # two keys would have no fixed order
    return lambda pictures: dense(*pictures)


def _write_torch(dense: DenseVELoRA, path: Path, facts: str) -> Run:
    with _quiet():
        program = torch.export.export(
            dense, _pictures(dense, clips=2), dynamic_shapes=_dynamic(dense), strict=False
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # has the paths of this machine
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={_DESCRIPTION_FILE: facts})
        with path.open("rb") as file:
            loaded = torch.export.load(file).module()
    return lambda pictures: loaded(*pictures)


def _write_onnx(dense: DenseVELoRA, path: Path, facts: str) -> Run:
    check_installed(("onnx", "onnxscript", "onnxruntime"), extra="onnx", purpose="ONNX export")
    import onnxruntime

    with _quiet():
        program = torch.onnx.export(
            dense,
            _pictures(dense, clips=2),
            input_names=list(dense.inputs),
            output_names=["logits"],
            dynamic_shapes=_dynamic(dense),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["velora"] = facts
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # has the paths of this machine
    num_bytes = sum(tensor.nbytes for tensor in dense.state_dict().values())
    program.save(path, external_data=num_bytes > _MOST_IN_ONE_FILE)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(pictures: tuple[Tensor, ...]) -> Tensor:
        given = {n: p.numpy() for n, p in zip(dense.inputs, pictures, strict=True)}
        return torch.from_numpy(session.run(["logits"], given)[0])

    return run


_WRITERS: dict[str, Callable[[DenseVELoRA, Path, str], Run]] = {
    "safetensors": _write_safetensors,
    "onnx": _write_onnx,
    "torch": _write_torch,
}


def _dynamic(dense: DenseVELoRA) -> tuple[tuple[dict[int, Any], ...]]:
    batch = torch.export.Dim("batch", min=1)
    return (tuple({0: batch} for _ in dense.inputs),)


def _pictures(dense: DenseVELoRA, *, clips: int) -> tuple[Tensor, ...]:
    """Noise for every input, the same each time."""
    generator = torch.Generator().manual_seed(clips)
    return tuple(
        torch.rand(clips, t, 3, *dense.image_size_hw, generator=generator)
        for t in (dense.frames - (name == "diff") for name in dense.inputs)
    )


@torch.no_grad()
def _compare(run: Run, dense: DenseVELoRA, model: Classifier, out: Path) -> tuple[float, float]:
    """Return the largest difference from the model with adapters, and what is allowed.

    Other numbers of clips than the graph was made with, so that it is seen to take any.
    """
    difference = largest = 0.0
    for clips in (1, 3):
        pictures = _pictures(dense, clips=clips)
        frames = {n: _all_distinct(p) for n, p in zip(dense.inputs, pictures, strict=True)}
        expected = model(frames).logits
        difference = max(difference, float((run(pictures) - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    tolerance = TOLERANCE * max(1.0, largest)
    if not difference <= tolerance:
        msg = (
            f"the logits of {out.name} differ by {difference:.1e} from those of the run, and "
            f"{tolerance:.1e} is rounding; nothing was written"
        )
        raise DamageError(msg)
    return difference, tolerance


def _all_distinct(pictures: Tensor) -> Frames:
    clips, frames = pictures.shape[:2]
    return Frames(pictures.flatten(0, 1), torch.arange(clips * frames).view(clips, frames))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what the exporters say of their own insides."""
    chatty = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in chatty]
    for logger in chatty:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(chatty, levels, strict=True):
            logger.setLevel(level)
