"""Grey photographs stay grey, whatever tint a restorer gives to their faces."""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.tensors import luma

_ROWS = 256  # that are worked on at once: bounds the memory for large photographs


def keep_grey(images: Tensor, pasted: Tensor, masks: Tensor) -> Tensor:
    """Takes the tint that a restorer gave to the faces of images without any colour.

    Args:
        images: B×3×H×W in [0, 1], before restoration.
        pasted: the same with restored faces; changed in place.
        masks: B×1×H×W, or B×1×1×1 for all pixels alike: how much of each was replaced.

    Returns:
        ``pasted``, its faces grey wherever the whole image was.
    """
    return without_tint(find_grey(images), pasted, masks)


def without_tint(grey: Tensor, pasted: Tensor, masks: Tensor) -> Tensor:
    """`keep_grey`, where it is known which images were grey (`find_grey`)."""
    masks = masks.expand(-1, -1, *pasted.shape[2:])
    for index in grey.flatten().nonzero().flatten().tolist():
        parts = pasted[index : index + 1].split(_ROWS, 2), masks[index : index + 1].split(_ROWS, 2)
        for part, mask in zip(*parts, strict=True):
            if mask.any():
                part.copy_(torch.where(mask > 0, luma(part).clamp(0, 1), part))
    return pasted


def find_grey(images: Tensor) -> Tensor:
    """B×1×1×1, whether all pixels of an image are grey."""
    # A few pixels show that most photographs have colour; the others are read whole.
    grey = [_is_grey(image[:, ::16, ::16]) and _is_grey(image) for image in images]
    return torch.tensor(grey, device=images.device).view(-1, 1, 1, 1)


def _is_grey(image: Tensor) -> bool:
    return torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
