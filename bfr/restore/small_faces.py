"""Faces smaller than those that a restorer has learned.

Enlarged to the restorer's size, such a face shows its pixels, the ringing of its sharpening and of
its JPEG coarser than any that the restorer knows, which takes them for features: dark outlines,
white spots. A network that takes any size is given the face smaller instead, so that it is enlarged
as much as the smallest faces that it learned from; what comes out is enlarged the rest of the way.
Measured on 13 held-out faces reduced 6.5 times, packed as JPEG 85, against the clean ones:

| | PSNR, dB | pyramid distance | identity |
|---|--:|--:|--:|
| at 256 px | 23.14 | 0.463 | 0.465 |
| at 160 px | 23.59 | 0.452 | 0.439 |
| sharpened before, at 256 px | 20.48 | 0.571 | 0.444 |
| sharpened before, at 160 px | 22.16 | 0.507 | 0.421 |

Reduced 4.5 times it hardly matters: 25.42 and 25.41 dB, sharpened 23.27 and 23.64 dB.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..records import Face
from .enlarge import needed_factors
from .restorer import CONVENTIONS, Restorer

_STEP = 32  # pixels: sizes that networks take without padding
_LEAST = 64


def fitting_sizes(faces: Sequence[Face], restorer: Restorer) -> list[int | None]:
    """The size in pixels at which each face goes through the restorer: its own, or less.

    Args:
        faces: where they are in their photographs.
        restorer: of `load_restorer`.
    """
    size, convention = restorer.size, CONVENTIONS.get(restorer.architecture)
    if size is None or convention is None or convention.most_enlarged is None:
        return [size] * len(faces)
    shares = (convention.most_enlarged / need for need in needed_factors(faces, size))
    return [
        size if share >= 1 else max(min(size, _LEAST), _STEP * round(share * size / _STEP))
        for share in shares
    ]
