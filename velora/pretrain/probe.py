"""What a linear classifier makes of frozen features: the probe numbers of a trunk.

Ridge regression on [CLS, mean of patches] after the last norm, beside the same on raw pixels and on
the features of an untrained trunk of the same shape. The weight of the penalty is chosen on a fifth
of the training pictures, so nothing looks at the test pictures.

    N pictures, D features, C classes
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit._optional import require
from velora.pretrain.images import DEBIAN_FOLDER, Images, fashion_mnist
from velora.pretrain.recipe import make_vit, normalised

# Training pictures of the Fashion-MNIST probe; all of its 10,000 test pictures are used.
_FASHION = 10_000
SIDE = 64
_BATCH = 100
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


class Probe(Struct, frozen=True, kw_only=True):
    """Accuracies on the test pictures of one set."""

    data: str
    train: int
    test: int
    trained: float
    untrained: float
    pixels: float

    @property
    def error(self) -> float:
        """Standard error of ``trained``."""
        return math.sqrt(self.trained * (1 - self.trained) / self.test)


def probe(
    weights: Path, *, data: Path = DEBIAN_FOLDER, pairs: Path | None = None, side: int = SIDE
) -> list[Probe]:
    """Probe a trunk on held-out garments, on digits, and on MNIST images where they are given.

    Parameters
    ----------
    weights : Path
        A safetensors file that ``publish`` wrote.
    data : Path
        Folder of Fashion-MNIST.
    pairs : Path, optional
        Zip of N-MNIST pairs: ``{train,test}/<digit>/<id>.png``.
    side : int, pixels
        Pictures are brought to this size.
    """
    from safetensors.torch import load_file

    trained = make_vit(num_outputs=0, seed=0)
    trained.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    untrained = make_vit(num_outputs=0, seed=1)
    sets = {"Fashion-MNIST": _fashion(data), "scikit-learn digits": _digits()}
    if pairs is not None:
        sets["MNIST images of N-MNIST pairs"] = read_pairs(pairs)
    return [
        Probe(
            data=name,
            train=len(train),
            test=len(test),
            trained=ridge_accuracy(*(_features(trained, x, side) for x in (train, test))),
            untrained=ridge_accuracy(*(_features(untrained, x, side) for x in (train, test))),
            pixels=ridge_accuracy(*(_pixels(x) for x in (train, test))),
        )
        for name, (train, test) in sets.items()
    ]


def table(probes: list[Probe]) -> str:
    """Return the numbers as lines of text."""
    lines = [f"{'data':32}{'train':>7}{'test':>7}  trained          untrained  pixels"]
    for p in probes:
        lines.append(
            f"{p.data:32}{p.train:7}{p.test:7}  {p.trained:.4f} +- {p.error:.4f}"
            f"  {p.untrained:.4f}     {p.pixels:.4f}"
        )
    return "\n".join(lines)


Labelled = tuple[Tensor, Tensor]


def ridge_accuracy(train: Labelled, test: Labelled) -> float:
    """Fit one-hot targets by ridge regression and return the accuracy on the test pictures.

    Parameters
    ----------
    train, test : (features (N, D), labels (N,))
    """
    x, labels = train
    held = torch.arange(len(x)) % 5 == 0
    scores = [
        _score(_fit(x[~held], labels[~held], penalty), x[held], labels[held])
        for penalty in _PENALTIES
    ]
    best = _PENALTIES[int(np.argmax(scores))]
    return _score(_fit(x, labels, best), *test)


def _fit(x: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and scale (D,) of the features, and (D + 1, C) weights."""
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-3)
    z = F.pad((x - mean) / scale, (0, 1), value=1.0)
    square = z.T @ z / len(z) + penalty * torch.eye(z.shape[1], dtype=z.dtype)
    targets = F.one_hot(labels).to(z.dtype)
    return mean, scale, torch.linalg.solve(square, z.T @ targets / len(z))


def _score(fitted: tuple[Tensor, Tensor, Tensor], x: Tensor, labels: Tensor) -> float:
    mean, scale, weights = fitted
    logits = F.pad((x - mean) / scale, (0, 1), value=1.0) @ weights
    return float((logits.argmax(1) == labels).double().mean())


@torch.no_grad()
def _features(vit: nn.Module, images: Images, side: int) -> Labelled:
    """(N, 2 D) float64: CLS and mean of the patches."""
    vit.eval()
    rows = []
    for i in range(0, len(images), _BATCH):
        gray = torch.from_numpy(images.pixels[i : i + _BATCH]).float()[:, None] / 255
        gray = F.interpolate(gray, size=(side, side), mode="bilinear", antialias=True)
        tokens: Tensor = vit.forward_features(normalised(gray.expand(-1, 3, -1, -1)))  # type: ignore[operator]
        rows.append(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1))
    return torch.cat(rows).double(), torch.from_numpy(images.labels)


def _pixels(images: Images) -> Labelled:
    flat = torch.from_numpy(images.pixels).flatten(1).double() / 255
    return flat, torch.from_numpy(images.labels)


Split = tuple[Images, Images]


def _fashion(folder: Path) -> Split:
    train, test = (fashion_mnist(split, folder=folder) for split in ("train", "test"))
    return Images(train.pixels[:_FASHION], train.labels[:_FASHION]), test


def _digits() -> Split:
    """Split by writer: the first 1,200 and the last 597 (the set is in order of writers)."""
    datasets = require("sklearn.datasets", extra="dev", purpose="the digits of the probe")
    found = datasets.load_digits()
    pixels = (found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.astype(np.int64)
    return Images(pixels[:1200], labels[:1200]), Images(pixels[1200:], labels[1200:])


def read_pairs(path: Path) -> Split:
    """Read the PNG files of a zip of N-MNIST pairs."""
    pil = require("PIL.Image", extra="images", purpose="reading PNG pictures")
    pixels: Mapping[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    labels: Mapping[str, list[int]] = {"train": [], "test": []}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            *folders, file = name.split("/")
            if not file.endswith(".png"):
                continue
            split, digit = folders[-2:]
            image = pil.open(io.BytesIO(archive.read(name))).convert("L")
            pixels[split].append(np.asarray(image))
            labels[split].append(int(digit))
    train, test = (Images(np.stack(pixels[s]), np.array(labels[s])) for s in ("train", "test"))
    return train, test
