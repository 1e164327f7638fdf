"""The guard's figures: what the tuned restorer makes of faces, against what the base does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..faces.identity import distance_of
from ..image.tensors import luma
from .drawn import blocks, waves
from .look import Given, Look, blurred, light_of
from .motion import apart, changed, flow, moved, reshaped, resized, trembling
from .places import shade, sharpened, smoothed, spotted, tinge
from .shared import alike, shared_each, slope

Figures = dict[str, list[float]]
"""By name, a value per face; NaN where a face has none."""

GRAIN = 1.25, (0.6, 1.0, 1.0, 1.0, 1.0)
"""Grain of colours, and of luma where faces are dark to light, may be so many times the base's, and
at least so many 255ths: clean faces have some."""

MESH = 0.9
"""Amplitude in 255ths that fine patterns may have, or as much as the base's: clean faces of 256 px
have 0.37, one of them 0.85."""

FADED = 45.0
"""The contrast of faded faces on average: 95 % of a face's blocks are less than that lighter in L
than its darkest twentieth. Clean ones have 57 ± 12."""

FAILED = 3.0
"""The NIQE beyond which faces are none: clean ones have 1.5, restored ones 2 to 2.5."""

_SPREAD_CAST, _SPREAD_WAVE = 1.2, 0.5 / 255  # what one face more adds to that of colours, of waves
_SPREAD_PEOPLE, _SPREAD_CHANGE = 5.0, 0.5  # and to that of people's L, and of its changes
_EXCUSED = 1.0  # L: by so much may all faces move towards the light of the damaged ones
_CHANCE = 6.0  # nepers by which some frequency of a single face stands out by chance
_NEAR = 5  # px: faces repeat themselves at smaller distances
_LINES = 3  # waves across a face that lines have at least, and by which they stand out
_DETAIL, _POINT = 4.0, 0.7  # px: what is finer is detail, what is about as fine a speck
_BARE = 0.01  # of detail that nothing is seen of


@torch.no_grad()
def compare(base: Look, tuned: Look, given: Given | None = None) -> Figures:
    """The figures of tuned faces, some against those of the same faces by the base.

    Args:
        base, tuned: of `look`.
        given: of `look_at_given`, the damaged faces; None leaves out "estranged", and what they say
            about "lightness".
    """
    count = len(tuned.niqe)
    strength = [look.coarse.square().mean((1, 2, 3)).sqrt() for look in (base, tuned)]
    allowed = torch.maximum(GRAIN[0] * base.grain, base.grain.new_tensor(GRAIN[1]))
    # What stands out by chance falls with the number of faces.
    pattern = (tuned.spectrum - base.spectrum).max() - _CHANCE / math.sqrt(count)
    shift = tuned.colours - base.colours
    lightness = base.colours[:, 0], tuned.colours[:, 0]
    slopes = slope(*lightness)[:, None, None, None]
    repaired = _repaired(lightness[0], float(slopes.mean()))
    grey = luma(base.picture), luma(tuned.picture)
    change = changed(base.shape, tuned.shape)
    motion = flow(*change)
    found = {
        "niqe": tuned.niqe,
        "sharpness": tuned.sharpness,
        "harshness": 100 * (strength[1] / strength[0].clamp(min=1e-6) / (1 + repaired) - 1),
        "moved": moved(*motion),
        "reshaped": reshaped(*motion),
        "resized": 100 * resized(*motion),
        "trembling": 100 * trembling(*change),
        "person": distance_of(tuned.person, base.person),
        "colour": _recoloured(base.colours, tuned.colours),
        "lightness": _lightened(shift[:, 0], base, given),
        "cast": alike(shift[:, 1:].mean((2, 3), keepdim=True), _SPREAD_CAST),
        "tinge": tinge(base.picture, tuned.picture),
        "relit": _apart(shift[:, 0].mean((1, 2))),
        "levelled": 100 * _levelled(*(light.mean((1, 2)) for light in lightness)),
        "contrast": (slopes.mean() - 1 - repaired).abs(),
        "repaired": torch.tensor(repaired),
        "mended": torch.tensor(_mended(base.niqe, tuned.niqe)),
        "shade": shade(base.picture, tuned.picture, slopes),
        "sharpened": sharpened(*grey),
        "smoothed": smoothed(base.picture, tuned.picture),
        "grain": (tuned.grain / allowed).amax(1),
        "pattern": pattern,
        "mesh": tuned.mesh / base.mesh.mean().clamp(min=MESH),
        "echo": 100 * _echo(base.echo, tuned.echo),
        "lines": 255 * _lines(grey[1] - slopes * grey[0]),
        "specks": _specks(*grey, slopes.clamp(min=1)),
        "spotted": spotted(base.picture, tuned.picture, slopes),
        "apart": apart(base.picture, tuned.picture),
        "waves": waves(base.picture, tuned.picture),
        "blocks": blocks(base.picture, tuned.picture),
    }
    if given is not None:
        before, after = (distance_of(x.person, given.person) for x in (base, tuned))
        found["estranged"] = after - before
    return {name: values.double().expand(count).tolist() for name, values in found.items()}


def _repaired(before: Tensor, slope: float) -> float:
    """The share by which a changed contrast brings faded faces, N×16×16 L, nearer to clean ones.

    At most twice what `FADED` is above theirs: clean ones have more than that.
    """
    low, high = (before.flatten(1).quantile(share, 1).mean() for share in (0.05, 0.95))
    missing = max(FADED / max(float(high - low), 1.0) - 1, 0.0)
    return min(max(slope - 1, 0.0), 2 * missing)


def _mended(before: Tensor, after: Tensor) -> float:
    """The extent to which failed faces became faces: 1 for a NIQE that falls by `FAILED`."""
    beyond = [float((niqe.nanmean() - FAILED).clamp(min=0)) for niqe in (before, after)]
    return max(beyond[0] - beyond[1], 0.0) / FAILED


def _recoloured(before: Tensor, after: Tensor) -> Tensor:
    """N mean shifts in ΔE of N×3×16×16 colours, without what blotches of noise account for.

    Noise differs from block to block by as much as it moves a block from its colour, so what goes
    of those differences explains as much power of the shift.
    """
    shift = after - before
    power = shift[:, 1:].square().sum(1).mean((1, 2))
    gone = (_blotches(before) - _blotches(after)).clamp(min=0)
    left = (1 - gone / power.clamp(min=1e-9)).clamp(min=0).sqrt()[:, None, None, None]
    return torch.cat([shift[:, :1], left * shift[:, 1:]], 1).norm(dim=1).mean((1, 2))


def _blotches(colours: Tensor) -> Tensor:
    """N powers of a and b that N×3×H×W blocks, if they were noise, would have."""
    across, down = (colours[:, 1:].diff(dim=axis).square().sum(1) for axis in (3, 2))
    return (across.mean((1, 2)) + down.mean((1, 2))) / 4


def _lightened(shift: Tensor, base: Look, given: Given | None) -> Tensor:
    """The mean of a shift of N×H×W L, beyond a small one towards the light of the damaged faces."""
    mean = shift.mean()
    if given is None:
        return mean.abs()
    wanted = (given.light.to(shift) - light_of(base.picture)).mean().clamp(-_EXCUSED, _EXCUSED)
    excused = torch.minimum(mean.abs(), wanted.abs()) * (mean * wanted > 0)
    return mean.abs() - excused


def _apart(values: Tensor) -> Tensor:
    """N distances of numbers from their mean."""
    return (values - values.mean()).abs()


def _levelled(before: Tensor, after: Tensor) -> Tensor:
    """The share by which N people differ less in L: a slope over them, beyond its error."""
    people, change = before - before.mean(), (after - before) - (after - before).mean()
    power = people.square().sum() + _SPREAD_PEOPLE**2
    fall = -(people * change).sum() / power
    left = (change + fall * people).square().sum() + _SPREAD_CHANGE**2
    return (fall - 2 * (left / max(len(before) - 2, 1) / power).sqrt()).clamp(min=0)


def _lines(change: Tensor) -> Tensor:
    """The amplitude of waves across or down all faces, beyond those of other lengths."""
    side = change.shape[-1]
    window = torch.hann_window(side, periodic=False).to(change)
    found = []
    for axis in (2, 3):
        profile = change.mean((1, axis))
        profile = (profile - profile.mean(1, keepdim=True)) * window
        waves = torch.view_as_real(torch.fft.rfft(profile) / (side / 4)).movedim(-1, 1)
        # Of each length by itself, without what faces differ by.
        strength = shared_each(waves[:, :, None], _SPREAD_WAVE)[0]
        mean = waves.mean(0).norm(dim=0)
        near = torch.maximum(mean.roll(_LINES), mean.roll(-_LINES))
        found.append((strength - near)[_LINES:-_LINES].max())
    return torch.stack(found).max().clamp(min=0)


def _specks(before: Tensor, after: Tensor, contrast: Tensor) -> Tensor:
    """N times by which a point changes more than there is detail around it, where it does most."""
    before, after = (x - blurred(x, _DETAIL) for x in (contrast * before, after))
    around = blurred(before.square(), _DETAIL).sqrt()
    return (blurred(after - before, _POINT).abs() / (around + _BARE)).amax((1, 2, 3))


def _echo(before: Tensor, after: Tensor) -> Tensor:
    """The most by which the faces repeat themselves more at some distance."""
    more, middle = after - before.clamp(min=0), len(after) // 2
    near = slice(middle - _NEAR, middle + _NEAR + 1)
    more[near, near] = 0
    return more.max()
