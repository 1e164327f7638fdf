"""Clips, with stand-ins for the two networks, and once with the embedded ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from benchmarks.flicker import on_the_photograph
from bfr.errors import CancelledError, InputError
from bfr.faces.person import Person
from bfr.faces.retinaface import load_detector
from bfr.files.photos import read_photo
from bfr.image.crops import cut_crops
from bfr.records import Face, FaceSet
from bfr.restore import follow, photo, stages
from bfr.restore.clip import restore_frames, restore_video
from bfr.restore.follow import find_tracks
from bfr.restore.load import load_restorer
from bfr.restore.photo import restore_photo
from bfr.restore.restorer import Restorer
from bfr.restore.settings import RestoreSettings, VideoSettings
from bfr.restore.steady import fitted, steady_face
from samples.clip import FOLDER, film
from tests.portraits import face_at
from tests.restore.test_people import BLUE, IDENTITY, RED

NETWORK = cast(Any, Restorer(nn.Identity(), size=64))
FRAMES = 7
PLAIN = VideoSettings(smoothing=0, steadiness=0)


@pytest.fixture
def frames() -> Tensor:
    """Noise over one scene."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.rand(1, 3, 96, 160, generator=generator)
    return 0.8 * scene + 0.2 * torch.rand(FRAMES, 3, 96, 160, generator=generator)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Faces that are found and a restorer that makes negatives; records how both were called."""
    jitter = torch.randn(FRAMES, generator=torch.Generator().manual_seed(1)).tolist()
    found = [(face_at(50 + 3 * i + jitter[i], 45, 20),) for i in range(FRAMES)]
    calls: dict[str, Any] = {"faces": found, "frame": 0, "batches": []}

    def detect_faces(images: Tensor, detector: nn.Module, **options: Any) -> FaceSet:
        calls["detect"] = options
        faces = calls["faces"][calls["frame"] % len(calls["faces"])]
        calls["frame"] += len(images)
        return FaceSet((faces,) * len(images), (images.shape[2], images.shape[3]))

    def restore_faces(crops: Tensor, restorer: nn.Module, **options: Any) -> Tensor:
        calls["restore"] = options
        calls["batches"].append(len(crops))
        options["on_step"](len(crops), len(crops), crops)
        return 1 - crops

    for module in (follow, photo):
        monkeypatch.setattr(module, "detect_faces", detect_faces)
    monkeypatch.setattr(stages, "restore_faces", restore_faces)
    return calls


def test_what_flashes_up_is_no_face(frames: Tensor, chain: dict[str, Any]):
    """Two frames of a badge that looked like a face; a clip of two frames keeps its faces."""
    badge = replace(face_at(120, 70, 8), score=0.6)
    for frame in (3, 4):
        chain["faces"][frame] += (badge,)
    (track,) = find_tracks(frames, NETWORK, PLAIN)
    assert len(track) == FRAMES
    chain["frame"] = 3
    assert len(find_tracks(frames[3:5], NETWORK, PLAIN)) == 2
    chain["faces"][5] += (badge,)
    chain["frame"] = 0
    assert len(find_tracks(frames, NETWORK, PLAIN)) == 2, "three frames are no accident"
    chain["faces"][1] += (face_at(120, 20, 8),)
    chain["frame"] = 0
    assert len(find_tracks(frames, NETWORK, PLAIN)) == 3, "nor is a sure face"


def test_frames_are_restored_along_the_track(frames: Tensor, chain: dict[str, Any]):
    before = frames.clone()
    result, (track,) = restore_video(frames, NETWORK, NETWORK)
    assert torch.equal(frames, before), "the input was written to"
    assert result.shape == frames.shape and len(track) == FRAMES
    for image, given, face in zip(result, frames, track.faces, strict=True):
        x, y = (round(value) for value in face.landmarks[2])
        assert (image[:, y, x] - given[:, y, x]).abs().max() > 0.05
        assert torch.equal(image[:, :, 150:], given[:, :, 150:])


def test_frames_without_faces_pass_through(frames: Tensor, chain: dict[str, Any]):
    chain["faces"][3:] = [()] * (FRAMES - 3)
    result, (track,) = restore_video(frames, NETWORK, NETWORK)
    assert len(track) == 3
    assert torch.equal(result[3:], frames[3:])
    assert not torch.equal(result[2], frames[2])
    chain["faces"] = [()]
    result, tracks = restore_video(frames, NETWORK, NETWORK)
    assert torch.equal(result, frames) and tracks == ()


def test_the_wanted_person_alone_is_restored(frames: Tensor, chain: dict[str, Any]):
    """Somebody red stands on the left, somebody blue on the right."""
    left, right = (torch.tensor(colour)[:, None, None] for colour in (RED, BLUE))
    frames = torch.cat([frames[..., :80] * left, frames[..., 80:] * right], -1)
    chain["faces"] = [(face_at(40, 45, 20), face_at(120, 45, 20))]
    settings, blue = VideoSettings(keep_person=0), Person(torch.tensor([BLUE]))
    result, tracks = restore_video(
        frames, NETWORK, NETWORK, settings, identity=IDENTITY, person=blue
    )
    assert [round(track.faces[0].landmarks[2][0]) for track in tracks] == [120]
    assert torch.equal(result[..., :80], frames[..., :80])
    assert (result[..., 80:] - frames[..., 80:]).abs().max() > 0.05
    with pytest.raises(InputError, match="recognition network"):
        restore_video(frames, NETWORK, NETWORK, settings, person=blue)


def test_a_missed_frame_is_restored_all_the_same(frames: Tensor, chain: dict[str, Any]):
    chain["faces"][3] = ()
    result, (track,) = restore_video(frames, NETWORK, NETWORK)
    assert track.seen == (True, True, True, False, True, True, True)
    assert not torch.equal(result[3], frames[3])


def test_a_clip_of_one_frame_equals_the_photograph(frames: Tensor, chain: dict[str, Any]):
    chain["faces"] = [(face_at(50, 45, 20), face_at(110, 50, 15))]
    photo = restore_photo(frames[:1], NETWORK, NETWORK, RestoreSettings())
    result, tracks = restore_video(frames[:1], NETWORK, NETWORK)
    assert torch.equal(result, photo.images) and len(tracks) == 2


def test_without_smoothing_frames_equal_photographs(frames: Tensor, chain: dict[str, Any]):
    photos = [restore_photo(frame[None], NETWORK, NETWORK).images for frame in frames]
    result, _ = restore_video(frames, NETWORK, NETWORK, PLAIN)
    assert torch.equal(result, torch.cat(photos))


@pytest.mark.parametrize("chunk", [1, 2, 3, 16])
def test_chunks_do_not_change_the_result(chunk: int, frames: Tensor, chain: dict[str, Any]):
    chain["faces"][2:4] = [(), ()]
    whole, _ = restore_video(frames, NETWORK, NETWORK, VideoSettings(chunk=FRAMES))
    chain["frame"], chain["batches"] = 0, []
    parts, _ = restore_video(frames, NETWORK, NETWORK, VideoSettings(chunk=chunk))
    assert torch.equal(parts, whole)
    assert sum(chain["batches"]) == FRAMES, "each face goes through the restorer once"


class Counting:
    """A clip that is read part by part, and notes what is asked for."""

    def __init__(self, frames: Tensor):
        self.frames, self.parts = frames, []

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, part: slice, /) -> Tensor:
        self.parts.append((part.start, part.stop))
        return self.frames[part]


def test_frames_are_read_once_and_few_at_a_time(frames: Tensor, chain: dict[str, Any]):
    tracks = find_tracks(frames, NETWORK)
    clip = Counting(frames)
    settings = VideoSettings(chunk=2, steadiness=1)
    starts = [part.start for part in restore_frames(clip, tracks, NETWORK, settings)]
    assert starts == [0, 2, 4, 6]
    assert clip.parts == [(0, 4), (4, 6), (6, 7)], "a chunk, and two frames ahead"


def test_a_track_is_kept_by_its_best_frame(frames: Tensor, chain: dict[str, Any]):
    sure = chain["faces"]
    chain["faces"] = [tuple(replace(face, score=0.4) for face in faces) for faces in sure]
    assert find_tracks(frames, NETWORK) == ()
    assert chain["detect"]["score"] == pytest.approx(0.35)
    chain["faces"][2] = sure[2]
    (track,) = find_tracks(frames, NETWORK)
    assert len(track) == FRAMES


def test_smoothing_calms_the_crops(frames: Tensor, chain: dict[str, Any]):
    (raw,) = find_tracks(frames, NETWORK, PLAIN)
    chain["frame"] = 0
    (smooth,) = find_tracks(frames, NETWORK)

    def unevenness(faces: tuple[Face, ...]) -> float:
        return float(torch.tensor([face.landmarks for face in faces]).diff(2, 0).abs().mean())

    assert unevenness(smooth.faces) < 0.3 * unevenness(raw.faces)


def test_steady_faces_average_noise_and_leave_no_ghost():
    generator = torch.Generator().manual_seed(3)
    face = torch.rand(1, 3, 64, 64, generator=generator) * 0.5 + 0.25
    crops = face + 0.02 * torch.randn(5, 3, 64, 64, generator=generator)
    away = [-2, -1, 0, 1, 2]
    steady = steady_face(crops, away, 1.5)
    assert (steady - face).std() < 0.6 * (crops[2] - face).std()
    blink = crops.clone()
    blink[2, :, 20:40, 20:40] += 0.25
    middle = steady_face(blink, away, 1.5)[..., 24:36, 24:36]
    assert (middle - blink[2:3, :, 24:36, 24:36]).abs().mean() < 0.002
    assert torch.equal(steady_face(crops, away, 0.0), crops[2:3])
    assert torch.equal(steady_face(crops[:1], [0], 1.5), crops[:1])
    same = face.expand(5, -1, -1, -1)
    torch.testing.assert_close(steady_face(same, away, 1.5), face)


def test_what_the_landmarks_missed_of_the_motion_is_found():
    photo = photograph()
    own, near = torch.eye(2, 3).double(), torch.tensor([[1.01, -0.02, 3], [0.02, 1.01, -4]])
    crops = cut_crops(photo, torch.stack([own, near.double()]), (0, 0), 256)
    middle = (..., slice(40, 216), slice(40, 216))
    before = (crops[1:] - crops[:1])[middle].abs().mean()
    after = (fitted(crops[1:], crops[:1]) - crops[:1])[middle].abs().mean()
    assert after < 0.3 * before
    other = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(5))
    flat = torch.full_like(other, 0.5)
    assert torch.isfinite(fitted(other, crops[:1])).all()
    torch.testing.assert_close(fitted(other, flat), other, atol=1e-3, rtol=0)
    assert fitted(crops[:0], own[None, None]).shape == (0, 3, 256, 256)


def test_progress_rises_to_its_end(frames: Tensor, chain: dict[str, Any]):
    steps: list[tuple[int, int]] = []
    previews: list[Tensor] = []

    def on_step(done: int, total: int, preview: Tensor | None) -> None:
        steps.append((done, total))
        previews.extend([] if preview is None else [preview])

    restore_video(frames, NETWORK, NETWORK, VideoSettings(chunk=3), on_step=on_step)
    done = [step for step, _ in steps]
    assert done == sorted(done) and set(done) == set(range(1, 2 * FRAMES + 1))
    assert {total for _, total in steps} == {2 * FRAMES} and previews


@pytest.mark.parametrize("when", [2, FRAMES, FRAMES + 3])
def test_raising_from_progress_cancels(when: int, frames: Tensor, chain: dict[str, Any]):
    def cancel(done: int, total: int, preview: Tensor | None) -> None:
        if done >= when:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        restore_video(frames, NETWORK, NETWORK, VideoSettings(chunk=2), on_step=cancel)


def test_frames_of_several_sizes_are_refused(chain: dict[str, Any]):
    class Folder(list):
        def __getitem__(self, part: slice, /) -> Tensor:  # pyright: ignore
            return torch.cat(super().__getitem__(part))

    clip = Folder([torch.rand(1, 3, 96, 160), torch.rand(1, 3, 96, 128)])
    with pytest.raises(InputError, match=r"160.*128×96 pixels in frame 1"):
        find_tracks(cast(Any, clip), NETWORK)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (VideoSettings(chunk=0), "chunk"),
        (VideoSettings(steadiness=-1), "steadiness"),
        (VideoSettings(mask="parsing"), "parser"),
    ],
)
def test_wrong_settings_are_refused_before_the_work(
    settings: VideoSettings, message: str, frames: Tensor, chain: dict[str, Any]
):
    with pytest.raises(InputError, match=message):
        restore_video(frames, NETWORK, NETWORK, settings)
    assert "detect" not in chain


def test_the_sample_clip_becomes_steadier():
    """With the embedded networks: less changes beside the motion, and it is no less true."""
    clean, damaged, matrices = (each[10:14] for each in film(photograph()))
    detector, restorer = load_detector(), load_restorer()
    with torch.inference_mode():
        each, _ = restore_video(damaged, detector, restorer, PLAIN)
        ours, tracks = restore_video(damaged, detector, restorer)
    assert len(tracks) == 1 and len(tracks[0]) == 4
    still = [
        on_the_photograph(frames, matrices, (400, 400))[..., 120:260, 140:260]
        for frames in (clean, damaged, each, ours)
    ]
    flicker = [float(frames.diff(dim=0).abs().mean()) for frames in still[1:]]
    assert flicker[2] < 0.5 * flicker[1] < 0.5 * flicker[0]
    errors = [float((frames - still[0]).square().mean()) for frames in still[1:]]
    assert errors[2] < errors[1] < errors[0]


def photograph() -> Tensor:
    return read_photo(FOLDER / "grace_hopper.jpg").pixels
