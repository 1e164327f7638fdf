"""Putting restored faces back into the photograph, and nothing but the faces.

A crop holds its face at the crop's resolution, resampled once; pasting resamples it again.
Laid plainly over the photograph it would soften even a face that no restorer touched (below
45 dB for most sizes), and blur one that is larger than its crop. So the photograph's *detail*,
what cutting and pasting the untouched face would lose,

    detail = photo − W(before),    before = the crop as cut from the photograph,

goes back on top, in the share ``kept`` that the restorer would have left standing:

    pasted = W(restored) + kept · detail
    photo ← photo + strength · mask · (pasted − photo)

W is the warp from crop to photograph, antialiased where the crop is the finer of the two, and
`bfr.faces.detail` estimates ``kept``. A restorer that changes nothing has kept = 1, and the
photograph comes back to the last bit at any face and crop size. Where a restorer removes noise,
the noise that is finer than the crop goes too; where a photograph is clean, large faces stay
sharper than their crops.

`bfr.faces.blend` does that for the faces of one photograph. Nothing here grows with the photograph
but the copy that is pasted into.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..choices import MASKS
from ..errors import InputError
from ..image.crops import cut_crops
from ..image.geometry import compose, resize_matrix
from ..image.tensors import check_images, size_in_words
from ..records import Alignment
from ..runtime.side_by_side import one_thread
from .blend import PastedFace, blend
from .occlusion import Occlusion, find_in_front
from .parsing import Parser, parse_faces
from .place import Place
from .shapes import mask_outline, mask_shape


def paste_faces(
    images: Tensor,
    crops: Tensor,
    alignment: Alignment,
    *,
    mask: str = "soft oval",
    parser: Parser | None = None,
    before: Tensor | None = None,
    feather: float = 0.1,
    colour: str = "low frequency",
    strength: float = 1.0,
    grain: float = 0.0,
    seed: int = 0,
    in_place: bool = False,
    in_front: Tensor | Occlusion | None = None,
    masks: bool = True,
) -> tuple[Tensor, Tensor]:
    """Blends restored crops into the photographs they were aligned from.

    Where masks of neighbouring faces overlap, each pixel goes to the face it is more central
    to, whatever their order.

    Args:
        images: B×3×H'×W' float32 RGB in [0, 1]: the aligned images, or the same enlarged or
            reduced (by any model); the scale is inferred.
        crops: N×3×S×S restored crops in [0, 1], in the alignment's order.
        alignment: what :func:`bfr.faces.align.align_faces` returned with the crops.
        mask: ``"soft oval"`` (a face on the template with forehead, chin and ears),
            ``"square"`` (the whole crop), or ``"parsing"`` (the face's own outline).
        parser: used by ``"parsing"`` only.
        before: N×3×S×S, the crops as `align_faces` cut them, which saves cutting them again;
            None cuts them. They are cut again from images of another size.
        feather: width of the soft edge as a share of the crop's side, in [0, 0.5]: along the
            crop's border for every mask, and to both sides of the oval's outline.
        colour: how crops are fitted to the photograph's colours, see
            :func:`bfr.image.colour.match_colour`.
        strength: 0 (photograph) to 1 (restored face).
        grain: how much of the photograph's grain the faces get, from 0 to 1
            (:mod:`bfr.faces.grain`); what is behind a turned head gets twice that, at most all.
        seed: draws the grain; image n of the batch uses seed + n.
        in_place: paste into ``images`` itself, which saves the memory of a copy of large ones.
        in_front: what lies in front of the faces and is not painted over: N×1×S×S in [0, 1], of
            `find_in_front`, or the network that finds it; None for nothing.
        masks: whether to give the masks, which take a third of the memory of ``images``.

    Returns:
        B×3×H'×W' images in [0, 1], bit-identical to the input where the mask is 0, and the
        B×1×H'×W' masks: the weight, strength included, that the restored face has in a pixel;
        B×1×0×W' where they are not asked for.

    Raises:
        InputError: tensors that are not valid, counts or sizes that do not fit each other,
            a parameter out of range, or ``"parsing"`` without a parser.
    """
    check_images(images)
    check_images(crops, "crops")
    _check_fit(images, crops, alignment)
    _check_options(mask, parser, feather, strength, grain)
    _check_like_crops(crops, before, in_front)
    size, photo_size = crops.shape[-1], (images.shape[2], images.shape[3])
    image_to_crop = compose(
        resize_matrix(photo_size, alignment.image_size), alignment.image_to_crop
    )
    outline = mask_outline(mask, size, feather)
    places = [Place(matrix, size, photo_size, outline) for matrix in image_to_crop]
    if before is None or photo_size != alignment.image_size:  # or cut from another picture
        before = _cut(images, image_to_crop, alignment.image_index, crops)
    shapes = mask_shape(mask, size, feather).to(images).expand(len(crops), 1, size, size)
    if mask == "parsing" and parser is not None:
        shapes = shapes * parse_faces(crops, parser).to(images)
    if isinstance(in_front, Occlusion):
        in_front = find_in_front(before, in_front)
    if in_front is not None:
        shapes = shapes * (1 - in_front.to(images))
    pasted = images if in_place else images.clone()
    weights = _zeros(images[:, :1] if masks else images[:, :1, :0])
    with one_thread(images.device):
        for image in range(len(images)):
            blend(
                pasted[image],
                weights[image],
                [
                    PastedFace(place, *(part[i : i + 1] for part in (crops, before, shapes)))
                    for i, place in enumerate(places)
                    if alignment.image_index[i] == image and not place.empty
                ],
                colour=colour,
                strength=strength,
                grain=grain,
                generator=torch.Generator().manual_seed(seed + image),
            )
    return pasted, weights


def _zeros(like: Tensor) -> Tensor:
    """`torch.zeros_like`, which on a processor takes no memory until it is written to."""
    if like.device.type != "cpu" or like.dtype != torch.float32:
        return torch.zeros_like(like)
    return torch.from_numpy(np.zeros(like.shape, np.float32))


def _cut(images: Tensor, image_to_crop: Tensor, image_index: Sequence[int], like: Tensor) -> Tensor:
    """The crops of the photographs, N×3×S×S; as ``like`` where there are none."""
    with one_thread(images.device):
        cut = [
            cut_crops(images, matrix[None], (image,), like.shape[-1])
            for matrix, image in zip(image_to_crop, image_index, strict=True)
        ]
    return torch.cat(cut) if cut else like


def _check_fit(images: Tensor, crops: Tensor, alignment: Alignment) -> None:
    if len(images) != alignment.image_count:
        raise InputError(
            f"images must be the {alignment.image_count} that were aligned, got {len(images)}. "
            "Paste onto all of them."
        )
    if len(crops) != len(alignment):
        raise InputError(
            f"crops must be one for each of the {len(alignment)} aligned faces, got {len(crops)}. "
            "Paste them all, in the same order."
        )
    if tuple(crops.shape[2:]) != alignment.crop_size:
        raise InputError(
            f"crops must be {size_in_words(*alignment.crop_size)}, as they were aligned, got "
            f"{size_in_words(*crops.shape[2:])}. Resize them."
        )
    size, aligned = images.shape[2:], alignment.image_size
    scale = max(size) / max(aligned)
    if any(abs(scale * old - new) > 1 for old, new in zip(aligned, size, strict=True)):
        raise InputError(
            f"images must be the aligned ones ({size_in_words(*aligned)}), resized, got "
            f"{size_in_words(*size)}. Paste onto an image of the same proportions."
        )


def _check_like_crops(
    crops: Tensor, before: Tensor | None, in_front: Tensor | Occlusion | None
) -> None:
    for name, given, channels in (("before", before, 3), ("in_front", in_front, 1)):
        wanted = (len(crops), channels, *crops.shape[2:])
        if isinstance(given, Tensor) and given.shape != wanted:
            raise InputError(
                f"{name} must be {wanted}, got {tuple(given.shape)}. Give one for each crop."
            )


def _check_options(
    mask: str, parser: Parser | None, feather: float, strength: float, grain: float
) -> None:
    if mask not in MASKS:
        raise InputError(f"The mask must be one of {', '.join(MASKS)}, got {mask!r}.")
    if mask == "parsing" and parser is None:
        raise InputError(
            'The mask "parsing" needs a parser, got none. Load one, or choose another mask.'
        )
    for name, value, most in (
        ("feather", feather, 0.5),
        ("strength", strength, 1),
        ("grain", grain, 1),
    ):
        if not 0 <= value <= most:
            raise InputError(f"The {name} must be in [0, {most}], got {value:g}.")
