"""Choosing among detected faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from torch import Tensor

from ..errors import InputError
from ..records import Face, FaceSet

SORTS: dict[str, Callable[[Face], float]] = {
    "size": lambda face: -face.area,
    "score": lambda face: -face.score,
    "left to right": lambda face: face.box[0] + face.box[2],
    "top to bottom": lambda face: face.box[1] + face.box[3],
}
"""The orders of :func:`select_faces`, each by what it sorts on."""

_PAINTED = 0.1  # the share of a face's box that a mask must cover


def select_faces(
    faces: FaceSet,
    *,
    sort: str | None = "size",
    indices: Sequence[int] | None = None,
    min_size: float = 0.0,
    max_size: float | None = None,
    min_score: float = 0.0,
    mask: Tensor | None = None,
    distances: Sequence[Sequence[float]] | None = None,
    max_distance: float = 0.6,
    limit: int | None = None,
) -> FaceSet:
    """Keeps the faces that pass every filter, in the chosen order.

    ``indices`` come first and name faces as `bfr.faces.overlay.draw_faces` numbers them; then the
    filters, the order and the limit act, on each image by itself.

    Args:
        faces: the faces to choose from.
        sort: ``"size"`` (largest box area first), ``"score"`` (best first),
            ``"left to right"`` or ``"top to bottom"`` (by the box's centre); None keeps the order
            they come in.
        indices: numbers, from 1, of the faces to keep. An index must exist in at least one
            image of the batch. None keeps all.
        min_size: smallest longer box side in pixels.
        max_size: largest longer box side in pixels; None is no bound.
        min_score: lowest confidence in [0, 1].
        mask: B×1×H×W or 1×1×H×W in [0, 1]; a face stays if the mask is at least 0.5 in a tenth
            of its box, as far as that is in the image. None, or a mask without a pixel of 0.5,
            keeps all.
        distances: of `bfr.faces.person.distances_to`, for each image one for each face; None
            keeps all.
        max_distance: the largest of them that counts as the person; NaN never does.
        limit: most faces an image, counted in the chosen order; None is no limit.

    Returns:
        The chosen faces of the same images; an image may be left with none.

    Raises:
        InputError: an unknown order, an index that no image has, a range that is empty, a
            negative limit, or a mask of another size or count than the images.
    """
    if sort is not None and sort not in SORTS:
        raise InputError(f"sort must be one of {_listed(SORTS)}, got {sort!r}. Choose one.")
    if max_size is not None and max_size < min_size:
        raise InputError(
            f"The largest size must be at least the smallest, {min_size:g} pixels, got "
            f"{max_size:g}. Raise it."
        )
    if limit is not None and limit < 0:
        raise InputError(f"limit must be 0 or more faces, got {limit}. None takes all.")
    if indices is not None:
        _check_indices(faces, indices)
    if mask is not None and not bool((mask >= 0.5).any()):
        mask = None  # ComfyUI gives an unpainted one, of any size, with every picture
    if mask is not None:
        _check_mask(faces, mask)

    def passes(number: int, image: int, face: Face) -> bool:
        return (
            (indices is None or number in indices)
            and face.size >= min_size
            and (max_size is None or face.size <= max_size)
            and face.score >= min_score
            and (distances is None or distances[image][number - 1] <= max_distance)
            and (mask is None or _is_painted(mask[min(image, len(mask) - 1), 0], face))
        )

    chosen = []
    for image, found in enumerate(faces.faces):
        kept = [face for number, face in enumerate(found, 1) if passes(number, image, face)]
        ordered = kept if sort is None else sorted(kept, key=SORTS[sort])
        chosen.append(tuple(ordered[:limit]))
    return replace(faces, faces=tuple(chosen))


def parse_numbers(text: str) -> tuple[int, ...] | None:
    """The whole numbers in a text such as ``1, 3``; None for an empty one.

    Raises:
        InputError: if there is anything else in it.
    """
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        raise InputError(
            f"numbers must be whole numbers and commas, got {text!r}. Write, for example, 1, 3."
        )
    return tuple(map(int, words)) or None


def _is_painted(mask: Tensor, face: Face) -> bool:
    """True if enough of a face's box, of its part inside the image, is painted."""
    x0, y0 = (max(0, math.floor(edge)) for edge in face.box[:2])
    x1, y1 = (max(0, math.ceil(edge)) for edge in face.box[2:])
    part = mask[y0:y1, x0:x1]
    return part.numel() > 0 and float((part >= 0.5).float().mean()) >= _PAINTED


def _check_indices(faces: FaceSet, indices: Sequence[int]) -> None:
    most = max((len(found) for found in faces.faces), default=0)
    wrong = [index for index in indices if not 1 <= index <= most]
    if not wrong:
        return
    counts = ", ".join(str(len(found)) for found in faces.faces)
    exist = f"faces 1 to {most} exist" if most else "no image has a face"
    raise InputError(
        f"Numbers must be those of detected faces, got no face {_listed(wrong)}: {exist} (faces in "
        f"each image: {counts}). Read them from the numbered picture of the detected faces."
    )


def _check_mask(faces: FaceSet, mask: Tensor) -> None:
    height, width = faces.image_size
    fits = mask.ndim == 4 and tuple(mask.shape[1:]) == (1, height, width)
    if not fits or mask.shape[0] not in (1, len(faces.faces)):
        raise InputError(
            f"mask must be {len(faces.faces)} (or 1)×1×{height}×{width} like the images, got "
            f"{'×'.join(map(str, mask.shape))}. Paint it on this photograph, or resize it."
        )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(repr(value) for value in values)
