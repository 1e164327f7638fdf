"""Faces linked and smoothed through a clip."""

from __future__ import annotations

import math

import pytest
import torch

from bfr.errors import InputError
from bfr.records import Face, FaceSet
from bfr.restore.cuts import find_cuts
from bfr.restore.smooth import smooth_track
from bfr.restore.track import Track, faces_by_frame, link_faces
from tests.portraits import face_at

SIZE = (240, 400)


def clip(*frames: tuple[Face, ...]) -> FaceSet:
    return FaceSet(frames, SIZE)


def nose(face: Face) -> tuple[float, float]:
    return face.landmarks[2]


def noses(track: Track) -> torch.Tensor:
    return torch.tensor([nose(face) for face in track.faces], dtype=torch.float64)


def walk(start: float, pace: float, frames: int, y: float = 120, eyes: float = 40) -> list[Face]:
    return [face_at(start + pace * i, y, eyes) for i in range(frames)]


def test_each_face_is_in_one_track():
    left, right = walk(100, 3, 12), walk(300, -2, 12, eyes=30)
    faces = clip(
        *[(b, a) if i % 2 else (a, b) for i, (a, b) in enumerate(zip(left, right, strict=True))]
    )
    tracks = link_faces(faces)
    assert [track.faces for track in tracks] == [tuple(left), tuple(right)]
    assert all(all(track.seen) and track.start == 0 for track in tracks)


def test_a_track_begins_and_ends_with_its_face():
    faces = walk(100, 3, 10)
    tracks = link_faces(clip(*[(face,) if 2 <= i < 7 else () for i, face in enumerate(faces)]))
    assert [(track.start, track.faces) for track in tracks] == [(2, tuple(faces[2:7]))]


@pytest.mark.parametrize("missed", [1, 4])
def test_missed_frames_are_bridged(missed: int):
    faces = walk(100, 3, 12)
    gap = range(5, 5 + missed)
    frames = clip(*[() if i in gap else (face,) for i, face in enumerate(faces)])
    (track,) = link_faces(frames, max_gap=4)
    assert [i for i, seen in enumerate(track.seen) if not seen] == list(gap)
    torch.testing.assert_close(noses(track), torch.tensor(list(map(nose, faces))).double())
    assert len(link_faces(frames, max_gap=missed - 1)) == 2


@pytest.mark.parametrize("hidden", [0, 3])
def test_people_who_pass_each_other_are_not_mixed_up(hidden: int):
    """They meet in frame 10; the one behind may not be seen for a while."""
    front, behind = walk(100, 8, 21), walk(260, -8, 21, y=124, eyes=36)
    frames = [
        (a,) if abs(i - 10) <= hidden / 2 and hidden else (a, b)
        for i, (a, b) in enumerate(zip(front, behind, strict=True))
    ]
    tracks = link_faces(clip(*frames))
    assert len(tracks) == 2
    for track, person in zip(tracks, (front, behind), strict=True):
        assert all(
            face == own
            for face, own, seen in zip(track.faces, person, track.seen, strict=True)
            if seen
        )
    shown = faces_by_frame(tracks, 21)
    assert [list(faces.values()) for faces in shown] == [list(faces) for faces in frames], (
        "a face that is hidden behind another is not made up"
    )


def test_a_cut_ends_every_track():
    faces = [(face,) for face in walk(100, 0, 8)]
    tracks = link_faces(clip(*faces), cuts=[5])
    assert [(track.start, len(track)) for track in tracks] == [(0, 5), (5, 3)]
    assert len(link_faces(clip(*faces))) == 1


def test_a_far_face_is_another():
    tracks = link_faces(clip(*[(face,) for face in (*walk(80, 0, 5), *walk(200, 0, 5))]))
    assert [(track.start, len(track)) for track in tracks] == [(0, 5), (5, 5)]


def test_no_faces_no_tracks():
    assert link_faces(clip((), ())) == ()
    assert faces_by_frame((), 2) == [{}, {}]


def track_of(faces: list[Face]) -> Track:
    return Track(0, tuple(faces), (True,) * len(faces))


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("pace", [0.0, 7.0])
def test_even_motion_is_kept_to_the_ends(frames: int, pace: float):
    track = track_of(walk(60, pace, frames))
    smooth = smooth_track(track, 3.0)
    for face, given in zip(smooth.faces, track.faces, strict=True):
        assert face.score == given.score
        torch.testing.assert_close(torch.tensor(face.landmarks), torch.tensor(given.landmarks))
        torch.testing.assert_close(torch.tensor(face.box), torch.tensor(given.box))


def test_even_acceleration_is_kept():
    track = track_of([face_at(60 + 0.1 * i * i, 120, 40) for i in range(40)])
    torch.testing.assert_close(noses(smooth_track(track, 4.0)), noses(track))


@pytest.mark.parametrize(("spread", "left"), [(2.0, 0.7), (4.0, 0.5)])
def test_jitter_is_reduced_and_motion_is_not(spread: float, left: float):
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([[200 + 40 * math.sin(i / 12), 120] for i in range(100)]).double()
    jitter = torch.randn(100, 2, generator=generator).double()
    shaken = track_of([face_at(x, y, 40) for x, y in (true + jitter).tolist()])
    smooth = noses(smooth_track(shaken, spread))
    assert (smooth - true).std() < left * jitter.std()
    second = smooth.diff(dim=0).diff(dim=0).abs().mean()
    assert second < 0.15 * jitter.diff(dim=0).diff(dim=0).abs().mean()
    assert torch.equal(noses(smooth_track(shaken, 0.0)), noses(shaken))


def test_quick_motion_is_not_smoothed_away():
    """A head that is shaken twice a second, at 24 frames a second, with half a pixel of jitter."""
    generator = torch.Generator().manual_seed(4)
    true = torch.tensor([[200 + 8 * math.sin(math.pi * i / 6), 120] for i in range(48)]).double()
    jitter = 0.5 * torch.randn(48, 2, generator=generator).double()
    shaken = track_of([face_at(x, y, 40) for x, y in (true + jitter).tolist()])
    assert (noses(smooth_track(shaken, 4.0)) - true).std() < 0.8 * jitter.std()


def test_smoothing_does_not_lag():
    """Forwards and backwards in time, it gives the same."""
    generator = torch.Generator().manual_seed(1)
    faces = [face_at(200 + x, 120, 40) for x in torch.randn(20, generator=generator).tolist()]
    there, back = smooth_track(track_of(faces), 2.0), smooth_track(track_of(faces[::-1]), 2.0)
    torch.testing.assert_close(noses(there), noses(back).flip(0))


def test_cuts_are_found_and_motion_is_none():
    generator = torch.Generator().manual_seed(2)
    scene = torch.rand(3, 16, 60, generator=generator)
    moving = [scene[..., i : i + 16] * 0.1 + 0.3 for i in range(6)]
    other = [0.9 - frame for frame in moving]
    assert find_cuts(torch.stack([*moving, *other])) == (6,)
    assert find_cuts(torch.stack(moving)) == find_cuts(torch.stack(moving[:1])) == ()


def test_wrong_settings_are_refused():
    with pytest.raises(InputError, match="max_gap"):
        link_faces(clip(()), max_gap=-1)
    with pytest.raises(InputError, match="smoothing"):
        smooth_track(track_of(walk(0, 0, 2)), -1.0)
