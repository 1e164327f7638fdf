"""The numbered picture that names the detected faces."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from ..image.sheets import Sheet
from ..image.tensors import check_images, from_uint8, to_uint8
from ..records import Face, FaceSet

SHEET_SIDE = 1280
"""The longer side in pixels of what `lay_out_faces` shows, at most."""

_COLOURS = ("#ffd21f", "#4fe0ff", "#7dff6a", "#ff8af3", "#ff9d4d", "#b9a5ff")


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
    _check_fit(images, faces)
    drawn = [
        _drawn(image, found) if found else image
        for image, found in zip(images, faces.faces, strict=True)
    ]
    return torch.stack(drawn)


def lay_out_faces(image: Tensor, faces: FaceSet) -> Sheet:
    """The picture of `draw_faces`, small enough to be shown, with a cell for each face.

    Args:
        image: 1×3×H×W float32 RGB in [0, 1].
        faces: the faces of this image; those that reach outside it have what is inside as a cell.

    Raises:
        InputError: see `draw_faces`.
    """
    _check_fit(image, faces)
    height, width = image.shape[-2:]
    scale = min(1.0, SHEET_SIDE / max(height, width))
    if scale < 1:  # before anything is drawn: a photograph may be a hundred times as large
        size = max(1, round(height * scale)), max(1, round(width * scale))
        image = F.interpolate(image, size, mode="area")
        found = tuple(face.mapped(scale) for face in faces.faces[0])
        faces, (height, width) = FaceSet((found,), size), size

    def inside(edge: float, side: int) -> int:
        return round(min(max(edge + 0.5, 0), side))

    cells = tuple(
        (inside(x0, width), inside(y0, height), inside(x1, width), inside(y1, height))
        for x0, y0, x1, y1 in (face.box for face in faces.faces[0])
    )
    return Sheet(draw_faces(image, faces).cpu(), cells)


def _check_fit(images: Tensor, faces: FaceSet) -> None:
    check_images(images)
    size = (images.shape[2], images.shape[3])
    if len(faces.faces) != len(images) or faces.image_size != size:
        raise InputError(
            f"faces must belong to these {len(images)} images of {size} (height, width), got those "
            f"of {len(faces.faces)} images of {faces.image_size}. Detect the faces on these images."
        )


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
