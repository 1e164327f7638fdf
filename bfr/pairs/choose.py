"""Chooses pairs by name, by number or by range."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import InputError
from .folder import PairSet
from .pair import Pair


def choose_pairs(pairs: PairSet, words: Iterable[str]) -> list[Pair]:
    """The pairs that words name: their names, their numbers from 1, or ranges of them.

    Raises:
        InputError: for a word that names none.
    """
    by_name = {pair.name: pair for pair in pairs.pairs}
    count, chosen = len(pairs.pairs), list[Pair]()
    for word in words:
        word = word.strip().removesuffix(".png")
        if word in by_name:
            chosen.append(by_name[word])
            continue
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (0, 0)
        if not 1 <= first <= last <= count:
            raise InputError(
                f"A pair must be given by its name or by its number on the contact sheet, 1 to "
                f"{count}, got {word!r}. Look it up there."
            )
        chosen += pairs.pairs[first - 1 : last]
    return chosen
