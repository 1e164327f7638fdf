"""Doubtful faces: hands, badges and book spines that a detector takes for faces.

The larger a photograph, the more of them there are. A real face is still found when it is seen from
nearer, from further away and mirrored; a lookalike seldom is. In 70 scans enlarged 4 times and 9
photographs, the detector reported 149 faces. Of those with a score of at least 0.5, this test
doubts all seven false ones (books, a lapel, hair, a wall), and two of the 140 real ones: a profile,
and two profiles taken for one face.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..image.crops import cut_crops
from ..image.geometry import FACE_CENTRE, face_template, fit_similarity
from ..records import Face, FaceSet
from .landmarks import landmarks_of
from .retinaface import Detector

CONFIDENCE = 0.5
"""The confidence, score and looks together, from which a face is restored."""

_SURE = 0.82  # a score from which no look was ever needed
_LOOKS = ((96, 1.2), (160, 0.8), (256, 1.2), (160, 1.6))  # sides in pixels, and how near
_NEVER = 1e-3  # what a look that sees nothing counts


def set_aside(images: Tensor, faces: FaceSet, detector: Detector) -> tuple[FaceSet, FaceSet]:
    """Splits faces into certain and doubtful ones.

    Args:
        images: B×3×H×W RGB in [0, 1].
        faces: of these images.
        detector: of `load_detector`.

    Returns:
        The sure ones and the doubtful ones, each in their original order.
    """
    parted: tuple[list[tuple[Face, ...]], list[tuple[Face, ...]]] = ([], [])
    for index, found in enumerate(faces.faces):
        image = images[index : index + 1]
        sure = [confidence(image, face, detector) >= CONFIDENCE for face in found]
        for part, wanted in zip(parted, (True, False), strict=True):
            part.append(tuple(f for f, s in zip(found, sure, strict=True) if s == wanted))
    return replace(faces, faces=tuple(parted[0])), replace(faces, faces=tuple(parted[1]))


@torch.no_grad()
def confidence(image: Tensor, face: Face, detector: Detector) -> float:
    """The face's score, times the geometric mean of what further looks at it give.

    Args:
        image: 1×3×H×W RGB in [0, 1].
        face: found in it; one with a high score is not looked at again.
        detector: of `load_detector`.
    """
    if face.score >= _SURE:
        return face.score
    image = image.to(detector.device)
    seen = torch.cat([_look(image, face, detector, *look) for look in _LOOKS])
    return face.score * float(seen.clamp(min=_NEVER).log().mean().exp())


def _look(image: Tensor, face: Face, detector: Detector, side: int, near: float) -> Tensor:
    """The scores of what is in the middle, as it is and mirrored."""
    template = face_template(512) - torch.tensor(FACE_CENTRE)
    template = template * (near * side / 512) + (side - 1) / 2
    crop = cut_crops(image, fit_similarity(landmarks_of([face]), template), (0,), side)
    scores, boxes, _ = detector(torch.cat([crop, crop.flip(-1)]))
    off_centre = ((boxes[..., :2] + boxes[..., 2:]) / 2 - (side - 1) / 2).norm(dim=-1)
    return (scores * (off_centre < side / 4)).amax(1).double()
