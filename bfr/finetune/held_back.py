"""Holds pairs back from training, to score with."""

from __future__ import annotations

import hashlib

from ..errors import InputError
from ..pairs.folder import PairSet
from ..pairs.pair import Pair

MOST_HELD = 32
"""The most pairs to hold back, which bounds the cost of a validation."""


def split(pairs: PairSet, held_back: float) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Divides pairs into those to train with and those to score with.

    The choice follows from each pair's name; as a set grows, no pair that was trained with is
    ever held back.

    Args:
        pairs: the folder; its ``kept`` pairs count.
        held_back: share in [0, 0.5] to hold back: at least one pair, at most `MOST_HELD`; none
            if it is 0.

    Raises:
        InputError: if there are no pairs, or one alone and it would be held back.
    """
    kept = pairs.kept
    if not kept:
        total = len(pairs.pairs)
        unfinished = sum(not pair.complete for pair in pairs.pairs)
        raise InputError(
            f"{pairs.folder} must have pairs to train with, got {total}, of which {unfinished} "
            f"are not finished and {total - unfinished} rejected. Build the set, finish it, or "
            "take pairs back into it."
        )
    if held_back == 0:
        return kept, ()
    if len(kept) == 1:
        raise InputError(
            f"{pairs.folder} must have a pair to learn from and another to be scored with, got "
            "one. Add photographs, or set held_back to 0 to score with the same pair."
        )
    places = {pair.name: _place(pair.name) for pair in kept}
    wanted = sum(place < held_back for place in places.values())
    count = min(max(wanted, 1), len(kept) - 1, MOST_HELD)
    held = set(sorted(places, key=places.__getitem__)[:count])
    return (
        tuple(pair for pair in kept if pair.name not in held),
        tuple(pair for pair in kept if pair.name in held),
    )


def _place(name: str) -> float:
    """A number in [0, 1) that depends on a name only."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
