"""Tracks without jitter: landmarks and boxes fitted over time."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InputError
from .track import Track, coordinates, face_of

_LEAST_SPREAD = 0.7  # in frames; below it a frame is fitted to itself alone


def smooth_track(track: Track, spread: float) -> Track:
    """Takes the jitter from a track's landmarks and boxes.

    Each coordinate becomes the value, in its frame, of the parabola that fits its neighbours best
    with Gaussian weights (Savitzky and Golay 1964 with these weights; Cleveland 1979). It looks
    both ways, so it does not lag, and what moves evenly, or with even acceleration, stays as it
    is to the ends of the track. Motion that is too quick for the spread is not smoothed away: of
    the spread, its half and its quarter, the one is used that best predicts each frame's landmarks
    from those of the others (cross-validation; Stone 1974).

    Args:
        track: any track; with fewer than four frames it is fitted with a line.
        spread: the weights' largest standard deviation in frames; 0 changes nothing.

    Raises:
        InputError: if the spread is negative.
    """
    if not spread >= 0:
        raise InputError(
            f"The smoothing must be at least 0 frames, got {spread}. 0 smooths nothing."
        )
    if spread == 0 or len(track) < 3:
        return track
    raw = torch.tensor([coordinates(face) for face in track.faces], dtype=torch.float64)
    spreads = [spread, *(spread / n for n in (2, 4) if spread / n >= _LEAST_SPREAD)]
    fits = [_fit(raw, each) for each in spreads]
    errors = [((raw - fit) / (1 - own).clamp(min=1e-3))[:, 4:].square().sum() for fit, own in fits]
    smooth, _ = fits[int(torch.stack(errors).argmin())]
    faces = tuple(
        face_of(values, face.score)
        for values, face in zip(smooth.tolist(), track.faces, strict=True)
    )
    return replace(track, faces=faces)


def _fit(raw: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """The N×C values fitted to N frames, and N×1: how much each frame's own value counts."""
    reach, last = math.ceil(3 * spread), len(raw) - 1
    smooth, own = torch.empty_like(raw), raw.new_empty(len(raw), 1)
    for frame in range(len(raw)):
        before, after = min(reach, frame), min(reach, last - frame)
        weights = _fit_weights(before, after, spread)
        smooth[frame] = weights @ raw[frame - before : frame + after + 1]
        own[frame] = weights[before]
    return smooth, own


@lru_cache(maxsize=256)
def _fit_weights(before: int, after: int, spread: float) -> Tensor:
    """The weights of 1×(before + 1 + after) neighbours in the fitted value at the frame itself."""
    offsets = torch.arange(-before, after + 1, dtype=torch.float64) / spread
    degree = min(2, len(offsets) // 2)
    powers = offsets[:, None] ** torch.arange(degree + 1, dtype=torch.float64)
    weighted = powers * torch.exp(-offsets.square() / 2)[:, None]
    return torch.linalg.solve(weighted.mT @ powers, weighted.mT)[0]
