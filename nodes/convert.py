"""ComfyUI's values to the core's and back.

ComfyUI: IMAGE is B×H×W×C, MASK is B×H×W. The core: B×3×H×W and B×1×H×W float32.
"""

from __future__ import annotations

from typing import Any

import comfy.model_management as model_management
import torch
from torch import Tensor

from ..bfr.errors import InputError
from ..bfr.records import Face, FaceSet

# Landmarks of MediaPipe's face mesh that make up our five points. An eye's centre is the mean
# of its two corners and the middles of its lids; of the nose, point 1 sits where the FFHQ
# template has its tip (0.54 of the way from the eyes to the mouth, the template has 0.57).
_MEDIAPIPE_POINTS = ((33, 133, 159, 145), (263, 362, 386, 374), (1,), (61,), (291,))


def to_core(image: Tensor, name: str = "image") -> tuple[Tensor, Tensor | None]:
    """Splits an IMAGE into pixels and transparency.

    Args:
        image: B×H×W×3 or B×H×W×4 in [0, 1], any float type; B may be 0.
        name: the input's name, for the message.

    Returns:
        B×3×H×W float32, and B×1×H×W float32 alpha or None.

    Raises:
        InputError: if it is not a batch of RGB or RGBA images.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4):
        raise InputError(
            f"{name} must be a batch of RGB or RGBA images (B×H×W×3 or B×H×W×4), got "
            f"{'×'.join(map(str, image.shape))}. Convert it to RGB first."
        )
    pixels = image.movedim(-1, 1).float()
    return pixels[:, :3], pixels[:, 3:] if image.shape[-1] == 4 else None


def to_comfy(images: Tensor, alpha: Tensor | None = None) -> Tensor:
    """Packs B×3×H×W pixels, with B×1×H×W alpha if there is one, as an IMAGE."""
    if alpha is not None:
        images = torch.cat([images, alpha.to(images)], 1)
    return _as_intermediate(images.movedim(1, -1))


def mask_to_core(mask: Tensor) -> Tensor:
    """B×H×W or H×W MASK to B×1×H×W float32."""
    return mask.reshape(-1, 1, *mask.shape[-2:]).float()


def mask_to_comfy(masks: Tensor) -> Tensor:
    """B×1×H×W to a B×H×W MASK."""
    return _as_intermediate(masks[:, 0])


def to_face_set(faces: FaceSet | dict[str, Any]) -> FaceSet:
    """Takes BFR_FACES as they are and converts the core's FACE_LANDMARKS (MediaPipe).

    Raises:
        InputError: if the landmarks are not a MediaPipe face mesh.
    """
    if isinstance(faces, FaceSet):
        return faces
    if not isinstance(faces, dict) or "frames" not in faces or "image_size" not in faces:
        raise InputError(
            "faces must come from Detect Faces (BFR_FACES) or from Detect Face Landmarks "
            f"(FACE_LANDMARKS), got {type(faces).__name__}. "
            "Connect one of them."
        )
    height, width = faces["image_size"]
    frames = tuple(tuple(map(_mediapipe_face, frame)) for frame in faces["frames"])
    return FaceSet(frames, (int(height), int(width)))


def to_bounding_boxes(faces: FaceSet) -> list[list[dict[str, Any]]]:
    """The faces as ComfyUI's BOUNDING_BOX: for each image a list of boxes in pixels."""
    return [
        [
            {
                "x": face.box[0],
                "y": face.box[1],
                "width": face.width,
                "height": face.height,
                "label": "face",
                "score": face.score,
            }
            for face in image_faces
        ]
        for image_faces in faces.faces
    ]


def from_bounding_boxes(boxes: Any, count: int) -> list[list[tuple[float, float, float, float]]]:
    """ComfyUI's BOUNDING_BOX as ``(x0, y0, x1, y1)`` in pixels, a list for each of some images.

    Args:
        boxes: a box, a list of boxes, which count for every image, or a list for each image.
        count: of the images.

    Raises:
        InputError: if they are no boxes.
    """
    frames = [boxes] if isinstance(boxes, dict) else list(boxes or [])
    if all(isinstance(box, dict) for box in frames):
        frames = [frames] * count
    elif len(frames) == 1:  # as Create Bounding Boxes gives them, drawn on one image
        frames *= count
    try:
        corners = [[(b["x"], b["y"], b["width"], b["height"]) for b in frame] for frame in frames]
    except (KeyError, TypeError) as error:
        raise InputError(
            "boxes must be BOUNDING_BOX, with x, y, width and height each, got something else. "
            "Connect Create Bounding Boxes."
        ) from error
    return [[(x, y, x + width, y + height) for x, y, width, height in frame] for frame in corners]


def _mediapipe_face(face: dict[str, Any]) -> Face:
    mesh = torch.as_tensor(face["landmarks_xy"], dtype=torch.float64)
    needed = max(map(max, _MEDIAPIPE_POINTS))
    if mesh.ndim != 2 or mesh.shape[1] != 2 or len(mesh) <= needed:
        raise InputError(
            f"A face of FACE_LANDMARKS must hold at least {needed + 1} (x, y) points, got "
            f"{'×'.join(map(str, mesh.shape))}. Use Detect Face Landmarks (MediaPipe)."
        )
    points = [mesh[list(indices)].mean(0).tolist() for indices in _MEDIAPIPE_POINTS]
    x0, y0, x1, y1 = (float(value) for value in face["bbox_xyxy"])
    return Face((x0, y0, x1, y1), float(face["score"]), tuple((x, y) for x, y in points))


def _as_intermediate(tensor: Tensor) -> Tensor:
    return tensor.to(model_management.intermediate_device(), model_management.intermediate_dtype())
