"""The guard's figures: what the tuned restorer makes of faces, against what the base does."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.identity import distance_of
from .look import Look
from .motion import flow, moved, reshaped, resized
from .shared import alike, shared, slope

Figures = dict[str, list[float]]
"""By name, a value per face; NaN where a face has none."""

GRAIN = 1.25, (1.0, 0.6)
"""Grain of luma and of colours may be so many times the base's, and at least so many 255ths: clean
faces have some."""

MESH = 0.9
"""Amplitude in 255ths that fine patterns may have, or as much as the base's: clean faces of 256 px
have 0.37, one of them 0.85."""

FADED = 45.0
"""The contrast of faded faces on average: 95 % of a face's blocks are less than that lighter in L
than its darkest twentieth. Clean ones have 57 ± 12."""

FAILED = 3.0
"""The NIQE beyond which faces are none: clean ones have 1.5, restored ones 2 to 2.5."""

# What one face more would add to the spread of places, of a face's colour, and of a place's.
_SPREAD_L, _SPREAD_CAST, _SPREAD_TINGE = 1.0, 1.2, 2.0
_CHANCE = 6.0  # nepers by which some frequency of a single face stands out by chance
_NEAR = 5  # px: faces repeat themselves at smaller distances


@torch.no_grad()
def compare(base: Look, tuned: Look, given: Tensor | None = None) -> Figures:
    """The figures of tuned faces, some against those of the same faces by the base.

    Args:
        base, tuned: of `look`.
        given: N×D embeddings of the damaged faces; None leaves out "estranged".
    """
    count = len(tuned.niqe)
    strength = [look.coarse.square().mean((1, 2, 3)).sqrt() for look in (base, tuned)]
    allowed = torch.maximum(GRAIN[0] * base.grain, base.grain.new_tensor(GRAIN[1]))
    # What stands out by chance falls with the number of faces.
    pattern = (tuned.spectrum - base.spectrum).max() - _CHANCE / math.sqrt(count)
    shift = tuned.colours - base.colours
    lightness = base.colours[:, 0], tuned.colours[:, 0]
    slopes = slope(*lightness)
    repaired = _repaired(lightness[0], float(slopes.mean()))
    motion = flow(base.shape, tuned.shape)
    found = {
        "niqe": tuned.niqe,
        "sharpness": tuned.sharpness,
        "harshness": 100 * (strength[1] / strength[0].clamp(min=1e-6) / (1 + repaired) - 1),
        "moved": moved(*motion),
        "reshaped": reshaped(*motion),
        "resized": 100 * resized(*motion),
        "person": distance_of(tuned.person, base.person),
        "colour": shift.norm(dim=1).mean((1, 2)),
        "lightness": shift[:, 0].mean().abs(),
        "cast": alike(shift[:, 1:].mean((2, 3), keepdim=True), _SPREAD_CAST),
        "tinge": alike(F.avg_pool2d(shift[:, 1:], 2), _SPREAD_TINGE),
        "contrast": (slopes.mean() - 1 - repaired).abs(),
        "repaired": torch.tensor(repaired),
        "mended": torch.tensor(_mended(base.niqe, tuned.niqe)),
        "shade": _shade(*lightness, slopes),
        "grain": (tuned.grain / allowed).amax(1),
        "pattern": pattern,
        "mesh": tuned.mesh / base.mesh.mean().clamp(min=MESH),
        "echo": 100 * _echo(base.echo, tuned.echo),
    }
    if given is not None:
        found["estranged"] = distance_of(tuned.person, given) - distance_of(base.person, given)
    return {name: values.double().expand(count).tolist() for name, values in found.items()}


def _repaired(before: Tensor, slope: float) -> float:
    """By what share a changed contrast brings faded faces, N×16×16 L, nearer to clean ones.

    At most twice what `FADED` is above theirs: clean ones have more than that.
    """
    low, high = (before.flatten(1).quantile(share, 1).mean() for share in (0.05, 0.95))
    missing = max(FADED / max(float(high - low), 1.0) - 1, 0.0)
    return min(max(slope - 1, 0.0), 2 * missing)


def _mended(before: Tensor, after: Tensor) -> float:
    """How far faces that were none became some: 1 for a NIQE that falls by `FAILED`."""
    beyond = [float((niqe.nanmean() - FAILED).clamp(min=0)) for niqe in (before, after)]
    return max(beyond[0] - beyond[1], 0.0) / FAILED


def _shade(before: Tensor, after: Tensor, slopes: Tensor) -> Tensor:
    """By how much L changes at the place where all faces change most, contrast aside."""
    before, after = (x - x.mean((1, 2), keepdim=True) for x in (before, after))
    left = after - slopes[:, None, None] * before
    return shared(F.avg_pool2d(left[:, None], 2), _SPREAD_L)


def _echo(before: Tensor, after: Tensor) -> Tensor:
    """How much more the faces repeat themselves at some distance."""
    more, middle = after - before.clamp(min=0), len(after) // 2
    near = slice(middle - _NEAR, middle + _NEAR + 1)
    more[near, near] = 0
    return more.max()
