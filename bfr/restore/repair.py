"""Scratch repair: filled in from the surroundings, and inside faces by the restorer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..faces.align import align_faces
from ..faces.detect import detect_faces
from ..faces.grain import measure_grain
from ..faces.grain_drawing import draw_grain
from ..faces.paste import paste_faces
from ..faces.retinaface import Detector
from ..image.opencv import load_opencv
from ..image.tensors import check_images
from ..records import OnStep
from ..runtime.progress import within
from .grey import keep_grey
from .restorer import Restorer, restore_faces
from .settings import DEFAULT_CROP_SIZE

_RADIUS = 3.0  # pixels around a hole that fill it
_WHOLE = 65535.0  # the value of white for OpenCV, which rounds by up to 2 also in floating point


def repair_scratches(
    images: Tensor,
    masks: Tensor,
    detector: Detector,
    restorer: Restorer,
    *,
    grain: float = 1.0,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Tensor:
    """Repairs the masked parts of photographs, and nothing else.

    They are filled in from their surroundings. Where they cross a face, the restorer works on the
    filled face, and its version of those parts is used. The fill is smooth, so it gets the
    photograph's grain.

    Args:
        images: B×3×H×W RGB in [0, 1].
        masks: B×1×H×W; above 0.5 is repaired.
        detector: of `load_detector`.
        restorer: of `load_restorer`.
        grain: how much of the photograph's grain the repaired parts get, 0 to 1.
        seed: draws the grain; image n of the batch uses seed + n.
        on_step: progress in faces.

    Returns:
        B×3×H×W in [0, 1], bit-identical where the mask is not above 0.5.

    Raises:
        InputError: if masks and images do not fit each other.
        MissingPackageError: without OpenCV.
    """
    repaired, holes = fill(images, masks), masks > 0.5
    faces = detect_faces(repaired, detector, on_step=within(on_step, 0, 2, 10))
    crops, alignment = align_faces(repaired, faces, restorer.size or DEFAULT_CROP_SIZE)
    restored = restore_faces(crops, restorer, on_step=within(on_step, 2, 10, 10))
    pasted, _ = paste_faces(repaired, restored, alignment)
    repaired = torch.where(holes, pasted, repaired)
    for index in range(len(images) if grain else 0):
        part, hole = slice(index, index + 1), holes[index : index + 1].to(images)
        if not hole.any():
            continue
        wanted = measure_grain(images[part], 1 - F.max_pool2d(hole, 5, 1, 2))
        if wanted is not None:
            generator = torch.Generator().manual_seed(seed + index)
            drawn = draw_grain(repaired[part], hole, wanted, generator, grain)
            new = (repaired[part] + drawn).clamp(0, 1)
            repaired[part] = torch.where(hole > 0, new, repaired[part])
    return keep_grey(images, repaired)


def fill(images: Tensor, masks: Tensor) -> Tensor:
    """Fills the masked parts from around them, by Telea's method (2004) of OpenCV.

    Args:
        images: B×3×H×W RGB in [0, 1].
        masks: B×1×H×W; above 0.5 is filled.

    Returns:
        B×3×H×W in [0, 1], bit-identical where the mask is not above 0.5.

    Raises:
        InputError: if masks and images do not fit each other.
        MissingPackageError: without OpenCV.
    """
    check_images(images)
    if masks.shape != (len(images), 1, *images.shape[-2:]):
        raise InputError(
            f"The masks must be {len(images)}×1×{images.shape[-2]}×{images.shape[-1]} like the "
            f"images, got {'×'.join(map(str, masks.shape))}. Paint on this photograph, or resize "
            "the mask."
        )
    cv2 = load_opencv("Repaired scratches")
    holes = masks > 0.5
    filled = images.clone()
    for index in range(len(images)):
        hole = holes[index, 0].cpu().numpy().astype(np.uint8)
        if not hole.any():
            continue
        planes = [
            cv2.inpaint(plane.numpy(), hole, _RADIUS, cv2.INPAINT_TELEA)
            for plane in _WHOLE * images[index].float().cpu()
        ]
        new = (torch.from_numpy(np.stack(planes)) / _WHOLE).to(images).clamp(0, 1)
        filled[index] = torch.where(holes[index], new, images[index])
    return filled
