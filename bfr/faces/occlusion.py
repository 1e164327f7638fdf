"""Things in front of a face (hands, microphones, text) that must not be painted over.

The embedded network (`bfr.faces.occlusion_network`) was trained on pasted things. An XSeg network
of DeepFaceLab, as FaceFusion ships it (``dfl_xseg.onnx``, ``xseg_1.onnx``), says it the other way
round: it marks the face that is seen, and hair and background count as in front of it.

A network is never quite sure. Below `_SURE` of it nothing lies in front, and above 1 − `_SURE`
something does, to the last bit, so that a bare face is pasted whole and a hand stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, WrongArchitectureError
from ..files.handles import NetworkHandle, load_into
from ..files.manifest import EMBEDDED_DIR
from ..files.onnx import OnnxModule
from ..image.guided import guided
from ..image.resize import resize_square
from ..image.tensors import check_images
from .occlusion_network import SIDE, OcclusionNetwork, empty_network
from .shapes import mask_shape

EMBEDDED_OCCLUSION = EMBEDDED_DIR / "occlusion.safetensors"

LEAST_SHARE = 0.01
"""The share of a face that must be covered before a report mentions it."""

_SURE = 0.35
_BATCH = 8
_RADIUS, _RIDGE = 12, 1e-3  # of the guided filter, in pixels and in squares of RGB in [0, 1]
_XSEG = (256, 256)


@dataclass(frozen=True, eq=False)
class Occlusion(NetworkHandle):
    """A network that marks what lies in front of aligned faces.

    It takes B×3×size×size RGB in [0, 1] and gives B×1×size×size probabilities.
    """


class _Probabilities(nn.Module):
    """A network that gives logits, as one that gives probabilities.

    It sees each face in a mirror, too, and the mean counts: what is found is found better, and a
    fifth less of bare faces is taken for something in front. Where it ends, the colours say better
    than the network (`bfr.image.guided`): letters come out as letters.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        mirrored = self.network(faces.flip(-1)).flip(-1)
        found = ((self.network(faces) + mirrored) / 2).sigmoid()
        return guided(found.float(), faces.float(), _RADIUS, _RIDGE).clamp(0, 1).to(found)


class _XSeg(nn.Module):
    """An XSeg file: N×256×256×3 BGR in [0, 1] to N×256×256×1 of the face that is seen."""

    def __init__(self, file: OnnxModule):
        super().__init__()
        self.file = file

    def forward(self, faces: Tensor) -> Tensor:
        """B×3×256×256 RGB to B×1×256×256 of what lies in front."""
        (slot,) = self.file.inputs
        pictures = faces.flip(1).permute(0, 2, 3, 1).contiguous()
        parts = pictures.split(1) if slot.shape[0] == 1 else [pictures]
        seen = torch.cat([self.file({slot.name: part})[0] for part in parts])
        return 1 - seen.clamp(0, 1).permute(0, 3, 1, 2)


def load_occlusion(path: str | Path | None = None) -> Occlusion:
    """Loads a network that marks what lies in front of faces.

    Args:
        path: None for the embedded one; an ``.onnx`` file for XSeg, which onnxruntime runs.

    Returns:
        The network on the CPU in evaluation mode.

    Raises:
        WeightsError: if the file is missing, corrupt, or another network.
        MissingPackageError: for an ``.onnx`` file without onnxruntime.
    """
    path = Path(path) if path is not None else EMBEDDED_OCCLUSION
    if path.suffix.lower() == ".onnx":
        return _load_xseg(path)
    network = empty_network()
    recipe = "hold an OcclusionNetwork of recipes/occlusion.py or be an XSeg .onnx file"
    load_into(network, path, recipe)
    return as_occlusion(network, path.stem)


def as_occlusion(network: OcclusionNetwork, name: str = "") -> Occlusion:
    """The handle of a network of ours, which gives logits itself."""
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Occlusion(_Probabilities(network).requires_grad_(False).eval(), name, SIDE)


def _load_xseg(path: Path) -> Occlusion:
    file = OnnxModule(path)
    taken, given = [tuple(s.shape[1:] for s in slots) for slots in (file.inputs, file.outputs)]
    if taken != ((*_XSEG, 3),) or given[:1] != ((*_XSEG, 1),):
        raise WrongArchitectureError(
            f"{path.name} must take N×256×256×3 pictures and give N×256×256×1 masks, as XSeg does, "
            f"got {', '.join(map(str, file.inputs))} to {', '.join(map(str, file.outputs))}. "
            "Choose dfl_xseg.onnx or xseg_1.onnx of FaceFusion."
        )
    return Occlusion(_XSeg(file).eval(), path.stem, _XSEG[0])


@torch.no_grad()
def find_in_front(crops: Tensor, occlusion: Occlusion) -> Tensor:
    """Marks what lies in front of the faces in aligned crops.

    Args:
        crops: N×3×S×S RGB in [0, 1], the damaged faces as `align_faces` cuts them.
        occlusion: runs on its own device.

    Returns:
        N×1×S×S float32 in [0, 1], on the crops' device: 1 where something lies in front, 0 where
        nothing does.

    Raises:
        InputError: crops that are no square images, or another network.
    """
    if not isinstance(occlusion, Occlusion):
        raise InputError(
            f"occlusion must be of load_occlusion, got a {type(occlusion).__name__}. Load one."
        )
    check_images(crops, "crops")
    size, own = crops.shape[-1], occlusion.size or SIDE
    if size != crops.shape[-2]:
        raise InputError(f"crops must be square, got {size}×{crops.shape[-2]} pixels. Align them.")
    masks = crops.new_zeros(len(crops), 1, size, size, dtype=torch.float32)
    for start in range(0, len(crops), _BATCH):
        part = crops[start : start + _BATCH].to(occlusion.device, occlusion.dtype)
        found = occlusion.network(resize_square(part, own).clamp(0, 1)).to(masks)
        if size != own:
            found = F.interpolate(found, (size, size), mode="bilinear", antialias=True)
        masks[start : start + _BATCH] = found
    return ((masks - _SURE) / (1 - 2 * _SURE)).clamp_(0, 1)


def covered_shares(in_front: Tensor) -> tuple[float, ...]:
    """The share of each face, 0 to 1, that masks N×1×S×S of `find_in_front` cover.

    Hair and background around the face do not count.
    """
    face = (mask_shape("soft oval", in_front.shape[-1], 0.1) == 1).to(in_front)
    return tuple(((in_front * face).flatten(1).sum(1) / face.sum()).tolist())
