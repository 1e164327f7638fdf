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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.identity import LIMIT, Identity, load_identity
from ..faces.retinaface import Detector
from ..image.resize import resize_square
from ..quality.face_batch import FaceBatch, Tools
from ..quality.metrics import METRICS
from ..records import OnStep
from .choose import choose_pairs
from .folder import FLAGGED, KEPT, REJECTED, PairSet, in_order, read_image, read_pairs
from .pair import Pair
from .writer import PairWriter, add_marks

NO_FACE = "no face"
"""The flag of a target or guess in which no face is found."""

BY_HAND = "by hand"

_FEW = 8  # pairs that are no set to compare with
_OUTLIER = 3.5  # robust standard deviations
_EQUAL = 99.0  # decibels of images that are the same


@dataclass(frozen=True, slots=True)
class Rule:
    """The condition under which a metric stands out.

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
        """Marks those of N values that are worse than the limit."""
        limit = math.inf if self.limit is None else self.worse * self.limit
        return self.worse * values > limit

    def outliers(self, values: Tensor) -> Tensor:
        """Marks those of N values, N at least 1, that are much worse than their median."""
        worse = self.worse * (values - values.quantile(0.5))
        spread = 1.4826 * float(worse.abs().quantile(0.5))
        return worse > max(self.slack, _OUTLIER * spread)


RULES = (
    Rule("identity", "somebody else", 1, 0.1, LIMIT),  # first, for nothing is worse
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
        folder: a pairs folder.
        detector: of `load_detector`.
        identity: of `load_identity`; None for the embedded one, on the detector's device.
        on_step: progress in pairs; the preview is the target. Raising from it keeps what is done.

    Raises:
        InputError: if it is no pairs folder.
        BusyError: if the set is being made at this moment.
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
    size, factor = _scale(pair, target.shape[-1])
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
    """True if a pair has all metrics of `RULES`; earlier versions knew fewer or other ones."""
    return all(rule.metric in pair.measures for rule in RULES)


def _scale(pair: Pair, own: int) -> tuple[int, int]:
    """The prior's size and the low-pass factor of a target; the paper's where none is recorded.

    Raises:
        InputError: if they cannot be those of a prior.
    """
    prior, constraint = pair.target.get("prior"), pair.target.get("constraint")
    if prior is None or constraint is None:  # a target from elsewhere
        return own, max(1, own // 64)
    try:
        size, factor = prior["size"], constraint["factor"]
        good = type(size) is int is type(factor) and 1 <= factor <= size <= 4096
    except (TypeError, KeyError):
        good = False
    if not good:
        raise InputError(
            f"The target of {pair.name} must record the prior's size and a factor up to it, got "
            f"{str(prior)[:60]} and {str(constraint)[:60]}. Delete its line in the manifest."
        )
    return size, factor


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
    """Rejects pairs, or takes that back; nothing is deleted. It works while a set is being made.

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
        raise InputError(f"A pair must be rejected or kept, got {both[0]} for both. Name it once.")

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
        add_marks(pairs.folder, changed)
    return read_pairs(folder)
