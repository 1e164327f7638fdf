"""Contact sheets of pairs: degraded face, guess and pseudo target side by side."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import InputError
from ..image import sheets
from ..quality.metrics import caption
from .folder import KINDS, REJECTED, PairSet, read_image
from .pair import Pair
from .review import RULES

PAIRS_A_SHEET = 24
"""As many pairs as one contact sheet shows well."""


def describe(pair: Pair) -> str:
    """The metrics of a measured pair in words, as they stand below its target."""
    shown = [rule.metric for rule in RULES if rule.metric != "clipped"]
    return caption({key: pair.measures.get(key) for key in shown})


def read_images(pairs: PairSet, chosen: Sequence[Pair]) -> list[Tensor]:
    """The images of pairs: three each (`KINDS`), 3×S×S RGB in [0, 1].

    Raises:
        ImageError: if a file is missing or damaged.
    """
    return [read_image(pairs.folder, kind, pair)[0] for pair in chosen for kind in KINDS]


def lay_out_pairs(
    pairs: PairSet,
    chosen: Sequence[Pair] | None = None,
    images: Sequence[Tensor] | None = None,
    *,
    cell: int = 160,
    across: int = 2,
    verdicts: bool = True,
) -> sheets.Sheet:
    """Degraded face, guess and target of pairs side by side, with numbers, metrics and flags.

    A rejected pair's target has a red frame, a flagged one's an amber frame.

    Args:
        pairs: the set; a pair's number is its place in it, from 1.
        chosen: complete pairs, at most a few dozen (`PAIRS_A_SHEET`); None for all complete ones.
        images: the images of these pairs (`read_images`); None reads them.
        cell: side of each image in pixels.
        across: pairs per row.
        verdicts: whether to show which are rejected.

    Returns:
        The sheet, with one box around the three images of each pair.

    Raises:
        InputError: if there is no complete pair to show.
        ImageError: if a file is missing or damaged.
    """
    numbers = {pair.name: number for number, pair in enumerate(pairs.pairs, 1)}
    shown = [pair for pair in (pairs.pairs if chosen is None else chosen) if pair.complete]
    if not shown:
        raise InputError(
            "A contact sheet must show finished pairs, got none. Build the set first, or choose "
            "others."
        )
    labels, frames = [], []
    for pair in shown:
        rejected = verdicts and pair.status == REJECTED
        remarks = f"{pair.status} {pair.reason}" if rejected else ", ".join(pair.flags)
        headline = f"{numbers[pair.name]}{f': {remarks}' if remarks else ''}"
        labels += [f"{headline}\n{pair.name}", "", describe(pair)]
        frame = sheets.RED if rejected else sheets.AMBER if pair.flags else None
        frames += [None, None, frame]
    across = min(across, len(shown))
    sheet = sheets.lay_out(
        read_images(pairs, shown) if images is None else images,
        labels,
        column_labels=("degraded", "guess", "pseudo target") * across,
        cell_size=cell,
        frames=frames,
    )
    ends = zip(sheet.boxes[:: len(KINDS)], sheet.boxes[len(KINDS) - 1 :: len(KINDS)], strict=True)
    return sheets.Sheet(sheet.picture, tuple(first[:2] + last[2:] for first, last in ends))
