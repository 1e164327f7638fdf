"""Putting restored faces back into the photograph, and nothing but the faces.

A crop holds its face at the crop's resolution, resampled once; pasting resamples it again.
Laid plainly over the photograph it would soften even a face that no restorer touched (below
45 dB for most sizes), and blur one that is larger than its crop. So the photograph's *detail*,
what cutting and pasting the untouched face would lose,

    detail = photo − W(before),    before = the crop as cut from the photograph,

goes back on top, in the share ``kept`` that the restorer would have left standing:

    pasted = W(restored) + kept · detail
    photo ← photo + strength · mask · (pasted − photo)

W is the warp from crop to photograph, antialiased where the crop is the finer of the two.
``kept`` extrapolates what the restorer did in the finest band that crop and photograph both
hold. With h a high-pass and ⟨ ⟩ a local mean,

    gain = ⟨h(before) · h(restored)⟩ / ⟨h(before)²⟩, clamped to [0, 1]
    signal = ⟨h(before) · h(restored)⟩² / (⟨h(before)²⟩ · ⟨h(restored)²⟩)

are how far it faded what was there, and the coherence: the share of the band's power that it
took for signal, 1 if nothing but contrast was changed, near 0 if noise was removed or new
detail invented. Power in photographs falls as 1 / frequency² and noise is flat, so where the
detail lies f times finer its ratio of noise to signal is f² times larger, which gives

    kept = gain · signal / (signal + f² · (1 − signal)),    f = 2 · max(1, photo px a crop px),

the second factor being Wiener's. A restorer that changes nothing has kept = 1, and the
photograph comes back to the last bit at any face and crop size. Where a restorer removes
noise, the noise that is finer than the crop goes too; where a photograph is clean, large
faces stay sharper than their crops.
"""

from __future__ import annotations

import math

import torch
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import warp_affine
from torch import Tensor

from ..choices import MASKS
from ..errors import InputError
from ..image.colour import match_colour
from ..image.crops import cut_crops
from ..image.geometry import compose, invert, resize_matrix, scale_of, transform_points
from ..image.tensors import check_images, resize_square, size_in_words
from ..records import Alignment
from .grain import draw_grain, measure_grain
from .parsing import Parser, parse_faces

_Box = tuple[int, int, int, int]

_ROUNDING = (1 / 255) ** 2 / 12  # the power of rounding to 8 bits, taken for signal
# The half-weight outline of a face on the template, forehead, ears and chin included, in shares
# of the crop's side.
_OVAL_CENTRE = (0.5, 0.56)
_OVAL_RADII = (0.38, 0.46)
_SHARPNESS = 2  # the higher, the narrower the blend between overlapping faces


def paste_faces(
    images: Tensor,
    crops: Tensor,
    alignment: Alignment,
    *,
    mask: str = "soft oval",
    parser: Parser | None = None,
    feather: float = 0.1,
    colour: str = "low frequency",
    strength: float = 1.0,
    grain: float = 0.0,
    seed: int = 0,
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
        feather: width of the soft edge as a share of the crop's side, in [0, 0.5]: along the
            crop's border for every mask, and to both sides of the oval's outline.
        colour: how crops are fitted to the photograph's colours, see
            :func:`bfr.image.colour.match_colour`.
        strength: 0 (photograph) to 1 (restored face).
        grain: how much of the photograph's grain the faces get, from 0 to 1
            (:mod:`bfr.faces.grain`).
        seed: draws the grain; image n of the batch uses seed + n.

    Returns:
        B×3×H'×W' images in [0, 1], bit-identical to the input where the mask is 0, and the
        B×1×H'×W' masks: the weight, strength included, that the restored face has in a pixel.

    Raises:
        InputError: tensors that are not valid, counts or sizes that do not fit each other,
            a parameter out of range, or ``"parsing"`` without a parser.
    """
    check_images(images)
    check_images(crops, "crops")
    _check_fit(images, crops, alignment)
    _check_options(mask, parser, feather, strength, grain)
    size, photo_size = crops.shape[-1], (images.shape[2], images.shape[3])
    to_aligned = resize_matrix(photo_size, alignment.image_size)
    image_to_crop = compose(to_aligned, alignment.image_to_crop)
    boxes = [_box(matrix, size, photo_size) for matrix in image_to_crop]
    shape = _feathered_square(size, feather)
    if mask == "soft oval":
        shape = shape * _soft_oval(size, feather)
    masks = shape.to(images).expand(len(crops), 1, size, size)
    if mask == "parsing" and parser is not None:
        masks = masks * parse_faces(crops, parser).to(images)

    pasted, weights = images.clone(), torch.zeros_like(images[:, :1])
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(images))]
    for i, (box, matrix, image) in enumerate(
        zip(boxes, image_to_crop, alignment.image_index, strict=True)
    ):
        if _empty(box):
            continue
        before = cut_crops(images, matrix[None], (image,), size)
        restored = match_colour(crops[i : i + 1].to(images), before, colour, masks[i : i + 1])
        share = _warp(masks[i : i + 1], matrix, box, "bilinear", "zeros")
        share = strength * share * _ownership(i, share, masks, image_to_crop, boxes, alignment)
        y, x = slice(box[1], box[3]), slice(box[0], box[2])
        photo, face = images[image : image + 1, :, y, x], pasted[image : image + 1, :, y, x]
        blended = (face + share * _change(photo, before, restored, matrix, box)).clamp(0, 1)
        wanted = measure_grain(photo) if grain else None
        if wanted is not None:
            drawn = draw_grain(blended, share, wanted, generators[image], grain)
            blended = (blended + drawn).clamp(0, 1)
        pasted[image, :, y, x] = torch.where(share > 0, blended, face)[0]
        weights[image, :, y, x] += share[0]
    return pasted, weights


def _change(
    photo: Tensor, before: Tensor, restored: Tensor, image_to_crop: Tensor, box: _Box
) -> Tensor:
    """``pasted − photo`` of the module's formula, in one box of the photograph."""
    size, shrink = before.shape[-1], 1 / float(scale_of(image_to_crop))
    side = min(size, max(1, round(size * shrink)))
    if side < size:
        before, restored = (resize_square(crop, side) for crop in (before, restored))
    lost = 1 - _kept(before, restored, finer=2 * max(1.0, shrink))
    matrix = compose(image_to_crop, resize_matrix((size, size), (side, side)))
    stack = torch.cat([restored - before, before, lost], 1)
    warped = _warp(stack, matrix, box, "bicubic", "border")
    return warped[:, :3] - warped[:, 6:].clamp(0, 1) * (photo - warped[:, 3:6])


def _kept(before: Tensor, restored: Tensor, finer: float) -> Tensor:
    """The share in [0, 1] of detail to keep that is ``finer`` times finer, N×1×S×S."""
    given, found = (crop - _blurred(crop, 1.0) for crop in (before, restored))
    products = torch.stack([given * found, given * given, found * found], 1).mean(2)
    common, given, found = (_blurred(products, 4.0) + _ROUNDING).split(1, 1)
    common = common.clamp(min=0)
    signal = (common.square() / (given * found)).clamp(max=1)
    return (common / given).clamp(max=1) * signal / (signal + finer**2 * (1 - signal))


def _blurred(crop: Tensor, sigma: float) -> Tensor:
    return gaussian_blur2d(crop, 2 * math.ceil(3 * sigma) + 1, (sigma, sigma), "replicate")


def _ownership(
    i: int,
    share: Tensor,
    masks: Tensor,
    image_to_crop: Tensor,
    boxes: list[_Box],
    alignment: Alignment,
) -> Tensor:
    """How much of each pixel in its box belongs to face ``i`` rather than to its neighbours."""
    x0, y0, x1, y1 = boxes[i]
    mine = share**_SHARPNESS
    total = mine.clone()
    for j, (u0, v0, u1, v1) in enumerate(boxes):
        shared = (max(x0, u0), max(y0, v0), min(x1, u1), min(y1, v1))
        if j == i or alignment.image_index[j] != alignment.image_index[i] or _empty(shared):
            continue
        other = _warp(masks[j : j + 1], image_to_crop[j], shared, "bilinear", "zeros")
        rows, columns = slice(shared[1] - y0, shared[3] - y0), slice(shared[0] - x0, shared[2] - x0)
        total[..., rows, columns] += other**_SHARPNESS
    return torch.where(mine > 0, mine / total, mine)


def _warp(crop: Tensor, image_to_crop: Tensor, box: _Box, mode: str, padding: str) -> Tensor:
    """Resamples 1×C×S×S crop pixels onto the photograph's pixels in a box."""
    x0, y0, x1, y1 = box
    to_box = torch.tensor([[1, 0, -x0], [0, 1, -y0]], dtype=torch.float64)
    matrix = compose(invert(image_to_crop), to_box)[None].to(crop)
    return warp_affine(crop, matrix, (y1 - y0, x1 - x0), mode, padding, True)


def _box(image_to_crop: Tensor, size: int, photo_size: tuple[int, int]) -> _Box:
    """The photograph's pixels that a crop covers, as x0, y0, x1, y1; empty if there are none."""
    last = size - 1.0
    corners = torch.tensor([[0, 0], [last, 0], [0, last], [last, last]], dtype=torch.float64)
    points = transform_points(invert(image_to_crop), corners)
    x0, y0 = (max(0, math.floor(v)) for v in points.amin(0).tolist())
    x1, y1 = (math.ceil(v) + 1 for v in points.amax(0).tolist())
    return x0, y0, min(x1, photo_size[1]), min(y1, photo_size[0])


def _empty(box: _Box) -> bool:
    return box[0] >= box[2] or box[1] >= box[3]


def _feathered_square(size: int, feather: float) -> Tensor:
    """1×1×S×S: 0 on the outermost pixels, rising to 1 within ``feather`` of the side."""
    index = torch.arange(size, dtype=torch.float64)
    depth = torch.minimum(index, size - 1 - index)
    depth = torch.minimum(depth[:, None], depth[None])
    return _smoothstep(depth / max(feather * size, 1))[None, None].float()


def _soft_oval(size: int, feather: float) -> Tensor:
    """1×1×S×S: 1 inside a face on the template, fading through its outline into the hair."""
    unit = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    x = (unit[None] - _OVAL_CENTRE[0]) / _OVAL_RADII[0]
    y = (unit[:, None] - _OVAL_CENTRE[1]) / _OVAL_RADII[1]
    depth = (1 - (x.square() + y.square()).sqrt()) * min(_OVAL_RADII)
    return _smoothstep(0.5 + depth / (2 * max(feather, 1 / size)))[None, None].float()


def _smoothstep(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _check_fit(images: Tensor, crops: Tensor, alignment: Alignment) -> None:
    if len(images) != alignment.image_count:
        raise InputError(
            f"The alignment belongs to {alignment.image_count} images, but {len(images)} came; "
            "paste onto the images that were aligned."
        )
    if len(crops) != len(alignment):
        raise InputError(
            f"The alignment holds {len(alignment)} faces, but {len(crops)} crops came; "
            "paste one crop for each aligned face, in the same order."
        )
    if tuple(crops.shape[2:]) != alignment.crop_size:
        raise InputError(
            f"The faces were aligned at {size_in_words(*alignment.crop_size)}, but the crops are "
            f"{size_in_words(*crops.shape[2:])}; resize them to the alignment's size."
        )
    size, aligned = images.shape[2:], alignment.image_size
    scale = max(size) / max(aligned)
    if any(abs(scale * old - new) > 1 for old, new in zip(aligned, size, strict=True)):
        raise InputError(
            f"images must be the aligned ones ({size_in_words(*aligned)}), resized, got "
            f"{size_in_words(*size)}. Paste onto an image of the same proportions."
        )


def _check_options(
    mask: str, parser: Parser | None, feather: float, strength: float, grain: float
) -> None:
    if mask not in MASKS:
        raise InputError(f"The mask must be one of {', '.join(MASKS)}, not {mask!r}.")
    if mask == "parsing" and parser is None:
        raise InputError('The mask "parsing" needs a parser; load one, or choose another mask.')
    if not 0 <= feather <= 0.5:
        raise InputError(f"The feather must be between 0 and 0.5 of the crop, not {feather:g}.")
    if not 0 <= strength <= 1:
        raise InputError(f"The strength must be between 0 and 1, not {strength:g}.")
    if not 0 <= grain <= 1:
        raise InputError(f"The grain must be between 0 and 1, got {grain:g}.")
