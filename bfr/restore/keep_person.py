"""Keeping the person: limits how far a restoration may change who a face shows.

A restorer may paint somebody else. For each face, the largest share of its restoration is used that
keeps its embedding within a limit of the damaged face's. Damage itself also moves an embedding, so
the limit grows with the damage. How much that is shows in the mirrored face: it is the same person,
so the distance between the two embeddings is due to the damage (`calibrated_limit`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.identity import Identity, distance_of, readable
from ..faces.landmarks import landmarks_of
from ..records import Face, counted

STEPS = 5
"""Halvings of the share: it is found to a 32nd."""


@dataclass(frozen=True, slots=True)
class KeptPeople:
    """Restored faces that stay the same people.

    Attributes:
        crops: N×3×S×S RGB in [0, 1].
        shares: for each face how much of its restoration was taken, 0 to 1.
        distances: how far each face is from the damaged one's person; NaN where that cannot be
            said, because the face is too small or turned too far, or where nobody asked.
    """

    crops: Tensor
    shares: tuple[float, ...]
    distances: tuple[float, ...]

    def split(self, counts: Sequence[int]) -> list[KeptPeople]:
        """The faces of several pictures, of which each has as many as ``counts`` says."""
        ends = list(accumulate(counts, initial=0))
        return [
            KeptPeople(self.crops[i:j], self.shares[i:j], self.distances[i:j])
            for i, j in pairwise(ends)
        ]

    def describe(self, index: int) -> str:
        """A face's share and distance in words, for reports."""
        distance, share = self.distances[index], self.shares[index]
        words = "identity unknown" if math.isnan(distance) else f"identity {distance:.2f}"
        return words if share == 1 else f"{words}, {share:.0%} restored to keep the person"

    def entries(self) -> list[dict[str, float | None]]:
        """Each face's share and distance for a report; None where it is unknown."""
        return [
            {
                "identity_distance": None if math.isnan(distance) else round(distance, 3),
                "restored_share": round(share, 3),
            }
            for share, distance in zip(self.shares, self.distances, strict=True)
        ]


def describe_many(shares: Sequence[float], distances: Sequence[float]) -> str:
    """A face's shares and distances through a clip in words, for reports; NaN is left out."""
    known = sorted(distance for distance in distances if not math.isnan(distance))
    words = "identity unknown"
    if known:
        words = f"identity {known[len(known) // 2]:.2f}, at most {known[-1]:.2f}"
    taken = [share for share in shares if not math.isnan(share)]
    if not taken or min(taken) == 1:
        return words
    mean = sum(taken) / len(taken)
    return f"{words}, {mean:.0%} restored to keep the person, at least {min(taken):.0%}"


@torch.no_grad()
def keep_person(
    crops: Tensor,
    restored: Tensor,
    faces: Sequence[Face] | None,
    identity: Identity | None,
    amount: float = 0.5,
) -> KeptPeople:
    """Takes as much of each face's restoration as leaves it the same person.

    With y the crop, R the restored one and e their embeddings, the result is ``y + s·(R − y)``
    with the largest share s that keeps ``|e(result) − e(y)|`` within `calibrated_limit`, found by
    bisection over all faces at once. A face whose person cannot be read is restored whole.

    Args:
        crops: N×3×S×S RGB in [0, 1], the damaged aligned faces.
        restored: N×3×S×S RGB in [0, 1], the same restored.
        faces: where they are in their photographs, which says how large and how turned they are;
            None if that is not known, and all of them can be read.
        identity: of `load_identity`; None restores all faces whole and measures nothing.
        amount: from 0, which only measures, to 1, which allows least.

    Returns:
        The faces, on the device of ``restored``.

    Raises:
        InputError: for an amount out of [0, 1], or not as many faces as crops.
    """
    if not 0 <= amount <= 1:
        raise InputError(f"keep_person must be in [0, 1], got {amount}.")
    count = len(crops)
    if len(restored) != count or (faces is not None and len(faces) != count):
        places = "" if faces is None else f" and {counted(len(faces), 'place')}"
        raise InputError(
            f"Restored faces, crops and places must be as many, got {len(restored)} restored of "
            f"{counted(count, 'crop')}{places}. Give those of one alignment."
        )
    if identity is None or not count:
        return KeptPeople(restored, (1.0,) * count, (math.nan,) * count)
    own = identity.embed(crops)
    known = torch.ones(count, dtype=torch.bool, device=own.device)
    if faces is not None:
        known = readable(landmarks_of(faces)).to(own.device)
    limit = torch.full((count,), math.inf, device=own.device)
    if amount:
        limit = calibrated_limit(distance_of(identity.embed(crops.flip(3)), own), amount)
    share = torch.ones(count, device=own.device)
    apart = distance_of(identity.embed(restored), own)
    changed = (known & (apart > limit)).nonzero()[:, 0]
    if len(changed):
        share[changed], apart[changed] = _largest_shares(
            crops[changed.to(crops.device)],
            restored[changed.to(restored.device)],
            own[changed],
            limit[changed],
            identity,
        )
        weights = share.to(restored)[:, None, None, None]
        restored = torch.where(weights < 1, crops.lerp(restored, weights), restored)
    distances = apart.double().where(known, torch.nan)
    return KeptPeople(restored, tuple(share.tolist()), tuple(distances.tolist()))


def calibrated_limit(unsteadiness: Tensor, amount: float) -> Tensor:
    """The largest distance that a restored face may have from the damaged one's person.

    Measured on 75 held-out faces under three kinds of damage: the damaged face is 0.27, 0.34, 0.40
    and 0.43 from its clean original where its mirror image is 0.15, 0.19, 0.22 and 0.27 from it
    (quartiles; correlation 0.66, the best of what can be known without the original), and nine in
    ten honest restorations of the embedded network are within 0.27, 0.32, 0.45 and 0.44 of it. At
    an amount of 0.5 the limit is just above those.

    Args:
        unsteadiness: distances between the damaged faces' embeddings and those of their mirror
            images.
        amount: in (0, 1].

    Returns:
        Distances, on the scale of all networks (`bfr.faces.identity`).
    """
    return (0.25 + unsteadiness) * (1.5 - amount)


def _largest_shares(
    crops: Tensor, restored: Tensor, own: Tensor, limit: Tensor, identity: Identity
) -> tuple[Tensor, Tensor]:
    """The largest shares of the restoration within the limit, and the distances there."""
    low, high = torch.zeros_like(limit), torch.ones_like(limit)
    apart = torch.zeros_like(limit)
    for _ in range(STEPS):
        middle = (low + high) / 2
        blend = crops.lerp(restored, middle.to(crops)[:, None, None, None])
        found = distance_of(identity.embed(blend), own)
        within = found <= limit
        low, high = middle.where(within, low), high.where(within, middle)
        apart = found.where(within, apart)
    return low, apart
