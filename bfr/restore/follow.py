"""Faces of a clip found in every frame, and followed from frame to frame."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..faces.detect import SURE, detect_faces
from ..faces.retinaface import Detector
from ..image.tensors import size_in_words
from ..records import Face, FaceSet, OnStep
from .cuts import find_cuts, thumbnails
from .settings import VideoSettings
from .smooth import smooth_track
from .track import Track, link_faces

_LEAST_SEEN = 3  # frames of a track that is not sure: a false alarm flashes up and is gone
_FAINT = 0.7  # the share of the asked score that a face needs in a track that reaches it


class Clip(Protocol):
    """Frames of one size, in memory (B×3×H×W) or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


def find_tracks(
    clip: Clip,
    detector: Detector,
    settings: VideoSettings | None = None,
    on_step: OnStep | None = None,
) -> tuple[Track, ...]:
    """Finds the faces of a clip and follows each through its frames.

    A face is followed while it has most of the score that is asked, and its track kept if it
    once has all of it: so no face blinks on and off about that score. What was seen in one or two
    frames only must be sure, unless the clip has no more.

    Args:
        clip: the frames.
        detector: of `load_detector`.
        settings: ``score``, ``min_size``, ``max_gap`` and ``smoothing`` count here.
        on_step: called with (frames done, frames in all, None).

    Returns:
        The smoothed tracks, by their first frame.

    Raises:
        InputError: frames that are not valid or not of one size, or a setting out of its range.
    """
    settings = settings or VideoSettings()
    found: list[tuple[Face, ...]] = []
    small: list[Tensor] = []
    size = (0, 0)
    for index in range(len(clip)):
        frame = clip[index : index + 1]
        faces = detect_faces(
            frame, detector, score=_FAINT * settings.score, min_size=settings.min_size
        )
        if index and size != faces.image_size:
            raise InputError(
                f"The frames of a clip must have one size, {size_in_words(*size)} like the first, "
                f"got {size_in_words(*faces.image_size)} in frame {index}. Resize it."
            )
        size = faces.image_size
        found += faces.faces
        small.append(thumbnails(frame))
        if on_step is not None:
            on_step(index + 1, len(clip), None)
    cuts = find_cuts(torch.cat(small)) if small else ()
    return tuple(
        smooth_track(track, settings.smoothing)
        for track in link_faces(FaceSet(tuple(found), size), cuts=cuts, max_gap=settings.max_gap)
        if (best := max(face.score for face in track.faces)) >= settings.score
        and (best >= SURE or sum(track.seen) >= min(_LEAST_SEEN, len(clip)))
    )
