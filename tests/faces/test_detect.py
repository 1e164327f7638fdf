"""Detection: the search over sizes and turns with a stand-in, the second look with real weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bfr.errors import InputError
from bfr.faces.detect import SEARCH_SIZES, detect_faces
from bfr.faces.retinaface import Detector, anchors, encode, load_detector
from bfr.files.photos import read_photo
from bfr.image.geometry import quarter_turn_matrix, resize_matrix, transform_points
from bfr.records import Face, FaceSet

EILEEN = [(104.9, 100.1), (148.0, 103.0), (124.8, 126.8), (105.1, 139.5), (147.0, 140.1)]


class MarkerDetector(nn.Module):
    """Stands in for a network: a face wherever a red pixel has a green one right above it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = images.shape[-2:]
        self.sizes.append((height, width))
        priors = anchors(height, width)
        scores = torch.zeros(len(images), len(priors), 2)
        offsets, points = torch.zeros(1, len(priors), 4), torch.zeros(1, len(priors), 10)
        red, green = images[0, 2] > 0, images[0, 1] > 0
        for y, x in (red[1:] & green[:-1] & ~green[1:] & ~red[:-1]).nonzero().tolist():
            centre = torch.tensor([x, y + 0.5])
            near = (priors[:, :2] - centre).square().sum(1) + (priors[:, 2] != 16) * 1e6
            best = int(near.argmin())
            box = torch.cat([centre - 8, centre + 8])[None]
            spots = (centre + torch.tensor([[-4, -4], [4, -4], [0, 0], [-3, 4], [3, 4.0]]))[None]
            offsets[0, best], points[0, best] = (
                part[0] for part in encode(box, spots, priors[best : best + 1])
            )
            scores[0, best, 1] = 0.9
        return offsets, scores, points


def marked(height: int, width: int, *places: tuple[int, int]) -> Tensor:
    image = torch.zeros(1, 3, height, width)
    for x, y in places:
        image[0, 1, y, x] = 1
        image[0, 0, y + 1, x] = 1
    return image


def search(images: Tensor, network: nn.Module | None = None, **options) -> FaceSet:
    """The first look alone, at the size of the images: markers do not survive resampling."""
    options = {"search_sizes": (max(images.shape[-2:]),), "look_twice": False, **options}
    return detect_faces(images, Detector(network or MarkerDetector()), **options)


def test_places_and_order():
    faces = search(marked(100, 160, (40, 30), (120, 70)))
    assert faces.image_size == (100, 160)
    centres = sorted((f.box[0] + f.box[2]) / 2 for f in faces.faces[0])
    assert centres == pytest.approx([40, 120], abs=1e-3)
    nose = min(f.landmarks[2] for f in faces.faces[0])
    assert nose == pytest.approx((40, 30.5), abs=1e-3)


def test_batch_equals_singles():
    images = torch.cat([marked(90, 90, (20, 20)), marked(90, 90), marked(90, 90, (60, 40))])
    together = search(images)
    alone = [search(image[None]).faces[0] for image in images]
    assert together.faces == tuple(alone)
    assert [len(faces) for faces in together.faces] == [1, 0, 1]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_pictures_are_tried(turns):
    upright = marked(96, 128, (50, 30))
    face = search(upright).faces[0][0]
    turned = torch.rot90(upright, turns, (-2, -1))
    found = search(turned).faces[0][0]
    there = quarter_turn_matrix((96, 128), turns)
    expected = transform_points(there, torch.tensor(face.landmarks, dtype=torch.float64))
    assert np.allclose(found.landmarks, expected, atol=1e-3)
    assert found.area == pytest.approx(face.area, rel=1e-4)
    assert not search(turned, try_rotations=False).count


@pytest.mark.parametrize(
    ("size", "searched"),
    [
        ((4000, 1000), [(352, 96), (1600, 416)]),
        ((470, 320), [(352, 256), (480, 320)]),
        ((300, 200), [(320, 224), (704, 480)]),  # multiples of 32
        ((100, 80), [(128, 96), (320, 256)]),
    ],
)
def test_search_is_bounded_and_covers_large_and_small_faces(size, searched):
    detector = MarkerDetector()
    sizes = {"search_sizes": SEARCH_SIZES, "try_rotations": False}
    search(torch.zeros(1, 3, *size), detector, **sizes)
    assert detector.sizes == searched


def test_score_and_size_limits():
    image = marked(64, 64, (30, 30))
    assert search(image, score=0.95).count == 0
    assert search(image, min_size=15.5).count == 1
    assert search(image, min_size=17).count == 0


def test_bad_input_is_named():
    with pytest.raises(InputError, match="score"):
        search(torch.zeros(1, 3, 8, 8), score=2)
    with pytest.raises(InputError):
        search(torch.full((1, 3, 8, 8), float("nan")))
    with pytest.raises(InputError):
        search(torch.zeros(1, 4, 8, 8))


def test_progress_and_cancelling():
    seen: list[tuple[int, int]] = []
    images = torch.zeros(3, 3, 32, 32)
    search(images, on_step=lambda done, total, _: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(images, on_step=stop)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector()


@pytest.fixture(scope="module")
def portrait(root) -> Tensor:
    return read_photo(root / "samples/eileen_collins.jpg").pixels


def only_face(image: Tensor, detector: Detector) -> Face:
    faces = detect_faces(image, detector).faces[0]
    assert len(faces) == 1
    return faces[0]


def test_the_portrait_is_found_where_she_looks(portrait, detector):
    """Landmarks set by hand on the shipped photograph, within 7 % of the distance of the eyes."""
    face = only_face(portrait, detector)
    by_hand = np.array(EILEEN)
    gap = np.linalg.norm(np.array(face.landmarks) - by_hand, axis=1).mean()
    assert gap < 0.07 * np.linalg.norm(by_hand[1] - by_hand[0])
    assert face.score > 0.6


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_portraits_are_found_alike(portrait, detector, turns):
    upright = only_face(portrait, detector)
    turned = only_face(torch.rot90(portrait, turns, (-2, -1)), detector)
    there = quarter_turn_matrix((portrait.shape[-2], portrait.shape[-1]), turns)
    expected = transform_points(there, torch.tensor(upright.landmarks, dtype=torch.float64))
    assert np.abs(np.array(turned.landmarks) - expected.numpy()).max() < 1.5


@pytest.mark.parametrize("scale", [0.13, 0.25, 0.5, 3.0, 9.0])
def test_size_does_not_matter(portrait, detector, scale):
    """From a face of 15 pixels to one of 1000."""
    upright = only_face(portrait, detector)
    image = F.interpolate(portrait, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
    face = max(detect_faces(image, detector).faces[0], key=lambda face: face.score)
    shape = (image.shape[-2], image.shape[-1])
    there = resize_matrix((portrait.shape[-2], portrait.shape[-1]), shape)
    expected = transform_points(there, torch.tensor(upright.landmarks, dtype=torch.float64))
    gaps = np.linalg.norm(np.array(face.landmarks) - expected.numpy(), axis=1)
    assert gaps.mean() < 0.08 * np.linalg.norm(expected[1] - expected[0])


def test_grey_and_small_faces_in_a_large_photograph(portrait, detector):
    """Three faces of 45 pixels in a grey photograph of six megapixels."""
    small = F.interpolate(portrait, scale_factor=0.4, mode="area").mean(1, keepdim=True)
    photo = torch.full((1, 3, 2000, 3000), 0.4)
    places = [(100, 150), (900, 1500), (1800, 2800)]
    for y, x in places:
        photo[..., y : y + small.shape[-2], x : x + small.shape[-1]] = small
    faces = detect_faces(photo, detector).faces[0]
    middles = sorted((face.box[1] + face.box[3]) / 2 for face in faces)
    assert len(faces) == 3
    assert np.allclose(middles, [y + small.shape[-2] * 0.46 for y, _ in places], atol=12)


def test_the_second_look_drops_what_is_no_face(portrait, detector):
    """Every false alarm of the first look at noise, forced by a score of almost 0, is gone."""
    noise = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    first = detect_faces(noise, detector, score=0.02, look_twice=False, try_rotations=False)
    second = detect_faces(noise, detector, score=0.02, try_rotations=False)
    assert second.count <= first.count
    twice = torch.cat([portrait, portrait.flip(-1)])
    left, right = (faces[0] for faces in detect_faces(twice, detector).faces)
    mirrored = [(portrait.shape[-1] - 1 - x, y) for x, y in np.array(right.landmarks)]
    assert np.abs(np.array(mirrored)[[1, 0, 2, 4, 3]] - left.landmarks).max() < 1.5


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (17, 23)])
def test_tiny_images_have_no_faces(detector, size):
    assert detect_faces(torch.rand(1, 3, *size), detector).count == 0
