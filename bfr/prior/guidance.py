"""Guidance as people set it: two sliders, single values that override them, 0 for "auto".

Nodes, commands, sweeps and benchmarks all turn their inputs into a `Guidance`, and it into the
`SampleSettings` for a given prior. Its numbers are those of the widgets everywhere, reports
included: meant for faces of 512 pixels (`PAPER_SIZE`), whatever the prior's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..choices import CALLS, FREEDOM, HOLDS
from ..errors import InputError
from .constraint import PAPER_SIZE, Constraint
from .prior import Prior
from .schedule import respace
from .settings import SampleSettings, check_prior, for_prior, learned_steps
from .soft import SoftHold

# The ends of the slider "freedom", for faces of 512 pixels: "exactly this face" and "a new face
# like it". Up to the middle the smallest factor is best in all metrics; beyond it a larger one
# adds variety.
_ERROR = (0.03, 4.0)
_START = (60, 150)
_FACTOR = (2, 16)
_LARGER_FROM = 0.5
# Beyond this freedom edges are let go of later than smooth places, fully so in the middle.
_FIRM_FROM = 0.25
_PAPER_START = (45, 95)
_PAPER_FACTOR = (4, 32)
_GAIN = 0.5  # the detail gain at the end of the slider "detail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The freedom of pseudo targets from their guesses, and the settings of sampling.

    Attributes:
        freedom: from 0, "exactly this face", to 1, "a new face like it"; moves error, start and
            factor together wherever these are 0, and how much more firmly edges are held.
        detail: from -1, softer, over 0, the prior's own, to 1, sharper; of the soft hold.
        hold: "soft", "paper", or "auto": the paper's if ``start`` or ``stop`` is set, as in
            workflows made before the soft hold, else the soft one.
        start: the step that the guess is noised to; 0 follows freedom.
        stop: of the paper's hold, the last constrained step. 0 follows freedom if ``start`` is 0
            too, and else holds to the end.
        factor: the low-pass factor; 0 follows freedom.
        error: of the soft hold, σₙ, how wrong a clean guess may be, at edges as elsewhere; 0
            follows freedom.
        strength: 1 holds fully, 0 not at all.
        sampler, eta, steps, seed, batch_size: see `SampleSettings`.
        calls: network calls per face, at most one per step from start; 0 for one per step. As
            many as fit if start follows freedom.
        suit_prior: adapts start, stop, factor and error to a prior of another size than 512;
            without it they are taken as the prior's own.

    Raises:
        InputError: if a value is out of its range, or has no effect on the chosen hold.
    """

    freedom: float = FREEDOM
    detail: float = 0.0
    hold: str = "auto"
    start: int = 0
    stop: int = 0
    factor: int = 0
    error: float = 0.0
    strength: float = 1.0
    sampler: str = "dpm-solver++"
    calls: int = CALLS
    eta: float = 0.0
    steps: int = 250
    seed: int = 0
    batch_size: int = 4
    suit_prior: bool = True

    def __post_init__(self):
        if self.hold not in HOLDS:
            raise InputError(
                f"hold must be one of {', '.join(HOLDS)}, got {self.hold!r}. Choose one of them."
            )
        for name, low in (("freedom", 0), ("detail", -1)):
            if not low <= (value := getattr(self, name)) <= 1:
                raise InputError(f"{name} must be in [{low}, 1], got {value}. Move it inside.")
        for name in ("start", "stop", "factor", "error"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise InputError(f"{name} must be at least 0, got {value}. 0 follows freedom.")
        if self.soft and self.stop:
            raise InputError(
                f"stop must be 0 with the soft hold, which fades by itself, got {self.stop}. Set "
                "stop to 0, or choose the paper's hold."
            )
        for name in ("error", "detail"):
            if not self.soft and (value := getattr(self, name)):
                raise InputError(
                    f"{name} must be 0 with the paper's hold, got {value:g}. Set it to 0, or "
                    "choose the soft hold."
                )

    @property
    def soft(self) -> bool:
        """True for the soft hold, False for the paper's."""
        return self.hold == "soft" or (self.hold == "auto" and not (self.start or self.stop))

    def settings(self, prior: Prior) -> SampleSettings:
        """The settings for sampling with a prior.

        Raises:
            InputError: if a value is out of its range, or beyond what the prior has learned.
        """
        size = PAPER_SIZE if self.suit_prior else prior.size
        hold = self._hold()
        shared = {
            "steps": self.steps,
            "sampler": self.sampler,
            "eta": self.eta,
            "seed": self.seed,
            "batch_size": self.batch_size,
        }
        # A start that is given limits the calls; one that follows freedom takes what fits.
        asked = SampleSettings(hold, calls=(self.calls or None) if self.start else None, **shared)
        settings = for_prior(asked, prior, size)
        if not self.start:  # what follows the slider never asks for more than there is
            learned = learned_steps(prior, respace(prior.schedule, self.steps))
            settings = replace(settings, constraint=_at_most(settings.constraint, learned))
        calls = min(self.calls, settings.constraint.start) or None
        settings = replace(settings, calls=calls)
        check_prior(prior, settings)
        return replace(settings, described=self._words(hold, prior, settings))

    def _hold(self) -> Constraint | SoftHold:
        """The hold in the widgets' numbers, what is 0 by the slider."""
        if not self.soft:
            start = self.start or self._step(_PAPER_START)
            stop = self.stop or (0 if self.start else start * 2 // 3)
            factor = self.factor or _power(_PAPER_FACTOR, self.freedom)
            return Constraint(factor, self.strength, start, stop)
        beyond = (self.freedom - _LARGER_FROM) / (1 - _LARGER_FROM)
        return SoftHold(
            factor=self.factor or _power(_FACTOR, beyond),
            strength=self.strength,
            start=self.start or self._step(_START),
            error=self.error or _ERROR[0] * (_ERROR[1] / _ERROR[0]) ** self.freedom,
            detail=self.detail * _GAIN,
            edges=0.0 if self.error else self._edges(),
        )

    def _edges(self) -> float:
        """How much more firmly edges are held than the rest, in [0, 1]."""
        return min(max((self.freedom - _FIRM_FROM) / (_LARGER_FROM - _FIRM_FROM), 0.0), 1.0)

    def _step(self, ends: tuple[int, int]) -> int:
        """A step by freedom, of ends that count in the paper's 250."""
        return max(2, round(_between(ends, self.freedom) * self.steps / 250))

    def _words(self, hold: Constraint | SoftHold, prior: Prior, settings: SampleSettings) -> str:
        """The hold in the widgets' numbers, and in the prior's own where they differ."""
        own = settings.constraint
        values = f"start {hold.start}, "
        if isinstance(hold, Constraint) and isinstance(own, Constraint):
            held = sum(map(own.holds_at, settings.reached[:-1]))
            values += f"stop {hold.stop} ({held} calls constrained), "
        elif isinstance(hold, SoftHold):
            edges = f", edges {hold.edges:.2g}" if hold.edges else ""
            values += f"error {hold.error:.2g}{edges}, detail {self.detail:g}, "
        values += f"factor {hold.factor}, strength {hold.strength:g}"
        name = "soft hold" if self.soft else "paper's hold"
        follows = not (self.start and self.factor and (self.error or not self.soft))
        words = f"{name}, freedom {self.freedom:g}: {values}" if follows else f"{name}: {values}"
        if own == hold:
            return words
        stop = f", stop {own.stop}" if isinstance(own, Constraint) else f", error {own.error:.2g}"
        return (
            f"{words} (for {PAPER_SIZE} px; of this prior of {prior.size} px: step {own.start} of "
            f"{settings.steps}{stop}, factor {own.factor})"
        )


def _at_most(hold: Constraint | SoftHold, start: int) -> Constraint | SoftHold:
    if hold.start <= start:
        return hold
    if isinstance(hold, Constraint):
        return replace(hold, start=start, stop=min(hold.stop, start - 1))
    return replace(hold, start=start)


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _power(ends: tuple[int, int], share: float) -> int:
    """The power of two nearest to the geometric mean of two, weighted by ``share`` above 0."""
    return 2 ** round(_between((math.log2(ends[0]), math.log2(ends[1])), max(share, 0)))
