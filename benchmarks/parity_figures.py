"""Shared parts of the checks of `benchmarks.parity`: files of figures, small published networks."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from benchmarks.published.priors import published_unet
from bfr.prior.load import load_prior
from bfr.prior.prior import Prior

Check = tuple[str, float, float]
"""What was compared, the largest error, and how large it may be."""


@dataclass(frozen=True, eq=False, slots=True)
class Figures:
    """One file of figures.

    Attributes:
        path: of the file.
        tensors: by name.
        metadata: its settings.
        seed: of the weights.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    seed: int

    def setting(self, *names: str) -> str:
        """The setting that has one of these names."""
        return next((self.metadata[n] for n in names if n in self.metadata), None) or missing(
            f"setting {' or '.join(names)}"
        )


class NotUnderstoodError(Exception):
    """A file holds what there is no check for, or lacks what its check needs."""


def small_prior(file: Path, seed: int, **facts) -> Prior:
    """The network of a ``unet_*.safetensors``, through a checkpoint and our loader."""
    published = published_unet(file)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prior.pth"
        torch.save(published.state(seed), path)
        return load_prior(path, **{**published.facts, **facts})


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def missing(what: str) -> NoReturn:
    raise NotUnderstoodError(f"there is no {what}")
