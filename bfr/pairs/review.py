"""Looking through a pseudo-target set: what stands out, and which pairs to leave out.

What stands out is judged against the set itself, for what is usual depends on its photographs,
restorer and prior. A figure is flagged where it is worse than the set's median by more than
3.5 robust standard deviations (1.4826 times the median absolute deviation; Iglewicz and Hoaglin,
"How to Detect and Handle Outliers", 1993) and by more than a slack that the eye would notice. In a
set of fewer than 8 pairs only a face that is not found, or that became another person's, is
flagged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.identity import Identity, load_identity
from ..faces.retinaface import Detector
from ..image import sheets
from ..image.tensors import resize_square
from ..quality.metrics import METRICS, FaceBatch, Tools, caption
from ..records import OnStep
from .folder import FLAGGED, KEPT, KINDS, REJECTED, Pair, PairSet, in_order, read_image, read_pairs
from .writer import PairWriter

NO_FACE = "no face"
"""The flag of a target or guess in which no face is found."""

PAIRS_A_SHEET = 24
"""As many pairs as one contact sheet shows well."""

BY_HAND = "by hand"

_FEW = 8  # pairs that are no set to compare with
_OUTLIER = 3.5  # robust standard deviations
_EQUAL = 99.0  # decibels of images that are the same


@dataclass(frozen=True, slots=True)
class Rule:
    """When a metric stands out.

    Attributes:
        metric: its key in `METRICS`; targets are measured against their guesses.
        flag: what a pair is called then.
        worse: 1 where high is bad, -1 where low is bad.
        slack: by how much it must be worse than the median at least.
        limit: what is worse than this stands out in any set; None for no limit.
    """

    metric: str
    flag: str
    worse: int
    slack: float
    limit: float | None = None

    def beyond_limit(self, values: Tensor) -> Tensor:
        """Which of N values are worse than the limit."""
        limit = math.inf if self.limit is None else self.worse * self.limit
        return self.worse * values > limit

    def outliers(self, values: Tensor) -> Tensor:
        """Which of N values, at least one, are much worse than their median."""
        worse = self.worse * (values - values.quantile(0.5))
        spread = 1.4826 * float(worse.abs().quantile(0.5))
        return worse > max(self.slack, _OUTLIER * spread)


RULES = (
    Rule("identity", "somebody else", 1, 0.1, 0.6),  # first, for nothing is worse
    Rule("likeness", "drifted likeness", -1, 3.0),
    Rule("landmarks", "moved features", 1, 3.0),
    Rule("niqe", "unnatural texture", 1, 1.0),
    Rule("sharpness", "oversharp", 1, 1.0),  # here, more than the rest of the set is bad
    Rule("grain", "grainy", 1, 1.0),
    Rule("clipped", "clipped", 1, 3.0),
)
"""The rules; likeness is measured at the prior's size and at the target's low-pass factor."""


def check_pairs(
    folder: str | Path,
    detector: Detector,
    *,
    identity: Identity | None = None,
    on_step: OnStep | None = None,
) -> PairSet:
    """Measures the targets that have not been measured yet, and flags what stands out in the set.

    Both are written into the manifest; no pair is rejected.

    Args:
        folder: a pairs folder; not one that is being made at this moment.
        detector: of `load_detector`.
        identity: of `load_identity`, whose distances have dlib's scale; None for the
            embedded one, on the detector's device.
        on_step: progress in pairs; the preview is the target. Raising from it keeps what is done.

    Raises:
        InputError: if it is no pairs folder.
        OutputError: if it cannot be written to.
    """
    read_pairs(folder)  # refuses other folders before anything is written there
    with PairWriter(Path(folder)) as writer:
        pairs = in_order(writer.pairs.values())
        unknown = [pair for pair in pairs if pair.complete and not is_measured(pair)]
        if unknown and identity is None:
            identity = load_identity().to(detector.device)
        tools = Tools(detector, identity=identity)
        for done, pair in enumerate(unknown, 1):
            target = read_image(writer.folder, "target", pair)
            guess = read_image(writer.folder, "guess", pair)
            writer.put([replace(pair, measures=measure(target, guess, pair, tools))])
            if on_step is not None:
                on_step(done, len(unknown), target)
        pairs = in_order(writer.pairs.values())
        flags = find_flags([pair for pair in pairs if pair.complete])
        writer.put(
            replace(pair, flags=flags[pair.name])
            for pair in pairs
            if pair.complete and list(pair.flags) != flags[pair.name]
        )
    return read_pairs(folder)


def measure(target: Tensor, guess: Tensor, pair: Pair, tools: Tools) -> dict[str, float | None]:
    """The figures of one pair (`RULES`); None where there is none.

    Args:
        target: 1×3×S×S RGB in [0, 1].
        guess: 1×3×S×S RGB in [0, 1].
        pair: whose they are.
        tools: the detector and the identity network.
    """
    size, factor = pair.target["prior"]["size"], pair.target["constraint"]["factor"]
    tools = replace(tools, factor=factor)
    own = [FaceBatch(image, tools) for image in (target, guess)]
    at_priors_size = [FaceBatch(resize_square(image, size), tools) for image in (target, guess)]
    values = dict[str, float]()
    for key in (rule.metric for rule in RULES):
        batches = at_priors_size if key == "likeness" else own
        values[key] = float(METRICS[key].measure(*batches))
    values["likeness"] = min(values["likeness"], _EQUAL)
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def is_measured(pair: Pair) -> bool:
    """Whether a pair has all metrics of `RULES`; earlier versions knew fewer or other ones."""
    return all(rule.metric in pair.measures for rule in RULES)


def find_flags(pairs: Sequence[Pair]) -> dict[str, list[str]]:
    """The flags of measured pairs by their names."""
    flags = {
        pair.name: [NO_FACE] if pair.measures["landmarks"] is None else list[str]()
        for pair in pairs
    }
    for rule in RULES:
        known = [pair for pair in pairs if pair.measures[rule.metric] is not None]
        values = torch.tensor([pair.measures[rule.metric] for pair in known], dtype=torch.float64)
        standing_out = rule.beyond_limit(values)
        if len(pairs) >= _FEW and known:
            standing_out |= rule.outliers(values)
        for pair, flagged in zip(known, standing_out.tolist(), strict=True):
            if flagged:
                flags[pair.name].append(rule.flag)
    return flags


def mark_pairs(
    folder: str | Path,
    *,
    reject: Sequence[str] = (),
    keep: Sequence[str] = (),
    reject_flagged: bool = False,
) -> PairSet:
    """Rejects pairs, or takes that back; nothing is deleted.

    A pair that is kept by hand is not rejected for its flags.

    Args:
        folder: a pairs folder.
        reject: names of pairs, their numbers in the set, from 1, or ranges such as "3-7".
        keep: the same.
        reject_flagged: whether to reject all that are flagged (`check_pairs`).

    Raises:
        InputError: if it is no pairs folder, or a pair does not exist or is in both lists.
        OutputError: if the manifest cannot be written.
    """
    pairs = read_pairs(folder)
    rejected = {pair.name for pair in choose_pairs(pairs, reject)}
    kept = {pair.name for pair in choose_pairs(pairs, keep)}
    if both := sorted(rejected & kept):
        raise InputError(f"{both[0]} cannot be both rejected and kept. Name it once.")

    def marked(pair: Pair) -> Pair:
        if pair.name in rejected:
            return replace(pair, status=REJECTED, reason=BY_HAND)
        if pair.name in kept:
            return replace(pair, status=KEPT, reason=BY_HAND)
        if reject_flagged and pair.flags and pair.reason != BY_HAND:
            return replace(pair, status=REJECTED, reason=f"{FLAGGED}: {', '.join(pair.flags)}")
        return pair

    changed = [new for pair in pairs.pairs if (new := marked(pair)) != pair]
    if changed:
        with PairWriter(pairs.folder) as writer:
            writer.put(changed)
    return read_pairs(folder)


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
                f"There is no pair {word!r}: give a pair's name, or its number in the contact "
                f"sheet, 1 to {count}."
            )
        chosen += pairs.pairs[first - 1 : last]
    return chosen


def describe(pair: Pair) -> str:
    """The figures of a measured pair in words, as they stand below its target."""
    shown = (rule.metric for rule in RULES if rule.metric != "clipped")
    return caption({key: pair.measures.get(key) for key in shown})


def contact_sheet(pairs: PairSet, chosen: Sequence[Pair] | None = None, **options: Any) -> Tensor:
    """The picture of `lay_out_pairs`, which names the options: 1×3×H×W RGB in [0, 1]."""
    return lay_out_pairs(pairs, chosen, **options).picture


def lay_out_pairs(
    pairs: PairSet,
    chosen: Sequence[Pair] | None = None,
    *,
    cell: int = 160,
    across: int = 2,
    verdicts: bool = True,
) -> sheets.Sheet:
    """Degraded face, guess and target of pairs side by side, with numbers, figures and flags.

    A rejected pair's target has a red frame, a flagged one's an amber frame.

    Args:
        pairs: the set; a pair's number is its place in it, from 1.
        chosen: which to show, at most a few dozen (`PAIRS_A_SHEET`); None for the complete ones.
        cell: side of each image in pixels.
        across: pairs in a row.
        verdicts: whether to tell which are rejected.

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
            "There is no finished pair to show. Build the set first, or choose others."
        )
    images, labels, frames = [], [], []
    for pair in shown:
        images += [read_image(pairs.folder, kind, pair)[0] for kind in KINDS]
        rejected = verdicts and pair.status == REJECTED
        remarks = f"{pair.status} {pair.reason}" if rejected else ", ".join(pair.flags)
        headline = f"{numbers[pair.name]}{f': {remarks}' if remarks else ''}"
        labels += [f"{headline}\n{pair.name}", "", describe(pair)]
        frame = sheets.REJECTED if rejected else sheets.FLAGGED if pair.flags else None
        frames += [None, None, frame]
    across = min(across, len(shown))
    sheet = sheets.lay_out(
        images,
        labels,
        column_labels=("degraded", "guess", "pseudo target") * across,
        cell_size=cell,
        frames=frames,
    )
    ends = zip(sheet.boxes[:: len(KINDS)], sheet.boxes[len(KINDS) - 1 :: len(KINDS)], strict=True)
    return sheets.Sheet(sheet.picture, tuple(first[:2] + last[2:] for first, last in ends))
