"""People in a clip: faces that were lost and found again, and those of one wanted person.

A track ends where a face is lost for long, and at each cut. Faces are compared by a few looks at
each track, so that the tracks of one person get one number. Only photographs that the user gives
are compared with; nobody is named.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..faces.align import align_faces
from ..faces.identity import Identity, readable
from ..faces.landmarks import landmarks_of
from ..faces.person import Person, given
from ..records import FaceSet
from .follow import Clip
from .keep_person import KeptPeople
from .track import Track, faces_by_frame, link_faces

_LOOKS = 5  # frames of a track that are compared; one alone may be blurred
_CROP = 256  # pixels of the faces that are compared

# Stricter than `LIMIT`, for two people under one number are worse than one under two. Of 50
# held-out faces under three kinds of heavy damage, looks at one face are at most 0.50 apart on
# average, and those at two people are closer than that in 1.5 to 4 % of the pairs (below 0.6: 5 to
# 18 %).
_SAME = 0.5


def follow_people(
    clip: Clip,
    tracks: Sequence[Track],
    identity: Identity | None,
    person: Person | None = None,
) -> tuple[Track, ...]:
    """The tracks with the persons' numbers, or those of a wanted person alone.

    Raises:
        InputError: for a person without an identity network.
    """
    if identity is None and person is None:
        return tuple(replace(track, person=number) for number, track in enumerate(tracks))
    looks = embed_tracks(clip, tracks, given(identity))
    joined = join_tracks(tracks, looks)
    return joined if person is None else tracks_of(joined, looks, person)


def with_figures(tracks: Sequence[Track], people: Sequence[KeptPeople]) -> tuple[Track, ...]:
    """The tracks with what was taken of each face, from `RestoredFrames` of all frames."""
    found: dict[tuple[int, int], tuple[float, float]] = {}
    for frame, (faces, own) in enumerate(
        zip(faces_by_frame(tracks, len(people)), people, strict=True)
    ):
        figures = zip(own.shares, own.distances, strict=True)
        found |= {(frame, n): each for n, each in zip(faces, figures, strict=True)}
    hidden = (math.nan, math.nan)
    figures = [
        [found.get((track.start + i, n), hidden) for i in range(len(track))]
        for n, track in enumerate(tracks)
    ]
    return tuple(
        replace(
            track,
            shares=tuple(share for share, _ in each),
            distances=tuple(distance for _, distance in each),
        )
        for track, each in zip(tracks, figures, strict=True)
    )


@torch.no_grad()
def embed_tracks(clip: Clip, tracks: Sequence[Track], identity: Identity) -> list[Tensor]:
    """Embeddings of each track's face, in frames spread over those where it can be read.

    Args:
        clip: the frames.
        tracks: of `bfr.restore.follow.find_tracks` on it.
        identity: of `load_identity`.

    Returns:
        For each track K×D on the CPU, K at most 5; 0 where its face is nowhere large and frontal
        enough.
    """
    return [_looks(clip, track, identity) for track in tracks]


def _looks(clip: Clip, track: Track, identity: Identity) -> Tensor:
    clear = readable(landmarks_of(track.faces))
    places = [i for i, seen in enumerate(track.seen) if seen and bool(clear[i])]
    step = max(len(places) / _LOOKS, 1.0)
    chosen = [places[int((n + 0.5) * step)] for n in range(min(len(places), _LOOKS))]
    crops = []
    for place in chosen:
        frame = clip[track.start + place : track.start + place + 1]
        faces = FaceSet(((track.faces[place],),), (frame.shape[2], frame.shape[3]))
        crops.append(align_faces(frame, faces, _CROP)[0])
    if not crops:
        return torch.empty(0, 0)
    return identity.embed(torch.cat(crops)).cpu()


def join_tracks(tracks: Sequence[Track], looks: Sequence[Tensor]) -> tuple[Track, ...]:
    """Gives the tracks of one person one number.

    The two most similar groups of tracks become one person, repeatedly, while the mean distance of
    their looks is below 0.5. Nobody is twice in one frame.

    Args:
        tracks: in their order.
        looks: of `embed_tracks`; a track without any stays somebody of its own.

    Returns:
        The same tracks; ``person`` counts from 0 in the order of appearance.
    """
    groups = [[number] for number in range(len(tracks))]
    apart = {
        (i, j): float(torch.cdist(looks[i], looks[j]).mean())
        for i in range(len(tracks))
        for j in range(i)
        if len(looks[i]) and len(looks[j])
    }

    def distance(one: list[int], other: list[int]) -> float:
        pairs = [(max(i, j), min(i, j)) for i in one for j in other]
        if any(pair not in apart or _overlap(*(tracks[n] for n in pair)) for pair in pairs):
            return _SAME
        return sum(apart[pair] for pair in pairs) / len(pairs)

    while len(groups) > 1:
        found, i, j = min(
            (distance(groups[i], groups[j]), i, j) for i in range(len(groups)) for j in range(i)
        )
        if found >= _SAME:
            break
        groups[j] += groups.pop(i)
    person = {number: place for place, group in enumerate(groups) for number in group}
    return tuple(replace(track, person=person[n]) for n, track in enumerate(tracks))


def tracks_of(
    tracks: Sequence[Track], looks: Sequence[Tensor], person: Person
) -> tuple[Track, ...]:
    """The tracks of a wanted person.

    Args:
        tracks: in their order.
        looks: of `embed_tracks`.
        person: who is looked for; the median of a track's looks, each compared with the nearest
            photograph, is within the limit.
    """
    photographs = person.photographs.cpu()
    return tuple(
        track
        for track, look in zip(tracks, looks, strict=True)
        if len(look) and float(torch.cdist(look, photographs).amin(1).median()) <= person.limit
    )


def along_tracks(
    faces: FaceSet, distances: Sequence[Sequence[float]], cuts: Collection[int] = ()
) -> list[list[float]]:
    """Distances to a person, one for a whole track: the median of what its faces have.

    So a face that is blurred or turned in some frames of a clip is judged by the others.

    Args:
        faces: the detected faces of each frame, in the clip's order.
        distances: of `bfr.faces.person.distances_to`.
        cuts: the frames that begin a new scene.

    Returns:
        As ``distances``; NaN for a face whose track is nowhere readable.
    """
    found = [list(each) for each in distances]
    at = {  # a frame and its face's own object, to its place
        (frame, id(face)): place
        for frame, each in enumerate(faces.faces)
        for place, face in enumerate(each)
    }
    for track in link_faces(faces, cuts=cuts):
        places = [
            (track.start + i, at[track.start + i, id(face)])
            for i, face in enumerate(track.faces)
            if track.seen[i]
        ]
        known = torch.tensor([found[frame][place] for frame, place in places])
        middle = float(known.nanmedian())
        for frame, place in places:
            found[frame][place] = middle
    return found


def _overlap(one: Track, other: Track) -> bool:
    return one.start < other.start + len(other) and other.start < one.start + len(one)
