"""Face detection: boxes, scores and five landmarks, at any size and any quarter turn.

An image is searched at two bounded sizes: small, where faces that fill the picture fit the
anchors, and large, where small faces still show; a small image is enlarged for that. It is resized
once, where it is; only those sizes travel to the detector's device and are turned. Where no sure
face is found upright, quarter turns are tried.

Each detection is then verified: the face is cropped upright at a fixed size and run through the
detector twice, plain and mirrored. Its landmarks are the mean of both; if they disagree, or are
not where a face has them, it is probably none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, nms

from ..errors import InputError
from ..image.crops import cut_crops
from ..image.geometry import (
    FACE_CENTRE,
    MIRROR_ORDER,
    compose,
    face_template,
    fit_similarity,
    invert,
    quarter_turn_matrix,
    resize_matrix,
    transform_points,
)
from ..image.tensors import check_images
from ..records import Face, FaceSet, OnStep
from .landmarks import as_points, landmark_gap, landmarks_of
from .retinaface import Detector

SEARCH_SIZES = (352, 1600)
"""Longer side in pixels at which images are searched: large faces, then small ones."""

SURE = 0.75
"""The score of a sure face. Without one, quarter turns are tried, and must show one."""

LOOK_SIDE = 160
"""Side in pixels of what the second look sees of a face."""

_ENLARGED, _MOST, _LEAST = 704, 3.0, 1.5
"""The longer side to which small images are enlarged, and by which factors at most and at least."""

_OVERLAP = 0.4  # of boxes that are the same face
_SAME = 0.25  # the mean distance of landmarks, in sizes of the face, within which it is the same
_ALIKE = 0.1  # and within which a second look would see the same
_HUNCH = 0.4  # the share of the asked score that a face needs to be looked at again
_APART, _ASTRAY = 0.08, 0.6
"""Standard deviations, in distances of the eyes, of the Gaussians by which the score falls with the
distance of a look's landmarks from its mirror's, and of both from the template's. Those of sure
faces are 0.03 and 0.09."""
_LOOKS_AT_ONCE = 16  # bounds the memory of the second looks


def detect_faces(
    images: Tensor,
    detector: Detector,
    *,
    score: float = 0.5,
    min_size: float = 0.0,
    search_sizes: tuple[int, ...] = SEARCH_SIZES,
    try_rotations: bool = True,
    look_twice: bool = True,
    on_step: OnStep | None = None,
) -> FaceSet:
    """Finds the faces of a batch of images.

    Args:
        images: B×3×H×W RGB in [0, 1].
        detector: on any device; images go to it.
        score: least confidence in [0, 1] of a face.
        min_size: least longer box side in pixels of the image.
        search_sizes: longer image sides at which to search; larger images are shrunk, and those of
            up to 469 px are enlarged as well, up to threefold, where the largest size allows.
        try_rotations: where no sure face is upright, search turned by 90°, 180° and 270° too.
        look_twice: look again at each face, upright and at one size: better landmarks, and what
            does not look like a face any more is dropped.
        on_step: called with (images done, images in all, None).

    Returns:
        The faces of each image, largest first, in pixels of the image.

    Raises:
        InputError: if images are no finite B×3×H×W batch, or score is not in [0, 1].
        WeightsError: if the network gives NaN.
    """
    check_images(images)
    if not 0 <= score <= 1:
        raise InputError(f"score must be in [0, 1], got {score}.")
    least = score * _HUNCH if look_twice else score
    found: list[tuple[Face, ...]] = []
    for index in range(len(images)):
        image = images[index : index + 1]
        pyramid = _resized_once(image, search_sizes, detector.device)

        def look(turns: int, image: Tensor = image, pyramid: _Pyramid = pyramid) -> list[Face]:
            """Faces searched after some quarter turns, in pixels of the image as it is."""
            faces = _search(pyramid, turns, detector, least)
            if look_twice and faces:
                faces = _look_again(image, _each_once(faces, _ALIKE), detector, score)
            return _each_once(faces, _SAME)

        faces = look(0)
        if try_rotations and not _is_sure(faces):
            turned = [group for group in map(look, (1, 2, 3)) if _is_sure(group)]
            faces = max([faces, *turned], key=lambda group: sum(face.score for face in group))
        faces = [face for face in faces if face.size >= min_size]
        found.append(tuple(sorted(faces, key=lambda face: -face.area)))
        if on_step is not None:
            on_step(index + 1, len(images), None)
    return FaceSet(tuple(found), (images.shape[-2], images.shape[-1]))


@dataclass(frozen=True, slots=True)
class _Pyramid:
    """An image at the sizes at which it is searched, on the detector's device.

    Attributes:
        levels: 1×3×h×w each, small ones first.
        size: ``(height, width)`` of the image.
    """

    levels: tuple[Tensor, ...]
    size: tuple[int, int]


def _resized_once(image: Tensor, sizes: tuple[int, ...], device: torch.device) -> _Pyramid:
    """Resizes before anything else, so that no later step grows with the photograph."""
    full = (image.shape[-2], image.shape[-1])
    targets = {min(size, max(full)) for size in sizes}
    larger = min(max(sizes), _ENLARGED, round(_MOST * max(full)))
    if larger >= _LEAST * max(full):
        targets.add(larger)
    levels = [_resized(image, target / max(full)).to(device) for target in sorted(targets)]
    return _Pyramid(tuple(levels), full)


def _is_sure(faces: list[Face]) -> bool:
    return any(face.score >= SURE for face in faces)


def look_template() -> Tensor:
    """The 5×2 float64 landmark positions that the verification crop is aligned to."""
    zoom = 1.2 * LOOK_SIDE / 512
    return (face_template(512) - torch.tensor(FACE_CENTRE)) * zoom + (LOOK_SIDE - 1) / 2


def _search(pyramid: _Pyramid, turns: int, detector: Detector, score: float) -> list[Face]:
    """Faces of each level after some quarter turns, in pixels of the image.

    A face that shows at several sizes is found several times: which is the best, only the second
    look can tell.
    """
    found = []
    for level in pyramid.levels:
        size = (level.shape[-2], level.shape[-1])
        scores, boxes, landmarks = (
            part[0] for part in detector(torch.rot90(level, turns, (-2, -1)))
        )
        sure = scores >= score
        upright = invert(quarter_turn_matrix(size, turns))
        back = compose(upright, resize_matrix(size, pyramid.size))
        corners = transform_points(back, boxes[sure].double().unflatten(-1, (2, 2)))
        boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)  # a turn swaps corners
        points = transform_points(back, landmarks[sure].double())
        scores = scores[sure].double()
        for i in nms(boxes.float(), scores.float(), _OVERLAP).tolist():
            found.append(Face(tuple(boxes[i].tolist()), scores[i].item(), as_points(points[i])))
    return found


def _resized(image: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)


def _look_again(image: Tensor, faces: list[Face], detector: Detector, score: float) -> list[Face]:
    """The faces that a look at each of them confirms, with its landmarks.

    The score becomes the geometric mean of the search's and the look's, which counts twice. It is
    less where the look and the look in a mirror disagree on the landmarks, and where these are not
    where the search saw a face: on what only resembles a face, the three seldom agree.
    """
    template = look_template()
    to_crop = fit_similarity(landmarks_of(faces), template)
    confirmed: list[Face] = []
    for start in range(0, len(faces), _LOOKS_AT_ONCE):
        part = slice(start, start + _LOOKS_AT_ONCE)
        crops = cut_crops(image, to_crop[part], (0,) * len(faces[part]), LOOK_SIDE)
        crops = crops.to(detector.device)
        straight = _central_face(*detector.look_again(crops))
        scores, mirrored = _central_face(*detector.look_again(crops.flip(-1)))
        mirrored = mirrored[:, MIRROR_ORDER]
        mirrored[..., 0] = LOOK_SIDE - 1 - mirrored[..., 0]
        points = (straight[1] + mirrored) / 2
        landmarks = transform_points(invert(to_crop[part]), points)
        eyes = template[:2].diff(dim=0).norm()
        apart, astray = (
            gaps.norm(dim=-1).mean(1) / eyes for gaps in (straight[1] - mirrored, points - template)
        )
        trust = torch.exp(-((apart / _APART) ** 2 + (astray / _ASTRAY) ** 2) / 2)
        looks = zip(((straight[0] + scores) / 2).tolist(), trust.tolist(), landmarks, strict=True)
        for face, (second, share, refined) in zip(faces[part], looks, strict=True):
            sure = share * (face.score * second**2) ** (1 / 3)
            if sure >= score:
                confirmed.append(Face(face.box, sure, as_points(refined)))
    return confirmed


def _central_face(scores: Tensor, boxes: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """The face nearest to the middle of each look: scores K and landmarks K×5×2, float64.

    All anchors on that face vote on its landmarks, each with its score.
    """
    off_centre = ((boxes[..., :2] + boxes[..., 2:]) / 2 - (LOOK_SIDE - 1) / 2).norm(dim=-1)
    best = (scores * torch.exp(-4 * off_centre / LOOK_SIDE)).argmax(1)
    means = []
    for i, chosen in enumerate(best.tolist()):
        same = box_iou(boxes[i, chosen : chosen + 1], boxes[i])[0] > 1 - _OVERLAP
        weights = (scores[i] * same).double()[:, None, None]
        means.append((landmarks[i] * weights).sum(0) / weights.sum())
    return scores.gather(1, best[:, None])[:, 0].double(), torch.stack(means)


def _each_once(faces: list[Face], within: float) -> list[Face]:
    """The faces, surest first, without those within a share of their size of a surer one."""
    chosen: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(
            landmark_gap(face, other) >= within * max(face.size, other.size) for other in chosen
        ):
            chosen.append(face)
    return chosen
