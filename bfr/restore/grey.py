"""Grey photographs stay grey, whatever tint a restorer gives to their faces."""

from __future__ import annotations

import torch
from torch import Tensor

from ..image.bands import bands
from ..image.tensors import luma


def keep_grey(images: Tensor, pasted: Tensor) -> Tensor:
    """Takes the tint that a restorer gave to the faces of images without any colour.

    Args:
        images: B×3×H×W in [0, 1], before restoration.
        pasted: the same with restored faces; changed in place.

    Returns:
        ``pasted``, its faces grey wherever the whole image was.
    """
    return without_tint(find_grey(images), pasted)


def without_tint(grey: Tensor, pasted: Tensor) -> Tensor:
    """`keep_grey`, where it is known which images were grey (`find_grey`)."""
    for index in grey.flatten().nonzero().flatten().tolist():
        for rows in bands(range(pasted.shape[2]), pasted.shape[3]):
            part = pasted[index, :, rows.start : rows.stop]
            if not _is_grey(part):
                tinted = (part[1:] != part[:1]).any(0)
                part.copy_(torch.where(tinted, luma(part[None])[0].clamp(0, 1), part))
    return pasted


def find_grey(images: Tensor) -> Tensor:
    """B×1×1×1, whether all pixels of an image are grey."""
    # A few pixels show that most photographs have colour; the others are read whole.
    grey = [_is_grey(image[:, ::16, ::16]) and _is_grey(image) for image in images]
    return torch.tensor(grey, device=images.device).view(-1, 1, 1, 1)


def _is_grey(image: Tensor) -> bool:
    return torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
