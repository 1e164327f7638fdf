"""Faces of a clip: found in every frame, tracked, and restored a few frames at a time.

Two passes. The first looks at every frame and keeps nothing but where the faces are; from that
come the tracks, smoothed over the whole clip. The second restores the frames along the tracks,
with a chunk of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..faces.align import align_faces
from ..faces.detect import SURE, detect_faces
from ..faces.identity import Identity
from ..faces.parsing import Parser
from ..faces.paste import paste_faces
from ..faces.retinaface import Detector
from ..image.tensors import check_images, size_in_words
from ..records import Alignment, Face, FaceSet, OnStep
from ..runtime.progress import within
from .enlarge import check_factor, check_room, chosen_factor, enlarge
from .keep_person import keep_person
from .photo import RestoreSettings, chosen_mask, crop_size_of, keep_grey, person_factor
from .restorer import Restorer, restore_faces
from .steady import reach_of, steady_face
from .track import Track, faces_by_frame, find_cuts, link_faces, smooth_track
from .upscale import Upscaler

_THUMBNAIL = 16  # pixels a side, in which scenes are told apart
_LEAST_SEEN = 3  # frames of a track that is not sure: a false alarm flashes up and is gone
_FAINT = 0.7  # the share of the asked score that a face needs in a track that reaches it


class Clip(Protocol):
    """Frames of one size, in memory (B×3×H×W) or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings(RestoreSettings):
    """How a clip is treated: each frame as `RestoreSettings` say, and these.

    Attributes:
        smoothing: spread in frames over which the landmarks are smoothed (`smooth_track`).
        steadiness: spread in frames over which restored faces are averaged (`steady_face`).
        max_gap: missed frames in a row that are bridged (`link_faces`).
        chunk: frames in memory at once; the result does not depend on it.
    """

    smoothing: float = 3.0
    steadiness: float = 1.5
    max_gap: int = 4
    chunk: int = 16


def restore_video(
    frames: Tensor,
    detector: Detector,
    restorer: Restorer,
    settings: VideoSettings | None = None,
    parser: Parser | None = None,
    on_step: OnStep | None = None,
    upscaler: Upscaler | None = None,
    identity: Identity | None = None,
) -> tuple[Tensor, tuple[Track, ...]]:
    """Restores every face of a clip in memory: `find_tracks`, then `restore_frames`.

    Args:
        frames: B×3×H×W float32 RGB in [0, 1].
        detector: of `load_detector`.
        restorer: of `load_restorer`.
        settings: how the faces are treated; None for the defaults.
        parser: of `load_parser`, for a mask that follows the face's outline.
        on_step: progress over both passes; the preview is a batch of restored crops.
        upscaler: a network that enlarges; None resamples (`enlarge`).
        identity: of `load_identity`, which keeps the person (`keep_person`); None does not.

    Returns:
        B×3×H'×W' frames in [0, 1], enlarged as the settings say and bit-identical where no face
        was restored, and the tracks, in pixels of the input.

    Raises:
        InputError: frames that are no finite B×3×H×W batch, or a setting out of its range.
        OutOfMemoryError: if the enlarged clip would not fit into memory.
    """
    check_images(frames, "frames")
    settings = settings or VideoSettings()
    check_settings(settings, parser)

    count = len(frames)
    tracks = find_tracks(frames, detector, settings, within(on_step, 0, count, 2 * count))
    factor = clip_factor(tracks, settings, restorer, (frames.shape[2], frames.shape[3]))
    check_room(frames.shape, factor, frames.device)
    result = frames.new_empty(*frames.shape[:2], *(factor * side for side in frames.shape[2:]))
    pasting = within(on_step, count, 2 * count, 2 * count)
    restored = restore_frames(
        frames, tracks, restorer, settings, parser, pasting, upscaler, identity
    )
    for start, part in restored:
        result[start : start + len(part)] = part
    return result, tracks


def clip_factor(
    tracks: Sequence[Track],
    settings: VideoSettings,
    restorer: Restorer,
    frame_size: tuple[int, int],
) -> int:
    """By how much the frames of a clip are enlarged, once for all of them."""
    faces = [face for track in tracks for face in track.faces]
    return chosen_factor(settings.enlarge, faces, crop_size_of(settings, restorer), frame_size)


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
    thumbnails: list[Tensor] = []
    size = (0, 0)
    for index in range(len(clip)):
        frame = clip[index : index + 1]
        faces = detect_faces(
            frame, detector, score=_FAINT * settings.score, min_size=settings.min_size
        )
        if index and size != faces.image_size:
            raise InputError(
                f"The frames of a clip must have one size, {size_in_words(*size)} like the first; "
                f"frame {index} has {size_in_words(*faces.image_size)}. Resize it."
            )
        size = faces.image_size
        found += faces.faces
        thumbnails.append(F.adaptive_avg_pool2d(frame, _THUMBNAIL))
        if on_step is not None:
            on_step(index + 1, len(clip), None)
    cuts = find_cuts(torch.cat(thumbnails)) if thumbnails else ()
    return tuple(
        smooth_track(track, settings.smoothing)
        for track in link_faces(FaceSet(tuple(found), size), cuts=cuts, max_gap=settings.max_gap)
        if (best := max(face.score for face in track.faces)) >= settings.score
        and (best >= SURE or sum(track.seen) >= min(_LEAST_SEEN, len(clip)))
    )


@dataclass(frozen=True, slots=True)
class _Restored:
    """A frame whose faces are restored, and not yet pasted.

    Attributes:
        image: 1×3×H×W, as it came.
        alignment: of its N faces.
        before: N×3×S×S, the faces as they were cut.
        crops: the N restored faces, each 1×3×S×S, by the number of their track.
    """

    image: Tensor
    alignment: Alignment
    before: Tensor
    crops: dict[int, Tensor]


def restore_frames(
    clip: Clip,
    tracks: Sequence[Track],
    restorer: Restorer,
    settings: VideoSettings | None = None,
    parser: Parser | None = None,
    on_step: OnStep | None = None,
    upscaler: Upscaler | None = None,
    identity: Identity | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Restores the frames of a clip along the tracks of its faces, chunk after chunk.

    Args:
        clip: the frames; each is asked for once.
        tracks: of `find_tracks` on the same clip.
        restorer: of `load_restorer`.
        settings: how the faces are treated.
        parser: of `load_parser`, for the mask "parsing".
        on_step: progress in frames; the preview is a batch of restored crops.
        upscaler: a network that enlarges; None resamples (`enlarge`).
        identity: of `load_identity`, which keeps the person (`keep_person`); None does not.

    Yields:
        The index of a chunk's first frame, and its n×3×H'×W' frames in [0, 1], enlarged as the
        settings say. A frame without a face comes back as it is or only enlarged.

    Raises:
        InputError: a setting out of its range.
    """
    settings = settings or VideoSettings()
    mask = check_settings(settings, parser)
    total = len(clip)
    faces, reach = faces_by_frame(tracks, total), reach_of(settings.steadiness)
    near: dict[int, _Restored] = {}
    ahead = done = 0  # frames that are restored, and pasted too

    def tell(_: int, __: int, preview: Tensor | None) -> None:
        if on_step is not None:
            on_step(done, total, preview)

    for start in range(0, total, settings.chunk):
        stop = min(start + settings.chunk, total)
        part = slice(ahead, min(stop + reach, total))
        if ahead < part.stop:
            restored = _restore(clip[part], faces[part], restorer, settings, identity, tell)
            near |= dict(enumerate(restored, ahead))
            ahead = part.stop
        pasted = []
        for frame in range(start, stop):
            image, alignment = near[frame].image, near[frame].alignment
            factor = clip_factor(tracks, settings, restorer, alignment.image_size)
            image = enlarge(image, factor, upscaler)
            crops = [_steadied(near, frame, n, settings.steadiness) for n in near[frame].crops]
            result, masks = paste_faces(
                image,
                torch.cat([image.new_empty(0, 3, *alignment.crop_size), *crops]),
                alignment,
                mask=mask,
                parser=parser if mask == "parsing" else None,
                before=near[frame].before,
                feather=settings.feather,
                colour=settings.colour,
                strength=settings.strength,
                grain=settings.grain,
                seed=settings.seed + frame,
            )
            pasted.append(keep_grey(image, result, masks))
            done += 1
            tell(0, 0, None)
        yield start, torch.cat(pasted)
        near = {frame: item for frame, item in near.items() if frame >= stop - reach}


def check_settings(settings: VideoSettings, parser: Parser | None) -> str:
    """Refuses settings that cannot be; returns the mask that "auto" means.

    Raises:
        InputError: a chunk without a frame, a negative steadiness, or a mask "parsing" without
            a parser.
    """
    if settings.chunk < 1:
        raise InputError(f"A chunk must hold at least 1 frame, and {settings.chunk} came.")
    if not settings.steadiness >= 0:
        raise InputError(f"steadiness must be at least 0 frames, and {settings.steadiness} came.")
    check_factor(settings.enlarge)
    return chosen_mask(settings, parser)


def _restore(
    images: Tensor,
    faces: Sequence[dict[int, Face]],
    restorer: Restorer,
    settings: VideoSettings,
    identity: Identity | None,
    on_step: OnStep,
) -> list[_Restored]:
    """Aligns and restores the faces of a few frames, in batches over all of them."""
    size = crop_size_of(settings, restorer)
    image_size = (images.shape[2], images.shape[3])
    frames = images.split(1)
    aligned = [
        align_faces(image, FaceSet((tuple(found.values()),), image_size), size)
        for image, found in zip(frames, faces, strict=True)
    ]
    crops = torch.cat([crops for crops, _ in aligned])
    restored = restore_faces(
        crops,
        restorer,
        fidelity=settings.fidelity,
        lock=settings.lock,
        lock_factor=person_factor(size),
        batch_size=settings.batch_size,
        on_step=on_step,
    )
    placed = [face for found in faces for face in found.values()]
    people = keep_person(crops, restored, placed, identity, settings.keep_person)
    restored = people.crops.split([len(found) for found in faces])
    return [
        _Restored(image, alignment, before, dict(zip(found, crops.split(1), strict=False)))
        for image, (before, alignment), found, crops in zip(
            frames, aligned, faces, restored, strict=True
        )
    ]


def _steadied(near: dict[int, _Restored], frame: int, track: int, spread: float) -> Tensor:
    """A restored 1×3×S×S face, made steady with those of its track around it."""
    reach = reach_of(spread)
    frames = range(frame - reach, frame + reach + 1)
    around = [other for other in frames if other in near and track in near[other].crops]
    crops = torch.cat([near[other].crops[track] for other in around])
    return steady_face(crops, [other - frame for other in around], spread)
