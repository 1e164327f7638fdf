"""A clip in a folder of frames: read a few at a time, restored, and written in its own format."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..faces.identity import Identity
from ..faces.occlusion import Occlusion
from ..faces.parsing import Parser
from ..faces.person import Person
from ..faces.retinaface import Detector
from ..files.photos import Photo, read_photo
from ..files.sources import Source
from ..files.whole import copy_file
from ..files.writing import write_photo
from ..records import counted
from ..restore.clip import restore_frames
from ..restore.enlarge import enlarge_mask
from ..restore.follow import find_tracks
from ..restore.people import follow_people
from ..restore.restorer import Restorer
from ..restore.settings import VideoSettings, check_settings
from ..restore.track import faces_by_frame
from ..restore.upscale import Upscaler
from ..runtime.progress import Progress
from .attempts import report_entry
from .parts import Entry


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a clip in image files; a `bfr.restore.follow.Clip`.

    Attributes:
        paths: the files.
        heads: takes what each frame that is read has besides its pixels, by its number, so that
            no file is read again to write the result; None takes nothing.
    """

    paths: Sequence[Path]
    heads: dict[int, Photo] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, part: slice, /) -> Tensor:
        photos = [read_photo(path) for path in self.paths[part]]
        if self.heads is not None:
            numbers = range(len(self))[part]
            self.heads.update(zip(numbers, map(_without_pixels, photos), strict=True))
        return torch.cat([photo.pixels for photo in photos])


def _without_pixels(photo: Photo) -> Photo:
    """A photograph with zeros in place of its pixels, which take no memory."""
    return replace(photo, pixels=photo.pixels.new_zeros(()).expand(photo.pixels.shape))


def restore_folder(
    sources: Sequence[Source],
    targets: Mapping[Source, Path],
    detector: Detector,
    restorer: Restorer,
    settings: VideoSettings,
    parser: Parser | None,
    say: Callable[[str], None],
    upscaler: Upscaler | None = None,
    identity: Identity | None = None,
    occlusion: Occlusion | None = None,
    person: Person | None = None,
    overwrite: bool = True,
) -> list[Entry]:
    """Restores the faces of a clip in image files.

    Args:
        sources: the frames in order, all of one size.
        targets: where each goes; one that is not named here is not written.
        detector: of `load_detector`.
        restorer: of `load_restorer`.
        settings: how the faces are treated.
        parser: of `load_parser`, or None.
        say: takes a line of progress.
        upscaler: a network that enlarges, or None.
        identity: of `load_identity`, which keeps the person, or None.
        occlusion: of `load_occlusion`, which keeps what lies in front of faces, or None.
        person: whose faces alone are restored; None for all.
        overwrite: whether files in the results' places are replaced.

    Returns:
        What the report says about each frame. A frame without a face is copied byte for byte.

    Raises:
        ImageError: if a file is no image; nothing is written then.
        InputError: frames of several sizes, or a setting out of its range.
        OutputError: if a result cannot be written; those before are.
    """
    check_settings(settings, parser)
    paths, progress = [source.path for source in sources], Progress(say, None)
    clip = Frames(paths)
    progress.begin("frames searched", len(clip), (0, 0))
    tracks = find_tracks(clip, detector, settings, lambda done, *_: progress.tell(done))
    tracks = follow_people(clip, tracks, identity, person)
    persons = len({track.person for track in tracks})
    say(f"{counted(persons, 'face')} followed in {counted(len(tracks), 'track')}")
    faces = faces_by_frame(tracks, len(clip))
    progress.begin("frames restored", len(clip), (0, 0))
    report: list[Entry] = []
    heads: dict[int, Photo] = {}
    began = time.monotonic()
    clip = Frames(paths, heads)
    restored = restore_frames(
        clip, tracks, restorer, settings, parser, None, upscaler, identity, occlusion
    )
    for part in restored:
        pieces = zip(part.frames.split(1), part.people, strict=True)
        for index, (pixels, people) in enumerate(pieces, part.start):
            source, found = sources[index], tuple(faces[index].values())
            photo = heads.pop(index)
            if source in targets:
                factor = pixels.shape[-1] // photo.pixels.shape[-1]
                if found or factor > 1:
                    alpha = None if photo.alpha is None else enlarge_mask(photo.alpha, factor)
                    photo = replace(photo, pixels=pixels, alpha=alpha)
                    write_photo(targets[source], photo, overwrite)
                else:
                    copy_file(source.path, targets[source], overwrite)
            seconds = time.monotonic() - began
            began += seconds
            entry = report_entry(source.path, found, seconds, None)
            for face, own, number in zip(
                entry["faces"], people.entries(), faces[index], strict=True
            ):
                face |= {"person": tracks[number].person + 1, **own}
            report.append(entry)
            progress.tell(index + 1)
    return report
