"""The guard: whether a tuned restorer may take its base's place.

Nothing here knows a clean original, and the pseudo targets may be wrong, so the guard never looks
at them. It compares, face by face, what the tuned restorer makes of a damaged face with what the
base makes of it, and asks two questions.

Is it better? Gains are NIQE, and detail up to what clean faces have (more of it is no gain, much
more is a loss). They must be more than noise: the mean over the faces is tested against its
standard error (a paired, one-sided t test).

Is it still the same photograph? Honest tuning adds fine detail; it leaves alone what the base
already shows. So there are limits to how much coarse detail may be amplified (over-sharpening,
edges drawn in), features may move or grow (another person, a warped one), lines may tremble,
colours may shift, lightness, tint, contrast and sharpness may change on all faces or a place of
them alike, texture may go from a place, and grain, specks, lines, waves, blocks, a pattern that
repeats or an edge's echo may appear.

Two kinds of bases are exceptions. Faded faces may get back the contrast that clean faces have,
though it is the same for all. And where the base's faces are none, such as those from a newspaper's
dots, they are no measure of light and colours.

What is no worse than the base anywhere passes, though it could be better.

The limits were chosen on one half of the sabotaged targets of `benchmarks/guard.py`, and so that
clean targets of the sample photographs pass; then on those of its cases that had been misjudged
(the mouth of another, clean faces for faded prints and newspaper, larger eyes, echoes), and on
restorers that were really tuned, one of which drew a mesh. Then came specks, lines, colours apart
and small shades, for what was accepted of the cases "fresh"; places that are sharpened or tinged,
grain of the shadows and people made equally light, for what was of the cases "last"; and places
that lose their texture and dark spots, for the three that still passed: smooth brows, smooth cheeks
and freckles; and people made lighter and darker, waves, blocks and lines that tremble, for four of
the cases "sly". Clean targets for strong camera noise, really trained, were refused until colours
that noise had blotched were allowed to settle, and faces to become as light as the damaged ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CLEAN, TOO_SHARP = 2.0, 3.5
"""The `sharpness` of clean faces of 256 px on average, and what few of them exceed."""

LIMITS = {
    "harshness": ("amplifies what was there (harsh edges, contrast)", 9.0),
    "moved": ("moves features", 0.45),
    "reshaped": ("moves a feature of all faces alike", 0.15),
    "resized": ("makes a feature of all faces larger or smaller", 0.35),
    "trembling": ("makes lines tremble", 28.0),
    "person": ("shows somebody else", 0.42),
    "estranged": ("shows somebody less like the person in the input", 0.08),
    "colour": ("shifts colours or lightness", 2.5),
    "lightness": ("makes all faces lighter or darker", 0.6),
    "cast": ("gives all faces a colour cast", 0.6),
    "tinge": ("colours a place of all faces", 1.5),
    "relit": ("makes some people lighter and others darker", 1.5),
    "levelled": ("makes people equally light", 6.0),
    "contrast": ("changes the contrast of all faces", 0.035),
    "shade": ("makes a place of all faces lighter or darker", 0.7),
    "sharpened": ("sharpens a place of all faces", 0.3),
    "smoothed": ("smooths a place of all faces", 0.2),
    "grain": ("adds grain", 1.0),
    "pattern": ("adds a pattern that repeats on all faces", 1.0),
    "mesh": ("draws a fine mesh", 1.0),
    "echo": ("draws edges twice", 8.0),
    "lines": ("draws lines across all faces", 0.5),
    "specks": ("adds specks", 4.0),
    "spotted": ("adds dark spots to all faces", 1.2),
    "apart": ("moves colours apart", 0.3),
    "waves": ("draws waves", 1.5),
    "blocks": ("draws blocks", 1.5),
    "niqe": ("makes the texture less like that of faces", 0.15),
}
"""Harms in words, and the most that their mean over the faces may be: percent of the amplitude of
detail of 2 to 4 px; px; px; percent; percent of the change; `identity_distance`; how much of it the
base has less of; ΔE; the L by which the faces move on average; the ab by which they, or one place
of them, move further alike than they differ, more for places smaller than 32 px; the L by which
each moves otherwise than the mean; percent of how people differ in L; the share of the base's
contrast; L of 32 px, more for smaller places; the power of e, twice; the share of what grain may be
(`GRAIN`); nepers of power; the share of what a mesh may be (`MESH`); percent of an edge; 255ths;
times the detail around; spots in a place; px; 255ths, twice; NIQE.

"reshaped", "resized", "lightness", "cast", "tinge", "levelled", "contrast", "shade", "sharpened",
"smoothed", "pattern", "echo", "lines", "spotted" and "apart" look at what all faces share: a repair
moves each its own way, a fault moves all alike.

The limits of colours are about what is seen at all. On faces laid side by side, a cast of 0.6 was
not seen, one of 1.2 hardly; skin turned in hue by 5° (ΔE 2.3) was just seen beside skin turned by
−5°, and by 10° clearly. Repairs move colours as much, so tighter limits would refuse them."""

_EARNED = 8.0  # ΔE that colours may shift more for a gain of 1: large repairs change colours, too
# What more the limits allow for a doubled contrast of faded faces, which moves all that.
_REPAIRED = {"colour": 25.0, "lightness": 10.0, "cast": 3.0, "tinge": 20.0, "estranged": 0.05}
# And for faces that were none and became some (`FAILED`): of those the base knows little.
_MENDED = {
    **{"colour": 3.0, "lightness": 1.5, "cast": 0.6, "tinge": 7.0},
    **{"contrast": 0.08, "estranged": 0.04, "sharpened": 0.15},
}
_LEAST = 0.005  # a gain below it is none, however sure
_FEW = 8  # faces: fewer say little
_LONE = 0.03  # the gain that a single face must show


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement of whether a restorer is better than its base.

    Attributes:
        better: whether it may take its place.
        gain: the mean over the faces, as a share: 0.05 is 5 %.
        error: its standard error; infinite for a single face.
        faces: how many there are.
        harms: what it does to them, in words with numbers.
    """

    better: bool
    gain: float
    error: float
    faces: int
    harms: tuple[str, ...] = ()

    def describe(self) -> str:
        """The gain and the harms in words."""
        spread = "" if math.isinf(self.error) else f" ± {self.error:.1%}"
        words = [f"{self.gain:+.1%}{spread} on {self.faces} face{'s' * (self.faces != 1)}"]
        if self.harms:
            words.append(f"it {'; '.join(self.harms)}")
        elif not self.better and self.gain >= _LEAST:
            words.append("within the noise")
        elif self.better and self.faces < _FEW:
            words.append("so few say little")
        return ", but ".join(words) if self.harms else ": ".join(words)


def judge(figures: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]]) -> Verdict:
    """Decides whether a restorer with these figures beats the base with those.

    Args:
        figures: of `compare`, for the tuned restorer.
        base: of `compare`, for the base against itself.
    """
    gains = [
        value
        for value in map(
            _gain, base["niqe"], figures["niqe"], base["sharpness"], figures["sharpness"]
        )
        if not math.isnan(value)
    ]
    count = len(gains)
    if not count:
        return Verdict(False, 0.0, math.inf, 0, ("gives pictures that cannot be measured",))
    gain = _mean(gains)
    spread = math.sqrt(sum((value - gain) ** 2 for value in gains) / max(count - 1, 1))
    error = spread / math.sqrt(count) if count > 1 else math.inf
    harms = tuple(_harms(figures, base, gain))
    sure = gain > _quantile(count) * error if count > 1 else gain > _LONE
    return Verdict(not harms and gain >= _LEAST and sure, gain, error, count, harms)


def _gain(niqe_before: float, niqe: float, sharp_before: float, sharp: float) -> float:
    """The gain of one face in [-1, 1]; NaN where it cannot be measured."""
    before, after = _worth(sharp_before), _worth(sharp)
    texture = (niqe_before - niqe) / max(niqe_before, niqe, 1e-6)
    detail = (after - before) / max(after, before, 1e-6)
    return (texture + detail) / 2


def _worth(sharpness: float) -> float:
    """Detail as it counts: up to what clean faces have; what exceeds it far counts against it."""
    return max(min(sharpness, CLEAN) - max(sharpness - TOO_SHARP, 0.0), 0.0)


def _harms(
    figures: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]], gain: float
) -> list[str]:
    found = []
    lost = sum(
        math.isnan(after) > math.isnan(before)
        for before, after in zip(base["niqe"], figures["niqe"], strict=True)
    )
    if lost:
        found.append(f"gives pictures without content ({lost})")
    for name, (words, limit) in LIMITS.items():
        if name == "niqe":
            pairs = zip(base[name], figures[name], strict=True)
            value = _mean([after - before for before, after in pairs])
        else:
            value = _mean(figures.get(name, ()))
        if name == "colour":
            limit += _EARNED * max(gain, 0.0)
        limit += _REPAIRED.get(name, 0.0) * _mean(figures.get("repaired", ()))
        limit += _MENDED.get(name, 0.0) * _mean(figures.get("mended", ()))
        if value > limit:
            found.append(f"{words} ({value:.3g}, at most {limit:.3g})")
    return found


def _quantile(count: int) -> float:
    """Student's t for one-sided 95 % and that many faces, to 0.15 (0.3 for two)."""
    return 1.645 + 1.5 / (count - 1) + 3 / (count - 1) ** 3


def average(values: Sequence[float]) -> float | None:
    """The mean of those that are numbers; None if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _mean(values: Sequence[float]) -> float:
    return average(values) or 0.0
