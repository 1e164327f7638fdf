"""Choosing among detected faces, and the numbered picture that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from ..image.tensors import check_images, from_uint8, to_uint8
from ..records import Face, FaceSet

SORTS: dict[str, Callable[[Face], float]] = {
    "size": lambda face: -face.area,
    "score": lambda face: -face.score,
    "left to right": lambda face: face.box[0] + face.box[2],
    "top to bottom": lambda face: face.box[1] + face.box[3],
}
"""The orders of :func:`select_faces`, each by what it sorts on."""

_COLOURS = ("#ffd21f", "#4fe0ff", "#7dff6a", "#ff8af3", "#ff9d4d", "#b9a5ff")


def select_faces(
    faces: FaceSet,
    *,
    sort: str = "size",
    indices: Sequence[int] | None = None,
    min_size: float = 0.0,
    max_size: float | None = None,
    min_score: float = 0.0,
    max_score: float = 1.0,
    mask: Tensor | None = None,
    limit: int | None = None,
) -> FaceSet:
    """Keeps the faces that pass every filter, in the chosen order.

    ``indices`` come first and name faces as :func:`draw_faces` numbers them; then the
    filters, the order and the limit act, on each image by itself.

    Args:
        faces: the faces to choose from.
        sort: ``"size"`` (largest box area first), ``"score"`` (best first),
            ``"left to right"`` or ``"top to bottom"`` (by the box's centre).
        indices: numbers, from 1, of the faces to keep. An index must exist in at least one
            image of the batch. None keeps all.
        min_size: smallest longer box side in pixels.
        max_size: largest longer box side in pixels; None is no bound.
        min_score: lowest confidence in [0, 1].
        max_score: highest confidence in [0, 1].
        mask: B×1×H×W or 1×1×H×W in [0, 1]; a face stays if the mask is at least 0.5 at its
            box's centre (outside of the image counts as 0). None keeps all.
        limit: most faces an image, counted in the chosen order; None is no limit.

    Returns:
        The chosen faces of the same images; an image may be left with none.

    Raises:
        InputError: an unknown order, an index that no image has, a range that is empty, a
            negative limit, or a mask of another size or count than the images.
    """
    if sort not in SORTS:
        raise InputError(f"Faces can be sorted by {_listed(SORTS)}, not by {sort!r}.")
    if max_size is not None and max_size < min_size:
        raise InputError(f"No size lies between {min_size:g} and {max_size:g} pixels.")
    if max_score < min_score:
        raise InputError(f"No score lies between {min_score:g} and {max_score:g}.")
    if limit is not None and limit < 0:
        raise InputError(f"The limit must be 0 or more faces, not {limit}.")
    if indices is not None:
        _check_indices(faces, indices)
    if mask is not None:
        _check_mask(faces, mask)

    def passes(number: int, image: int, face: Face) -> bool:
        return (
            (indices is None or number in indices)
            and face.size >= min_size
            and (max_size is None or face.size <= max_size)
            and min_score <= face.score <= max_score
            and (mask is None or _inside(mask[min(image, len(mask) - 1), 0], face))
        )

    chosen = []
    for image, found in enumerate(faces.faces):
        kept = [face for number, face in enumerate(found, 1) if passes(number, image, face)]
        chosen.append(tuple(sorted(kept, key=SORTS[sort])[:limit]))
    return replace(faces, faces=tuple(chosen))


def draw_faces(images: Tensor, faces: FaceSet) -> Tensor:
    """Burns numbered boxes and landmarks into a copy of the images.

    Lines and figures grow with the image; coloured lines carry a black edge, so they show on
    light and on dark.

    Args:
        images: B×3×H×W float32 RGB in [0, 1].
        faces: the faces of these images.

    Returns:
        B×3×H×W float32 RGB in [0, 1] on the same device.

    Raises:
        InputError: images that are not valid, or faces of other images.
    """
    check_images(images)
    size = (images.shape[2], images.shape[3])
    if len(faces.faces) != len(images) or faces.image_size != size:
        raise InputError(
            f"The faces belong to {len(faces.faces)} images of {faces.image_size} (height, "
            f"width), but {len(images)} images of {size} came; detect the faces on these images."
        )
    drawn = [
        _drawn(image, found) if found else image
        for image, found in zip(images, faces.faces, strict=True)
    ]
    return torch.stack(drawn)


def _drawn(image: Tensor, faces: tuple[Face, ...]) -> Tensor:
    pixels = to_uint8(image[None])[0]
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    unit = max(1, round(max(picture.size) / 700))
    font = ImageFont.load_default(max(10, 14 * unit))
    for number, face in enumerate(faces, 1):
        colour = _COLOURS[(number - 1) % len(_COLOURS)]
        x0, y0, x1, y1 = (round(edge) for edge in face.box)
        for grow, ink, width in ((unit, "black", 4 * unit), (0, colour, 2 * unit)):
            frame = (x0 - grow, y0 - grow, max(x1, x0) + grow, max(y1, y0) + grow)
            draw.rectangle(frame, outline=ink, width=width)
        for x, y in face.landmarks:
            radius = max(1.0, min(2.0 * unit, face.size / 40))
            dot = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(dot, fill=colour, outline="black")
        _draw_number(draw, (x0, y0), str(number), colour, font, unit)
    drawn = np.array(picture)
    inked = torch.from_numpy((drawn != pixels).any(2)).to(image.device)
    colours = from_uint8(drawn[None])[0].to(image)
    return torch.where(inked, colours, image)


def _draw_number(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    number: str,
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    unit: int,
) -> None:
    """Black figures on a coloured tag above the box's corner, kept inside the image."""
    left, top, right, bottom = draw.textbbox((0, 0), number, font=font)
    width, height = right - left + 6 * unit, bottom - top + 6 * unit
    x = min(max(corner[0] - 2 * unit, 0), max(draw.im.size[0] - width, 0))
    y = min(max(corner[1] - height, 0), max(draw.im.size[1] - height, 0))
    draw.rectangle((x, y, x + width, y + height), fill=colour, outline="black", width=unit)
    draw.text((x + 3 * unit - left, y + 3 * unit - top), number, fill="black", font=font)


def _inside(mask: Tensor, face: Face) -> bool:
    x = round((face.box[0] + face.box[2]) / 2)
    y = round((face.box[1] + face.box[3]) / 2)
    if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]):
        return False
    return bool(mask[y, x] >= 0.5)


def _check_indices(faces: FaceSet, indices: Sequence[int]) -> None:
    most = max((len(found) for found in faces.faces), default=0)
    wrong = [index for index in indices if not 1 <= index <= most]
    if not wrong:
        return
    counts = ", ".join(str(len(found)) for found in faces.faces)
    exist = f"faces 1 to {most} exist" if most else "no image has a face"
    raise InputError(
        f"There is no face {_listed(wrong)}: {exist} (faces in each image: {counts}). "
        "The numbers stand in the numbered picture of the detected faces."
    )


def _check_mask(faces: FaceSet, mask: Tensor) -> None:
    height, width = faces.image_size
    fits = mask.ndim == 4 and tuple(mask.shape[1:]) == (1, height, width)
    if not fits or mask.shape[0] not in (1, len(faces.faces)):
        raise InputError(
            f"The mask must be {len(faces.faces)} (or 1) x 1 x {height} x {width} like the "
            f"images, not {' x '.join(map(str, mask.shape))}."
        )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(repr(value) for value in values)
