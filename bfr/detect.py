"""Face detection with facexlib's RetinaFace networks: boxes, scores and five landmarks.

RetinaFace (Deng et al., 2020) predicts, for every anchor of a three-level pyramid, a face
score, a box offset and five landmark offsets. The networks are facexlib's own classes, so the
published ``detection_Resnet50_Final.pth`` and ``detection_mobilenet0.25_Final.pth`` load; the
embedded default is a mobile0.25 network trained by ``training/detector.py``.

An image is searched at two bounded sizes: small, where faces that fill the picture fit the
anchors, and large, where small faces still show. Where nothing is found upright, quarter turns
are tried. Cost does not grow with the photograph beyond the large size.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import InputError, WrongArchitectureError
from .geometry import invert, quarter_turn_matrix, resize_matrix, transform_points
from .images import check_images
from .records import Face, FaceSet, OnStep
from .weights import EMBEDDED_DIR, read_state_dict

SEARCH_SIZES = (352, 1600)
"""Longer side in pixels at which images are searched: large faces, then small ones."""

EMBEDDED_DETECTOR = EMBEDDED_DIR / "detector.safetensors"

_STRIDES = (8, 16, 32)
_ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_BGR_MEAN = (104.0, 117.0, 123.0)
_OVERLAP = 0.4


def build_detector(backbone: str) -> nn.Module:
    """A RetinaFace network with random weights, in evaluation mode.

    Args:
        backbone: ``"mobile0.25"`` or ``"resnet50"``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib still passes torchvision's old argument
        from facexlib.detection.retinaface import RetinaFace

        return RetinaFace(network_name=backbone, device=torch.device("cpu")).eval()


def load_detector(path: str | Path | None = None) -> nn.Module:
    """Loads a RetinaFace detector; the backbone is read from the file's keys.

    Args:
        path: a ``.safetensors`` or ``.pth`` file; None for the embedded weights.

    Returns:
        The network on the CPU in evaluation mode.

    Raises:
        WeightsError: if the file is missing, corrupt, unsafe, or no RetinaFace network.
    """
    path = Path(path) if path is not None else EMBEDDED_DETECTOR
    state, _ = read_state_dict(path)
    if "body.stage1.0.0.weight" in state:
        backbone = "mobile0.25"
    elif "body.layer1.0.conv1.weight" in state:
        backbone = "resnet50"
    else:
        raise WrongArchitectureError(
            f"{path.name} is no RetinaFace detector (first key {next(iter(state), None)!r}). "
            "Choose detection_Resnet50_Final.pth, detection_mobilenet0.25_Final.pth or the "
            "embedded detector."
        )
    detector = build_detector(backbone)
    wanted = detector.state_dict()
    fitting = {key: value for key, value in state.items() if key in wanted}
    missing = [key for key in wanted if key not in fitting and "num_batches_tracked" not in key]
    wrong = [key for key, value in fitting.items() if value.shape != wanted[key].shape]
    if missing or wrong:
        raise WrongArchitectureError(
            f"{path.name} looks like RetinaFace ({backbone}), but {len(missing)} tensors are missing "
            f"and {len(wrong)} have another shape, first {(missing + wrong)[0]!r}. "
            "Use a file made for facexlib."
        )
    detector.load_state_dict(fitting, strict=False)
    return detector.eval().requires_grad_(False)


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


def detect_faces(
    images: Tensor,
    detector: nn.Module,
    *,
    score: float = 0.5,
    min_size: float = 0.0,
    search_sizes: tuple[int, ...] = SEARCH_SIZES,
    try_rotations: bool = True,
    on_step: OnStep | None = None,
) -> FaceSet:
    """Finds the faces of a batch of images.

    Args:
        images: B×3×H×W RGB in [0, 1].
        detector: a network of `load_detector`, on any device; images go to it.
        score: least confidence in [0, 1] of a face.
        min_size: least longer box side in pixels of the image.
        search_sizes: longer image sides at which to search; larger images are shrunk.
        try_rotations: where no face is found upright, search turned by 90°, 180° and 270°.
        on_step: called with (images done, images in all, None).

    Returns:
        The faces of each image, largest first, in pixels of the image.

    Raises:
        InputError: if images are no finite B×3×H×W batch, or score is not in [0, 1].
    """
    check_images(images)
    if not 0 <= score <= 1:
        raise InputError(f"score must lie between 0 and 1, but is {score}.")
    parameter = next(detector.parameters())
    found: list[tuple[Face, ...]] = []
    for index in range(len(images)):
        image = images[index : index + 1].to(parameter.device)
        faces = _search(image, detector, score, search_sizes)
        if not faces and try_rotations:
            turned = [_search_turned(image, detector, score, search_sizes, t) for t in (1, 2, 3)]
            faces = max(turned, key=lambda group: sum(face.score for face in group))
        faces = [face for face in faces if face.size >= min_size]
        found.append(tuple(sorted(faces, key=lambda face: -face.area)))
        if on_step is not None:
            on_step(index + 1, len(images), None)
    return FaceSet(tuple(found), (images.shape[-2], images.shape[-1]))


def _search_turned(
    image: Tensor, detector: nn.Module, score: float, sizes: tuple[int, ...], turns: int
) -> list[Face]:
    """Faces of an image searched after `turns` quarter turns, in pixels of the unturned image."""
    back = invert(quarter_turn_matrix((image.shape[-2], image.shape[-1]), turns))
    faces = _search(torch.rot90(image, turns, (-2, -1)), detector, score, sizes)
    return [_moved(face, back) for face in faces]


def _moved(face: Face, matrix: Tensor) -> Face:
    """The face with box and landmarks mapped by a 2×3 matrix of quarter turns or a resize."""
    points = torch.tensor([face.box[:2], face.box[2:], *face.landmarks], dtype=torch.float64)
    points = transform_points(matrix, points)
    low, high = points[:2].amin(0), points[:2].amax(0)
    x0, y0, x1, y1 = torch.cat([low, high]).tolist()
    return Face((x0, y0, x1, y1), face.score, tuple((x, y) for x, y in points[2:].tolist()))


def _search(image: Tensor, detector: nn.Module, score: float, sizes: tuple[int, ...]) -> list[Face]:
    """Faces of one upright 1×3×H×W image, searched at each of the sizes once."""
    longer = max(image.shape[-2:])
    boxes, scores, landmarks = [], [], []
    for target in sorted({min(size, longer) for size in sizes}):
        resized = _shrink(image, target / longer)
        one = _predict(resized, detector, score)
        shape = (resized.shape[-2], resized.shape[-1])
        back = resize_matrix(shape, (image.shape[-2], image.shape[-1]))
        boxes.append(transform_points(back, one[0].unflatten(-1, (2, 2))).flatten(1))
        scores.append(one[1])
        landmarks.append(transform_points(back, one[2]))
    return _suppress(torch.cat(boxes), torch.cat(scores), torch.cat(landmarks))


def _shrink(image: Tensor, scale: float) -> Tensor:
    if scale >= 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)


def _predict(image: Tensor, detector: nn.Module, score: float) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes K×4, scores K and landmarks K×5×2 above the score, float64 on the CPU."""
    height, width = image.shape[-2:]
    pad = [0, -width % _STRIDES[-1], 0, -height % _STRIDES[-1]]
    parameter = next(detector.parameters())
    inputs = F.pad(normalise(image.float()), pad).to(parameter.dtype)
    with torch.no_grad():
        offsets, scores, points = detector(inputs)
    scores = scores[0, :, 1].float().cpu()
    if not torch.isfinite(scores).all():
        raise InputError("The face detector returned NaN; its weights file is damaged.")
    keep = scores >= score
    priors = anchors(inputs.shape[-2], inputs.shape[-1])[keep]
    boxes, landmarks = decode(offsets[0].float().cpu()[keep], points[0].float().cpu()[keep], priors)
    return boxes.double(), scores[keep].double(), landmarks.double()


def _suppress(boxes: Tensor, scores: Tensor, landmarks: Tensor) -> list[Face]:
    """Non-maximum suppression across the searched sizes."""
    from torchvision.ops import nms

    keep = nms(boxes.float(), scores.float(), _OVERLAP)
    return [
        Face(
            (boxes[i, 0].item(), boxes[i, 1].item(), boxes[i, 2].item(), boxes[i, 3].item()),
            scores[i].item(),
            tuple((x, y) for x, y in landmarks[i].tolist()),
        )
        for i in keep.tolist()
    ]
