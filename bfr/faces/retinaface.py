"""facexlib's RetinaFace networks: loading, anchors, and the offsets between them and faces.

RetinaFace (Deng et al., 2020) predicts, for every anchor of a three-level pyramid, a face
score, a box offset and five landmark offsets. The networks are facexlib's own classes, so the
published ``detection_Resnet50_Final.pth`` and ``detection_mobilenet0.25_Final.pth`` load; the
embedded default is a mobile0.25 network trained by ``recipes/detector.py``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError, WrongArchitectureError
from ..files.handles import NetworkHandle
from ..files.manifest import EMBEDDED_DIR
from ..files.pickled import holds_network
from ..files.weights import read_state_dict
from .yolo import YoloOnnx, read_yolo
from .yolov8 import YoloV8

EMBEDDED_DETECTOR = EMBEDDED_DIR / "detector.safetensors"

Predictions = tuple[Tensor, Tensor, Tensor]
"""Scores B×A, boxes B×A×4 and landmarks B×A×5×2 in pixels of the images, float32 on the CPU."""

_STRIDES = (8, 16, 32)
_ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_BGR_MEAN = (104.0, 117.0, 123.0)


def build_detector(backbone: str) -> nn.Module:
    """A RetinaFace network with random weights, in evaluation mode.

    Args:
        backbone: ``"mobile0.25"`` or ``"resnet50"``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib still passes torchvision's old argument
        from facexlib.detection.retinaface import RetinaFace

        return RetinaFace(network_name=backbone, device=torch.device("cpu")).eval()


def normalise(images: Tensor) -> Tensor:
    """RGB [0, 1] images to RetinaFace's input: BGR, 0…255, less the mean."""
    mean = torch.tensor(_BGR_MEAN, device=images.device, dtype=images.dtype)
    return images.flip(1) * 255 - mean[:, None, None]


@lru_cache(maxsize=16)
def anchors(height: int, width: int) -> Tensor:
    """The anchors of an input of the given size.

    Returns:
        A×4 float32 ``(x, y, w, h)`` centres and sizes in pixels, in the networks' order.
    """
    levels = []
    for stride, sizes in zip(_STRIDES, _ANCHOR_SIZES, strict=True):
        y = (torch.arange(math.ceil(height / stride)) + 0.5) * stride
        x = (torch.arange(math.ceil(width / stride)) + 0.5) * stride
        side = torch.tensor(sizes, dtype=torch.float32)
        yy, xx, ss = torch.meshgrid(y, x, side, indexing="ij")
        levels.append(torch.stack([xx, yy, ss, ss], -1).reshape(-1, 4))
    return torch.cat(levels)


def encode(boxes: Tensor, landmarks: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
    """The offsets that `decode` turns back into boxes (A×4 corners) and landmarks (A×5×2)."""
    centre, side = priors[:, :2], priors[:, 2:]
    box_centre, box_side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offset = (box_centre - centre) / (_CENTRE_VARIANCE * side)
    growth = torch.log(box_side / side) / _SIZE_VARIANCE
    points = (landmarks - centre[:, None]) / (_CENTRE_VARIANCE * side[:, None])
    return torch.cat([offset, growth], 1), points.flatten(1)


def decode(offsets: Tensor, points: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes …×A×4 ``(x0, y0, x1, y1)`` and landmarks …×A×5×2 in pixels from the network's output.

    Args:
        offsets: …×A×4 box regression.
        points: …×A×10 landmark regression.
        priors: A×4 anchors of `anchors`.
    """
    centre, side = priors[:, :2], priors[:, 2:]
    box_centre = centre + offsets[..., :2] * _CENTRE_VARIANCE * side
    half = side * torch.exp(offsets[..., 2:] * _SIZE_VARIANCE) / 2
    boxes = torch.cat([box_centre - half, box_centre + half], -1)
    landmarks = points.unflatten(-1, (5, 2)) * _CENTRE_VARIANCE * side[:, None] + centre[:, None]
    return boxes, landmarks


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Predictions:
    """Runs the network on a batch of images; its predictions at every anchor.

    Args:
        network: one of `build_detector`.
        images: B×3×H×W RGB in [0, 1], on the network's device; padded to whole strides here.

    Returns:
        Scores B×A, boxes B×A×4 and landmarks B×A×5×2 in pixels, float32 on the CPU.

    Raises:
        WeightsError: if the network gives NaN.
    """
    height, width = images.shape[-2:]
    pad = [0, -width % _STRIDES[-1], 0, -height % _STRIDES[-1]]
    parameter = next(network.parameters())
    inputs = F.pad(normalise(images.float()), pad).to(parameter.dtype)
    offsets, scores, points = (part.float().cpu() for part in network(inputs))
    if not torch.isfinite(scores).all():
        raise WeightsError(
            "The face detector must give finite scores, got NaN. Use float32, or get its weights "
            "again."
        )
    boxes, landmarks = decode(offsets, points, anchors(inputs.shape[-2], inputs.shape[-1]))
    return scores[..., 1], boxes, landmarks


@dataclass(frozen=True, eq=False)
class Detector(NetworkHandle):
    """A face detector of any kind.

    Attributes:
        call: ``call(network, images)`` of B×3×H×W RGB in [0, 1] on the network's device, which
            returns the `Predictions` at every anchor, before overlapping boxes are merged.
        second_look: the same for the second look at a face that was found; None for ``call``.
    """

    call: Callable[[nn.Module, Tensor], Predictions] = predict
    second_look: Callable[[nn.Module, Tensor], Predictions] | None = None

    def __call__(self, images: Tensor) -> Predictions:
        """The predictions at every anchor of B×3×H×W RGB images in [0, 1]."""
        return self.call(self.network, images)

    def look_again(self, images: Tensor) -> Predictions:
        """The same for the second look."""
        return (self.second_look or self.call)(self.network, images)


def _with_embedded_look(search: YoloV8 | YoloOnnx, name: str) -> Detector:
    """A YOLO's search, with the embedded RetinaFace for the second look: YOLO has few landmarks."""
    network = nn.ModuleDict({"search": search, "look": load_detector().network})

    def find(network: Any, images: Tensor) -> Predictions:
        return network["search"].find(images)

    def look(network: Any, images: Tensor) -> Predictions:
        return predict(network["look"], images)

    return Detector(network.eval(), name, call=find, second_look=look)


def load_detector(path: str | Path | None = None) -> Detector:
    """Loads a face detector: a RetinaFace, whose backbone is read from the file's keys, or a YOLO.

    Args:
        path: a ``.safetensors`` or ``.pth`` file with a RetinaFace, or the ``.pt`` or ``.onnx``
            file of a YOLO (`read_yolo`); None for the embedded weights.

    Returns:
        The detector on the CPU in evaluation mode.

    Raises:
        WeightsError: if the file is missing, corrupt, unsafe, or no RetinaFace network.
    """
    path = Path(path) if path is not None else EMBEDDED_DETECTOR
    suffix = path.suffix.lower()
    if suffix == ".onnx" or (suffix == ".pt" and holds_network(path)):
        return _with_embedded_look(read_yolo(path), path.stem)
    state, _ = read_state_dict(path)
    if "body.stage1.0.0.weight" in state:
        backbone = "mobile0.25"
    elif "body.layer1.0.conv1.weight" in state:
        backbone = "resnet50"
    else:
        raise WrongArchitectureError(
            f"{path.name} must hold a RetinaFace detector, got the first key "
            f"{next(iter(state), None)!r}. Choose detection_Resnet50_Final.pth, "
            "detection_mobilenet0.25_Final.pth or the embedded detector."
        )
    network = build_detector(backbone)
    wanted = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in wanted}
    missing = [key for key in wanted if key not in fitting and "num_batches_tracked" not in key]
    wrong = [key for key, value in fitting.items() if value.shape != wanted[key].shape]
    if missing or wrong:
        raise WrongArchitectureError(
            f"{path.name} must hold all of RetinaFace ({backbone}), got {len(missing)} tensors too "
            f"few and {len(wrong)} of another shape, first {(missing + wrong)[0]!r}. Choose a file "
            "made for facexlib."
        )
    network.load_state_dict(fitting, strict=False)
    return Detector(network.eval().requires_grad_(False), path.stem)
