"""Checkpoints of the release: read strictly, and written under the same names."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eventkit.errors import FormatError, MissingDataError
from velora.compat.keys import (
    HEAD,
    OTHERS,
    TOWERS,
    Place,
    head_places,
    text_shapes,
    tower_places,
)
from velora.compat.model import CompatVELoRA

StateDicts = Mapping[str, Mapping[str, Tensor]]

# What DistributedDataParallel puts before the names of the head.
_WRAPPED = "module."


def read_release(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint file of the release; nothing in it is executed.

    Raises
    ------
    MissingDataError
        If there is no such file.
    FormatError
        If it is no checkpoint of torch, or holds more than tensors and numbers.
    """
    if not Path(path).is_file():
        msg = f"no checkpoint {path}; give the release's checkpoint_N.pth or best_checkpoint.pth"
        raise MissingDataError(msg)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        msg = f"expected a checkpoint that torch.load reads with weights_only, got: {error}"
        raise FormatError(msg, path=path) from error
    if not isinstance(checkpoint, dict):
        msg = f"expected a dict of state dicts, got {type(checkpoint).__name__}"
        raise FormatError(msg, path=path)
    return checkpoint


@torch.no_grad()
def load_release(model: CompatVELoRA, checkpoint: Mapping[str, Any], *, where: str) -> list[str]:
    """Put a checkpoint of the release into a model, strictly; change nothing unless all of it fits.

    Parameters
    ----------
    model : CompatVELoRA
    checkpoint : mapping
        The four state dicts of the release by its names for them; ``optimizer_state_dict`` and
        ``epoch`` may lie beside them.
    where : str
        Names the checkpoint in messages.

    Returns
    -------
    list of str
        What was left out because the model computes without it: the frozen text towers, the
        optimiser's state, the epoch. Nothing else ever is.

    Raises
    ------
    FormatError
        Lists every name that is missing, unexpected or of another shape, and every frozen tensor in
        which the three towers differ.
    """
    tensors = _own_tensors(model)
    text = text_shapes(space=model.towers.projection.shape[1])
    parts = {part: _unwrapped(checkpoint.get(part, {})) for part in (HEAD, *TOWERS)}
    problems = _Problems()
    problems.unexpected += [n for n in checkpoint if n not in (HEAD, *TOWERS, *OTHERS)]
    left_out = [name for name in OTHERS if name in checkpoint]
    for part, places in _all_places(model).items():
        wanted = {name: tuple(p.of(tensors).shape) for name, p in places.items()}
        # A file written here has no frozen text tower; one with a part of it is damaged.
        if part != HEAD and not parts[part].keys().isdisjoint(text):
            wanted |= text
            left_out += [f"{part}: {name}" for name in text]
        problems.compare(part, parts[part], wanted)
    if not problems:
        problems.towers_differ += _differing(model, parts)
    problems.raise_if_any(where)
    for part, places in _all_places(model).items():
        for name, place in places.items():
            place.of(tensors).copy_(parts[part][name])
    return left_out


def release_state(model: CompatVELoRA) -> dict[str, dict[str, Tensor]]:
    """Return all tensors of a model as the release's four state dicts; copies on the CPU.

    The frozen text towers are not among them: the model does not hold them.
    """
    tensors = _own_tensors(model)
    return {
        part: {name: place.of(tensors).cpu().clone() for name, place in places.items()}
        for part, places in _all_places(model).items()
    }


def _own_tensors(model: CompatVELoRA) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _all_places(model: CompatVELoRA) -> dict[str, dict[str, Place]]:
    towers = {part: tower_places(model, group) for group, part in enumerate(TOWERS)}
    return {HEAD: head_places(model), **towers}


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if state and all(name.startswith(_WRAPPED) for name in state):
        return {name.removeprefix(_WRAPPED): tensor for name, tensor in state.items()}
    return dict(state)


def _differing(model: CompatVELoRA, parts: StateDicts) -> list[str]:
    """The tensors that the towers share here and that are not equal there."""
    own = [tower_places(model, group) for group in range(len(TOWERS))]
    shared = [name for name, place in own[0].items() if place == own[1][name]]
    first, *others = (parts[part] for part in TOWERS)
    return [n for n in shared if not all(torch.equal(first[n], o[n]) for o in others)]


class _Problems:
    """Everything that does not fit, to be said at once."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.other_shape: list[str] = []
        self.towers_differ: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.other_shape or self.towers_differ)

    def compare(
        self, part: str, got: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Note the names of one state dict that are missing, unexpected or of another shape."""
        self.missing += [f"{part}: {name}" for name in wanted if name not in got]
        self.unexpected += [f"{part}: {name}" for name in got if name not in wanted]
        self.other_shape += [
            f"{part}: {name} {tuple(got[name].shape)} instead of {shape}"
            for name, shape in wanted.items()
            if name in got and tuple(got[name].shape) != shape
        ]

    def raise_if_any(self, where: str) -> None:
        """Raise one error that lists them all."""
        if not self:
            return
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.other_shape,
            "not equal in the three towers (were they fully tuned?)": self.towers_differ,
        }
        found = "; ".join(f"{len(n)} {kind}: {_lines(n)}" for kind, n in kinds.items() if n)
        msg = (
            f"expected a checkpoint of the release for this model, got {found}; build the model "
            "with the classes, rank, picture size and compat settings it was trained with"
        )
        raise FormatError(msg, path=where)


def _lines(names: Iterable[str]) -> str:
    return ", ".join(names)
