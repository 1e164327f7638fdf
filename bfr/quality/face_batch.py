"""Faces to measure, and what the networks see in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.identity import Identity, readable
from ..faces.retinaface import Detector
from ..image.tensors import check_images
from .likeness import find_landmarks
from .perceptual import Distance


@dataclass(frozen=True, slots=True)
class Tools:
    """The networks and settings that metrics need; None leaves out those that need it.

    Attributes:
        detector: of `load_detector`.
        distance: of `load_distance`, on the device of the faces.
        identity: of `load_identity`; with a detector, crops that show no face, or one that is
            turned too far, have no identity.
        factor: the low-pass factor of the likeness; None for `likeness_factor`.
    """

    detector: Detector | None = None
    distance: Distance | None = None
    identity: Identity | None = None
    factor: int | None = None


@dataclass(frozen=True, eq=False)
class FaceBatch:
    """Faces and what the networks see in them, each computed once, when first asked for.

    Attributes:
        images: B×3×S×S RGB in [0, 1], aligned faces.
        tools: the networks.
    """

    images: Tensor
    tools: Tools = field(default_factory=Tools)

    @cached_property
    def landmarks(self) -> Tensor:
        """B×5×2 float64 landmarks, NaN where no face is found."""
        assert self.tools.detector is not None
        return find_landmarks(self.images, self.tools.detector)

    @cached_property
    def embeddings(self) -> Tensor:
        """B×D, NaN where a face cannot be read."""
        assert self.tools.identity is not None
        found = self.tools.identity.embed(self.images)
        if self.tools.detector is None:
            return found
        return found.where(readable(self.landmarks).to(found.device)[:, None], torch.nan)


def check_faces(faces: Tensor, name: str) -> None:
    """Raises InputError unless ``faces`` are aligned ones, N×3×S×S RGB in [0, 1], N at least 1."""
    check_images(faces, name)
    if not len(faces) or faces.shape[-1] != faces.shape[-2]:
        raise InputError(
            f"{name} must be square, aligned faces, got {len(faces)} of {faces.shape[-1]}×"
            f"{faces.shape[-2]} pixels. Align the faces first."
        )
    if faces.min() < 0 or faces.max() > 1:
        raise InputError(
            f"{name} must lie in [0, 1], got {float(faces.min()):.3g} to "
            f"{float(faces.max()):.3g}. Clamp them first."
        )
