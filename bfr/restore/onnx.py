"""Face restorers in ONNX files, as ReActor and FaceFusion keep them.

GPEN, RestoreFormer++, GFPGAN and CodeFormer share one convention: an input of 1×3×S×S RGB in
[-1, 1], CodeFormer's ``weight`` beside it, and the face as the first output. Size, types and
weight are read from the file; so is the range, or else it is found by trying.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CorruptWeightsError, WrongArchitectureError
from ..files.manifest import get_again
from ..files.onnx import OnnxModule, Slot

RANGE = "value_range"
"""The entry of a file's metadata that names the range of its pixels, one of `RANGES`."""

SIGNED, UNSIGNED = RANGES = ("[-1, 1]", "[0, 1]")

_PUBLISHED = re.compile("gfpgan|gpen|restoreformer|codeformer", re.IGNORECASE)  # in [-1, 1]
_CLEARLY = 4  # how much better [0, 1] must be than the usual range
_TRIAL_SIZE = 512  # where the file leaves the size open


class OnnxRestorer(OnnxModule):
    """A restorer in an ONNX file.

    Attributes:
        face: the input that takes the face.
        weight: the input that takes CodeFormer's fidelity, if there is one.
        signed: whether pixels are in [-1, 1]; else in [0, 1].

    Raises:
        WrongArchitectureError: if it does not take and give one face.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        self.face, self.weight = _face_and_weight(self.inputs, path)
        _check_output(self.outputs[0], self.face, path)
        self.signed = self._is_signed()

    @property
    def size(self) -> int | None:
        """Side in pixels of the faces; None where the file leaves it open."""
        return self.face.shape[2] or None

    def restore(self, faces: Tensor, fidelity: float = 0.5) -> Tensor:
        """B×3×S×S faces, RGB in [0, 1], restored one after the other."""
        return torch.cat([self._restored(face, fidelity, self.signed) for face in faces.split(1)])

    def _restored(self, face: Tensor, fidelity: float, signed: bool) -> Tensor:
        feeds = {self.face.name: face * 2 - 1 if signed else face}
        if self.weight is not None:
            feeds[self.weight.name] = torch.full(
                [side or 1 for side in self.weight.shape], fidelity
            )
        restored = self(feeds)[0].to(face)
        return restored / 2 + 0.5 if signed else restored

    def _is_signed(self) -> bool:
        """The range, by the metadata, by the names of published files, or else by trying."""
        if stated := self.metadata.get(RANGE):
            if stated not in RANGES:
                raise CorruptWeightsError(
                    f"{self.path} must name its range as {SIGNED} or {UNSIGNED}, got {stated!r}. "
                    f"{get_again(self.path.name)}"
                )
            return stated == SIGNED
        return bool(_PUBLISHED.search(self.path.name)) or self._suits_signed()

    def _suits_signed(self) -> bool:
        """True if a drawn face comes back from [-1, 1] about as well as from [0, 1], or better.

        A network of [0, 1] loses what is dark in [-1, 1]. One of [-1, 1] may do well in both.
        """
        face = drawn_face(self.size or _TRIAL_SIZE)
        signed, unsigned = (
            (self._restored(face, 1.0, signed) - face).abs().mean().nan_to_num(torch.inf)
            for signed in (True, False)
        )
        return bool(unsigned * _CLEARLY >= signed)


def _face_and_weight(inputs: tuple[Slot, ...], path: Path) -> tuple[Slot, Slot | None]:
    faces = [slot for slot in inputs if len(slot.shape) == 4]
    weights = [slot for slot in inputs if len(slot.shape) < 2]
    if len(faces) != 1 or len(weights) > 1 or len(inputs) > len(faces) + len(weights):
        raise WrongArchitectureError(
            f"{path} must take one face, and at most CodeFormer's weight, got the inputs "
            f"{', '.join(map(str, inputs))}. Choose a face restorer such as GPEN or GFPGAN."
        )
    batch, channels, height, width = faces[0].shape
    if batch > 1 or channels not in (0, 3) or height != width:
        raise WrongArchitectureError(
            f"{path} must take one square face as 1×3×S×S, got {faces[0]}. Choose a face "
            "restorer such as GPEN or GFPGAN."
        )
    return faces[0], weights[0] if weights else None


def _check_output(output: Slot, face: Slot, path: Path) -> None:
    """Sides that the file leaves open are checked when it runs."""
    sides: Any = zip(output.shape, face.shape, strict=False)
    if len(output.shape) not in (0, 4) or any(a and b and a != b for a, b in sides):
        raise WrongArchitectureError(
            f"{path} must give what it takes, {face}, got {output}. Choose a face restorer such "
            "as GPEN or GFPGAN."
        )


def drawn_face(size: int) -> Tensor:
    """A plain drawing of a face, 1×3×S×S RGB in [0, 1], to try a network with.

    Much of it is dark, which only one of the two ranges has below zero.
    """
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")

    def oval(cx: float, cy: float, rx: float, ry: float) -> Tensor:
        return torch.sigmoid((1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) * 8)

    image = torch.full((3, size, size), 0.06)
    for share, colour in (
        (oval(0.5, 0.42, 0.38, 0.42), (0.22, 0.15, 0.1)),  # hair
        (oval(0.5, 0.53, 0.29, 0.38), (0.82, 0.62, 0.52)),  # face
        (oval(0.38, 0.47, 0.055, 0.025), (0.15, 0.12, 0.12)),  # eyes
        (oval(0.62, 0.47, 0.055, 0.025), (0.15, 0.12, 0.12)),
        (oval(0.5, 0.74, 0.09, 0.025), (0.6, 0.25, 0.25)),  # mouth
    ):
        image = image.lerp(torch.tensor(colour)[:, None, None].expand_as(image), share)
    return image[None]
