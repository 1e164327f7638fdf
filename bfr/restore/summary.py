"""What was done to a photograph, in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ..faces.occlusion import LEAST_SHARE
from ..records import Face, counted
from .enlarge import least_factor, needed_factors


def summary(
    faces: Sequence[Face],
    left: Sequence[Face],
    *,
    crop_size: int,
    factor: int,
    size: tuple[int, int],
    background: float = 0.0,
    covered: Sequence[float] = (),
) -> str:
    """Says what was restored, what would show more of it, and what was left alone.

    As "3 faces restored (2 of 40 px: enlarge 4× to see more); 2 faces with something in front of
    them, which stays; 1 doubtful face left alone (a hand?)".

    Args:
        faces: the restored ones, in pixels of the photograph as it came.
        left: doubtful ones that were left alone.
        crop_size: side in pixels of the aligned crops.
        factor: by which the photograph was enlarged.
        size: height and width of the result.
        background: how much of the whole photograph's noise was taken, 0 to 1.
        covered: how much of each face lies behind something, 0 to 1.
    """
    if faces:
        done = f"{counted(len(faces), 'face')} restored{_hint(faces, crop_size, factor)}"
    else:
        done = "no face found" if not left else "no face restored"
    parts = [done]
    if factor > 1:
        parts[0] += f", enlarged {factor}× to {size[1]}×{size[0]} px"
    elif not faces and not background:
        parts[0] += ", unchanged"
    if background:
        parts.append(f"background cleaned by {100 * background:.0f} %")
    behind = sum(share >= LEAST_SHARE for share in covered)
    if behind:
        them = "it" if behind == 1 else "them"
        parts.append(f"{counted(behind, 'face')} with something in front of {them}, which stays")
    if left:
        parts.append(f"{counted(len(left), 'doubtful face')} left alone (a hand?)")
    return "; ".join(parts)


def _hint(faces: Sequence[Face], crop_size: int, factor: int) -> str:
    """How many faces are so small that a larger photograph would show more of them."""
    needs = needed_factors(faces, crop_size)
    small = [
        (face.size * factor, least_factor(need))
        for face, need in zip(faces, needs, strict=True)
        if least_factor(need) > factor
    ]
    if not small:
        return ""
    sizes, factors = zip(*small, strict=True)
    count = f"{len(small)} of " if len(small) < len(faces) else ""
    return f" ({count}{median(sizes):.0f} px: enlarge {max(factors)}× to see more)"
