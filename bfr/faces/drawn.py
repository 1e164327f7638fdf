"""Faces that were drawn or painted by hand, for those that the detector missed.

Each box is looked into at one large size, and the face nearest to its middle gives the landmarks.
Where there is none, they are placed as on an upright face that fills the box, so that the aligned
crop is a square around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from ..errors import InputError, MissingPackageError
from ..image.geometry import FACE_CENTRE, face_template
from ..image.tensors import check_images
from ..records import Face, FaceSet
from .detect import detect_faces
from .retinaface import Detector

Box = tuple[float, float, float, float]

_LOOK_SIDE = 240  # pixels that the longer side of a box gets
_ROOM = 0.5  # seen around the box, in longer sides
_HINT = 0.15  # the score that suffices: the user says that it is a face
_OFF_CENTRE = 0.35  # of the box's longer side, by which the face may lie beside its middle
_ALIKE = (0.5, 2.0)  # a face's size in longer sides of the box
_SPECK = 4  # pixels below which a painted patch is a slip of the brush
_KNOWN = 0.4  # overlap with a face that was found already
_BOX_SIDE = 322  # the longer side of a face's box on the 512 px template


def add_drawn_faces(
    images: Tensor, faces: FaceSet, boxes: Sequence[Sequence[Box]], detector: Detector
) -> tuple[FaceSet, str]:
    """Adds the faces in boxes drawn by hand.

    Args:
        images: B×3×H×W RGB in [0, 1].
        faces: found in them; a box around one of these adds nothing.
        boxes: ``(x0, y0, x1, y1)`` in pixels, a list for each image.
        detector: on any device.

    Returns:
        The faces found, then the drawn ones with score 1, in the order of their boxes; and a
        sentence for each box.

    Raises:
        InputError: if there is not one list for each image, or a box is empty or outside.
    """
    check_images(images)
    if len(boxes) != len(images):
        raise InputError(
            f"Boxes must come as one list for each of the {len(images)} images, got {len(boxes)}. "
            "Draw them on one image, or on all."
        )
    every: list[tuple[Face, ...]] = []
    lines: list[str] = []
    for index, (found, drawn) in enumerate(zip(faces.faces, boxes, strict=True)):
        known = list(found)
        for number, box in enumerate(drawn, 1):
            name = f"box {number}" if len(images) == 1 else f"image {index + 1}, box {number}"
            _check_box(box, faces.image_size, name)
            if _overlap(box, known) > _KNOWN:
                lines.append(f"{name}: its face is found already")
                continue
            face = _look_into(images[index : index + 1], box, detector)
            told = "landmarks found" if face else "no landmarks found, taken as an upright face"
            known.append(face or _upright(box))
            lines.append(f"{name}: face {len(known)}, {told}")
        every.append(tuple(known))
    return FaceSet(tuple(every), faces.image_size), "\n".join(lines)


def painted_boxes(masks: Tensor, images: Tensor) -> list[list[Box]]:
    """The boxes around the patches of a painted mask, from left to right.

    Args:
        masks: B×1×H×W or 1×1×H×W in [0, 1], painted where it is above 0.5. Nothing painted may be
            of any size, as ComfyUI gives it with every picture.
        images: B×3×H×W.

    Returns:
        ``(x0, y0, x1, y1)`` in pixels, a list for each image; specks are left out.

    Raises:
        InputError: if it is painted and of another size or count.
        MissingPackageError: without OpenCV.
    """
    painted = masks > 0.5
    if not bool(painted.any()):
        return [[] for _ in images]
    count, (height, width) = len(images), images.shape[-2:]
    if masks.shape[1:] != (1, height, width) or len(masks) not in (1, count):
        raise InputError(
            f"The mask must be {width}×{height} pixels like the image, for all or each of "
            f"{count}, got {len(masks)} of {masks.shape[-1]}×{masks.shape[-2]}. Paint on this "
            "photograph."
        )
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError(
            "Painted faces need the package OpenCV. Install it: pip install opencv-python-headless"
        ) from error
    every: list[list[Box]] = []
    for mask in painted[:, 0].cpu().numpy().astype(np.uint8):
        _, _, patches, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        boxes = sorted(
            (float(x), float(y), float(x + width), float(y + height))
            for x, y, width, height, _ in patches[1:].tolist()  # the first is what is not painted
            if min(width, height) >= _SPECK
        )
        every.append(boxes)
    return every * count if len(every) == 1 else every


def _check_box(box: Box, size: tuple[int, int], name: str) -> None:
    (x0, y0, x1, y1), (height, width) = box, size
    inside = x1 > 0 and y1 > 0 and x0 < width and y0 < height
    if not (all(map(math.isfinite, box)) and x1 - x0 >= 1 and y1 - y0 >= 1 and inside):
        raise InputError(
            f"Every box must lie in the image of {width}×{height} pixels and hold some of it, got "
            f"{name} from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}). Draw it around the face."
        )


def _overlap(box: Box, faces: Sequence[Face]) -> float:
    """The largest overlap of a box with those of faces."""
    if not faces:
        return 0.0
    others = torch.tensor([face.box for face in faces], dtype=torch.float64)
    return float(box_iou(torch.tensor([box], dtype=torch.float64), others).max())


def _look_into(image: Tensor, box: Box, detector: Detector) -> Face | None:
    """The face in the middle of a box, in pixels of the image; None if there is none."""
    side = _side(box)
    x0, y0 = (max(0, math.floor(low - _ROOM * side)) for low in box[:2])
    x1, y1 = (math.ceil(high + _ROOM * side) for high in box[2:])
    part = image[..., y0:y1, x0:x1]
    scale = _LOOK_SIDE / side
    size = [max(1, round(length * scale)) for length in part.shape[-2:]]
    part = F.interpolate(part, size, mode="bilinear", antialias=True, align_corners=False)
    seen = detect_faces(part.clamp(0, 1), detector, score=_HINT, search_sizes=(max(size),))
    faces = [replace(face.mapped(1 / scale, (x0, y0)), score=1.0) for face in seen.faces[0]]
    least, most = (factor * side for factor in _ALIKE)
    fitting = [
        face
        for face in faces
        if math.dist(_middle(face.box), _middle(box)) < _OFF_CENTRE * side
        and least <= face.size <= most
    ]
    return max(fitting, key=lambda face: _overlap(box, [face]), default=None)


def _upright(box: Box) -> Face:
    """A face that fills the box, its landmarks as on the template."""
    points = (face_template(512) - torch.tensor(FACE_CENTRE)) * (_side(box) / _BOX_SIDE)
    x, y = _middle(box)
    return Face(box, 1.0, tuple((x + dx, y + dy) for dx, dy in points.tolist()))


def _side(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _middle(box: Box) -> tuple[float, float]:
    return ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
