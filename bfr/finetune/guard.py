"""The guard: whether a tuned restorer may take its base's place.

Nothing here knows a clean original, and the pseudo targets may be wrong, so the guard never looks
at them. It compares, face by face, what the tuned restorer makes of a damaged face with what the
base makes of it, and asks two questions.

Is it better? Gains are NIQE, and detail up to what clean faces have (more of it is no gain, much
more is a loss). They must be more than noise: the mean over the faces is tested against its
standard error (a paired, one-sided t test).

Is it still the same photograph? Honest tuning adds fine detail; it leaves alone what the base
already shows. So there are limits to how much coarse detail may be amplified (over-sharpening,
edges drawn in), features may move (another person, a warped one), colours may shift, lightness,
tint and contrast may change on all faces alike, and grain or a pattern that repeats may appear.

Faded faces are the exception: what gives them back the contrast that clean faces have is a repair,
though it is the same for all.

The limits were chosen on one half of the sabotaged targets of `benchmarks/guard.py`, and so that
clean targets of the sample photographs pass; they were checked on the other half, where two misses
(the mouth of another, and clean faces for faded prints) led to "estranged" and to what it allows
for a repaired contrast. Measures, limits and verdict stand in one module, to be
read together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_lab
from kornia.filters import gaussian_blur2d
from torch import Tensor

from ..faces.identity import Identity, distance_of
from ..image.tensors import luma, resize_square
from ..quality.niqe import niqe
from ..quality.texture import colour_grain, grain, sharpness

Figures = dict[str, list[float]]
"""By name, a value per face; NaN where a face has none."""

SIZE = 256
"""Side in pixels at which faces are compared; larger ones are made smaller."""

CLEAN, TOO_SHARP = 2.0, 3.5
"""The `sharpness` of clean faces of 256 px on average, and what few of them exceed."""

GRAIN = 1.25, (1.0, 0.6)
"""Grain of luma and of colours may be so many times the base's, and at least so many 255ths: clean
faces have some."""

FADED = 45.0
"""The contrast of faded faces on average: 95 % of a face's blocks are less than that lighter in L
than its darkest twentieth. Clean ones have 57 ± 12."""

LIMITS = {
    "harshness": ("amplifies what was there (harsh edges, contrast)", 9.0),
    "moved": ("moves features", 0.45),
    "reshaped": ("moves a feature of all faces alike", 0.15),
    "person": ("shows somebody else", 0.42),
    "estranged": ("shows somebody less like the person in the input", 0.08),
    "colour": ("shifts colours or lightness", 2.5),
    "lightness": ("makes all faces lighter or darker", 0.6),
    "cast": ("gives all faces a colour cast", 0.6),
    "tinge": ("colours a place of all faces", 1.5),
    "contrast": ("changes the contrast of all faces", 0.035),
    "shade": ("makes a place of all faces lighter or darker", 0.7),
    "grain": ("adds grain", 1.0),
    "pattern": ("adds a pattern that repeats on all faces", 1.0),
    "niqe": ("makes the texture less like that of faces", 0.15),
}
"""Harms in words, and the most that their mean over the faces may be: percent of the amplitude of
detail of 2 to 4 px; px; px; `identity_distance`; how much of it the base has less of; ΔE; the L by
which the faces move on average; the ab by which they, or one place of them, move further alike than
they differ; the share of the base's contrast; L; the share of what grain may be (`GRAIN`); nepers
of power; NIQE.

"reshaped", "lightness", "cast", "tinge", "contrast", "shade" and "pattern" look at what all faces
share: a repair moves each its own way, a fault moves all alike."""

_EARNED = 8.0  # ΔE that colours may shift more for a gain of 1: large repairs change colours, too
# What more the limits allow for a doubled contrast of faded faces, which moves all that.
_REPAIRED = {"colour": 25.0, "lightness": 10.0, "cast": 3.0, "tinge": 20.0, "estranged": 0.05}
_CHANCES = 3.0  # squared standard errors by which some place of all stands out by chance
_SPREAD_L, _SPREAD_PX = 1.0, 0.2  # what one face more would add to the squared spread of places
_SPREAD_CAST, _SPREAD_TINGE = 1.2, 2.0  # the same of a face's colour, and of a place's
_LEAST = 0.005  # a gain below it is none, however sure
_FEW = 8  # faces: fewer say little
_LONE = 0.03  # the gain that a single face must show
_CHANCE = 6.0  # nepers by which some frequency of a single face stands out by chance


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the guard sees of N restored faces.

    Attributes:
        niqe: N values.
        sharpness: N values.
        grain: N×2 values, of luma and colours.
        coarse: N×1×S×S, the luma's detail of 2 to 4 px.
        shape: N×1×S×S, the luma blurred by 2 px.
        colours: N×3×16×16, CIE Lab of its blocks.
        person: N×D embeddings of `Identity`.
        spectrum: how far each frequency of the faces at their own size stands out.
    """

    niqe: Tensor
    sharpness: Tensor
    grain: Tensor
    coarse: Tensor
    shape: Tensor
    colours: Tensor
    person: Tensor
    spectrum: Tensor


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a restorer is better than its base.

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


@torch.no_grad()
def look(faces: Tensor, identity: Identity) -> Look:
    """Measures restored faces by themselves.

    Args:
        faces: N×3×S×S RGB in [0, 1], aligned, S at least 16.
        identity: of `load_identity`.
    """
    faces = faces.float()
    small = resize_square(faces, SIZE).clamp(0, 1)
    grey = luma(small)
    shape = _blurred(grey, 2.0)
    return Look(
        niqe=niqe(faces),
        sharpness=sharpness(small),
        grain=torch.stack([grain(faces), colour_grain(faces)], 1),
        coarse=shape - _blurred(grey, 4.0),
        shape=shape,
        colours=rgb_to_lab(F.avg_pool2d(small, SIZE // 16)),
        person=identity.embed(faces).cpu(),
        spectrum=_spectrum(luma(faces)),
    )


@torch.no_grad()
def compare(base: Look, tuned: Look, given: Tensor | None = None) -> Figures:
    """The figures of tuned faces, some against those of the same faces by the base.

    Args:
        base, tuned: of `look`.
        given: N×D embeddings of the damaged faces; None leaves out "estranged".
    """
    strength = [look.coarse.square().mean((1, 2, 3)).sqrt() for look in (base, tuned)]
    allowed = torch.maximum(GRAIN[0] * base.grain, base.grain.new_tensor(GRAIN[1]))
    # What stands out by chance falls with the number of faces.
    pattern = (tuned.spectrum - base.spectrum).max() - _CHANCE / math.sqrt(len(tuned.niqe))
    shift, count = tuned.colours - base.colours, len(tuned.niqe)
    lightness = base.colours[:, 0], tuned.colours[:, 0]
    slopes = _slope(*lightness)
    repaired = _repaired(lightness[0], float(slopes.mean()))
    flow, weight = _flow(base.shape, tuned.shape)
    found = {
        "niqe": tuned.niqe,
        "sharpness": tuned.sharpness,
        "harshness": 100 * (strength[1] / strength[0].clamp(min=1e-6) / (1 + repaired) - 1),
        "moved": (flow.norm(dim=1, keepdim=True) * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)),
        "reshaped": _reshaped(flow, weight).expand(count),
        "person": distance_of(tuned.person, base.person),
        "colour": shift.norm(dim=1).mean((1, 2)),
        "lightness": shift[:, 0].mean().abs().expand(count),
        "cast": _alike(shift[:, 1:].mean((2, 3), keepdim=True), _SPREAD_CAST).expand(count),
        "tinge": _alike(F.avg_pool2d(shift[:, 1:], 2), _SPREAD_TINGE).expand(count),
        "contrast": (slopes.mean() - 1 - repaired).abs().expand(count),
        "repaired": torch.tensor(repaired).expand(count),
        "shade": _shade(*lightness, slopes).expand(count),
        "grain": (tuned.grain / allowed).amax(1),
        "pattern": pattern.expand(count),
    }
    if given is not None:
        found["estranged"] = distance_of(tuned.person, given) - distance_of(base.person, given)
    return {name: values.double().tolist() for name, values in found.items()}


def judge(figures: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]]) -> Verdict:
    """Whether a restorer with these figures beats the base with those.

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
        if value > limit:
            found.append(f"{words} ({value:.3g}, at most {limit:.3g})")
    return found


def _slope(before: Tensor, after: Tensor) -> Tensor:
    """N regression slopes of N×H×W values; 1 where there is nothing to tell one by."""
    x, y = (values - values.mean((1, 2), keepdim=True) for values in (before, after))
    power = x.square().sum((1, 2))
    return torch.where(power > 1e-6, (x * y).sum((1, 2)) / power.clamp(min=1e-6), 1.0)


def _quantile(count: int) -> float:
    """Student's t for one-sided 95 % and that many faces, to 0.15 (0.3 for two)."""
    return 1.645 + 1.5 / (count - 1) + 3 / (count - 1) ** 3


def average(values: Sequence[float]) -> float | None:
    """The mean of those that are numbers; None if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _mean(values: Sequence[float]) -> float:
    return average(values) or 0.0


def _repaired(before: Tensor, slope: float) -> float:
    """By what share a changed contrast brings faded faces, N×16×16 L, nearer to clean ones.

    At most twice what `FADED` is above theirs: clean ones have more than that.
    """
    low, high = (before.flatten(1).quantile(share, 1).mean() for share in (0.05, 0.95))
    missing = max(FADED / max(float(high - low), 1.0) - 1, 0.0)
    return min(max(slope - 1, 0.0), 2 * missing)


def _shade(before: Tensor, after: Tensor, slopes: Tensor) -> Tensor:
    """By how much L changes at the place where all faces change most, contrast aside."""
    before, after = (x - x.mean((1, 2), keepdim=True) for x in (before, after))
    left = after - slopes[:, None, None] * before
    return _shared(F.avg_pool2d(left[:, None], 2), _SPREAD_L)


def _alike(values: Tensor, spread: float) -> Tensor:
    """By how much N×C×H×W move further alike than they differ, where they do most."""
    count, mean = len(values), values.mean(0)
    variance = ((values - mean).square().sum((0, 1)) + spread**2) / count
    return (mean.norm(dim=0) - variance.sqrt()).clamp(min=0).max()


def _shared(values: Tensor, spread: float) -> Tensor:
    """The largest vector of N×C×H×W that all N share, beyond what chance would give."""
    count, mean = len(values), values.mean(0)
    variance = ((values - mean).square().sum(0) + spread**2) / count
    return (mean.square() - _CHANCES * variance / count).sum(0).clamp(min=0).max().sqrt()


def _reshaped(flow: Tensor, weight: Tensor) -> Tensor:
    """How far that eighth of the faces moves, in px, which moves most and alike in all."""
    side = flow.shape[-1] // 8
    weights = F.avg_pool2d(weight, side)
    cells = F.avg_pool2d(flow * weight, side) / weights.clamp(min=1e-12)
    shown = weights.mean(0) > 0.3 * weights.mean()
    return _shared(cells * shown, _SPREAD_PX)


def _flow(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """How far features moved: N×2×H×W optical flow in px, and the N×1×H×W weight that it has.

    One step of Lucas and Kanade (1981) under Gaussian windows, on blurred luma of N×1×S×S whose
    slow changes of lightness are taken out, and the contrast of the whole.
    """
    along_x = (before[..., 1:-1, 2:] - before[..., 1:-1, :-2]) / 2
    along_y = (before[..., 2:, 1:-1] - before[..., :-2, 1:-1]) / 2
    before, after = (x - _blurred(x, 8.0) for x in (before, after))
    slope = _slope(before[:, 0], after[:, 0]).clamp(0.5, 2)[:, None, None, None]
    change = (after / slope - before)[..., 1:-1, 1:-1]
    xx, yy, xy, xt, yt = (
        _blurred(product, 6.0)
        for product in (
            along_x.square(),
            along_y.square(),
            along_x * along_y,
            along_x * change,
            along_y * change,
        )
    )
    weight = (xx * yy - xy.square()).clamp(min=0).sqrt()  # where edges of several directions meet
    xx, yy = xx + 1e-5, yy + 1e-5
    determinant = xx * yy - xy.square()
    flow = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], 1) / determinant
    return flow, weight.clamp(min=1e-12)


def _spectrum(grey: Tensor) -> Tensor:
    """How far each frequency stands out: the log of the mean power above its surroundings'.

    What repeats at the same place on all faces stands out; what belongs to a face does not. Low
    frequencies, where faces differ little, are left out.
    """
    side = grey.shape[-1]
    window = torch.hann_window(side, periodic=False).to(grey)
    centred = (grey - grey.mean((2, 3), keepdim=True))[:, 0] * window[:, None] * window
    power = torch.fft.fftshift(torch.fft.fft2(centred).abs().square().mean(0))
    log = power.clamp(min=1e-12).log()
    around = F.avg_pool2d(F.pad(log[None, None], (4,) * 4, mode="circular"), 9, 1)[0, 0]
    low = slice(round(0.42 * side), round(0.58 * side))
    standing = log - around
    standing[low, low] = 0
    return standing


def _blurred(images: Tensor, deviation: float) -> Tensor:
    side = 2 * math.ceil(2.5 * deviation) + 1
    return gaussian_blur2d(images, (side, side), (deviation, deviation), "reflect")
