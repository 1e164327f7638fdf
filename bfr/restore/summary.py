"""One plain sentence about what was done to a photograph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    person: tuple[Sequence[float], Sequence[float]] | None = None,
    repaired: bool = False,
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
        person: where one was looked for, how far the restored faces are from that person, and how
            far the others.
        repaired: whether scratches were filled before.
    """
    if faces:
        of_whom = "" if person is None else f" of the person{_distances(person[0])}"
        done = f"{counted(len(faces), 'face')}{of_whom} restored{_hint(faces, crop_size, factor)}"
    elif person is not None:
        done = "no face of the person found"
    else:
        done = "no face found" if not left else "no face restored"
    parts = [done]
    if factor > 1:
        parts[0] += f", enlarged {factor}× to {size[1]}×{size[0]} px"
    elif not faces and not background and not repaired:
        parts[0] += ", unchanged"
    if person is not None and person[1]:
        parts.append(f"{counted(len(person[1]), 'other face')} left alone{_nearest(person[1])}")
    if repaired:
        parts.append("scratches repaired")
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
    """A hint at what would show more of small faces."""
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


def _distances(apart: Sequence[float]) -> str:
    """The distance of faces from the person, such as " (distance 0.31)"."""
    known = ", ".join(f"{distance:.2f}" for distance in apart)
    return f" (distance {known})" if known else ""


def _nearest(apart: Sequence[float]) -> str:
    """The distance of the nearest of the other faces, such as " (the nearest at 0.71)"."""
    known = [distance for distance in apart if not math.isnan(distance)]
    parts = [f"the nearest at {min(known):.2f}"] if known else []
    if len(known) < len(apart):
        parts.append(f"{len(apart) - len(known)} too small or turned too far to compare")
    return f" ({', '.join(parts)})"


@dataclass(frozen=True, slots=True)
class Count:
    """The counts of one of many photographs: its faces, and the factor of its enlargement."""

    faces: int
    doubtful: int
    factor: int


def summary_of_many(done: Sequence[Count], failed: int) -> str:
    """One sentence about many photographs.

    As "30 faces restored in 9 of 12 photographs; 4 photographs enlarged; 3 doubtful faces left
    alone (hands?); 1 failed".
    """
    total = len(done) + failed
    faces = sum(each.faces for each in done)
    within = sum(each.faces > 0 for each in done)
    of = "" if within == total else f"{within} of "
    text = f"{counted(faces, 'face')} restored in {of}{counted(total, 'photograph')}"
    parts = [text]
    if enlarged := sum(each.factor > 1 for each in done):
        parts.append(f"{counted(enlarged, 'photograph')} enlarged")
    if doubtful := sum(each.doubtful for each in done):
        parts.append(f"{counted(doubtful, 'doubtful face')} left alone (hands?)")
    if failed:
        parts.append(f"{failed} failed")
    return "; ".join(parts)
