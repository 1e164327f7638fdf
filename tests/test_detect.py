"""Detection: the published networks' arithmetic, the search over sizes and turns, the real weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bfr.detect import anchors, build_detector, decode, detect_faces, encode, load_detector
from bfr.errors import InputError, WrongArchitectureError
from bfr.geometry import quarter_turn_matrix, transform_points


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


@pytest.mark.parametrize("size", [(64, 96), (320, 320), (70, 45)])
def test_anchors_are_those_of_facexlib(size):
    from facexlib.detection.retinaface import generate_config
    from facexlib.detection.retinaface_utils import PriorBox

    theirs = PriorBox(generate_config("mobile0.25"), image_size=size).forward()
    scale = torch.tensor([size[1], size[0], size[1], size[0]])
    torch.testing.assert_close(anchors(*size), (theirs * scale).float(), atol=1e-3, rtol=1e-5)


def test_decoding_is_that_of_facexlib():
    from facexlib.detection import retinaface_utils

    priors = anchors(64, 64)
    torch.manual_seed(0)
    offsets, points = torch.randn(len(priors), 4), torch.randn(len(priors), 10)
    boxes, landmarks = decode(offsets, points, priors)
    theirs = retinaface_utils.decode(offsets, priors / 64, [0.1, 0.2]) * 64
    torch.testing.assert_close(boxes, theirs, atol=1e-3, rtol=1e-4)
    theirs = retinaface_utils.decode_landm(points, priors / 64, [0.1, 0.2]) * 64
    torch.testing.assert_close(landmarks.flatten(1), theirs, atol=1e-3, rtol=1e-4)


def test_decode_undoes_encode():
    priors = anchors(32, 32)
    boxes = torch.tensor([[3.0, 4, 20, 30]]).expand(len(priors), 4)
    landmarks = torch.rand(len(priors), 5, 2) * 30
    again = decode(*encode(boxes, landmarks, priors), priors)
    torch.testing.assert_close(again[0], boxes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again[1], landmarks, atol=1e-4, rtol=1e-4)


def test_places_and_order():
    faces = detect_faces(marked(100, 160, (40, 30), (120, 70)), MarkerDetector())
    assert faces.image_size == (100, 160)
    centres = sorted((f.box[0] + f.box[2]) / 2 for f in faces.faces[0])
    assert centres == pytest.approx([40, 120], abs=1e-3)
    nose = min(f.landmarks[2] for f in faces.faces[0])
    assert nose == pytest.approx((40, 30.5), abs=1e-3)


def test_batch_equals_singles():
    images = torch.cat([marked(90, 90, (20, 20)), marked(90, 90), marked(90, 90, (60, 40))])
    together = detect_faces(images, MarkerDetector())
    alone = [detect_faces(image[None], MarkerDetector()).faces[0] for image in images]
    assert together.faces == tuple(alone)
    assert [len(faces) for faces in together.faces] == [1, 0, 1]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_pictures_are_tried(turns):
    upright = marked(96, 128, (50, 30))
    face = detect_faces(upright, MarkerDetector()).faces[0][0]
    turned = torch.rot90(upright, turns, (-2, -1))
    found = detect_faces(turned, MarkerDetector()).faces[0][0]
    there = quarter_turn_matrix((96, 128), turns)
    expected = transform_points(there, torch.tensor(face.landmarks, dtype=torch.float64))
    assert np.allclose(found.landmarks, expected, atol=1e-3)
    assert found.area == pytest.approx(face.area, rel=1e-4)
    assert not detect_faces(turned, MarkerDetector(), try_rotations=False).count


def test_search_is_bounded_and_covers_both_sizes():
    detector = MarkerDetector()
    detect_faces(torch.zeros(1, 3, 4000, 1000), detector, try_rotations=False)
    assert detector.sizes == [(352, 96), (1600, 416)]


def test_score_and_size_limits():
    image = marked(64, 64, (30, 30))
    assert detect_faces(image, MarkerDetector(), score=0.95).count == 0
    assert detect_faces(image, MarkerDetector(), min_size=15.5).count == 1
    assert detect_faces(image, MarkerDetector(), min_size=17).count == 0


def test_bad_input_is_named():
    with pytest.raises(InputError, match="score"):
        detect_faces(torch.zeros(1, 3, 8, 8), MarkerDetector(), score=2)
    with pytest.raises(InputError):
        detect_faces(torch.full((1, 3, 8, 8), float("nan")), MarkerDetector())
    with pytest.raises(InputError):
        detect_faces(torch.zeros(1, 4, 8, 8), MarkerDetector())


def test_progress_and_cancelling():
    seen: list[tuple[int, int]] = []
    images = torch.zeros(3, 3, 32, 32)
    detect_faces(
        images, MarkerDetector(), on_step=lambda done, total, _: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_faces(images, MarkerDetector(), on_step=stop)


@pytest.mark.parametrize("backbone", ["mobile0.25", "resnet50"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_layouts_load(tmp_path, backbone, prefix):
    """Full-size random networks saved as the published files are: .pth, perhaps with a prefix."""
    network = build_detector(backbone)
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(state, tmp_path / "detector.pth")
    loaded = load_detector(tmp_path / "detector.pth")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(loaded(image), network(image), strict=True):
            assert torch.equal(ours, theirs)
    assert not loaded.training


def test_other_networks_are_refused(tmp_path):
    save_file({"conv_first.weight": torch.zeros(3)}, tmp_path / "swinir.safetensors")
    with pytest.raises(WrongArchitectureError, match="swinir"):
        load_detector(tmp_path / "swinir.safetensors")
    state = build_detector("mobile0.25").state_dict()
    state.pop("fpn.output1.0.weight")
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(WrongArchitectureError, match="missing"):
        load_detector(tmp_path / "half.pth")
