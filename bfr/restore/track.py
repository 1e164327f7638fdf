"""Faces through a clip: linked from frame to frame, short gaps bridged, jitter smoothed away.

A detector looks at each frame by itself. What it says of one face jitters by a pixel or so and is
missing now and then, and a restorer that follows it flickers. Here the faces of one person become
a *track*. All frames are known before any is restored, so a track is smoothed with what comes
after as well as with what came before: it does not lag behind a face that moves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError
from ..faces.landmarks import landmark_gap
from ..records import Face, FaceSet

_APART = 1.0  # the cost at which two faces are no longer one; about half a face's width
_PACE_FRAMES = 4  # over which the pace of a face is measured
_HIDDEN = 0.3  # of a bridged face's box that a seen face covers: then it is behind that one


@dataclass(frozen=True, slots=True)
class Track:
    """One person's face through consecutive frames.

    Attributes:
        start: index of the first of these frames.
        faces: the face in each of them.
        seen: whether it was detected; where it was not, it was put between its neighbours.
        person: number of the person, from 0; tracks of one person have the same one, once they
            were compared (`bfr.restore.people.join_tracks`).
        shares: how much of the restoration was taken in each frame (`keep_person`); empty before.
        distances: how far the restored face is from the damaged one's person; NaN where it is
            hidden or cannot be read.
    """

    start: int
    faces: tuple[Face, ...]
    seen: tuple[bool, ...]
    person: int = 0
    shares: tuple[float, ...] = ()
    distances: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.faces)


@dataclass(slots=True)
class _Path:
    """A track in the making: the detected faces, and the frame of each."""

    frames: list[int]
    faces: list[Face]

    def expected(self, frame: int) -> Face:
        """The place where the face should be in a later frame, at the pace of its last frames."""
        recent = max(len(self.frames) - _PACE_FRAMES, 0)
        first, last = self.frames[recent], self.frames[-1]
        old, face = self.faces[recent], self.faces[-1]
        ahead = (frame - last) / max(last - first, 1)
        (x, y), (x0, y0) = _centre(face), _centre(old)
        return _shifted(face, ahead * (x - x0), ahead * (y - y0))


def link_faces(
    faces: FaceSet, *, cuts: Collection[int] = (), max_gap: int = 4
) -> tuple[Track, ...]:
    """Links the faces of one person from frame to frame.

    In each frame, the tracks so far say where they expect their faces: at the pace of the last
    frames. Of all pairs of a track and a detected face the most similar is linked first. Their
    cost is ``1 − IoU`` of the boxes plus the mean distance of the landmarks in sizes of the face;
    those about half a face apart are not linked. A face that no track takes begins one. A track
    that takes no face in ``max_gap + 1`` frames is over, and so are all at a scene's end.

    Args:
        faces: the detected faces of each frame, in the clip's order.
        cuts: the frames that begin a new scene.
        max_gap: the most missed frames in a row that are bridged, by straight lines between the
            faces before and after.

    Returns:
        The tracks, by their first frame; every detected face is in one.

    Raises:
        InputError: if max_gap is negative.
    """
    if max_gap < 0:
        raise InputError(f"max_gap must be at least 0 frames, got {max_gap}. 0 bridges none.")
    paths: list[_Path] = []
    live: list[_Path] = []
    for frame, found in enumerate(faces.faces):
        live = [path for path in live if frame - path.frames[-1] <= max_gap + 1]
        if frame in cuts:
            live = []
        expected = [path.expected(frame) for path in live]
        costs = sorted(
            (_cost(guess, face), i, j)
            for i, guess in enumerate(expected)
            for j, face in enumerate(found)
        )
        linked: dict[int, int] = {}
        for cost, i, j in costs:
            if cost < _APART and i not in linked.values() and j not in linked:
                linked[j] = i
        for j, face in enumerate(found):
            if j in linked:
                live[linked[j]].frames.append(frame)
                live[linked[j]].faces.append(face)
            else:
                paths.append(_Path([frame], [face]))
                live.append(paths[-1])
    return tuple(_bridged(path, person) for person, path in enumerate(paths))


def faces_by_frame(tracks: Sequence[Track], frames: int) -> list[dict[int, Face]]:
    """The places of the faces in each frame.

    A bridged face that a detected one covers is left out: it is hidden behind that one.

    Args:
        tracks: the tracks, smoothed or not.
        frames: how many frames the clip has.

    Returns:
        For each frame its faces by the number of their track.
    """
    seen: list[dict[int, Face]] = [{} for _ in range(frames)]
    bridged: list[dict[int, Face]] = [{} for _ in range(frames)]
    for number, track in enumerate(tracks):
        for i, face in enumerate(track.faces):
            (seen if track.seen[i] else bridged)[track.start + i][number] = face
    for frame, faces in enumerate(seen):
        shown = {
            number: face
            for number, face in bridged[frame].items()
            if all(_common(face, other) <= _HIDDEN * face.area for other in faces.values())
        }
        faces.update(shown)
    return [dict(sorted(faces.items())) for faces in seen]


def _bridged(path: _Path, person: int) -> Track:
    """The track of a path, its gaps filled in straight lines."""
    found = zip(path.frames, path.faces, strict=True)
    faces, seen = [path.faces[0]], [True]
    for (first, old), (last, new) in pairwise(found):
        for frame in range(first + 1, last):
            faces.append(_between(old, new, (frame - first) / (last - first)))
            seen.append(False)
        faces.append(new)
        seen.append(True)
    return Track(path.frames[0], tuple(faces), tuple(seen), person)


def _cost(one: Face, other: Face) -> float:
    """The difference between the places of two faces: 0 for the same one."""
    common = _common(one, other)
    overlap = common / max(one.area + other.area - common, 1e-9)
    return 1 - overlap + 2 * landmark_gap(one, other) / max(one.size + other.size, 1e-9)


def _common(one: Face, other: Face) -> float:
    """The area in square pixels that two boxes share."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    return max(width, 0.0) * max(height, 0.0)


def _centre(face: Face) -> tuple[float, float]:
    xs, ys = zip(*face.landmarks, strict=True)
    return sum(xs) / len(xs), sum(ys) / len(ys)


def _shifted(face: Face, dx: float, dy: float) -> Face:
    return face_of(
        [value + (dx, dy)[i % 2] for i, value in enumerate(coordinates(face))], face.score
    )


def _between(old: Face, new: Face, share: float) -> Face:
    """The face a share of the way from one to the other."""
    pairs = zip((*coordinates(old), old.score), (*coordinates(new), new.score), strict=True)
    *values, score = (a + share * (b - a) for a, b in pairs)
    return face_of(values, score)


def coordinates(face: Face) -> list[float]:
    """The coordinates of box and landmarks, x and y in turn."""
    return [*face.box, *(value for point in face.landmarks for value in point)]


def face_of(values: Sequence[float], score: float) -> Face:
    x0, y0, x1, y1, *points = values
    return Face((x0, y0, x1, y1), score, tuple(zip(points[::2], points[1::2], strict=True)))
