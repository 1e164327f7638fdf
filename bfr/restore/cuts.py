"""Cuts: the frames at which the scenes of a clip begin."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_CUT = 0.12  # mean change between two frames of a scene's end, of the range of the pixels
_THUMBNAIL = 16  # pixels a side, in which scenes are told apart


def thumbnails(frames: Tensor) -> Tensor:
    """B×3×H×W frames reduced to the few pixels in which scenes are told apart (`find_cuts`)."""
    return F.adaptive_avg_pool2d(frames, _THUMBNAIL)


def find_cuts(thumbnails: Tensor) -> tuple[int, ...]:
    """The frames that begin a new scene.

    Without them, a face that appears after a cut where another was before would be linked to it.

    Args:
        thumbnails: B×C×h×w in [0, 1], each frame reduced to a few pixels.

    Returns:
        The frames that differ from the one before by more than about an eighth of the range on
        average; a hard flash counts as one too, which costs no more than a new track.
    """
    change = (thumbnails[1:] - thumbnails[:-1]).abs().flatten(1).mean(1)
    return tuple(i + 1 for i, value in enumerate(change.tolist()) if value > _CUT)
