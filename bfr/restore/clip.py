"""Faces of a clip: found in every frame, tracked, and restored a few frames at a time.

Two passes. The first looks at every frame and keeps nothing but where the faces are; from that
come the tracks, smoothed over the whole clip. The second restores the frames along the tracks,
with a chunk of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..faces.align import align_faces
from ..faces.identity import Identity
from ..faces.occlusion import Occlusion
from ..faces.parsing import Parser
from ..faces.person import Person
from ..faces.retinaface import Detector
from ..image.tensors import check_images
from ..records import Alignment, Face, FaceSet, OnStep
from ..runtime.progress import within
from .enlarge import check_room, chosen_factor, enlarge
from .follow import Clip, find_tracks
from .grey import find_grey
from .keep_person import KeptPeople
from .people import follow_people, with_figures
from .restorer import Restorer
from .settings import VideoSettings, check_settings, crop_size_of
from .stages import paste_crops, restore_crops
from .steady import reach_of, steady_face
from .track import Track, faces_by_frame
from .upscale import Upscaler


def restore_video(
    frames: Tensor,
    detector: Detector,
    restorer: Restorer,
    settings: VideoSettings | None = None,
    parser: Parser | None = None,
    on_step: OnStep | None = None,
    upscaler: Upscaler | None = None,
    identity: Identity | None = None,
    occlusion: Occlusion | None = None,
    person: Person | None = None,
) -> tuple[Tensor, tuple[Track, ...]]:
    """Restores the faces of a clip in memory: `find_tracks`, then `restore_frames`.

    Args:
        frames: B×3×H×W float32 RGB in [0, 1].
        detector: of `load_detector`.
        restorer: of `load_restorer`.
        settings: how the faces are treated; None for the defaults.
        parser: of `load_parser`, for a mask that follows the face's outline.
        on_step: progress over both passes; the preview is a batch of restored crops.
        upscaler: a network that enlarges; None resamples (`enlarge`).
        identity: of `load_identity`, which keeps the person (`keep_person`) and says which tracks
            are one; None does neither.
        occlusion: of `load_occlusion`; what it finds in front of faces is not painted over.
        person: restore this person's faces alone, by ``identity``; None for everybody's.

    Returns:
        B×3×H'×W' frames in [0, 1], enlarged as the settings say and bit-identical where no face
        was restored, and the tracks, in pixels of the input.

    Raises:
        InputError: frames that are no finite B×3×H×W batch, a setting out of its range, or a
            person without an identity network.
        OutOfMemoryError: if the enlarged clip would not fit into memory.
    """
    check_images(frames, "frames")
    settings = settings or VideoSettings()
    check_settings(settings, parser)

    count = len(frames)
    tracks = find_tracks(frames, detector, settings, within(on_step, 0, count, 2 * count))
    tracks = follow_people(frames, tracks, identity, person)
    factor = clip_factor(tracks, settings, restorer, (frames.shape[2], frames.shape[3]))
    check_room(frames.shape, factor, frames.device)
    result = frames.new_empty(*frames.shape[:2], *(factor * side for side in frames.shape[2:]))
    pasting = within(on_step, count, 2 * count, 2 * count)
    restored = restore_frames(
        frames, tracks, restorer, settings, parser, pasting, upscaler, identity, occlusion
    )
    people: list[KeptPeople] = []
    for part in restored:
        result[part.start : part.start + len(part.frames)] = part.frames
        people += part.people
    return result, with_figures(tracks, people)


def clip_factor(
    tracks: Sequence[Track],
    settings: VideoSettings,
    restorer: Restorer,
    frame_size: tuple[int, int],
) -> int:
    """The factor by which all frames of a clip are enlarged."""
    faces = [face for track in tracks for face in track.faces]
    return chosen_factor(settings.enlarge, faces, crop_size_of(settings, restorer), frame_size)


@dataclass(frozen=True, slots=True)
class _Restored:
    """A frame whose faces are restored but not yet pasted.

    Attributes:
        image: 1×3×H×W, as it came.
        alignment: of its N faces.
        before: N×3×S×S, the faces as they were cut.
        people: the N restored faces.
        crops: the same, each 1×3×S×S, by the number of their track.
    """

    image: Tensor
    alignment: Alignment
    before: Tensor
    people: KeptPeople
    crops: dict[int, Tensor]


class RestoredFrames(NamedTuple):
    """A few frames of a clip, restored.

    Attributes:
        start: index of the first of them.
        frames: n×3×H'×W' in [0, 1], enlarged as the settings say. One without a face comes back
            as it is or only enlarged.
        people: for each the faces that were restored, in the order of their tracks.
    """

    start: int
    frames: Tensor
    people: tuple[KeptPeople, ...]


def restore_frames(
    clip: Clip,
    tracks: Sequence[Track],
    restorer: Restorer,
    settings: VideoSettings | None = None,
    parser: Parser | None = None,
    on_step: OnStep | None = None,
    upscaler: Upscaler | None = None,
    identity: Identity | None = None,
    occlusion: Occlusion | None = None,
) -> Iterator[RestoredFrames]:
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
        occlusion: of `load_occlusion`; what it finds in front of faces is not painted over.

    Yields:
        Chunk after chunk of the frames.

    Raises:
        InputError: a setting out of its range.
    """
    settings = settings or VideoSettings()
    check_settings(settings, parser)
    total = len(clip)
    faces, reach = faces_by_frame(tracks, total), reach_of(settings.steadiness)
    near: dict[int, _Restored] = {}
    ahead = done = 0  # frames that are restored, and pasted too

    def report(_: int, __: int, preview: Tensor | None) -> None:
        if on_step is not None:
            on_step(done, total, preview)

    for start in range(0, total, settings.chunk):
        stop = min(start + settings.chunk, total)
        part = slice(ahead, min(stop + reach, total))
        if ahead < part.stop:
            restored = _restore(clip[part], faces[part], restorer, settings, identity, report)
            near |= dict(enumerate(restored, ahead))
            ahead = part.stop
        pasted = []
        for frame in range(start, stop):
            image, alignment = near[frame].image, near[frame].alignment
            factor = clip_factor(tracks, settings, restorer, alignment.image_size)
            image = enlarge(image, factor, upscaler)
            crops = [_steadied(near, frame, n, settings.steadiness) for n in near[frame].crops]
            result, _ = paste_crops(
                image,
                torch.cat([image.new_empty(0, 3, *alignment.crop_size), *crops]),
                alignment,
                settings,
                parser,
                before=near[frame].before,
                grey=find_grey(image),
                seed=settings.seed + frame,
                in_front=occlusion,
                masks=False,
            )
            pasted.append(result)
            done += 1
            report(0, 0, None)
        people = tuple(near[frame].people for frame in range(start, stop))
        yield RestoredFrames(start, torch.cat(pasted), people)
        near = {frame: item for frame, item in near.items() if frame >= stop - reach}


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
    placed = [face for found in faces for face in found.values()]
    people = restore_crops(crops, placed, restorer, settings, identity, on_step)
    return [
        _Restored(image, alignment, before, own, dict(zip(found, own.crops.split(1), strict=False)))
        for image, (before, alignment), found, own in zip(
            frames, aligned, faces, people.split([len(found) for found in faces]), strict=True
        )
    ]


def _steadied(near: dict[int, _Restored], frame: int, track: int, spread: float) -> Tensor:
    """A restored 1×3×S×S face, made steady with those of its track around it."""
    reach = reach_of(spread)
    frames = range(frame - reach, frame + reach + 1)
    around = [other for other in frames if other in near and track in near[other].crops]
    crops = torch.cat([near[other].crops[track] for other in around])
    return steady_face(crops, [other - frame for other in around], spread)
